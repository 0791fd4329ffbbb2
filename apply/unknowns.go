package apply

import "bytes"

// UnknownPolicy says what a command that no table knows does.
type UnknownPolicy uint8

// The policies of --on-unknown.
const (
	UnknownPass UnknownPolicy = iota // it is sent as it came
	UnknownStop                      // the group stops
)

const (
	// maxUnknown bounds the names that are told apart, and maxUnknownName their length:
	// a source may be made to say anything.
	maxUnknown     = 50
	maxUnknownName = 64
	// otherUnknown counts those beyond.
	otherUnknown = "(others)"
)

// unknowns counts commands that no table knows, by name in upper case.
type unknowns map[string]int64

func (u *unknowns) count(name []byte) {
	u.plus(string(bytes.ToUpper(name[:min(len(name), maxUnknownName)])), 1)
}

func (u *unknowns) plus(name string, n int64) {
	if *u == nil {
		*u = unknowns{}
	}
	if _, ok := (*u)[name]; !ok && len(*u) >= maxUnknown {
		name = otherUnknown
	}
	(*u)[name] += n
}

func (u *unknowns) add(o unknowns) {
	for name, n := range o {
		u.plus(name, n)
	}
}

func (u unknowns) total() (n int64) {
	for _, m := range u {
		n += m
	}
	return n
}
