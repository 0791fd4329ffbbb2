package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"tairlift/checkpoint"
	"tairlift/internal/command"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// SWAPDB of a source exchanges, on a target that others share, the group's own
// keys of two databases (--on-flush scoped). Own are those that the group holds, as
// the marks of others would tell it of (holders), and that nobody else holds. Like
// a flush it is carried out between two batches:
//
//   - everything before it is applied and answered;
//   - the own keys are looked for. If one would meet a key of somebody else where
//     it goes, the group stops, and nothing has happened yet. Keys that were there
//     before the job are replaced, as anywhere else;
//   - step 1: each own key of the first database gets a temporary name, and is
//     moved to the second one, in one EXEC;
//   - step 2: each own key of the second database is moved to the first one;
//   - step 3: the temporary names become the plain ones;
//   - the mark moves behind the command.
//
// The mark says which step is under way, and what is left of each is told by the
// keys themselves: of step 1 by the own keys in the first database, of step 2 by
// those in the second, of step 3 by the temporary names. RENAMENX and MOVE keep
// values and deadlines as they are, take no longer for large values, and never
// replace a key.
//
// What was begun is carried out, whatever --on-flush says by then. The names that
// the spool has are of the databases before; spool.Swaps follows that, by the turns
// that the mark keeps.

// The steps, as the mark knows them.
const (
	swapAside  = 1 // the first database's keys
	swapBack   = 2 // the second one's
	swapNamed  = 3
	swapSteps  = 3
	swapChunk  = 1000 // keys that one EXEC moves at most
	swapPrefix = keyPrefix + "swap:"
)

// swapName is what comes before the name of a key of the group that is on its way.
func swapName(j spool.JobID, g repl.GroupID) string {
	return groupKey("swap", j, g) + ":"
}

// swapping is a SWAPDB of the stream. As an error it says that the stream has come
// to one.
type swapping struct {
	a, b int // databases of the source
	end  repl.Offset
	skip bool // it is left out, and those before it were not
}

func (w *swapping) Error() string { return "the stream has come to SWAPDB" }

func (w *swapping) reaches(db int) bool { return db == w.a || db == w.b }

// swapped tells whether the stream has come to one.
func swapped(err error) (*swapping, bool) {
	var w *swapping
	ok := errors.As(err, &w)
	return w, ok
}

// other is the database with which one is being swapped.
func (s Swap) other(db int) (other int, ok bool) {
	ok = s.Step > 0 && (db == s.A || db == s.B)
	return s.A + s.B - db, ok
}

// swapOf is what the translator knows of swaps at a mark.
func swapOf(m Mark) (began repl.Offset, turned bool) {
	if m.Swap.Step > 0 {
		began = m.Offset
	}
	return began, len(m.Turns)%2 == 1
}

// swap comes to a SWAPDB.
func (t *translator) swap(spec *command.Spec, c resp.Command) error {
	begun := t.began > 0 && t.began == c.End-repl.Offset(len(c.Raw))
	skip := t.onFlush == FlushIgnore && !begun
	a, b, ok := spec.SwapDBs(c.Args)
	switch {
	case ok && a == b:
		t.reading.ignored++
		return nil
	case skip && !(ok && t.turned):
		t.reading.ignored++
		return t.skipFlush(t.epoch, t.db, c)
	case skip:
		if err := t.skipFlush(t.epoch, t.db, c); err != nil {
			return err
		}
		t.reading.ignored++
	case !ok:
		return t.stop("stream-corrupt", c, "cannot be read", "report this with the source's version: the stream holds a command no server sends")
	case t.onFlush == FlushStop && !begun:
		return t.stop("flush-in-stream", c, "swaps databases in which others have keys on the shared target",
			"other groups go on; --on-flush scoped exchanges this group's keys alone, --on-flush ignore leaves it out; or "+newEpochHint)
	case !t.selection.DB(a) || !t.selection.DB(b):
		return t.stop("flush-in-stream", c, "brings into a database that is selected what is in one that is not",
			"what comes is not on the target: select both by --db, in a fresh --dir; or "+newEpochHint)
	}
	t.cut(c)
	return &swapping{a: a, b: b, end: c.End, skip: skip}
}

// swap carries a SWAPDB out, at which the batch ends. Nothing is in flight.
func (s *streamer) swap(ctx context.Context, w *swapping) error {
	g := s.g
	st := g.status.get()
	at := s.settled()
	if w.skip {
		at.Turns = append(slices.Clone(at.Turns), at.Offset)
		return s.passSwap(w, at)
	}
	g.status.waits(&waitError{reason: "swapping", err: fmt.Errorf("SWAPDB %d %d of the source, ending at offset %s, is carried out: this group's keys are looked for on the target, and moved", w.a, w.b, w.end)}, g.now())
	for _, db := range []int{w.a, w.b} {
		if err := g.job.proveDB(ctx, db); err != nil {
			return err
		}
	}
	m, err := g.newMoves(s, w, at)
	if err != nil {
		return err
	}
	defer m.close()
	if err := s.move(at); err != nil { // the lane is free behind it
		return err
	}
	if err := m.run(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	at = m.at
	at.Swap = Swap{}
	at.Commands++ // two marks at one offset differ by it, and doubts go by that
	if !s.tr.turned {
		at.Turns = append(slices.Clone(at.Turns), at.Offset)
	}
	if err := g.swapDoubts(w, at); err != nil {
		return err
	}
	if s.tr.held.any { // where those of their names are is not followed
		s.tr.held.forget()
	}
	g.recopier.pending, g.recopier.after = nil, nil
	if err := s.passSwap(w, at); err != nil {
		return err
	}
	g.log.Info("a SWAPDB of the source was carried out", "databases", fmt.Sprintf("%d and %d", w.a, w.b), "offset", w.end, "moved", m.moved, "kept for other groups", m.kept)
	if m.sweep.opaque > 0 {
		g.log.Warn("scripts may have written keys that they do not name: those stay where they were, and `tairlift verify --level full` shows them", "scripts", m.sweep.opaque)
	}
	g.status.streaming(st.RDBTotal)
	g.status.update(func(st *Status) { st.Swaps++; st.Swapped += m.moved })
	return s.record(true)
}

// passSwap moves the mark behind a SWAPDB.
func (s *streamer) passSwap(w *swapping, m Mark) error {
	if len(m.Turns) > maxTurns {
		return &StopError{
			Reason: "flush-in-stream",
			What:   fmt.Sprintf("group %s: SWAPDB %d %d of the source, ending at offset %s, comes after --on-flush has changed %d times between scoped and ignore in one epoch", s.g.id, w.a, w.b, w.end, maxTurns),
			Hint:   "keep to the policy of the last run; or " + newEpochHint,
		}
	}
	s.tr.done(w.end)
	m.Offset, m.DB = s.tr.batch.end, s.tr.batch.endDB
	m.Start, m.StartDB = m.Offset, m.DB
	if err := s.move(m); err != nil {
		return err
	}
	s.tr.began, s.tr.turned = swapOf(m)
	s.g.well, s.shown = true, m.Offset
	s.g.moved(m, s.tr.seen, s.date(m.Offset))
	s.tr.seen = counts{}
	s.tr.clock.forget(m.Offset)
	return nil
}

// swapDoubts moves what is doubtful along with the keys. It is doubtful in both
// places if the mark m does not come to be.
func (g *group) swapDoubts(w *swapping, m Mark) error {
	added, healed, err := g.store.SwapDoubts(g.id, w.a, w.b, checkpoint.Heal{Epoch: m.Epoch, Offset: w.end, Commands: m.Commands})
	if err != nil || len(added) == 0 {
		return err
	}
	g.doubts.remove(healed)
	g.doubts.add(added)
	g.showDoubts(len(healed))
	return g.countRejects()
}

// dropAside removes the keys that a SWAPDB has left under temporary names, when a
// full sync takes the place of what it was about.
func (g *group) dropAside(ctx context.Context) error {
	if err := g.lane.Write(g.lane.Mark()); err != nil { // the lane is free behind it
		return err
	}
	conn, err := g.job.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	t, err := probe(ctx, conn)
	if err != nil {
		return err
	}
	for _, db := range slices.Sorted(maps.Keys(t.keyspace)) {
		from := g.job.o.Selection.From(db)
		if from == dbNone {
			continue
		}
		b := &Batch{}
		flush := func() error {
			if len(b.cmds) == 0 {
				return nil
			}
			_, err := g.lane.Exclusive(ctx, nil, func([]string) (*Batch, error) { return b, nil })
			return err
		}
		err := scanKeys(ctx, conn, db, func(key []byte) error {
			if len(b.cmds) == 0 {
				b = &Batch{db: dbNone, selection: g.job.o.Selection}
				b.use(from, 0)
			}
			b.append(0, "DEL", key)
			if len(b.cmds) <= swapChunk {
				return nil
			}
			err := flush()
			b = &Batch{}
			return err
		}, "MATCH", swapName(g.job.o.Job, g.id)+"*")
		if err == nil {
			err = flush()
		}
		if err != nil {
			return err
		}
	}
	return nil
}
