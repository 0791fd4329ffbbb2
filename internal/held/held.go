// Package held is the arithmetic of deadlines that are held back.
//
// A replica never expires a key by itself: a key whose deadline has passed lives
// until its master deletes it, because the master may have renewed it meanwhile. A
// target is no replica. So while apply is behind its source, it writes a deadline D
// of group g as
//
//	Base + g<<43 + D		Base = 1<<57
//
// some 4 million years from now, and as D once the group has caught up. A deadline
// in [Base, 2*Base) tells by itself that it is held, by which group, and what it is:
// no crash loses that. 20 of them, which is what a server of default settings sums
// up to estimate a mean, do not overflow 63 bits.
//
//	shift := held.By(7)
//	shift.Hold(1790000000000)			-> 144176761989..., what is written
//	held.Decode(144176761989...)		-> 7, 1790000000000, true
//
// Deadlines from Free (the year 2248) on cannot pass during a migration and are
// written as they are; those from Base on would be taken for held ones, and must be
// refused: see TooLate.
//
// Caveats. The group is named, its job is not: two jobs with a group of the same
// number must not hold deadlines on one target at the same time. A script that
// reads a time to live sees the held one.
package held

import "tairlift/internal/repl"

const (
	// Base is the first of the deadlines that say that they are held.
	Base = int64(1) << 57
	// Free is the first deadline, in ms since 1970, that is never held.
	Free = int64(1) << 43
)

// Shift is what is added to a deadline to hold it. The zero Shift holds nothing.
type Shift int64

// By is the shift of a group.
func By(g repl.GroupID) Shift { return Shift(Base + int64(g)*Free) }

// Hold is what to write for a deadline in ms since 1970. One of 0 or less is none,
// or past in any year: it stays what it is, as does one that needs no holding.
func (s Shift) Hold(ms int64) int64 {
	if !s.Holds(ms) {
		return ms
	}
	return int64(s) + ms
}

// Holds tells whether Hold changes a deadline.
func (s Shift) Holds(ms int64) bool { return s != 0 && ms > 0 && ms < Free }

// TooLate tells whether a deadline of a source is one that would be taken for a
// held one, or lies behind those: it cannot be written.
func TooLate(ms int64) bool { return ms >= Base }

// Decode is the group and the deadline of what Hold has returned; ok is false for
// every other number.
func Decode(ms int64) (g repl.GroupID, deadline int64, ok bool) {
	n := ms - Base
	if ms < Base || n >= Base {
		return 0, 0, false
	}
	g, deadline = repl.GroupID(n/Free), n%Free
	if g < 1 || g > repl.MaxGroupID || deadline == 0 {
		return 0, 0, false
	}
	return g, deadline, true
}
