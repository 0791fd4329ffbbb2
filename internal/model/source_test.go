package model

import (
	"fmt"
	"strings"
)

// The keys of the model.
const (
	a, b, c = key(0), key(1), key(2)
	moved   = key(3) // moves from group 1 to group 2 where there are two
	foreign = key(4) // was on the target before the job
	nKeys   = 5
)

type key uint8

func (k key) String() string { return [nKeys]string{"a", "b", "c", "moved", "foreign"}[k] }

// value is a key's; 0 is no key. A list is a number whose digits, to the base
// of 4, are its elements.
type value uint16

type keyset [nKeys]value

func (ks keyset) String() string {
	var s []string
	for k, v := range ks {
		if v != 0 {
			s = append(s, fmt.Sprintf("%s=%d", key(k), v))
		}
	}
	return "{" + strings.Join(s, " ") + "}"
}

// command is one of the stream. Only set and del could be repeated unseen.
type command struct {
	verb  verb
	key   key
	value value
}

type verb uint8

const (
	set verb = iota
	del
	incr
	rpush
)

func (ks *keyset) execute(c command) {
	k := &ks[c.key]
	switch c.verb {
	case set:
		*k = c.value
	case del:
		*k = 0
	case incr:
		*k++
	case rpush:
		*k = *k*4 + c.value
	}
}

// batch is what one EXEC executes.
type batch []command

// epoch is one full sync of a group and the stream behind it. Each entry of the
// RDB is a chunk of its own.
type epoch struct {
	rdb    []command // set
	stream []batch
}

// source is what the spool of one group will hold in the end. Its epochs are
// numbered from 1.
type source []epoch

func (s source) epoch(n uint8) epoch { return s[n-1] }

// at is the group's keyset behind the first n batches of an epoch.
func (e epoch) at(n uint8) (ks keyset) {
	for _, c := range e.rdb {
		ks.execute(c)
	}
	for _, b := range e.stream[:n] {
		for _, c := range b {
			ks.execute(c)
		}
	}
	return ks
}

// names is the set of keys that the RDB and the first n batches name.
func (e epoch) names(n uint8) (names [nKeys]bool) {
	for _, c := range e.rdb {
		names[c.key] = true
	}
	for _, b := range e.stream[:n] {
		for _, c := range b {
			names[c.key] = true
		}
	}
	return names
}

// final is what the group's source holds in the end.
func (s source) final() keyset {
	last := s[len(s)-1]
	return last.at(uint8(len(last.stream)))
}
