// Package held is the arithmetic of deadlines that are held back.
//
// A replica never expires a key by itself: a key whose deadline has passed lives
// until its master deletes it, because the master may have renewed it meanwhile. A
// target is no replica. So while apply is behind its source, it writes a deadline D
// of group g as
//
//	Base + g<<43 + D		Base = 1<<57
//
// some 4 million years from now, and as D + [Margin] once the group has caught up:
// what the source renews in the last moment of its life is renewed on the target a
// little later, and must be there still. A deadline
// in [Base, 2*Base) tells by itself that it is held, by which group, and what it is:
// no crash loses that. 20 of them, which is what a server of default settings sums
// up to estimate a mean, do not overflow 63 bits.
//
//	shift := held.By(7)
//	shift.Hold(1790000000000)			-> 144176761989..., what is written
//	held.Decode(144176761989...)		-> 7, 1790000000000, true
//	held.Exact.Hold(1790000000000)		-> 1790000000800
//
// Deadlines from Free (the year 2248) on cannot pass during a migration and are
// always written as they are; those from Base on would be taken for held ones, and must be
// refused: see TooLate.
//
// Caveats. The group is named, its job is not: two jobs with a group of the same
// number must not hold deadlines on one target at the same time. A script that
// reads a time to live sees the held one.
package held

import (
	"time"

	"tairlift/internal/repl"
)

// Margin is how much later than on the source a key ends on the target of a group
// that has caught up, unless the source's DEL comes first, as it does as a rule. It
// is below a second, which is what deadlines are commonly compared within. apply says
// what it must cover.
const Margin = 800 * time.Millisecond

const (
	// Base is the first of the deadlines that say that they are held.
	Base = int64(1) << 57
	// Free is the first deadline, in ms since 1970, that is never held.
	Free = int64(1) << 43
)

// Shift is what is added to a deadline. The zero Shift changes nothing.
type Shift int64

// Exact is the shift of deadlines that are not held back.
const Exact = Shift(Margin / time.Millisecond)

// By is the shift that holds deadlines of a group.
func By(g repl.GroupID) Shift { return Shift(Base + int64(g)*Free) }

// Hold is what to write for a deadline in ms since 1970. One of 0 or less is none,
// or past in any year: it stays what it is, as does one that needs no holding.
func (s Shift) Hold(ms int64) int64 {
	if !s.Moves(ms) {
		return ms
	}
	return int64(s) + ms
}

// Moves tells whether Hold changes a deadline.
func (s Shift) Moves(ms int64) bool { return s != 0 && ms > 0 && ms < Free }

// Holds tells whether Hold makes a deadline one that is held.
func (s Shift) Holds(ms int64) bool { return int64(s) >= Base && s.Moves(ms) }

// Off is how much later than the source's, in ms, a deadline or a time to live of the
// target is than the margin explains; below 0 it is early.
func Off(target, source int64) int64 {
	late := target - source
	return min(late, max(late-int64(Exact), 0))
}

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
