package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/repl"
	"tairlift/spool"
)

// findSpool waits until the group's spool exists.
func (g *group) findSpool(ctx context.Context) error {
	for ctx.Err() == nil && g.spool == nil {
		g.arm()
		s, err := spool.OpenGroup(g.job.o.SpoolDir, g.job.o.Job, g.id)
		switch {
		case err == nil:
			g.spool = s
		case errors.Is(err, spool.ErrNoSpool) && !g.job.o.UntilEnd:
			if g.captured() {
				g.status.waits(&waitError{reason: "spool-missing", err: err}, g.now())
			} else {
				g.status.idle()
			}
			g.await(ctx)
		default:
			return g.spoolErr(err)
		}
	}
	g.vouch()
	return nil
}

// captured tells whether a spool that is not there was: something of it was
// applied, or capture has vouched for it.
func (g *group) captured() bool {
	if g.status.get().Epoch > 0 {
		return true
	}
	if g.job.o.Vouched == nil {
		return false
	}
	d, ok := g.job.o.Vouched(g.id)
	return ok && !d.IsZero()
}

// newEpochHint is the way out where the stream cannot be followed any more.
const newEpochHint = "a new full sync makes the target equal: start `sync`, or `capture` and then this, with --new-epoch"

// diskLostHint is the way out where capture writes and the spool ends before
// what was applied.
const diskLostHint = "the disk under --dir has lost what was applied: start the same command with --reseed, which loads the newest RDB again and makes the target equal"

// errNewEpoch ends an epoch: another one takes its place.
var errNewEpoch = errors.New("a new epoch takes the place of this one")

// enter moves the mark into the newest epoch whose RDB has arrived whole,
// unless it is there, and waits for the first one. What is left of the stream
// of the epochs before is not applied: that RDB has its outcome. The mark keeps
// how much of them was, for the sweep.
func (g *group) enter(ctx context.Context) (spool.EpochInfo, error) {
	m := g.lane.Mark()
	g.arm()
	next, ok, err := g.spool.Whole()
	if err != nil {
		return spool.EpochInfo{}, g.spoolErr(err)
	}
	if m.Phase != checkpoint.PhaseNone {
		info, err := g.epochInfo(m, ok && next.Epoch > m.Epoch)
		if err != nil || !ok || next.Epoch <= m.Epoch {
			return info, err
		}
		// Nothing that was handled beyond the mark will ever be committed, but what
		// the RDB replaced beyond its boundary may be there.
		if m.Phase == checkpoint.PhaseRDB {
			m.RDB = math.MaxInt64
		}
		if m.Phase == checkpoint.PhaseStream && g.beyond.Epoch == m.Epoch {
			m.Offset = max(m.Offset, g.beyond.Until)
		}
		g.job.existing.rewind(g.id, m)
		if m.Swap.Step > 0 {
			if err := g.dropAside(ctx); err != nil {
				return spool.EpochInfo{}, err
			}
		}
	} else if next, err = g.awaitRDB(ctx, 0); err != nil || ctx.Err() != nil {
		return spool.EpochInfo{}, err
	}
	to := Mark{
		Epoch: next.Epoch, Phase: checkpoint.PhaseRDB, ReplID: next.ReplID, Offset: next.Start, Start: next.Start,
		Commands: m.Commands, Past: m.left(), TTL: DeadlinesHeld, Timed: m.Timed,
	}
	if err := g.job.existing.sync(); err != nil {
		return spool.EpochInfo{}, err
	}
	if err := g.lane.Write(to); err != nil {
		return spool.EpochInfo{}, err
	}
	if m.Phase != checkpoint.PhaseNone {
		g.log.Warn("the source made a full resync: its new RDB is applied over what is there, then what it lacks is removed",
			"epoch", to.Epoch, "before", m.Epoch, "until", m.Offset)
	}
	return next, g.record(g.lane.Mark())
}

// newer returns errNewEpoch once an epoch behind e has a whole RDB.
func (g *group) newer(e repl.Epoch) error {
	switch done, err := g.overtaken(e); {
	case err != nil:
		return err
	case done:
		return errNewEpoch
	}
	return nil
}

// overtaken tells whether an epoch behind e has a whole RDB.
func (g *group) overtaken(e repl.Epoch) (bool, error) {
	if g.spool == nil {
		s, err := spool.OpenGroup(g.job.o.SpoolDir, g.job.o.Job, g.id)
		if errors.Is(err, spool.ErrNoSpool) {
			return false, nil
		}
		if err != nil {
			return false, g.spoolErr(err)
		}
		g.spool = s
		g.vouch()
	}
	if last, err := g.spool.Newest(); err != nil || last <= e {
		return false, g.spoolErr(err)
	}
	whole, ok, err := g.spool.Whole()
	return ok && whole.Epoch > e, g.spoolErr(err)
}

// awaitsEpoch tells whether what stopped the group is waited out, because a
// full sync was asked for and the group is not in its epoch yet. Once it is
// whole there is one more session, which enters it.
func (g *group) awaitsEpoch(err error) bool {
	var stop *StopError
	before, asked := g.job.o.NewEpoch[g.id]
	if !asked || g.renewed || !errors.As(err, &stop) || stop.Reason == "internal-error" || g.lane.Mark().Epoch > before {
		return false
	}
	g.renewed, err = g.overtaken(before)
	return err == nil
}

// awaitRDB waits for the newest epoch behind a given one whose RDB has arrived
// whole. An epoch whose RDB was cut short has put nothing on the target: the
// next one takes its place.
func (g *group) awaitRDB(ctx context.Context, behind repl.Epoch) (spool.EpochInfo, error) {
	for ctx.Err() == nil {
		g.arm()
		info, ok, err := g.spool.Whole()
		if err != nil {
			return spool.EpochInfo{}, g.spoolErr(err)
		}
		if ok && info.Epoch > behind {
			return info, nil
		}
		if g.job.o.UntilEnd {
			last, err := g.spool.Newest()
			if err != nil {
				return spool.EpochInfo{}, g.spoolErr(err)
			}
			what := "nothing of it was applied"
			if behind > 0 {
				what = fmt.Sprintf("the epochs before it are applied to their end, %s", g.lane.Mark().Offset)
			}
			return spool.EpochInfo{}, &StopError{
				Reason: "rdb-incomplete",
				What:   fmt.Sprintf("group %s: the RDB of epoch %s has not arrived whole; %s", g.id, last, what),
				Hint:   "run capture until its full sync is done (capture --until caught-up), copy the folder again, then start the same command",
			}
		}
		g.status.idle()
		g.well = true
		g.await(ctx)
	}
	return spool.EpochInfo{}, nil
}

// epochInfo finds the mark's epoch in the spool. Of one that is over it is
// enough to know which keys it had.
func (g *group) epochInfo(m Mark, over bool) (spool.EpochInfo, error) {
	if over {
		known, err := g.spool.Known()
		if err != nil {
			return spool.EpochInfo{}, g.spoolErr(err)
		}
		held, err := g.spool.Holds(m.Epoch)
		if err != nil {
			return spool.EpochInfo{}, g.spoolErr(err)
		}
		if !held && slices.Contains(known, m.Epoch) {
			return spool.EpochInfo{}, nil
		}
	}
	epochs, err := g.spool.Epochs()
	if err != nil {
		return spool.EpochInfo{}, g.spoolErr(err)
	}
	denied := false // for good, whatever a copy may bring
	for _, e := range epochs {
		if e.Epoch != m.Epoch {
			continue
		}
		if e.Start <= m.Offset && sameHistory(e, m.ReplID) {
			return e, nil
		}
		denied = e.Start > m.Offset || len(e.Segments) == int(e.LastSeq-e.FirstSeq)+1
	}
	stop := &StopError{
		Reason: "mark-unknown-epoch",
		What:   fmt.Sprintf("group %s: the mark on the target is in epoch %s of %s at offset %s, which the spool does not hold", g.id, m.Epoch, m.ReplID, m.Offset),
		Hint:   "use the folder this target was filled from, or copy its spool here again; if that is gone, --reseed loads the newest RDB again",
	}
	if denied || !g.follows() {
		return spool.EpochInfo{}, stop
	}
	return spool.EpochInfo{}, &waitError{reason: "spool-missing", err: stop}
}

// follows tells whether the spool may be a copy under way, in which whatever
// is not there, or no longer, is waited for.
func (g *group) follows() bool { return !g.job.o.UntilEnd && g.job.o.Changed == nil }

// sameHistory tells whether an epoch ever had the replid that it had when its
// RDB was begun; of one whose first segments were pruned that is not known.
func sameHistory(e spool.EpochInfo, id repl.ReplID) bool {
	if len(e.Segments) == 0 || e.Segments[0].Seq != e.FirstSeq {
		return true
	}
	for _, s := range e.Segments {
		if s.ReplID == id {
			return true
		}
	}
	return false
}

// arm takes the channel that tells of new bytes; await waits for it, so that
// nothing that comes between the two is missed.
func (g *group) arm() {
	if f := g.job.o.Changed; f != nil {
		g.changed = f(g.id)
	}
}

const (
	pollFollow = 10 * time.Millisecond  // the spool of another process
	pollLive   = 200 * time.Millisecond // in case a change was not told
)

func (g *group) await(ctx context.Context) {
	wait := pollFollow
	if g.changed != nil {
		wait = pollLive
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-g.changed:
	case <-t.C:
	}
	g.vouch()
}

// vouch tells the spool what capture has published.
func (g *group) vouch() {
	if g.spool == nil || g.job.o.Vouched == nil {
		return
	}
	if d, ok := g.job.o.Vouched(g.id); ok {
		g.spool.Vouch(d)
	}
}

// spoolErr turns an error of the spool into what happens next.
func (g *group) spoolErr(err error) error {
	var (
		missing  *spool.MissingError
		corrupt  *spool.CorruptError
		version  *spool.VersionError
		identity *spool.IdentityError
		pruned   *spool.PrunedError
	)
	stop := func(reason, hint string) error {
		return &StopError{Reason: reason, What: fmt.Sprintf("group %s: %v", g.id, err), Hint: hint, Err: err}
	}
	switch {
	case err == nil:
		return nil
	case errors.As(err, &pruned):
		return stop("spool-pruned", "what was pruned does not come back: use a folder that still holds it; "+newEpochHint+"; `--keep epoch` keeps what a fresh target needs")
	case errors.As(err, &missing) && missing.Hole && g.job.o.Changed != nil:
		// Capture writes here itself, so nobody will fill it.
		return stop("spool-corrupt", "run `tairlift spool check`; a disk has lost what was written: restore this segment from a copy; or "+newEpochHint)
	case errors.As(err, &missing) && missing.Hole && g.follows() && !g.damage.changing(missing.Path, missing.Error(), g.now(), g.job.o.hole):
		return stop("spool-corrupt", "its file has stayed like that for a minute: if a copy of it was cut short, let it go on; if none was, copy the named segment again from where it was captured; then start the same command")
	case errors.As(err, &missing), errors.Is(err, spool.ErrRDBIncomplete), errors.Is(err, spool.ErrNoEpoch):
		// Of an epoch that the mark is in, everything up to the mark was here.
		if !g.job.o.UntilEnd {
			return &waitError{reason: "spool-missing", err: err}
		}
		return stop("spool-missing", "copy the folder again, whole; `tairlift spool check` lists what is missing")
	case g.follows() && errors.As(err, &corrupt) && g.damage.changing(corrupt.Path, corrupt.Error(), g.now(), g.job.o.settle):
		return &waitError{reason: "spool-missing", err: err}
	case g.follows() && (errors.Is(err, spool.ErrNoSpool) || errors.Is(err, fs.ErrPermission)):
		// The copy begins again, or its files get their rights when they are whole.
		return &waitError{reason: "spool-missing", err: err}
	case errors.As(err, &corrupt):
		return stop("spool-corrupt", "run `tairlift spool check`; copy the named segment again from where it was captured, then start the same command")
	case errors.As(err, &version):
		return stop("spool-version", "use the tairlift that wrote the spool, or a newer one")
	case errors.As(err, &identity):
		return stop("wrong-spool", "this folder mixes spools of different jobs: copy the right one")
	case errors.Is(err, spool.ErrNoSpool):
		return stop("no-spool", "nothing was captured for this group here: run capture, or copy its spool")
	}
	return err
}

// openStream opens the stream behind the mark.
func (g *group) openStream(m Mark) (*spool.StreamReader, error) {
	in, err := g.spool.OpenStream(m.Epoch, m.Offset)
	var gap *spool.GapError
	switch {
	case !errors.As(err, &gap):
		return in, g.spoolErr(err)
	case gap.Wanted > gap.Last:
		return nil, g.ahead(err, "a newer copy of this spool was applied to the target: copy the spool again, then start the same command",
			"the mark on the target is at offset %s, ahead of the spool, which ends at %s", m.Offset, gap.Last)
	}
	return nil, &StopError{
		Reason: "mark-behind",
		What:   fmt.Sprintf("group %s: the spool holds offsets %s to %s, no longer what comes behind the mark on the target, %s", g.id, gap.First, gap.Last, m.Offset),
		Hint:   "use a folder that still holds it; " + newEpochHint,
		Err:    err,
	}
}

// ahead says that more was applied than the spool holds. A copy may still bring
// it; where capture writes itself there is no newer one.
func (g *group) ahead(cause error, hint, format string, args ...any) error {
	stop := &StopError{Reason: "mark-ahead", What: fmt.Sprintf("group %s: "+format, append([]any{g.id}, args...)...), Hint: hint, Err: cause}
	if g.job.o.Changed != nil {
		stop.Hint = diskLostHint
	}
	if g.follows() {
		return &waitError{reason: "spool-missing", err: stop}
	}
	return stop
}

// markMissing decides what a missing mark means.
func (g *group) markMissing(ctx context.Context) error {
	rec, _, err := g.store.Group(g.id)
	if err != nil {
		return err
	}
	if rec.Filled() {
		return g.markLost("the target has lost the mark %s, and with it perhaps data")
	}
	if run, ok := g.job.hadMark(g.id); ok && (run == g.lane.target.runID || g.job.o.OnExisting == ExistingReplace) {
		// It was there, and a server that runs on loses nothing by itself: somebody
		// removed it, who may have finished the job. To begin again is not for a
		// process that was there before.
		return g.markLost("the mark %s was removed from the target while it was used")
	}
	// Nothing, or only a part of an RDB, had been written: that begins again,
	// under the same conditions as the first time.
	err = g.job.claim(ctx)
	var refused *RefusedError
	if rec.Claimed && errors.As(err, &refused) { // the mark alone is gone
		return g.markLost("the target has lost the mark %s alone, beside the data")
	}
	return err
}

func (g *group) markLost(what string) error {
	return &StopError{
		Reason: "mark-missing",
		What:   fmt.Sprintf("group %s: "+what, g.id, g.lane.key),
		Hint:   "was the job finished from another folder, or is --target another server? if both are right, start the same command with --reseed: it loads the newest RDB again and makes the target equal",
	}
}
