// Package repl holds the words of Redis replication as types: which group,
// which epoch, whose history, and how far.
//
// Glossary: a group is one Codis-Group (a master and its replicas). A replid
// names one history of writes; a Redis 3.2 master has only its run id, which
// serves as one. An offset counts the bytes of that history's command stream.
// An epoch is one full sync of a group and the stream behind it.
package repl

import (
	"fmt"
	"strconv"
	"strings"
)

// GroupID is the number of a Codis-Group, from 1 to MaxGroupID.
type GroupID uint32

// MaxGroupID is the largest group number that fits the names on disk.
const MaxGroupID GroupID = 9999

// String is the number in decimal.
func (g GroupID) String() string { return strconv.FormatUint(uint64(g), 10) }

// Dir is the name of the group's folder in a spool: group-0001.
func (g GroupID) Dir() string { return fmt.Sprintf("group-%04d", uint32(g)) }

// ParseGroupID reads a decimal group number.
func ParseGroupID(s string) (GroupID, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n < 1 || n > uint64(MaxGroupID) {
		return 0, fmt.Errorf("group %q is not a number from 1 to %d", s, MaxGroupID)
	}
	return GroupID(n), nil
}

// ParseGroupDir reads what Dir printed.
func ParseGroupDir(s string) (GroupID, error) {
	num, ok := strings.CutPrefix(s, "group-")
	if !ok || len(num) != 4 {
		return 0, fmt.Errorf("%q is not a group folder's name", s)
	}
	return ParseGroupID(strings.TrimLeft(num, "0"))
}

// Epoch numbers the full syncs of a group, from 1.
type Epoch uint32

// String is the number in decimal.
func (e Epoch) String() string { return strconv.FormatUint(uint64(e), 10) }

// Dir is the name of the epoch's folder inside a group's: epoch-0001.
func (e Epoch) Dir() string { return fmt.Sprintf("epoch-%04d", uint32(e)) }

// ParseEpochDir reads what Dir printed.
func ParseEpochDir(s string) (Epoch, error) {
	num, ok := strings.CutPrefix(s, "epoch-")
	n, err := strconv.ParseUint(num, 10, 32)
	if !ok || len(num) < 4 || err != nil || n < 1 {
		return 0, fmt.Errorf("%q is not an epoch folder's name", s)
	}
	return Epoch(n), nil
}

// ReplID is a replication id: 40 lower-case hex digits, or empty when none is
// known.
type ReplID string //nolint:revive // the protocol's own word

// ReplIDLen is the number of hex digits of a replication id.
const ReplIDLen = 40

// ParseReplID checks that s is 40 lower-case hex digits.
func ParseReplID(s string) (ReplID, error) {
	if len(s) != ReplIDLen {
		return "", fmt.Errorf("replid %q has %d characters, expected %d", s, len(s), ReplIDLen)
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", fmt.Errorf("replid %q holds %q at %d, expected lower-case hex", s, c, i)
		}
	}
	return ReplID(s), nil
}

// Offset counts the bytes of a replication stream: the position behind the
// byte with that number. After "+FULLRESYNC <replid> n" the first byte of the
// stream has number n+1, so whoever holds the RDB alone stands at Offset n.
type Offset int64

// String is the number in decimal.
func (o Offset) String() string { return strconv.FormatInt(int64(o), 10) }

// ParseOffset reads a decimal offset; negative ones are refused.
func ParseOffset(s string) (Offset, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("offset %q is not a number from 0 to 2^63-1", s)
	}
	return Offset(n), nil
}

// Position is a point in one history.
type Position struct {
	ReplID ReplID
	Offset Offset
}

// IsZero tells whether no history is known.
func (p Position) IsZero() bool { return p.ReplID == "" }

// String is replid:offset, or "none".
func (p Position) String() string {
	if p.IsZero() {
		return "none"
	}
	return string(p.ReplID) + ":" + p.Offset.String()
}

// ParsePosition reads what String printed.
func ParsePosition(s string) (Position, error) {
	if s == "none" {
		return Position{}, nil
	}
	id, off, ok := strings.Cut(s, ":")
	if !ok {
		return Position{}, fmt.Errorf("position %q is not replid:offset", s)
	}
	r, err := ParseReplID(id)
	if err != nil {
		return Position{}, err
	}
	o, err := ParseOffset(off)
	if err != nil {
		return Position{}, err
	}
	return Position{ReplID: r, Offset: o}, nil
}
