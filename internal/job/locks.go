package job

import (
	"errors"
	"path/filepath"

	"tairlift/checkpoint"
)

// lockCapture opens the store of capture, whose lock is that of all who
// capture into this DIR.
func (f *folder) lockCapture() (*checkpoint.Capture, error) {
	store, err := checkpoint.OpenCapture(f.captureDB())
	if errors.Is(err, checkpoint.ErrInUse) {
		var p *Process
		if c, _ := f.readCapture(); c != nil {
			p = &c.Process
		}
		return nil, inUse(f.path("capture"), p, err)
	}
	return store, err
}

// lockApply opens the store of a target's apply, whose lock is that of all who
// apply to it from this folder.
func (f *folder) lockApply(target string) (*checkpoint.Apply, error) {
	dir := f.applyDir(target)
	store, err := checkpoint.OpenApply(filepath.Join(dir, "apply.db"))
	if errors.Is(err, checkpoint.ErrInUse) {
		var p *Process
		if a, _ := f.readApply(target); a != nil {
			p = &a.Process
		}
		return nil, inUse(dir, p, err)
	}
	return store, err
}
