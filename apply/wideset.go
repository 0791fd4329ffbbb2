package apply

import (
	"fmt"
	"path/filepath"
	"slices"

	"tairlift/spool"
)

// wideSet are the keys of a set and, of databases that were swapped, those of the
// same names in the others of them: a walk names a key by the database in which it
// was at the epoch's start.
type wideSet struct {
	set *spool.KeySet
	dbs []int
}

// set is what held is about.
func (r *holder) set(h *holders) *spool.KeySet {
	if r.wide != nil {
		return r.wide.set
	}
	return h.set
}

// swapped are the databases that were swapped as far as the group was read.
func (r *holder) swapped() []int {
	dbs := r.swaps.DBs()
	if r.under.Step > 0 {
		dbs = append(dbs, r.under.A, r.under.B)
	}
	return dbs
}

// covers tells whether held is about all that may have been named.
func (r *holder) covers() bool {
	dbs := r.swapped()
	return len(dbs) == 0 || r.wide != nil && !slices.ContainsFunc(dbs, func(db int) bool { return !slices.Contains(r.wide.dbs, db) })
}

// widen makes it so.
func (r *holder) widen(h *holders) error {
	dbs := r.swapped()
	if r.wide != nil {
		dbs = append(dbs, r.wide.dbs...)
	}
	slices.Sort(dbs)
	dbs = slices.Compact(dbs)
	w := spool.NewKeySet(filepath.Join(h.dir, fmt.Sprintf("wide-%04d-%d", uint32(r.id), len(dbs))))
	defer w.Close()
	err := h.found.each(func(_, db int, key []byte) error {
		if !slices.Contains(dbs, db) {
			return w.Add(spool.FingerprintOf(db, key))
		}
		for _, from := range dbs {
			if err := w.Add(spool.FingerprintOf(from, key)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	set, err := w.Finish(nil)
	if err != nil {
		return err
	}
	r.close()
	r.wide = &wideSet{set, dbs}
	return nil
}

func (r *holder) close() {
	if r.wide != nil {
		_ = r.wide.set.Close()
		r.wide = nil
	}
}
