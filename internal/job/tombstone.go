package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/fsx"
	"tairlift/internal/repl"
	"tairlift/spool"
)

const (
	tombstoneFile    = "finished.json"
	tombstoneVersion = 1
)

// The states of a tombstone.
const (
	tombFinishing = "finishing" // what it names may still be on the target
	tombFinished  = "finished"
)

// tombstone is apply/<target>/finished.json: the job is at its end on that
// target. It is written before anything is removed there, so that what was
// removed can be told, gone on with and put back.
type tombstone struct {
	Version int             `json:"version"`
	Job     spool.JobID     `json:"job"`
	Target  string          `json:"target"`
	State   string          `json:"state"` // finishing | finished
	Began   time.Time       `json:"began"`
	At      *time.Time      `json:"finished_at"` // null while finishing
	RunID   string          `json:"target_run_id"`
	Keys    int64           `json:"target_keys"` // of data
	Groups  []finishedGroup `json:"groups"`
	Others  []string        `json:"other_keys,omitempty"` // of ours, removed beside the marks
	Forced  []Obstruction   `json:"forced"`               // what --force went on in spite of
}

// finishedGroup is a group whose mark was removed.
type finishedGroup struct {
	ID     repl.GroupID     `json:"id"`
	Epoch  repl.Epoch       `json:"epoch"`
	Phase  checkpoint.Phase `json:"phase"`
	Offset repl.Offset      `json:"offset"`
	Mark   string           `json:"mark"` // its text
}

func (t *tombstone) group(g repl.GroupID) *finishedGroup {
	return find(t.Groups, func(e finishedGroup) bool { return e.ID == g })
}

// when is what a person is told of its time.
func (t *tombstone) when() string {
	if t.At == nil {
		return t.Began.Local().Format(time.DateTime)
	}
	return t.At.Local().Format(time.DateTime)
}

func (f *folder) tombstonePath(target string) string {
	return filepath.Join(f.applyDir(target), tombstoneFile)
}

// tombstone reads a target's; nil when the job is not at its end there.
func (f *folder) tombstone(target string) (*tombstone, error) {
	path := f.tombstonePath(target)
	raw, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(fmt.Errorf("read what finish left: %w", err))
	}
	const hint = "it says that this job is finished; restore it from a copy, or remove it and run `tairlift finish` again"
	var t tombstone
	err = json.Unmarshal(raw, &t)
	switch {
	case err != nil:
		return nil, refused(hint, "%s is damaged: %v", path, err)
	case t.Version != tombstoneVersion:
		return nil, refused("use the tairlift that wrote it, or a newer one", "%s has version %d, this tairlift reads version %d", path, t.Version, tombstoneVersion)
	case t.State != tombFinishing && t.State != tombFinished:
		return nil, refused(hint, "%s is damaged: it has state %q", path, t.State)
	case t.Job != f.rec.Job || t.Target != target:
		return nil, refused(hint, "%s is of job %s and target %s, not of %s and %s", path, t.Job, t.Target, f.rec.Job, target)
	}
	return &t, nil
}

// bury writes a tombstone, and returns once it is on disk.
func (f *folder) bury(t *tombstone) error {
	if err := writeJSON(f.tombstonePath(t.Target), t); err != nil {
		return explain(fmt.Errorf("write what finish is to leave: %w", err))
	}
	return nil
}

// unbury removes a tombstone, and returns once that is on disk.
func (f *folder) unbury(target string) error {
	path := f.tombstonePath(target)
	if err := os.Remove(path); err != nil {
		return explain(fmt.Errorf("remove what finish left: %w", err))
	}
	return explainNil(fsx.OS.SyncDir(filepath.Dir(path)))
}

// refuseFinished refuses a run whose work is at its end: an apply by its
// target, a capture when that is so of every target that DIR knows.
func (r *run) refuseFinished() error {
	targets := []string{r.target}
	if !r.withApply {
		var err error
		if targets, err = r.f.targets(); err != nil {
			return err
		}
		slices.Sort(targets)
	}
	var last *tombstone
	for _, target := range targets {
		t, err := r.f.tombstone(target)
		if err != nil {
			return err
		}
		if t == nil {
			return nil
		}
		last = t
	}
	if last == nil {
		return nil
	}
	again := fmt.Sprintf("`tairlift finish --reopen --dir %s --target %s`", r.f.dir, last.Target)
	if r.f.state != "" {
		again = fmt.Sprintf("`tairlift finish --reopen --dir %s --state %s --target %s`", r.f.dir, r.f.state, last.Target)
	}
	if last.State == tombFinishing {
		return refused("start that finish again, or take it back by "+again,
			"a finish of this job on target %s was begun at %s and is not through", last.Target, last.when())
	}
	return refused("if it is to go on after all, take that back first: "+again,
		"this job is finished on target %s, since %s", last.Target, last.when())
}
