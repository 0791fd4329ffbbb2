package job

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"tairlift/apply"
	"tairlift/checkpoint"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// Obstruction is why a job is not to be finished, or reopened, without --force.
type Obstruction struct {
	Group  *repl.GroupID `json:"group,omitempty"` // absent: of the job as a whole
	Reason string        `json:"reason"`          // a slug
	What   string        `json:"what"`
	Hint   string        `json:"hint"`
}

func (f *finish) object(reason, hint, format string, args ...any) {
	f.found = append(f.found, Obstruction{Reason: reason, What: fmt.Sprintf(format, args...), Hint: hint})
}

func (f *finish) objectTo(g repl.GroupID, reason, hint, format string, args ...any) {
	f.object(reason, hint, "group %s: "+format, append([]any{g}, args...)...)
	f.found[len(f.found)-1].Group = &g
}

const (
	catchUpHint = "`tairlift sync --until caught-up` brings what is missing"
	applyHint   = "`tairlift apply --until end` brings it to the target, and settles what is open"
)

// check looks for everything that speaks against the end of the job. It reads
// only.
func (f *finish) check(ctx context.Context) error {
	ends, err := f.spoolEnds()
	if err != nil {
		return err
	}
	f.checkRunning()
	for _, g := range f.groups {
		f.checkGroup(g.ID, ends[g.ID])
	}
	f.checkStrangers()
	f.checkStatus()
	f.checkSources(ctx, ends)
	return ctx.Err()
}

// checkRunning is for a capture whose lock is not within reach: it is behind
// --state, or on the machine that DIR was copied from.
func (f *finish) checkRunning() {
	if f.captures == nil && f.status.Capture != nil && f.status.Capture.Running {
		f.object("capture-running", "stop it first", "`tairlift %s` captures into %s now, and what it brings from here on would never be applied",
			f.status.Capture.Verb, f.f.dir)
	}
}

// spoolEnds are where the spool ends, by what capture has published of it and
// by the files themselves, whichever is further.
func (f *finish) spoolEnds() (map[repl.GroupID]spool.Durable, error) {
	ends, err := f.f.spooled(nil)
	if err != nil {
		return nil, err
	}
	vouched, err := f.f.vouched()
	if err != nil {
		return nil, explain(err)
	}
	for g, v := range vouched {
		if have := ends[g]; have.Epoch < v.Epoch || have.Epoch == v.Epoch && have.Offset < v.Offset {
			ends[g] = v
		} else if have.Epoch == v.Epoch {
			have.ReplID = v.ReplID // which may have changed within the epoch
			ends[g] = have
		}
	}
	return ends, nil
}

// checkGroup looks at a group's mark, and then, if that is where apply has left
// it, at the spool behind it.
func (f *finish) checkGroup(g repl.GroupID, end spool.Durable) {
	before := len(f.found)
	f.checkMark(g)
	if len(f.found) == before {
		f.checkApplied(g, end)
	}
}

// checkApplied compares what is applied with the end of the spool.
func (f *finish) checkApplied(g repl.GroupID, end spool.Durable) {
	rec, known := f.records[g]
	switch {
	case !known || rec.Phase == checkpoint.PhaseNone:
		f.objectTo(g, "not-applied", catchUpHint, "nothing of it is on the target")
	case end.Epoch > rec.Epoch:
		f.objectTo(g, "not-applied", applyHint, "epoch %s of the spool is not applied; the target is in epoch %s", end.Epoch, rec.Epoch)
	case rec.Phase != checkpoint.PhaseStream:
		f.objectTo(g, "not-applied", applyHint, "the RDB of epoch %s is not applied to its end", rec.Epoch)
	case end.Epoch == rec.Epoch && end.Offset > rec.Offset:
		f.objectTo(g, "not-applied", applyHint, "%d bytes of the spool are not applied: it ends at offset %s, and the target is at %s",
			int64(end.Offset-rec.Offset), end.Offset, rec.Offset)
	}
}

// checkMark compares the mark on the target with what is known of it here. One
// that a finish begun earlier has removed is not missed.
func (f *finish) checkMark(g repl.GroupID) {
	rec, known := f.records[g]
	text := f.traces.Mark(g)
	if text == "" {
		if known && rec.Claimed && (f.begun == nil || f.begun.group(g) == nil) {
			f.objectTo(g, "mark-missing", "was the target flushed or replaced, or the job finished from another folder? `tairlift verify --level full` tells what is there",
				"target %s has no mark of it", f.target)
		}
		return
	}
	m, err := apply.ParseMark(text)
	if err != nil {
		f.objectTo(g, "mark-unreadable", "a newer tairlift wrote it, or somebody else did: use that version", "its mark on the target cannot be read: %v", err)
		return
	}
	if m.Epoch != rec.Epoch || m.Phase != rec.Phase || m.Phase == checkpoint.PhaseStream && m.Offset != rec.Offset {
		f.objectTo(g, "mark-differs", "`tairlift apply --until end` reads it, settles what is open, and goes on from there; or another folder (a copy, or a --state) has applied this job",
			"its mark on the target is %s, and by what is known here it was %s", place(m.Epoch, m.Phase, m.Offset), place(rec.Epoch, rec.Phase, rec.Offset))
	}
	if m.Swap.Step > 0 {
		f.objectTo(g, "swap-under-way", "`tairlift apply --until end` carries it out; then start the same command",
			"a SWAPDB of its source is half carried out on target %s: keys have temporary names there, which are left as they are", f.target)
	}
	if m.Phase == checkpoint.PhaseStream && m.TTL != apply.DeadlinesExact {
		f.objectTo(g, "ttl-held", "`tairlift apply --until end` sets them exact; then start the same command",
			"deadlines of its keys are held back on target %s, where they would never expire", f.target)
	}
}

func place(e repl.Epoch, p checkpoint.Phase, o repl.Offset) string {
	switch p {
	case checkpoint.PhaseNone:
		return "before the first epoch"
	case checkpoint.PhaseStream:
		return fmt.Sprintf("at offset %s of epoch %s", o, e)
	}
	return fmt.Sprintf("in the phase %s of epoch %s", p, e)
}

// checkStrangers looks for marks of groups that DIR does not know.
func (f *finish) checkStrangers() {
	for _, m := range f.traces.Marks {
		if find(f.groups, func(g Group) bool { return g.ID == m.Group }) == nil {
			f.objectTo(m.Group, "mark-unknown", "another folder (a copy, or a --state) knows this group: finish the job from there",
				"target %s has a mark of it, and %s does not know this group", f.target, f.f.dir)
		}
	}
}

// checkStatus looks at what the last run has left: groups that stopped, and
// taints. Where no process works, a group that is not running has not stopped
// for a reason of its own.
func (f *finish) checkStatus() {
	for i := range f.status.Groups {
		g := &f.status.Groups[i]
		switch {
		case g.State != StateStop:
		case g.Reason == "not-running" || g.Reason == "interrupted" || g.Reason == "apply-not-running":
		default:
			what := strings.TrimPrefix(g.What, "group "+g.ID.String()+": ")
			f.objectTo(g.ID, "stopped", g.Hint, "stopped (%s): %s", g.Reason, what)
		}
	}
	for _, t := range f.status.Taints {
		f.object("taint", "`tairlift verify --level full` tells whether anything differs, and clears doubtful keys when nothing does", "taint: %s", t)
	}
}

// checkSources asks every source whether it holds more than is applied.
func (f *finish) checkSources(ctx context.Context, ends map[repl.GroupID]spool.Durable) {
	type answer struct {
		gap sourceGap
		err error
	}
	answers := make([]answer, len(f.groups))
	var wg sync.WaitGroup
	for i, g := range f.groups {
		rec := f.records[g.ID]
		if g.Addr == "" || rec.Phase != checkpoint.PhaseStream {
			continue
		}
		from := repl.Position{ReplID: ends[g.ID].ReplID, Offset: rec.Offset}
		wg.Go(func() { answers[i].gap, answers[i].err = beyond(ctx, g.Addr, f.o.SourceSecret, from) })
	}
	wg.Wait()
	for i, g := range f.groups {
		a, rec := answers[i], f.records[g.ID]
		switch {
		case rec.Phase != checkpoint.PhaseStream: // told already
		case g.Addr == "":
			f.objectTo(g.ID, "source-unknown", "compare it where it can be reached, by `tairlift verify`", "no address of its source is known here, so what it holds is not known")
		case a.err != nil:
			f.objectTo(g.ID, "source-unreachable", sourceHint(a.err), "source %s does not tell what it holds: %v", g.Addr, shortDial(a.err))
		case a.gap.history:
			f.objectTo(g.ID, "source-changed", catchUpHint+", as a new epoch", "source %s has restarted or failed over: it is at offset %s of %s, and the target at %s of %s",
				g.Addr, a.gap.now.Offset, a.gap.now.ReplID, rec.Offset, ends[g.ID].ReplID)
		case a.gap.bytes > 0:
			text := fmt.Sprintf("source %s has moved on: its stream is %d bytes beyond what is applied", g.Addr, a.gap.bytes)
			if a.gap.first != "" {
				text += ", and holds " + a.gap.first
			}
			f.objectTo(g.ID, "source-ahead", "stop what writes there, then "+catchUpHint, "%s", text)
		}
	}
}

// shortDial leaves out the address, which is told beside it.
func shortDial(err error) error {
	var dial *resp.DialError
	if errors.As(err, &dial) {
		return dial.Err
	}
	return err
}

func sourceHint(err error) string {
	var auth *resp.AuthError
	if errors.As(err, &auth) || resp.IsNoAuth(err) {
		return sourceSecretHint
	}
	return "start it, or see to it that this machine may connect to it; if it is gone for good, --force goes on without"
}
