package apply

import (
	"math"
	"slices"
	"strconv"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/command"
	"tairlift/internal/held"
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
//	TIME			-> unless this was not late after all
//
// Of a batch that is executed late and has not asked, all of those keys are doubtful.
//
// That a key is new to the source too cannot be told from here; being doubtful
// costs it no more than a copy. Nothing is asked while all deadlines are held,
// which is so from the RDB until the group has caught up, nor for a group none of
// whose keys ever had a deadline.
//
// No early death goes unnoticed between the two. A command that the source
// executed at s counted on a key with the deadline D: s <= D, or the source would
// have sent DEL first. The target was told D + held.Margin + e, where e is how wrong
// D is dated, if it was a relative one. If it executes the command when its own
// clock says T and the key is gone, then T > s + held.Margin + e. The command is
// dated s + f, so that it is T - (s+f) > held.Margin + e - f old, which is more
// than lateAge while f - e <= datingError. That holds wherever clocks run alike: an
// absolute deadline has e = 0; a command is never dated later than the sample of
// the source's clock before it by more than datingError, else its time is that
// sample's, f <= 0. The target's clock
// is in T itself, so one that is a little ahead of the source's makes batches late
// and nothing else; one that is far ahead ends keys early, which is told (see
// farAhead), and may be noticed or not.

const (
	// behindAge is how old, by the source's clock, a batch may be when it is sent that
	// does not ask, and a command whose deadline is written exact. It leaves the
	// target time to execute what is not late.
	behindAge = 400 * time.Millisecond
	// lateAge is how old a batch may be when the target executes it.
	lateAge = held.Margin - datingError
	// datingError is how much later than it was a command may be dated, and a
	// deadline earlier than it is.
	datingError = 250 * time.Millisecond
	// farAhead is how far a target's clock may be ahead before it counts for less
	// than this machine's: with no more than the rest of lateAge, every batch would
	// be late.
	farAhead = lateAge / 2
)

// ask puts the questions into a batch.
func (b *Batch) ask() error {
	asks := map[int][]counted{}
	exact := func(deadline int64) bool { return deadline < held.Free }
	if err := b.stateful(exact, func(i int, a counted) { asks[i] = append(asks[i], a) }); err != nil {
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

// tellTime makes a batch say when it was executed.
func (b *Batch) tellTime() {
	b.append(b.end, "TIME")
	b.cmds[len(b.cmds)-1].tells = true
}

// told takes one of the two numbers that TIME answers.
func (b *Batch) told(n int64) {
	if b.executed == 0 {
		b.executed = n * 1000 // seconds
	} else {
		b.executed += n / 1000 // microseconds of it
	}
}

// stateful calls fn for each key whose value a command of the batch counts on,
// ahead of the first one that does, unless the batch has written or asked for it
// before. passes tells of a deadline that the batch itself gives a key whether it
// may have ended it within the batch.
func (b *Batch) stateful(passes func(deadline int64) bool, fn func(i int, a counted)) error {
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
		ms, ends := writtenDeadline(spec, args)
		for k, key := range keys {
			id := name{b.cmds[i].db, string(key)}
			if !known[id] && !whole && !spec.Effect(k).Overwrites() {
				fn(i, counted{slices.Clone(key), isOwn(spec, keys, k)})
			}
			known[id] = !ends || !passes(ms)
		}
	})
}

// writtenDeadline is the deadline that a command, as it is sent, gives its key.
func writtenDeadline(spec *command.Spec, args [][]byte) (ms int64, ok bool) {
	at := 2
	switch {
	case spec.Name == "PEXPIREAT" && len(args) == 3:
	case spec.Name == "RESTORE" && slices.ContainsFunc(args[4:], func(a []byte) bool { return is(a, "ABSTTL") }):
	case spec.Name == "SET" && len(args) == 5 && is(args[3], "PXAT"):
		at = 4
	default:
		return 0, false
	}
	ms, err := strconv.ParseInt(string(args[at]), 10, 64)
	return ms, err == nil
}

// mortal tells whether keys of a batch may have died although the source has
// renewed them, if it is late: some deadline is exact.
func (s *streamer) mortal(b *Batch) bool {
	m := s.lane.Mark()
	return (m.Timed || b.timed) && m.TTL != DeadlinesHeld && b.oldest != math.MaxInt64
}

// age is how old a batch was, by the source's clock, when the target executed it, or
// is now, where that is not known.
func (s *streamer) age(b *Batch) time.Duration {
	if b.executed == 0 {
		return s.tr.clock.sourceAge(b.oldest, s.g.wall())
	}
	age := b.behind()
	if by := s.ahead(); by > farAhead {
		age -= by
	}
	return age
}

// behind is how much later than the source executed the first command of a batch the
// target did, each by its own clock.
func (b *Batch) behind() time.Duration {
	return time.Duration(b.executed-b.oldest) * time.Millisecond
}

// ahead is how far the target's clock is ahead of the source's, at most. What was
// measured is ahead of this machine's, which may have been set back since, or was just
// then; that of capture's machine, by which the source's is known, may be another. No
// batch that was executed tells a wrong clock from a slow lane, and the quickest of
// them tells that the two clocks are no further apart.
func (s *streamer) ahead() time.Duration {
	by := *s.lane.ahead
	by = min(by, by-s.tr.clock.skew())
	if least := s.lane.least; least.of != "" && least.of == s.lane.target.runID {
		by = min(by, least.behind)
	}
	return by
}

// leastBehind is the least of what batches were behind on one run of a target.
type leastBehind struct {
	behind time.Duration
	of     string // the run id
}

// noteBehind takes what a batch that was executed tells of the two clocks.
func (s *streamer) noteBehind(b *Batch) {
	least, run := &s.lane.least, s.lane.target.runID
	if b.executed != 0 && (least.of != run || b.behind() < least.behind) {
		*least = leastBehind{b.behind(), run}
	}
}

// wasLate tells whether the target executed a batch so late that keys may have died
// before.
func (s *streamer) wasLate(b *Batch) bool {
	return s.mortal(b) && (b.late || s.age(b) > s.g.job.o.lateAge)
}

// late makes doubtful what a batch that was fresh when it was sent, and was
// executed much later, counts on.
func (s *streamer) late(b *Batch) error {
	if b.asked || !s.wasLate(b) {
		return nil
	}
	var doubts []checkpoint.Doubt
	passed := func(deadline int64) bool { return b.executed == 0 || deadline <= b.executed }
	err := b.stateful(passed, func(i int, a counted) {
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
