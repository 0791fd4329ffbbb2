package job

import (
	"context"
	"errors"

	"tairlift/apply"
)

// reopen takes a finish back: the marks that are gone from the target are put
// there again, from the tombstone, which is removed then. Where it is killed in
// between, the same call finds them there.
func (f *finish) reopen(ctx context.Context) error {
	missing := f.missing()
	f.checkReopen(len(missing) > 0)
	if len(f.found) > 0 && !f.o.Force {
		return f.refuse("what became of the target since makes it unsafe to go on there")
	}
	if len(missing) > 0 || !f.traces.Listed {
		err := f.closing.Restore(ctx, missing)
		if errors.Is(err, apply.ErrTaken) {
			return &Error{
				Code: InUse, Err: err, What: "another process has written a mark of this job to target " + f.target + " meanwhile; nothing was written",
				Hint: "stop it, then start the same command again",
			}
		}
		if err != nil {
			return err
		}
	}
	if err := f.f.unbury(f.target); err != nil {
		return err
	}
	return f.show(finishResult{tombstone: f.begun, Reopened: true})
}

// missing are the marks to put back. One that is there vouches for the data
// beside it, and stays. If it is at another place than it was removed from, the
// target is not as it was: then the others are not known to fit it.
func (f *finish) missing() (marks []apply.GroupMark) {
	asBefore := true
	for _, e := range f.begun.Groups {
		was, err := apply.ParseMark(e.Mark)
		if err != nil { // it was removed by --force, and of no use
			continue
		}
		text := f.traces.Mark(e.ID)
		if text == "" {
			marks = append(marks, apply.GroupMark{Group: e.ID, Text: e.Mark})
			continue
		}
		now, err := apply.ParseMark(text)
		if err == nil && apply.SamePlace(was, now) {
			continue
		}
		asBefore = false
		f.objectTo(e.ID, "mark-differs",
			"the target went back in time, or another folder (a copy, or a --state) has applied this job since; --force leaves the mark as it is, and apply goes on from there as far as the spool allows",
			"target %s has a mark of it again, %s, and it was removed %s", f.target, place(now.Epoch, now.Phase, now.Offset), place(was.Epoch, was.Phase, was.Offset))
	}
	if !asBefore {
		return nil
	}
	return marks
}

// checkReopen looks for a target that is no longer the one that was finished.
func (f *finish) checkReopen(gone bool) {
	if f.traces.Keys == 0 && f.begun.Keys > 0 && gone {
		what := "target %s holds no key, and held %d when this job was finished"
		if f.traces.RunID != f.begun.RunID {
			what += "; it has been restarted since, or is another server"
		}
		f.object("target-empty", "start over with a fresh --dir: the stream alone does not bring back what was lost", what, f.target, f.begun.Keys)
	}
	for _, id := range f.traces.Jobs {
		f.object("target-other-job", "finish that job first, or leave this one finished", "job %s has its marks on target %s", id, f.target)
	}
}
