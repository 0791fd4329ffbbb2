package apply

import (
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/command"
	"tairlift/internal/held"
)

// Deadlines are held back (package held) while a group is behind its source,
// because a target expires keys by itself and the source may have renewed them
// in what is still to come. Once the group has caught up, or at the end of an
// offline spool, a pass sets them exact, but for a margin; see heldpass.go.
//
// The mark says how deadlines stand. It says held, or mixed, from the EXEC on
// that writes the first one held, and exact again only in a mark behind a whole
// pass. So after any crash it is known whether a pass is due, and what it has
// to do is told by the deadlines themselves.

// caughtAge is how old the newest of a spool that is applied to its end may be for
// the group to have caught up. The newest of an idle source is its last PING, of which it
// sends one in ten seconds by default.
const caughtAge = 3 * time.Second

// sourceAge is how long ago, by the source's clock, that clock said ms: now is
// this machine's, on which the samples may not have been taken.
func (c *offsetClock) sourceAge(ms int64, now time.Time) time.Duration {
	return time.Duration(now.UnixMilli()-ms)*time.Millisecond + c.skew()
}

// skew is the source's clock minus that of capture's machine, as last sampled.
func (c *offsetClock) skew() time.Duration {
	n := len(c.samples)
	if n == 0 {
		return 0
	}
	return time.Duration(c.samples[n-1].SourceMicros-c.samples[n-1].LocalMicros) * time.Microsecond
}

// newest is the latest moment of the source, in Unix milliseconds, of which the
// spool tells as far as it was read; recv is when its last bytes came.
func (c *offsetClock) newest(recv time.Time) int64 {
	var ms int64
	if !recv.IsZero() {
		ms = recv.Add(c.skew()).UnixMilli()
	}
	if n := len(c.samples); n > 0 {
		ms = max(ms, c.samples[n-1].SourceMicros/1000)
	}
	return ms
}

// heldKeys are the names of a group's keys that may bear held deadlines. It is
// kept from one session to the next, and used by the group's goroutine, or by the
// one that decodes its RDB.
type heldKeys struct {
	// all: no other key of the group bears one. Otherwise a scan of the target has
	// to find them.
	all   bool
	names *nameQueue
	// wanted: a scan was asked for that begins behind the first of names.
	wanted bool
	// missed: a script may have given one to a key that the scan had passed by then.
	missed bool
	// again is how often the scan was made, or made again, for that.
	again int
	// any: there may be such a key, on the target or in what is being sent.
	any bool
	// dropped: some were set exact, and are not known any more.
	dropped bool
	// from is the mark at which this began.
	from Mark
}

// enter looks at the mark that a session goes on from. alone says that, but for
// what an RDB loads from its beginning, the target holds nothing of the group.
func (h *heldKeys) enter(m Mark, alone bool) {
	switch {
	case m.TTL == DeadlinesExact, alone:
		h.exact(m)
	case (h.all || h.wanted) && !h.dropped && h.from.isBefore(m):
		// What was held since then was noted by this process. A target that went
		// back to before that is at or behind from. One that went back in the
		// middle of a pass may hold again what is not known any more.
	default:
		h.from = m
		h.forget()
	}
}

// isBefore tells whether m2 is a mark of the epoch that came behind m, or, in its
// RDB, that may have.
func (m *Mark) isBefore(m2 Mark) bool {
	switch {
	case m.Epoch != m2.Epoch:
		return false
	case m.Phase == checkpoint.PhaseStream:
		return m2.Phase == checkpoint.PhaseStream && m.Commands < m2.Commands
	}
	return m2.Phase != checkpoint.PhaseRDB || m.RDB <= m2.RDB
}

// exact begins to note, behind a mark that says exact, or at an RDB's beginning.
func (h *heldKeys) exact(m Mark) {
	h.names.reset()
	*h = heldKeys{all: true, from: m, names: h.names}
}

// forget leaves the keys until now to a scan, and notes what that may miss: those
// that come, or get their deadline from another.
func (h *heldKeys) forget() {
	h.names.reset()
	*h = heldKeys{any: true, names: h.names, from: h.from}
}

// note adds a key. Where that fails, or there are too many, a scan has to be
// made, again.
func (h *heldKeys) note(db int, key []byte) {
	h.any = true
	if h.names.add(db, key) != nil {
		h.forget()
	}
}

// moves notes the keys of a command that may take over a deadline that is held:
// of RENAME, COPY, MOVE, or of a script. One that need not name them among its
// keys leaves them to a scan, and to another one if it meets one that is under way.
func (t *translator) moves(spec *command.Spec, args [][]byte) {
	if !t.held.any || !spec.PassesTTL() {
		return
	}
	switch h := t.held; {
	case !spec.Renames(args):
	case !h.all:
		h.missed = true
	case h.again < scansAgain:
		again := h.again + 1
		h.forget()
		h.again = again
		return
	}
	t.keys = spec.AppendKeys(t.keys[:0], args)
	to, other, moved := spec.OtherDB(args)
	if len(t.keys) < 2 && !moved {
		return
	}
	for _, k := range t.keys {
		t.held.note(t.selection.To(t.db), k)
	}
	if moved {
		t.held.note(t.selection.To(to), other)
	}
}

// hold makes the translator hold deadlines, or write them exact.
func (t *translator) hold(on bool) {
	t.caps.Hold = held.Exact
	if on {
		t.caps.Hold = held.By(t.group)
	}
}

func (t *translator) holds() bool { return t.caps.Hold != held.Exact }

const tooLateHint = "a time to live of millions of years is none: PERSIST the key on the source, and mend what sets it; then " + newEpochHint
