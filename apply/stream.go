package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

const (
	// batchBytes bounds a batch, but for a source transaction larger than it.
	batchBytes = 512 << 10
	// idleMark is how far apart marks are written while only PINGs come.
	idleMark = 10 * time.Second
	// sureMark is how far apart they are while nothing comes: what prune may
	// remove depends on when the mark was last seen.
	sureMark = time.Minute
	// lookEvery is how often a newer epoch is looked for while one is behind.
	lookEvery = time.Second
	// recordEvery bounds how often apply.db is told of progress.
	recordEvery = time.Second
)

// batchCommands bounds the commands of a batch by the round trip to the
// target: enough to hide the two that each takes, not so many that other clients
// wait long.
func batchCommands(rtt time.Duration) int {
	return min(1000+int(rtt/time.Millisecond)*750, 16000)
}

// streamer applies one epoch's stream over one lane session.
type streamer struct {
	g    *group
	lane *Lane
	tr   translator
	in   *spool.StreamReader
	pars *resp.Parser
	recv time.Time

	batches  [2]Batch
	cur      int // the batch that is being filled
	inflight *flight
	limit    int         // commands
	shown    repl.Offset // in the status
	marked   time.Time
	recorded time.Time
	looked   time.Time     // for a newer epoch
	asked    time.Time     // when the source was last asked for doubtful keys
	rest     time.Duration // before it is asked again while apply is behind
	drained  bool          // fill came to the end of the spool
	passing  time.Time     // when the last of the deadlines is over that had passed when they were set exact
}

// flight is a batch whose EXEC was sent.
type flight struct {
	batch *Batch
	mark  Mark
	seen  counts
}

// stream applies the epoch's stream from the mark on. It runs until ctx ends
// (nil), the session breaks, or the group stops.
func (g *group) stream(ctx context.Context, info spool.EpochInfo) error {
	m := g.lane.Mark()
	in, err := g.openStream(m)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := g.revive(m); err != nil {
		return err
	}
	defer g.recopier.end()
	if m.Start < m.Offset && (g.readFrom != m.Epoch || g.read < m.Offset) {
		err := g.unread(ctx, control{g.lane.conn, g.lane.timeout}, m)
		var gap *spool.GapError
		if errors.As(err, &gap) { // the spool no longer tells what was in it
			g.forgot(m.Epoch)
		} else if err != nil {
			return err
		}
	}
	g.read, g.readFrom = m.Offset, m.Epoch
	g.status.streaming(info.RDBBytes)
	s := &streamer{
		g: g, lane: g.lane, in: in, pars: resp.NewParser(m.Offset),
		limit: batchCommands(g.lane.rtt), marked: g.now(), recorded: g.now(), looked: g.now(),
	}
	if g.job.o.batch > 0 {
		s.limit = g.job.o.batch
	}
	s.tr = translator{
		group: g.id, epoch: m.Epoch, clock: &offsetClock{}, caps: g.lane.target.caps(), scripts: g.scripts,
		selection: g.job.o.Selection,
		proveDB:   func(db int) error { return g.job.proveDB(ctx, db) },
		skip:      g.skip(m.Epoch), existing: g.job.existing.rewind(g.id, m), wall: g.wall, doubtful: &g.doubts, behindAge: g.job.o.behindAge,
		onFlush: g.job.o.OnFlush, skipFlush: g.skipFlush, onUnknown: g.job.o.OnUnknown,
		findScripts: func() (lost, err error) { return g.findScripts(ctx, m, info.Start) },
		payloads:    &payloads{target: g.lane.target, probe: func() (*accepts, error) { return g.job.accepts(ctx, g.id, g.lane.target) }},
		knows:       func(name string) (bool, error) { return g.job.knowsCommand(ctx, name) },
		alone:       sync.OnceValues(func() (string, error) { return g.alone(ctx) }),
		held:        &g.held, derived: deriver{group: g.id, epoch: m.Epoch, known: &g.doubts},
	}
	if g.onReject == RejectContinue {
		s.tr.refuse = func(c resp.Command, args [][]byte, why error) error {
			return g.refuse(batched{end: c.End, db: int32(s.tr.db)}, args, resp.ServerError(why.Error()))
		}
	}
	s.tr.began, s.tr.turned = swapOf(m)
	g.held.enter(m, false)
	if err := g.wantHeld(ctx); err != nil {
		return err
	}
	s.tr.hold(m.TTL != DeadlinesExact)
	s.tr.start(&s.batches[0], m.Offset, m.DB)
	err = s.run(ctx)
	// What was answered is not to be called unread by the next process.
	if rerr := s.record(true); err == nil {
		err = rerr
	}
	return err
}

func (s *streamer) run(ctx context.Context) error {
	for {
		if now := s.g.now(); now.Sub(s.looked) >= lookEvery {
			s.looked = now
			if err := s.g.newer(s.lane.Mark().Epoch); err != nil {
				if lerr := s.land(); lerr != nil {
					return lerr
				}
				return err
			}
		}
		s.g.arm()
		cause := s.fill(ctx)
		if err := s.keepDoubts(); err != nil {
			return err
		}
		if len(s.tr.batch.cmds) > 0 {
			if err := s.send(ctx); err != nil {
				return err
			}
			if cause == nil {
				if s.g.now().Sub(s.asked) >= s.rest {
					if _, err := s.recopy(ctx); err != nil {
						return err
					}
				}
				if _, err := s.settle(ctx, false); err != nil {
					return err
				}
				continue
			}
		}
		if err := s.land(); err != nil { // whatever is in flight
			return err
		}
		if c, ok := cleared(cause); ok {
			if err := s.clear(ctx, c); err != nil {
				return err
			}
			continue
		}
		if c, ok := swapped(cause); ok {
			if err := s.swap(ctx, c); err != nil {
				return err
			}
			continue
		}
		if cause == nil || errors.Is(cause, errEnd) {
			s.giveUp()
			reached, err := s.recopy(ctx)
			if err != nil {
				return err
			}
			if reached {
				continue
			}
			more, err := s.settle(ctx, cause != nil)
			if err != nil {
				return err
			}
			if more {
				continue
			}
			if cause != nil {
				s.outlast(ctx)
			}
		}
		if err := s.idle(cause != nil || ctx.Err() != nil); err != nil {
			return err
		}
		if cause != nil || ctx.Err() != nil {
			return cause
		}
		s.g.well = true
		s.g.await(ctx)
	}
}

// fill translates what can be had without waiting, up to a full batch. cause
// is why the stream cannot go on behind the batch: the end of the epoch,
// damage, a command that stops the group.
func (s *streamer) fill(ctx context.Context) (cause error) {
	b := s.tr.batch
	s.drained = false
	commands, bytes := s.g.pace.Most(s.limit, batchBytes)
	for ctx.Err() == nil && len(b.cmds) < commands && len(b.buf) < bytes {
		if err := s.putInPlace(); err != nil {
			return err
		}
		c, ok, err := s.pars.Next()
		if err != nil {
			return &StopError{
				Reason: "stream-corrupt",
				What:   fmt.Sprintf("group %s epoch %s: %v", s.g.id, s.lane.Mark().Epoch, err),
				Hint:   "the spool's checksums are right, so the source sent this: report it with the source's version; " + newEpochHint,
				Err:    err,
			}
		}
		if ok {
			if err := s.tr.add(c, s.recv); err != nil {
				return err
			}
			continue
		}
		f, err := s.in.Next()
		switch {
		case errors.Is(err, spool.ErrEnd):
			s.drained = true
			if s.g.job.o.UntilEnd {
				if err := s.g.spool.Gap(); err != nil {
					return s.g.spoolErr(err)
				}
				return errEnd
			}
			return nil
		case errors.Is(err, spool.ErrEpochEnd):
			return errEpochOver
		case err != nil:
			return s.g.spoolErr(err)
		case f.Data == nil:
			s.tr.clock.add(f.Clock)
		default:
			s.recv = f.Received
			s.pars.Feed(f.Data)
		}
	}
	return nil
}

// keepDoubts stores what was noted as doubtful: a command that makes a key so may
// leave nothing to send, by which its batch would be remembered.
func (s *streamer) keepDoubts() error {
	if len(s.tr.doubts) == 0 {
		return nil
	}
	if _, err := s.g.addDoubts(s.tr.doubts); err != nil {
		return err
	}
	s.tr.taken()
	return nil
}

// send lands the batch before, waits for the pace, queues the current batch and
// sends its EXEC. While it waits, nothing of ours is under way.
func (s *streamer) send(ctx context.Context) error {
	b := s.tr.batch
	if err := s.tr.existing.sync(); err != nil {
		return err
	}
	if err := s.land(); err != nil {
		return err
	}
	if s.tr.unnoted && !s.g.forgotten {
		s.g.log.Warn("deadlines of more keys, or fields of hashes, than are noted may be wrong, because apply or its links were behind: `tairlift verify --level full` tells which", "by", s.tr.seen.width)
		s.g.forgot(s.lane.Mark().Epoch)
		if err := s.record(true); err != nil {
			return err
		}
	}
	if err := s.g.paced(ctx, int64(len(b.cmds)), int64(len(b.buf)), s.g.beat); err != nil {
		return err
	}
	if s.mortal(b) {
		age := s.tr.clock.sourceAge(b.oldest, s.g.wall())
		b.late = age > s.g.job.o.lateAge
		if age > s.g.job.o.behindAge {
			if err := b.ask(); err != nil {
				return err
			}
		}
		if s.lane.ahead != nil {
			b.tellTime()
		}
	}
	f := &flight{batch: b, mark: s.markOf(b), seen: s.tr.seen}
	s.tr.seen = counts{}
	if err := s.lane.Queue(b, f.mark); err != nil {
		return err
	}
	if err := s.lane.Commit(true); err != nil {
		return s.refused(b, err)
	}
	s.inflight = f
	s.cur = 1 - s.cur
	s.tr.next(&s.batches[s.cur])
	return nil
}

func (s *streamer) markOf(b *Batch) Mark {
	m := s.lane.Mark() // nothing is in flight
	m.Clearing = false
	if b.end > m.Offset {
		m.Swap = Swap{}
	}
	m.Start, m.StartDB = m.Offset, m.DB
	m.Offset, m.DB = b.end, b.endDB
	m.Commands += b.sources
	m.Asked, m.Timed = b.asked, m.Timed || b.timed
	if b.held {
		m.TTL = m.TTL.holding()
	}
	return m
}

// land reads the answer of the batch in flight.
func (s *streamer) land() error {
	f := s.inflight
	if f == nil {
		return nil
	}
	s.inflight = nil
	var gone []int
	failed, err := s.lane.Answer(f.mark, func(i int, n int64) {
		if i >= len(f.batch.cmds) {
			return
		}
		c := &f.batch.cmds[i]
		switch {
		case c.tells:
			f.batch.told(n)
			return
		case c.looks && n > 0:
			if k, ok := f.batch.copyOf(i); ok {
				f.batch.copies[k].kept = true
			}
			return
		}
		if n == 0 && (c.renews || c.asks) || n == fieldGone && c.fields && (len(gone) == 0 || gone[len(gone)-1] != i) {
			gone = append(gone, i)
		}
	})
	var u *unmarkedError
	if errors.As(err, &u) {
		return s.g.unmarked(f.batch, u)
	}
	if err != nil {
		return err
	}
	s.g.pace.Took(s.lane.took, int64(len(f.batch.cmds)), int64(len(f.batch.buf)))
	s.noteBehind(f.batch)
	s.marked = s.g.now()
	s.g.markSeen()
	before, _ := s.g.doubts.counts()
	derive := func() error { // what was made from keys that are doubtful only now
		after, _ := s.g.doubts.counts()
		if after <= before {
			return nil
		}
		before = after
		return s.g.derive(f.batch, s.tr.batch, &s.tr.txn)
	}
	if !s.wasLate(f.batch) {
		gone = slices.DeleteFunc(gone, func(i int) bool { return f.batch.cmds[i].asks })
	}
	if err := s.g.missed(f.batch, gone); err != nil {
		return err
	}
	if err := s.late(f.batch); err != nil {
		return err
	}
	failed, refused := f.batch.split(failed)
	if err := s.g.died(f.batch, f.mark, failed); err != nil {
		return err
	}
	if err := derive(); err != nil {
		return err
	}
	if failed, err = s.g.excused(f.batch, failed); err != nil {
		return err
	}
	stop, err := s.g.rejected(f.batch, failed)
	if err != nil {
		return err
	}
	if err := derive(); err != nil {
		return err
	}
	if err := s.g.landed(f.batch, refused, f.mark); err != nil {
		return err
	}
	s.g.well = true
	s.g.read = f.mark.Offset
	s.shown = f.mark.Offset
	s.g.moved(f.mark, f.seen, s.date(f.mark.Offset))
	s.tr.clock.forget(f.mark.Offset)
	if stop != nil {
		s.g.stopped, s.g.stoppedIn = stop, f.mark.Epoch
		return stop
	}
	return s.record(false)
}

// idle moves the position over what is not data, and brings the mark up to it
// now and then, or when the session ends. Each minute the mark is written in any
// case, by which it is seen too.
func (s *streamer) idle(final bool) error {
	b, m := s.tr.batch, s.lane.Mark()
	idle := s.g.now().Sub(s.marked)
	if b.end > m.Offset && (final || idle >= idleMark) || idle >= sureMark {
		m = s.settled()
		if err := s.move(m); err != nil {
			return err
		}
	}
	if b.end > s.shown {
		m.Offset, m.DB = b.end, b.endDB
		s.shown = b.end
		s.g.moved(m, s.tr.seen, s.date(b.end))
		s.tr.seen = counts{}
		s.tr.clock.forget(b.end)
	}
	return s.record(final)
}

// date is when the source executed what ends at o.
func (s *streamer) date(o repl.Offset) int64 {
	if s.recv.IsZero() {
		return 0
	}
	ms, _ := s.tr.clock.at(o, s.recv)
	return ms
}

func (s *streamer) record(now bool) error {
	m := s.lane.Mark()
	if !now && s.g.now().Sub(s.recorded) < recordEvery || s.g.read != m.Offset {
		return nil
	}
	s.recorded = s.g.now()
	return s.g.record(m)
}

// refused turns an answer at queue time into what happens next.
func (s *streamer) refused(b *Batch, err error) error {
	if errors.Is(err, resp.ErrNotQueued) { // sent again, it would be applied twice
		return s.g.unmarked(b, &unmarkedError{cause: resp.ServerError(err.Error())})
	}
	var q *queueError
	if !errors.As(err, &q) {
		return err
	}
	if c, _ := classify(q.Err); c == classWait {
		return err
	}
	if q.Index >= len(b.cmds) {
		return s.lane.markRefused(q.Err)
	}
	if i, ok := b.copyOf(q.Index); ok {
		d := b.copies[i].doubt
		d.Held = heldRefused + ": " + string(q.Err)
		if err := s.g.hold([]checkpoint.Doubt{d}); err != nil {
			return err
		}
		return errAgain
	}
	args, perr := b.command(q.Index)
	if perr != nil {
		return perr
	}
	if string(args[0]) == "SELECT" || b.cmds[q.Index].asks || b.cmds[q.Index].tells { // ours, for commands that are not to blame
		return connErr(err)
	}
	return s.g.refuse(b.cmds[q.Index], args, q.Err)
}

// errEpochOver says that the epoch is applied to its end, and that another one
// has begun.
var errEpochOver = errors.New("end of the epoch")

// errEnd says that everything in the spool is applied, and that this was all
// there was to do.
var errEnd = errors.New("end of the spool")
