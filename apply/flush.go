package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"tairlift/checkpoint"
	"tairlift/internal/command"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/internal/slot"
)

// FlushPolicy says what a command of the source that empties or swaps whole
// databases does.
type FlushPolicy uint8

// The policies of --on-flush.
const (
	FlushStop   FlushPolicy = iota // the group stops
	FlushScoped                    // the keys that the group has put there are deleted, or moved
	FlushIgnore                    // it is skipped; the job is tainted
)

// A command that empties databases without naming keys (FLUSHALL, FLUSHDB,
// SLOTSDEL) must not reach a target that others share as it is. What it deletes is
// told as a sweep tells it, with nothing in the place of a new RDB:
//
//   - everything before it is applied and answered. So it may cut a transaction
//     of the source in two: what comes before it there is committed before it;
//   - the keys that the epoch has named so far are looked for on the target, and
//     counted;
//   - the mark says that the command is being carried out, and the keys that no
//     other group holds are deleted;
//   - the mark moves behind it.
//
// Nothing behind the command is applied before that, so whatever breaks on the
// way, the next session comes to the command again and finds less to delete.
// Keys of earlier epochs are none of its matter: the sweep behind the epoch's RDB
// has removed them.

// clearing is a command that empties databases, or slots of one. As an error it
// says that the stream has come to one.
type clearing struct {
	command.Cleared
	name string
	db   int         // selected
	end  repl.Offset // its own
}

func (c *clearing) Error() string { return "the stream has come to " + c.name }

// reaches tells whether keys of a database may go.
func (c *clearing) reaches(db int) bool { return c.All || db == c.db }

// covers tells whether a key goes, if it is the group's.
func (c *clearing) covers(db int, key []byte) bool {
	return c.reaches(db) && (c.Slots == nil || inSlots(c.Slots, key))
}

func inSlots(slots []uint16, key []byte) bool { return slices.Contains(slots, uint16(slot.Codis(key))) }

// clear comes to a command that empties databases. Unless it is skipped, the
// batch ends before it, in the middle of a transaction if need be, and the error
// is a *clearing; done goes on behind it.
func (t *translator) clear(spec *command.Spec, c resp.Command) error {
	if spec.Swaps() {
		return t.swap(spec, c)
	}
	what, ok := spec.Clears(c.Args)
	flush := spec.Class == command.Flush
	switch {
	case flush && t.onFlush == FlushIgnore:
		t.reading.ignored++
		return t.skipFlush(t.epoch, t.db, c)
	case !ok:
		return t.stop("stream-corrupt", c, "cannot be read", "report this with the source's version: the stream holds a command no server sends")
	case flush && t.onFlush == FlushStop:
		return t.stop("flush-in-stream", c, "would empty keys of other groups on the shared target",
			"other groups go on; --on-flush scoped deletes this group's keys alone, --on-flush ignore keeps them all; or "+newEpochHint)
	}
	t.cut(c)
	return &clearing{Cleared: what, name: strings.ToUpper(string(c.Args[0])), db: t.db, end: c.End}
}

// cut ends the batch before a command, in the middle of a transaction if need be.
func (t *translator) cut(before resp.Command) {
	t.batch.join(&t.txn)
	t.txn.reset(dbNone)
	t.done(before.End - repl.Offset(len(before.Raw)))
}

// skipFlush counts a flush that is not carried out, once, however often it is
// read. It is on disk before anything behind it is sent.
func (g *group) skipFlush(e repl.Epoch, db int, c resp.Command) error {
	last := place{g.skipped.Epoch, g.skipped.Offset}
	if !(place{e, c.End}).behind(last) {
		return nil
	}
	rec, _, err := g.store.Group(g.id)
	if err != nil {
		return err
	}
	g.skipped = checkpoint.SkippedFlushes{Count: g.skipped.Count + 1, Epoch: e, Offset: c.End}
	rec.Flushes = g.skipped
	if err := g.store.PutGroup(g.id, rec); err != nil {
		return err
	}
	g.log.Warn("a flush of the source is skipped (--on-flush ignore): the target keeps what the source has removed, or where it was",
		"command", show(c.Args), "db", db, "epoch", e, "offset", c.End)
	g.showSkipped()
	return nil
}

func (g *group) showSkipped() {
	g.status.update(func(st *Status) { st.FlushesIgnored = g.skipped.Count })
}

// clear carries a command out that empties databases, at which the batch ends.
// Nothing is in flight.
func (s *streamer) clear(ctx context.Context, c *clearing) error {
	g := s.g
	st := g.status.get()
	g.status.waits(&waitError{reason: "flushing", err: fmt.Errorf("%s of the source, ending at offset %s, is carried out: this group's keys are looked for on the target, and deleted", c.name, c.end)}, g.now())
	at := s.settled()
	p, err := g.newSweep(at.Epoch, []Delivered{{Epoch: at.Epoch, Until: at.Offset, Turns: at.Turns}})
	if err != nil {
		return err
	}
	defer p.close()
	p.clears = c
	if err := s.move(at); err != nil { // the lane is free behind it
		return err
	}
	if err := g.beating(ctx, p.prepare); err != nil {
		return err
	}
	if err := p.agreed(); err != nil {
		return err
	}
	if p.found > 0 {
		at.Clearing = true
		if err := s.move(at); err != nil {
			return err
		}
		if err := p.run(ctx); err != nil {
			return err
		}
	}
	at.Clearing = false
	at.Commands++ // two marks at one offset differ by it, and doubts go by that
	if err := g.cleared(c, at); err != nil {
		return err
	}
	if err := p.told(); err != nil {
		return err
	}
	s.tr.done(c.end)
	at.Offset, at.DB = s.tr.batch.end, s.tr.batch.endDB
	at.Start, at.StartDB = at.Offset, at.DB
	if err := s.move(at); err != nil {
		return err
	}
	g.log.Info("a flush of the source was carried out", "command", c.name, "db", c.db, "offset", c.end, "deleted", p.deleted, "kept for other groups", p.found-p.deleted)
	g.status.streaming(st.RDBTotal)
	g.status.update(func(st *Status) { st.Flushes++; st.Flushed += p.deleted })
	g.well, s.shown = true, at.Offset
	g.moved(at, s.tr.seen, s.date(at.Offset))
	s.tr.seen = counts{}
	s.tr.clock.forget(at.Offset)
	return s.record(true)
}

// settled is the mark at the end of a batch without commands.
func (s *streamer) settled() Mark {
	m := s.markOf(s.tr.batch)
	m.Start, m.StartDB = m.Offset, m.DB
	return m
}

// move writes a mark behind which nothing is unread.
func (s *streamer) move(m Mark) error {
	if err := s.tr.existing.sync(); err != nil {
		return err
	}
	if err := s.lane.Write(m); err != nil {
		return err
	}
	s.g.read, s.marked = m.Offset, s.g.now()
	s.g.markSeen()
	return nil
}

// agreed stops the group when another job shares the target, unless a person has
// agreed to deletions. How many keys go was the person's wish, by --on-flush.
func (s *sweep) agreed() error {
	why := ""
	switch {
	case s.count == 0 || s.g.job.o.DeletesAgreed:
	case len(s.jobs) > 0:
		why = "the target has marks of another job, " + strings.Join(s.jobs, ", ")
	case s.loose:
		why = "which SWAPDB of the source were carried out there is not known, so one may be another database's that was swapped"
	}
	if why == "" {
		return nil
	}
	return &StopError{
		Reason: "confirm-deletes",
		What: fmt.Sprintf("group %s: %s of the source, ending at offset %s, deletes %d keys that the target has of the group, and %s",
			s.g.id, s.clears.name, s.clears.end, s.count, why),
		Hint: fmt.Sprintf("nothing is deleted yet. %s lists them; if they may go, start the same command with --max-deletes 100%%", s.g.deletesFile()),
	}
}

// cleared ends the doubt about keys that are gone at the source too. They are
// doubtful again if the mark m does not come to be.
func (g *group) cleared(c *clearing, m Mark) error {
	var gone []checkpoint.Doubt
	err := g.store.Doubts(g.id, func(d checkpoint.Doubt) error {
		if c.covers(d.DB, d.Key) && !(d.Shares() && c.Slots != nil) {
			gone = append(gone, d)
		}
		return nil
	})
	if err != nil || len(gone) == 0 {
		return err
	}
	free := g.doubts.freed(gone, place{m.Epoch, c.end})
	if err := g.store.HealDoubts(free, checkpoint.Heal{Epoch: m.Epoch, Offset: c.end, Commands: m.Commands}); err != nil {
		return err
	}
	g.doubts.remove(free)
	g.showDoubts(len(free))
	return g.countRejects()
}

// cleared tells whether the stream has come to a command that empties databases.
func cleared(err error) (*clearing, bool) {
	var c *clearing
	ok := errors.As(err, &c)
	return c, ok
}
