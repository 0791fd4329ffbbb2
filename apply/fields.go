package apply

import (
	"slices"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/command"
	"tairlift/internal/rdb"
	"tairlift/internal/repl"
)

// Deadlines of hash fields are not held back: a server bounds them to less than
// what a held one takes, and no command finds the fields that bear one. Nor have they
// a margin, which those within a payload could not be given. So a field
// may die on the target, and with the last one its hash, although the source renews
// it in what is still to come. Hashes that this may have happened to are doubtful
// (fields), and copied again:
//
//   - of the RDB, where the first field ends within fieldsWithin;
//   - in the stream, when a command of times to live of fields comes late, or does
//     not find one.

const (
	// fieldsWithin is how far a group may be behind for its fields to be safe.
	fieldsWithin = 24 * time.Hour
	// fieldsLate is how old a command of times to live of fields may be.
	fieldsLate = time.Second
	// fieldGone is what such a command answers for a field that is not there.
	fieldGone = -2
)

// firstField is when the first field of a dumped hash ends: see
// rdb.FirstFieldDeadline.
func firstField(payload []byte) int64 {
	if len(payload) == 0 {
		return 0
	}
	return rdb.FirstFieldDeadline(payload[0], payload[1:])
}

// fields notes that an entry of the RDB is doubtful for its fields.
func (s *snapshot) fields(c *chunk, e *rdb.Entry) {
	var body []byte // stays empty where the value is too large to be held
	if len(e.Payload) > 0 {
		body = e.Payload[1:]
	}
	first := rdb.FirstFieldDeadline(e.Type, body)
	if first == 0 {
		return
	}
	c.seen.timed = true
	if first > s.g.wall().Add(fieldsWithin).UnixMilli() {
		return
	}
	c.doubts = append(c.doubts, checkpoint.Doubt{Group: s.g.id, Epoch: s.epoch, DB: e.DB, Key: slices.Clone(e.Key), Why: "fields", Own: true})
}

// keepDoubts stores what is doubtful in a chunk before any of it is sent. Those
// beyond maxWide are not noted one by one.
func (s *snapshot) keepDoubts(c *chunk) error {
	if len(c.doubts) == 0 {
		return nil
	}
	all, _ := s.g.doubts.counts()
	if room := max(maxWide-all, 0); len(c.doubts) > room {
		c.doubts = c.doubts[:room]
		s.unnoted.Store(true)
	}
	_, err := s.g.addDoubts(c.doubts)
	return err
}

// late makes the hash doubtful that a command of times to live of fields comes to,
// if that is not fresh: the source executed it at ms, at the earliest.
func (t *translator) late(spec *command.Spec, args [][]byte, ms int64, end repl.Offset) {
	if t.clock.sourceAge(ms, t.wall()) <= fieldsLate {
		return
	}
	if all, _ := t.doubtful.counts(); all+len(t.doubts) >= maxWide {
		t.unnoted = true
		return
	}
	t.keys = spec.AppendKeys(t.keys[:0], args)
	t.doubt(spec, t.keys, "fields", end)
}
