package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/pace"
	"tairlift/internal/repl"
	"tairlift/spool"
)

// group drains the spool of one group. Its goroutine is the only user of all
// but store, log, doubts and status, which the snapshot's goroutines share.
type group struct {
	id       repl.GroupID
	job      *Job
	store    *checkpoint.Apply
	log      *slog.Logger
	onReject RejectPolicy
	now      func() time.Time // see Options
	wall     func() time.Time
	scripts  *scripts
	skips    skips
	doubts   doubtSet
	recopier *recopier
	held     heldKeys
	due      atomic.Pointer[place] // see Job.Settle
	changed  <-chan struct{}
	lane     *Lane
	spool    *spool.Group // nil until there is one
	damage   settle       // in its files
	// read is the position of the last mark whose batch was answered to this
	// process, or by its record to the one before, and its rejects stored.
	read     repl.Offset
	readFrom repl.Epoch
	claimed  bool
	// forgotten says that an earlier store was lost; see forget.
	forgotten   bool
	forgottenIn repl.Epoch
	skipped     checkpoint.SkippedFlushes
	well        bool // this session got something done, or found nothing left to do
	wasWell     bool // a session of this process did
	recorded    checkpoint.ApplyRecord

	stopped    error      // by what is recorded: no session goes on behind it
	stoppedIn  repl.Epoch // the epoch that stopped is about
	beyond     Delivered  // what was executed without its mark; see unmarked
	reseeding  bool       // see reseed
	renewed    bool       // see awaitsEpoch
	superseded repl.Epoch // what was doubtful before this epoch is forgotten

	pace    *pace.Share
	silence silence // shared with whoever asks for the status
	status  groupStatus
}

func newGroup(j *Job, id repl.GroupID) (*group, error) {
	g := &group{
		id: id, job: j, store: j.o.Store, log: j.o.Log.With("group", id.String()), onReject: j.o.OnReject, now: j.o.Now, wall: j.o.Wall, skips: skips{},
		recopier: newRecopier(j.o.Sources[id], j.o.firstWait), pace: j.o.Pace.Share(),
		lane: &Lane{
			addr: j.o.Addr, secret: j.o.Secret, key: markKey(j.o.Job, id), owner: j.owner, timeout: j.o.Timeout, gate: &j.gate,
			selection: j.o.Selection, wall: j.o.Wall,
		},
	}
	g.lane.silence = &g.silence
	g.held.names = newNameQueue(j.heldFile(id, "noted"), j.o.heldNames)
	g.status.Group, g.status.State = id, StateWaiting
	var err error
	if g.scripts, err = openScripts(g.store); err != nil {
		return nil, err
	}
	rec, _, err := g.store.Group(id)
	if err != nil {
		return nil, err
	}
	g.claimed, g.forgotten, g.forgottenIn, g.reseeding = rec.Claimed, rec.Forgotten, rec.ForgottenIn, rec.Reseed
	g.skipped = rec.Flushes
	g.status.Forgotten, g.status.FlushesIgnored = rec.Forgotten, rec.Flushes.Count
	g.status.Commands = rec.Commands
	if ttl, err := parseDeadlines(rec.Deadlines); err == nil {
		g.status.TTL = ttl
	}
	g.status.Epoch, g.status.Phase, g.status.RDBDone, g.status.Keys = rec.Epoch, rec.Phase, rec.RDBOffset, rec.RDBKeys
	if rec.Phase == checkpoint.PhaseStream {
		g.read, g.readFrom = rec.Offset, rec.Epoch
		g.status.Applied, g.status.Marked = rec.Offset, rec.Offset
	}
	return g, g.load()
}

// load reads what the store holds as rejected and doubtful.
func (g *group) load() error {
	var last checkpoint.Reject
	rejects := 0
	g.skips, g.stopped = skips{}, nil
	err := g.store.Rejects(g.id, func(r checkpoint.Reject) error {
		if !r.Applied {
			g.skip(r.Epoch)[r.Offset] = true
		}
		if r.Healed {
			return nil
		}
		rejects++
		last = r
		if g.isUnmarked(r) {
			g.stopped, g.stoppedIn, g.beyond = g.unmarkedStop(r), r.Epoch, Delivered{Epoch: r.Epoch, Until: r.Offset}
		}
		return nil
	})
	if err == nil {
		err = g.loadDoubts()
	}
	if rejects > 0 && g.onReject == RejectStop && g.stopped == nil {
		g.stopped, g.stoppedIn = g.rejectStop(last), last.Epoch
	}
	g.status.update(func(st *Status) { st.Rejects = rejects })
	return err
}

// loadDoubts reads the doubtful keys, and those that were, from the store.
func (g *group) loadDoubts() error {
	g.doubts.clear()
	healed := 0
	err := g.store.Doubts(g.id, func(d checkpoint.Doubt) error {
		g.doubts.add([]checkpoint.Doubt{d})
		return nil
	})
	if err == nil {
		err = g.store.Healed(g.id, func(checkpoint.Doubt) error { healed++; return nil })
	}
	g.showDoubts(healed - g.status.get().Healed)
	return err
}

const (
	firstWait = 100 * time.Millisecond
	longWait  = 2 * time.Second
)

// panicked makes a bug of ours the end of this group alone.
func (g *group) panicked(p any) error {
	g.log.Error("panic in apply", "panic", p, "stack", stack())
	st := g.status.get()
	where := fmt.Sprintf("epoch %s, behind offset %s", st.Epoch, st.Applied)
	if st.Phase != checkpoint.PhaseStream {
		where = fmt.Sprintf("epoch %s, behind byte %d of the RDB", st.Epoch, st.RDBDone)
	}
	return &StopError{
		Reason: "internal-error",
		What:   fmt.Sprintf("group %s: apply met a bug of its own (%s): %v", g.id, where, p),
		Hint:   "report this with the log; other groups and capture go on, and the same command begins again from the mark",
	}
}

// guarded is f with its panics as errors, for goroutines beside run.
func (g *group) guarded(f func() error) func() error {
	return func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = g.panicked(p)
			}
		}()
		return f()
	}
}

// run applies until ctx ends, everything is done (nil), or the group stops.
func (g *group) run(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = g.panicked(p)
		}
		g.status.end(err)
	}()
	wait := g.job.o.firstWait
	var since, sinceWhy time.Time // of the waiting, and of its last reason
	why := ""
	for {
		begun := g.now()
		g.well = false
		err := g.attempt(ctx)
		g.wasWell = g.wasWell || g.well
		var w *waitError
		switch {
		case ctx.Err() != nil, err == nil:
			return nil
		case errors.Is(err, errEnd):
			g.status.update(func(st *Status) { st.State = StateFinished })
			return nil
		case errors.Is(err, errAgain):
			continue
		case errors.Is(err, errMoved):
			w = &waitError{reason: "target-mark-changed", err: err}
		case errors.As(err, &w):
		case g.mayReseed(err):
			if err := g.askReseed(); err != nil {
				return err
			}
			continue
		case g.awaitsEpoch(err):
			w = &waitError{reason: "new-epoch", err: err}
		default:
			return err
		}
		if g.well {
			wait, since, why = g.job.o.firstWait, time.Time{}, ""
		}
		if w.reason != why { // a session that took the mark over and no more clears it for that time
			why, sinceWhy = w.reason, g.now()
			if silent := g.silence.since(); w.reason == "target-silent" && !silent.IsZero() {
				sinceWhy = silent
			}
		}
		if w.reason != "target-silent" { // it was heard of
			g.silence.answered(laneConn)
		}
		if since.IsZero() {
			since = begun
			if g.well {
				since = g.now()
			}
			if w.reason != "target-mark-changed" {
				g.log.Warn("apply waits", "reason", w.reason, "error", w.err)
			}
		}
		g.status.waits(w, sinceWhy)
		if max := g.job.o.MaxWait; max > 0 && g.now().Sub(since) >= max {
			return &StopError{
				Reason: w.reason, What: fmt.Sprintf("group %s: waited %s (--wait): %v", g.id, max, w.err),
				Hint: hintFor(w.reason), Err: w.err,
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, longWait)
	}
}

// attempt is a session, unless it is known that there is no point in one.
func (g *group) attempt(ctx context.Context) error {
	if g.stopped != nil && !g.reseeding {
		if done, err := g.overtaken(g.stoppedIn); err != nil || !done {
			return errors.Join(g.stopped, err)
		}
	}
	g.stopped = nil
	return connErr(g.session(ctx))
}

// session takes the mark over and applies from it.
func (g *group) session(ctx context.Context) error {
	if err := g.findSpool(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	if g.reseeding { // of epochs that a copy has yet to bring, nobody would remove anything
		if err := g.spool.Gap(); err != nil {
			return g.spoolErr(err)
		}
	}
	m, err := g.takeOver(ctx)
	if err != nil {
		return err
	}
	defer g.lane.Close()
	conn := g.lane.conn
	defer context.AfterFunc(ctx, func() { g.lane.hurry(conn) })()
	if g.reseeding {
		if err := g.reseed(ctx); err != nil {
			return err
		}
	} else if g.readFrom != 0 && g.readFrom == m.Epoch && (m.Phase == checkpoint.PhaseNone || m.Phase == checkpoint.PhaseRDB || m.Offset < g.read) {
		g.log.Warn("the target lost what it had committed, and its mark with it; applying again from there",
			"committed", g.read, "mark", m.Offset, "phase", string(m.Phase))
	}
	for ctx.Err() == nil {
		info, err := g.enter(ctx)
		if err != nil || ctx.Err() != nil {
			return err
		}
		if err := g.epoch(ctx, info); !errors.Is(err, errNewEpoch) {
			return err
		}
	}
	return nil
}

// epoch applies the mark's epoch from the mark on.
func (g *group) epoch(ctx context.Context, info spool.EpochInfo) error {
	g.status.position(g.lane.Mark(), g.lane.Mark(), counts{}, 0)
	if g.lane.Mark().Phase == checkpoint.PhaseRDB {
		g.status.restoring(info.RDBBytes)
		if err := g.snapshot(ctx, info); err != nil || ctx.Err() != nil {
			return err
		}
		g.log.Info("rdb applied", "epoch", info.Epoch, "keys", g.lane.Mark().Keys, "bytes", info.RDBBytes)
	}
	if g.lane.Mark().Phase == checkpoint.PhaseSweep {
		if err := g.newer(info.Epoch); err != nil {
			return err
		}
		g.status.restoring(info.RDBBytes)
		if err := g.sweep(ctx, info); err != nil || ctx.Err() != nil {
			return err
		}
	}
	if err := g.supersede(info.Epoch); err != nil {
		return err
	}
	err := g.stream(ctx, info)
	if errors.Is(err, errEpochOver) {
		if _, err = g.awaitRDB(ctx, info.Epoch); err == nil {
			err = errNewEpoch
		}
	}
	return err
}

// takeOver opens the lane, and remembers that the target bears our mark.
func (g *group) takeOver(ctx context.Context) (Mark, error) {
	g.lane.anew = g.reseeding
	m, err := g.lane.Open(ctx)
	if errors.Is(err, errNoMark) && g.lane.target.role == "slave" {
		// What it holds once it is a master again is its master's affair.
		return Mark{}, &waitError{reason: "target-readonly", err: fmt.Errorf("the target is a replica, which holds no mark %s", g.lane.key)}
	}
	if errors.Is(err, errNoMark) {
		if err := g.markMissing(ctx); err != nil {
			return Mark{}, err
		}
		m, err = g.lane.Open(ctx)
	}
	switch {
	case errors.Is(err, errNoMark): // it was not claimed: another group's stream had begun, or this folder is new
		return Mark{}, g.markLost("the target holds other marks of this job and not %s: it may have lost it, and data with it")
	case err != nil:
		return Mark{}, err
	}
	g.markSeen()
	g.status.update(func(st *Status) { st.TargetAhead = g.lane.ahead })
	g.job.wrote(g.lane.target)
	g.job.sawMark(g.id, g.lane.target)
	if err := g.job.evictions.look(g.lane.target); err != nil {
		g.lane.Close()
		return Mark{}, err
	}
	if g.claimed {
		return m, nil
	}
	rec, _, err := g.store.Group(g.id)
	if err == nil {
		g.forget(&rec, m)
		rec.Claimed = true
		err = g.store.PutGroup(g.id, rec)
	}
	if err != nil {
		g.lane.Close()
		return Mark{}, err
	}
	g.claimed = true
	return m, nil
}

// record brings apply.db up to a mark whose rejects are stored.
func (g *group) record(m Mark) error {
	rec := checkpoint.ApplyRecord{
		Epoch: m.Epoch, Phase: m.Phase, RDBOffset: m.RDB, RDBKeys: m.Keys, Offset: m.Offset,
		Claimed: true, Owner: m.Owner, Commands: m.Commands, Forgotten: g.forgotten, ForgottenIn: g.forgottenIn, Past: len(m.Past), Reseed: g.reseeding,
		Flushes: g.skipped,
	}
	if m.TTL != DeadlinesExact {
		rec.Deadlines = m.TTL.String()
	}
	if rec == g.recorded {
		return nil
	}
	dated := rec
	dated.UpdatedMS = g.wall().UnixMilli()
	if err := g.store.PutGroup(g.id, dated); err != nil {
		return err
	}
	g.recorded = rec
	return nil
}

// markSeen notes that the target has just shown, or taken, the group's mark.
func (g *group) markSeen() {
	g.status.update(func(st *Status) { st.MarkSeen = g.now() })
}

// moved shows a position: of the mark, or beyond it over what is not data.
func (g *group) moved(m Mark, seen counts, sourceMS int64) {
	g.status.position(m, g.lane.Mark(), seen, sourceMS)
	g.job.moved()
}
