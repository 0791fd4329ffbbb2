package apply

import (
	"time"

	"tairlift/internal/command"
	"tairlift/internal/held"
)

// Deadlines are held back (package held) while a group is behind its source,
// because a target expires keys by itself and the source may have renewed them
// in what is still to come. Once the group has caught up, or at the end of an
// offline spool, a pass sets them exact; see heldpass.go.
//
// The mark says how deadlines stand. It says held, or mixed, from the EXEC on
// that writes the first one held, and exact again only in a mark behind a whole
// pass. So after any crash it is known whether a pass is due, and what it has
// to do is told by the deadlines themselves.

const (
	// behindAge is how old, by the source's clock, a command may be whose deadline
	// is written exact. It is what a key that is renewed in half its time to live
	// must have left.
	behindAge = time.Second
	// caughtAge is how old the newest of a spool that is applied to its end may be
	// for the group to have caught up. Capture dates an idle source once a second.
	caughtAge = 3 * time.Second
)

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

// heldKey is a key of a database.
type heldKey struct {
	db  int
	key string
}

// heldKeys are the names of a group's keys that may bear held deadlines. It is
// used by the group's goroutine, and kept from one session to the next.
type heldKeys struct {
	// all: no other key of the group bears one. Otherwise a scan of the target has
	// to find them.
	all bool
	// noting: names are added. A group that is far behind holds nearly every
	// deadline, and notes nothing.
	noting bool
	names  map[heldKey]struct{}
	bytes  int
	// any: there may be such a key, on the target or in what is being sent.
	any bool
	// from is the mark that said exact when all began.
	from Mark
	most int // names
}

const (
	maxHeldNames = 1 << 16 // of all groups together, about
	minHeldNames = 1 << 10 // of one
	maxHeldBytes = 6 << 20
	heldOverhead = 64 // of a name, about
)

// begin looks at the mark that a session goes on from.
func (h *heldKeys) begin(m Mark) {
	switch {
	case m.TTL == DeadlinesExact:
		h.exact(m)
	case h.all && h.from.Epoch == m.Epoch && h.from.Commands < m.Commands:
		// What was held since then was noted by this process. A target that went
		// back to before that is at or behind from.
	default:
		h.forget()
	}
}

// exact begins to note, behind a mark that says exact.
func (h *heldKeys) exact(m Mark) {
	*h = heldKeys{all: true, noting: true, from: m, most: h.most}
}

// forget leaves the rest to a scan.
func (h *heldKeys) forget() { *h = heldKeys{any: true, most: h.most} }

// scanning begins to note what a scan may miss: keys that are held, or get their
// deadline from another, while it is under way.
func (h *heldKeys) scanning() { *h = heldKeys{any: true, noting: true, most: h.most} }

// scanned ends that.
func (h *heldKeys) scanned() { h.all = h.noting }

// note adds a key. One too many, and a scan has to be made, again.
func (h *heldKeys) note(db int, key []byte) {
	h.any = true
	if !h.noting {
		return
	}
	if _, ok := h.names[heldKey{db, string(key)}]; ok {
		return
	}
	h.bytes += len(key) + heldOverhead
	if len(h.names) >= h.most || h.bytes > maxHeldBytes {
		h.forget()
		return
	}
	if h.names == nil {
		h.names = map[heldKey]struct{}{}
	}
	h.names[heldKey{db, string(key)}] = struct{}{}
}

// some takes out up to n names of one database.
func (h *heldKeys) some(n int) (db int, keys [][]byte) {
	for name := range h.names {
		switch {
		case len(keys) == 0:
			db = name.db
		case name.db != db:
			continue
		}
		keys = append(keys, []byte(name.key))
		delete(h.names, name)
		h.bytes -= len(name.key) + heldOverhead
		if len(keys) == n {
			break
		}
	}
	return db, keys
}

// moves notes the keys of a command that may take over a deadline that is held:
// of RENAME, COPY, MOVE, or of a script.
func (t *translator) moves(spec *command.Spec, args [][]byte) {
	if !t.held.noting || !t.held.any || !passesTTL(spec) {
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

// passesTTL tells whether a command may give a key the deadline of another one.
func passesTTL(spec *command.Spec) bool {
	switch spec.Name {
	case "RENAME", "RENAMENX", "COPY", "MOVE", "FCALL":
		return true
	}
	return spec.Class == command.Eval || spec.Class == command.Unknown
}

// hold makes the translator hold deadlines, or write them exact.
func (t *translator) hold(on bool) {
	t.caps.Hold = 0
	if on {
		t.caps.Hold = held.By(t.group)
	}
}

func (t *translator) holds() bool { return t.caps.Hold != 0 }

const tooLateHint = "a time to live of millions of years is none: PERSIST the key on the source, and mend what sets it; then " + newEpochHint
