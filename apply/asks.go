package apply

import (
	"math"
	"slices"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/command"
	"tairlift/internal/resp"
)

// Where deadlines are exact and apply or its links were away for a while, keys
// that the source has renewed meanwhile are gone on the target. A command that
// sets a deadline tells, by answering 0; INCR, APPEND or HSET silently begin a
// new value. So a batch whose commands are not fresh asks ahead of each that goes
// by what its key holds whether that is there, in the same EXEC:
//
//	EXISTS counter		-> 0: the key is doubtful, and copied again
//	INCR counter
//
// That a key is new to the source too cannot be told from here; being doubtful
// costs it no more than a copy. Nothing is asked while all deadlines are held,
// which is so from the RDB until the group has caught up, nor for a group none of
// whose keys ever had a deadline.

// lateAge is how old a batch may be when its answers come, that was fresh when
// it was sent, before the keys it should have asked about are doubtful.
const lateAge = 3 * time.Second

// ask puts the questions into a batch.
func (b *Batch) ask() error {
	asks := map[int][]counted{}
	if err := b.stateful(func(i int, a counted) { asks[i] = append(asks[i], a) }); err != nil {
		return err
	}
	b.asked = true
	if len(asks) == 0 {
		return nil
	}
	var buf []byte
	var cmds []batched
	at := make([]int, 0, len(b.cmds)) // where each command is then
	err := b.each(func(i int, args [][]byte) {
		for _, a := range asks[i] {
			buf = resp.AppendArrayHeader(buf, 2)
			buf = resp.AppendBulkString(buf, "EXISTS")
			buf = resp.AppendBulk(buf, a.key)
			c := b.cmds[i]
			c.renews, c.fields, c.asks, c.own = false, false, true, a.own
			cmds = append(cmds, c)
		}
		at = append(at, len(cmds))
		buf = resp.AppendCommand(buf, args...)
		cmds = append(cmds, b.cmds[i])
	})
	if err != nil {
		return err
	}
	for i, c := range b.copies {
		n := c.to - c.from
		b.copies[i].from = at[c.from]
		b.copies[i].to = at[c.from] + n
	}
	b.buf, b.cmds = buf, cmds
	return nil
}

// counted is a key that a command counts on.
type counted struct {
	key []byte
	own bool // see isOwn
}

// stateful calls fn for each key whose value a command of the batch counts on,
// ahead of the first one that does, unless the batch has written or asked for it
// before.
func (b *Batch) stateful(fn func(i int, a counted)) error {
	type name struct {
		db  int32
		key string
	}
	known := map[name]bool{}
	copies := b.copies
	return b.each(func(i int, args [][]byte) {
		spec := command.Lookup(args[0])
		keys := spec.AppendKeys(nil, args)
		for len(copies) > 0 && copies[0].to <= i {
			copies = copies[1:]
		}
		// What renews says itself what it met, or is the one behind a SET.
		whole := len(copies) > 0 && copies[0].from <= i || spec.Renews()
		for k, key := range keys {
			id := name{b.cmds[i].db, string(key)}
			if known[id] {
				continue
			}
			known[id] = true
			if !whole && !spec.Effect(k).Overwrites() {
				fn(i, counted{slices.Clone(key), isOwn(spec, keys, k)})
			}
		}
	})
}

// mayBeGone tells whether keys of a batch may have died although the source has
// renewed them: some deadline is exact, and the batch is older than that.
func (s *streamer) mayBeGone(b *Batch, age time.Duration) bool {
	m := s.lane.Mark()
	return m.Timed && m.TTL != DeadlinesHeld && b.oldest != math.MaxInt64 && s.tr.clock.sourceAge(b.oldest, s.g.now()) > age
}

// late makes doubtful what a batch that was fresh when it was sent, and was
// executed much later, counts on.
func (s *streamer) late(b *Batch) error {
	if b.asked || !s.mayBeGone(b, lateAge) {
		return nil
	}
	var doubts []checkpoint.Doubt
	err := b.stateful(func(i int, a counted) {
		doubts = append(doubts, checkpoint.Doubt{
			Group: s.g.id, Epoch: s.lane.Mark().Epoch, DB: int(b.cmds[i].db), Key: a.key, Why: "late", Offset: b.cmds[i].end, Own: a.own,
		})
	})
	if err != nil {
		return err
	}
	n, err := s.g.doubtMany(doubts)
	if n > 0 {
		s.g.log.Warn("a batch was executed so late that keys of it may have died before: they are doubtful until they are copied again, or verified",
			"keys", n, "first", string(short(doubts[0].Key)))
	}
	return err
}

// doubtMany is addDoubts within bounds: of those beyond maxWide it is known only
// that there were some.
func (g *group) doubtMany(doubts []checkpoint.Doubt) (int, error) {
	all, _ := g.doubts.counts()
	if all+len(doubts) <= maxWide {
		return g.addDoubts(doubts)
	}
	n, err := g.addDoubts(doubts[:max(maxWide-all, 0)])
	if err == nil && !g.forgotten {
		g.log.Warn("more keys may have died early than are noted: `tairlift verify --level full` tells which")
		g.forgot(g.lane.Mark().Epoch)
	}
	return n, err
}
