// Package slot hashes keys to slots: those of Codis and those of Redis Cluster.
//
// The two differ in everything: Codis has 1024 slots by CRC-32 (IEEE), Redis
// Cluster 16384 by CRC-16 (XMODEM). Both hash only the key's tag, the bytes
// between the first '{' and the first '}' after it, if there is one; but an
// empty tag counts for Codis ("{}abc" hashes the empty string, slot 0), while
// Redis Cluster then hashes the whole key.
//
// Sources: codis-server's slots.c (slots_tag, slots_num), Redis' cluster.c
// (keyHashSlot) and crc16.c.
package slot

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"strconv"
)

// Numbers of slots.
const (
	CodisSlots   = 1024
	ClusterSlots = 16384
)

// ID is a slot's number: below CodisSlots or ClusterSlots, as the function that
// made it says.
type ID uint16

// String is the number in decimal.
func (id ID) String() string { return strconv.Itoa(int(id)) }

// Parse reads a decimal slot number below slots (CodisSlots or ClusterSlots).
func Parse(s string, slots int) (ID, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || int(n) >= slots {
		return 0, fmt.Errorf("slot %q is not a number from 0 to %d", s, slots-1)
	}
	return ID(n), nil
}

// Codis is the key's slot in Codis.
func Codis(key []byte) ID {
	t, _ := tag(key)
	return ID(crc32.ChecksumIEEE(t) % CodisSlots)
}

// Cluster is the key's slot in Redis Cluster.
func Cluster(key []byte) ID {
	t, _ := tag(key)
	if len(t) == 0 {
		t = key
	}
	return ID(crc16(t) % ClusterSlots)
}

// CodisTag is what Codis hashes of the key: keys with the same tag migrate
// together. ok is false when the key has no tag, and is hashed whole.
func CodisTag(key []byte) (t []byte, ok bool) { return tag(key) }

func tag(key []byte) ([]byte, bool) {
	if i := bytes.IndexByte(key, '{'); i >= 0 {
		if n := bytes.IndexByte(key[i+1:], '}'); n >= 0 {
			return key[i+1 : i+1+n], true
		}
	}
	return key, false
}

var crc16Table = func() (t [256]uint16) {
	for i := range t {
		c := uint16(i) << 8
		for range 8 {
			if c&0x8000 != 0 {
				c = c<<1 ^ 0x1021
			} else {
				c <<= 1
			}
		}
		t[i] = c
	}
	return t
}()

func crc16(p []byte) (c uint16) {
	for _, b := range p {
		c = c<<8 ^ crc16Table[byte(c>>8)^b]
	}
	return c
}
