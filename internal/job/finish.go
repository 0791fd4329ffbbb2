package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tairlift/apply"
	"tairlift/checkpoint"
	"tairlift/internal/repl"
)

// FinishOptions say which job to finish, or to reopen. Dir is required.
type FinishOptions struct {
	Dir    string
	State  string // where apply keeps its files; empty: in Dir
	Target string // empty: the one that DIR knows
	Force  bool   // in spite of what the checks find
	Reopen bool   // take a finish back
	JSON   bool

	SourceSecret, TargetSecret Secret

	Console *Console // nil: silent
	Out     io.Writer
}

// finish is one call of RunFinish. It holds the locks of capture and apply, so
// nothing of the job works beside it in this folder.
type finish struct {
	o      FinishOptions
	f      *folder
	groups []Group
	target string

	captures *checkpoint.Capture // nil: none was ever here, or DIR is only read
	applies  *checkpoint.Apply
	closing  *apply.Closing

	records map[repl.GroupID]checkpoint.ApplyRecord
	status  Status
	traces  apply.Traces
	begun   *tombstone    // what a finish before this one has left; or nil
	found   []Obstruction // by the checks
}

// RunFinish ends a job on a target: it checks that nothing is missing, removes
// what is the job's there, and leaves a tombstone by which nothing goes on
// unless it is reopened. Where it is killed, the same call goes on:
//
//  1. the checks, which read;
//  2. the marks are taken over, so that no other process moves them any more;
//  3. the tombstone is written, as "finishing", with the marks;
//  4. marks and all else of the job are removed from the target, in one EXEC;
//  5. the tombstone becomes "finished".
//
// A finish that begins behind step 3 checks the marks alone: what else there was
// to check was checked, or forced. A target that went back in time, behind a
// failover, may have marks again; finish then begins once more.
func RunFinish(ctx context.Context, o FinishOptions) error {
	if o.Console == nil {
		o.Console = NewConsole(nil, ConsoleOptions{})
	}
	f := &finish{o: o}
	defer f.close()
	err := f.prepare(ctx)
	switch {
	case err != nil:
	case o.Reopen:
		err = f.reopen(ctx)
	default:
		err = f.run(ctx)
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		e := interrupted(ctx.Err())
		e.Hint = "the same command goes on where it stopped"
		return e
	}
	return f.explain(err)
}

// explain gives errors of the target the code of a verb that waits for nothing.
func (f *finish) explain(err error) *Error {
	e := explain(err)
	var stop *apply.StopError
	if !errors.As(err, &stop) {
		return e
	}
	e.Code = Failed
	if stop.Reason == "target-unreachable" || stop.Reason == "target-auth" {
		e.Code = NeverReached
	}
	return e
}

func (f *finish) close() {
	if f.closing != nil {
		f.closing.Close()
	}
	if f.applies != nil {
		f.applies.Close()
	}
	if f.captures != nil {
		f.captures.Close()
	}
}

// prepare takes the locks, and reads what is known here and on the target.
func (f *finish) prepare(ctx context.Context) (err error) {
	if f.f, err = openJob(f.o.Dir, f.o.State); err != nil {
		return err
	}
	if f.groups = f.f.rec.Groups; len(f.groups) == 0 {
		return noSpool(f.f)
	}
	if err := f.findTarget(); err != nil {
		return err
	}
	if err := f.lock(); err != nil {
		return err
	}
	if f.begun, err = f.f.tombstone(f.target); err != nil {
		return err
	}
	if f.o.Reopen && f.begun == nil {
		return refused("nothing keeps it from going on: `tairlift sync` or `tairlift apply` does", "this job is not finished on target %s", f.target)
	}
	f.records = map[repl.GroupID]checkpoint.ApplyRecord{}
	for _, g := range f.groups {
		rec, ok, err := f.applies.Group(g.ID)
		if err != nil {
			return err
		}
		if ok {
			f.records[g.ID] = rec
		}
	}
	o := apply.ClosingOptions{Addr: f.target, Secret: f.o.TargetSecret, Job: f.f.rec.Job}
	for _, g := range f.groups {
		o.Groups = append(o.Groups, g.ID)
	}
	f.closing, err = apply.OpenClosing(ctx, o)
	if err != nil {
		return err
	}
	f.traces, err = f.closing.Traces(ctx)
	return err
}

// findTarget wants a target that this folder was used with: of another one it
// has nothing to end.
func (f *finish) findTarget() (err error) {
	if f.target, err = f.f.target(f.o.Target); err != nil {
		return err
	}
	known, err := f.f.targets()
	if err != nil || slices.Contains(known, f.target) {
		return err
	}
	hint := "this folder knows no target: give the --dir or --state that was used with it"
	if len(known) > 0 {
		hint = "known are: " + strings.Join(known, ", ")
	}
	return refused(hint, "%s was never used with target %s", filepath.Dir(filepath.Dir(f.f.applyDir(f.target))), f.target)
}

// lock keeps capture and apply of this folder away. A DIR that is only read, or
// was copied, has no capture to lock.
func (f *finish) lock() (err error) {
	if f.f.state == "" {
		if _, err := os.Stat(f.f.captureDB()); err == nil {
			if f.captures, err = f.f.lockCapture(); err != nil {
				return err
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return explain(err)
		}
	}
	f.applies, err = f.f.lockApply(f.target)
	return err
}

// run finishes.
func (f *finish) run(ctx context.Context) error {
	if f.begun != nil && f.begun.State == tombFinished && f.traces.None() {
		return f.show(finishResult{tombstone: f.begun, Already: true})
	}
	tomb := &tombstone{
		Version: tombstoneVersion, Job: f.f.rec.Job, Target: f.target, State: tombFinishing, Began: time.Now().UTC(),
		RunID: f.traces.RunID, Keys: f.traces.Keys, Others: f.traces.Others, Groups: []finishedGroup{}, Forced: []Obstruction{},
	}
	if f.begun != nil && f.begun.State == tombFinishing {
		tomb.Began, tomb.Forced = f.begun.Began, f.begun.Forced
		f.o.Console.Log.Info("goes on with a finish that was begun", "at", f.begun.when())
		for _, g := range f.groups {
			f.checkMark(g.ID)
		}
		f.checkStrangers()
	} else {
		if err := f.view(); err != nil {
			return err
		}
		if err := f.check(ctx); err != nil {
			return err
		}
	}
	if len(f.found) > 0 && !f.o.Force {
		return f.refuse("this job is not ready to be finished")
	}
	tomb.Forced = append(tomb.Forced, f.found...)
	before := f.traces.Marks
	marks, err := f.closing.TakeOver(ctx, before)
	if err != nil {
		return err
	}
	if !samePlaces(before, marks) && !f.o.Force {
		return &Error{
			Code: InUse, What: fmt.Sprintf("another process has applied to target %s while finish looked at it; nothing was removed", f.target),
			Hint: "an apply from another folder (a copy, or a --state) is at work: stop it, then start the same command again",
		}
	}
	tomb.bear(f.begun, marks)
	if err := f.f.bury(tomb); err != nil {
		return err
	}
	if err := f.closing.Remove(ctx, marks, f.traces.Others); err != nil {
		return err
	}
	now := time.Now().UTC()
	tomb.State, tomb.At = tombFinished, &now
	if err := f.f.bury(tomb); err != nil {
		return err
	}
	return f.show(finishResult{tombstone: tomb})
}

// bear names the marks to be removed, and those that the tombstone before this
// one has named and that are gone.
func (t *tombstone) bear(before *tombstone, marks []apply.GroupMark) {
	for _, gm := range marks {
		e := finishedGroup{ID: gm.Group, Mark: gm.Text}
		if m, err := apply.ParseMark(gm.Text); err == nil {
			e.Epoch, e.Phase, e.Offset = m.Epoch, m.Phase, m.Offset
		}
		t.Groups = append(t.Groups, e)
	}
	if before == nil {
		return
	}
	for _, e := range before.Groups {
		if t.group(e.ID) == nil {
			t.Groups = append(t.Groups, e)
		}
	}
	slices.SortFunc(t.Groups, func(a, b finishedGroup) int { return int(a.ID) - int(b.ID) })
	t.Others = append(t.Others, slices.DeleteFunc(before.Others, func(s string) bool { return slices.Contains(t.Others, s) })...)
}

// samePlaces tells whether no mark has moved but to another owner.
func samePlaces(before, after []apply.GroupMark) bool {
	for i := range before {
		a, err := apply.ParseMark(before[i].Text)
		b, err2 := apply.ParseMark(after[i].Text)
		if err == nil && err2 == nil && !apply.SamePlace(a, b) {
			return false
		}
	}
	return true
}

// view is the job as its last run has left it. What was rejected or is doubtful
// is counted in the store, which this process holds.
func (f *finish) view() error {
	v := &view{job: f.f.rec.Job, groups: f.groups, target: f.target, now: time.Now()}
	var err error
	if v.capture, err = f.f.readCapture(); err != nil {
		return err
	}
	if v.apply, err = f.f.readApply(f.target); err != nil {
		return err
	}
	if v.apply == nil {
		v.apply = &ApplyFile{Target: f.target}
	}
	for _, g := range f.groups {
		a := find(v.apply.Groups, func(a ApplyGroup) bool { return a.ID == g.ID })
		if a == nil {
			v.apply.Groups = append(v.apply.Groups, ApplyGroup{ID: g.ID})
			a = &v.apply.Groups[len(v.apply.Groups)-1]
		}
		a.Rejects, a.Doubtful, a.DoubtWhy, a.Forgotten = 0, 0, map[string]int{}, f.records[g.ID].Forgotten
		a.FlushesIgnored = f.records[g.ID].Flushes.Count
		err := f.applies.Rejects(g.ID, func(r checkpoint.Reject) error {
			if !r.Healed {
				a.Rejects++
			}
			return nil
		})
		if err == nil {
			err = f.applies.Doubts(g.ID, func(d checkpoint.Doubt) error { a.Doubtful++; a.DoubtWhy[d.Why]++; return nil })
		}
		if err != nil {
			return err
		}
	}
	f.status = v.status()
	return nil
}

// refuse tells all that was found.
func (f *finish) refuse(what string) error {
	if f.o.JSON {
		if err := f.show(finishResult{Refused: f.found}); err != nil {
			return err
		}
	}
	n := len(f.found)
	e := refused("mend what follows, or go on in spite of it with --force", "%s: %d %s; nothing was written", what, n, plural(n, "check")+" failed")
	for _, o := range f.found {
		e.More = append(e.More, &Error{Code: Refused, What: o.What, Hint: o.Hint})
	}
	return e
}
