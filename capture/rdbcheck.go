package capture

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"tairlift/internal/rdb"
)

const (
	rdbHeaderLen = 9 // "REDIS" and four digits of version
	rdbFooterLen = 8 // CRC64, little endian, from version 5 on
	rdbOpEOF     = 0xff
)

// rdbCheck follows the bytes of an RDB and tells at its end whether it is
// whole, without looking at what it holds: the header, the EOF opcode, and the
// CRC64 over everything before the footer (rdb.c, rdbSaveRio). Since the footer
// can only be told from data once the end is known, the last bytes are held
// back.
type rdbCheck struct {
	n    int64
	crc  uint64 // of all but the bytes in tail
	head []byte // the first rdbHeaderLen bytes
	tail []byte // up to the last rdbFooterLen bytes
	last byte   // the byte before tail
}

// add takes the next bytes of the RDB.
func (c *rdbCheck) add(p []byte) {
	c.n += int64(len(p))
	if room := rdbHeaderLen - len(c.head); room > 0 {
		c.head = append(c.head, p[:min(room, len(p))]...)
	}
	if len(p) >= rdbFooterLen {
		c.sum(c.tail)
		c.sum(p[:len(p)-rdbFooterLen])
		c.tail = append(c.tail[:0], p[len(p)-rdbFooterLen:]...)
		return
	}
	c.tail = append(c.tail, p...)
	if over := len(c.tail) - rdbFooterLen; over > 0 {
		c.sum(c.tail[:over])
		c.tail = c.tail[:copy(c.tail, c.tail[over:])]
	}
}

func (c *rdbCheck) sum(p []byte) {
	if len(p) > 0 {
		c.crc = rdb.CRC64(c.crc, p)
		c.last = p[len(p)-1]
	}
}

// finish judges the RDB once all of it was added. checked is false when the
// source writes no checksum: before version 5, or with rdbchecksum no, which
// leaves the footer zero.
func (c *rdbCheck) finish() (crc uint64, checked bool, err error) {
	if len(c.head) < rdbHeaderLen || string(c.head[:5]) != "REDIS" {
		return 0, false, fmt.Errorf("check RDB: it begins with %q, expected REDIS and a version", c.head)
	}
	version, err := strconv.Atoi(string(c.head[5:]))
	if err != nil || version < 1 {
		return 0, false, fmt.Errorf("check RDB: version %q is not a number", c.head[5:])
	}
	if version < 5 {
		if end := c.tail[len(c.tail)-1]; end != rdbOpEOF {
			return 0, false, fmt.Errorf("check RDB: byte %d is %#02x, expected the EOF opcode", c.n-1, end)
		}
		return 0, false, nil
	}
	if c.n <= rdbHeaderLen+rdbFooterLen-1 || c.last != rdbOpEOF {
		return 0, false, fmt.Errorf("check RDB: byte %d of %d is %#02x, expected the EOF opcode before the footer",
			c.n-rdbFooterLen-1, c.n, c.last)
	}
	switch footer := binary.LittleEndian.Uint64(c.tail); footer {
	case 0:
		return 0, false, nil
	case c.crc:
		return footer, true, nil
	default:
		return 0, false, fmt.Errorf("check RDB: CRC64 over %d bytes is %016x, the footer says %016x",
			c.n-rdbFooterLen, c.crc, footer)
	}
}
