package job

import (
	"errors"
	"fmt"

	"tairlift/internal/selection"
)

// selectFor is what is selected for a target: what a call gives, and beside it what
// this folder remembers of that target, with which it must agree. It belongs to
// the target and not to the job as a whole: capture brings everything, and one
// spool may fill several targets with parts of it.
func (f *folder) selectFor(target string, given selection.Spec) (*selection.Selection, error) {
	spec, known, err := f.selected(target)
	if err != nil {
		return nil, err
	}
	if !known {
		spec = given
	} else if flag, has, other, yes := given.Contradicts(spec); yes {
		return nil, refused("what is selected stays for the whole life of a job on a target: leave the flags out; for another selection, use a fresh --dir and target",
			"%s is %s, and this job began with %s on target %s (%s)", flag, has, other, target, spec)
	}
	s, err := selection.New(spec)
	var e *selection.Error
	if errors.As(err, &e) && !known {
		return nil, usage(e.Hint, "%s", e.What)
	}
	if err != nil {
		return nil, refused("restore the file from a copy of this folder", "%s: %v", f.targetFile(target), err)
	}
	return s, nil
}

// selected is what was selected for a target when it was first used. In a copy of
// the folder that has never used it, the status of its apply may tell.
func (f *folder) selected(target string) (spec selection.Spec, known bool, err error) {
	t, err := f.readTarget(f.targetFile(target))
	if err != nil {
		return spec, false, err
	}
	if t != nil {
		return t.Selection, true, nil
	}
	a, err := f.readApply(target)
	if err != nil || a == nil {
		return spec, false, nil // what it says else is told by others
	}
	return a.Selection, true, nil
}

// selectionText is the line of a status.
func selectionText(s selection.Spec) string {
	if s.IsZero() {
		return ""
	}
	return fmt.Sprintf("selection: %s\n", s)
}
