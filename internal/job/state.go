package job

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// stateFile names whose apply a --state folder keeps: STATE/state.json, a
// record like job.json's under another name, because that folder is no job's
// DIR: it holds no spool.
const stateFile = "state.json"

// stateParts are the names that may lie in a --state folder of ours.
var stateParts = []string{stateFile, stateFile + ".tmp", "status", "apply", "lost+found"}

// openJob is openFolder with the side of apply kept in the folder state, so
// that DIR itself is only read. An empty state is DIR.
func openJob(dir, state string) (*folder, error) {
	f, err := openFolder(dir)
	if err != nil || state == "" {
		return f, err
	}
	f.state = state
	return f, f.openState()
}

// statePath is where something of apply lies.
func (f *folder) statePath(parts ...string) string {
	if f.state == "" {
		return f.path(parts...)
	}
	return filepath.Join(append([]string{f.state}, parts...)...)
}

// openState reads the --state folder, which may not exist yet, and makes
// nothing.
func (f *folder) openState() error {
	if err := f.apart(); err != nil {
		return err
	}
	entries, err := os.ReadDir(f.state)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return &Error{Code: Refused, What: fmt.Sprintf("open --state: %v", err), Hint: "give a folder that this user may read and write, or one that does not exist yet", Err: err}
	}
	raw, err := readSmall(f.statePath(stateFile))
	switch {
	case err == nil:
		return f.readState(raw)
	case !errors.Is(err, fs.ErrNotExist):
		return explain(fmt.Errorf("read state file: %w", err))
	}
	for _, e := range entries {
		switch {
		case e.Name() == jobFile:
			return refused("give --state a folder of its own; that of a job is for --dir", "--state %s is the folder of a job", f.state)
		case !slices.Contains(stateParts, e.Name()) && !strings.HasPrefix(e.Name(), "."):
			return refused("give --state an empty folder, or the one of an earlier run",
				"--state %s is not empty and not an apply's: it holds %s and no %s", f.state, e.Name(), stateFile)
		}
	}
	return nil
}

// apart refuses a --state within --dir, which is not to be written to.
func (f *folder) apart() error {
	dir, err := os.Stat(f.dir)
	if err != nil {
		return nil // it is not there, so nothing lies in it
	}
	at, err := filepath.Abs(f.state)
	if err != nil {
		return explain(err)
	}
	if real, err := filepath.EvalSymlinks(at); err == nil {
		at = real
	}
	for {
		if info, err := os.Stat(at); err == nil && os.SameFile(info, dir) {
			return usage("give --state a folder elsewhere, or leave it out to keep what apply writes in --dir", "--state %s lies within --dir %s", f.state, f.dir)
		}
		up := filepath.Dir(at)
		if up == at {
			return nil
		}
		at = up
	}
}

// readState compares the state's job with DIR's. Groups that it has seen stay
// known while a copy of DIR has not brought them.
func (f *folder) readState(raw []byte) error {
	path := f.statePath(stateFile)
	var rec record
	if err := json.Unmarshal(raw, &rec); err != nil || rec.Job.IsZero() {
		return refused("restore the file, or give --state a fresh folder", "%s is not a state file", path)
	}
	if rec.Version != jobVersion {
		return refused("use the tairlift that wrote it, or a newer one",
			"%s has version %d, this tairlift reads version %d", path, rec.Version, jobVersion)
	}
	if !f.rec.Job.IsZero() && f.rec.Job != rec.Job {
		return refused("give each job a --state of its own", "--state %s is of job %s, and --dir %s holds job %s", f.state, rec.Job, f.dir, f.rec.Job)
	}
	f.rec.Job = rec.Job
	for _, g := range rec.Groups {
		if find(f.rec.Groups, func(k Group) bool { return k.ID == g.ID }) == nil {
			f.rec.Groups = append(f.rec.Groups, g)
		}
	}
	sortGroups(f.rec.Groups)
	f.exist = true
	return nil
}

// saveState makes the --state folder if need be and writes down whose it is.
func (f *folder) saveState(log *slog.Logger) error {
	if err := os.MkdirAll(f.state, 0o755); err != nil {
		return explain(fmt.Errorf("make --state: %w", err))
	}
	unlock, err := lockDir(f.state)
	if err != nil {
		return explain(fmt.Errorf("lock --state: %w", err))
	}
	defer unlock()
	now, err := openJob(f.dir, f.state)
	if err != nil {
		return err
	}
	rec := record{Version: jobVersion, Job: now.rec.Job, Created: time.Now().UTC().Truncate(time.Second), Groups: now.rec.Groups}
	before, err := readSmall(f.statePath(stateFile))
	if err == nil {
		var was record
		if json.Unmarshal(before, &was) == nil {
			rec.Created = was.Created
		}
	}
	after, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return err
	}
	if !bytes.Equal(before, append(after, '\n')) {
		if err := writeJSON(f.statePath(stateFile), rec); err != nil {
			return explain(fmt.Errorf("write state file: %w", err))
		}
	}
	if before == nil {
		log.Info("state folder made", "state", f.state, "dir", f.dir, "job", rec.Job.String())
	}
	f.rec = now.rec
	return nil
}

// unwritable explains why apply cannot keep its state where it was to.
func (r *run) unwritable(err error) error {
	if r.withCapture || !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
		return err
	}
	var at *fs.PathError
	if r.o.State != "" || !errors.As(err, &at) {
		return err
	}
	return &Error{
		Code: Failed, Err: err, What: fmt.Sprintf("--dir %s cannot be written to: %v", r.o.Dir, at),
		Hint: "apply keeps its own state in --dir: add --state FOLDER to keep it elsewhere and only read --dir, or give this user the right to write there",
	}
}
