package apply

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"tairlift/spool"
)

// provenance are keys that the past delivered, by where they were at their epoch's
// start, and how SWAPDB has moved them since.
type provenance struct {
	set   *spool.KeySet
	swaps *spool.Swaps
}

// delivered are the keys of the past, without those in minus, unless that is nil.
// Where databases were swapped a key is told by where it is now, and only those
// that the target has are in it: what a fingerprint is of cannot be told.
func (s *sweep) delivered(ctx context.Context, minus *spool.KeySet) (*spool.KeySet, error) {
	all, err := s.named(ctx, minus, s.past)
	if err != nil {
		return nil, err
	}
	if len(all) == 1 && !all[0].swaps.Any() {
		return all[0].set, nil
	}
	defer closeNamed(all)
	for _, n := range all {
		s.loose = s.loose || n.swaps.Loose()
	}
	return s.placed(ctx, all, minus)
}

// named reads the names of the past: in one set if nothing was swapped, which is
// without minus then; else in one for each part.
func (s *sweep) named(ctx context.Context, minus *spool.KeySet, past []Delivered) (out []provenance, err error) {
	s.sets++
	w := spool.NewKeySet(filepath.Join(s.dir, fmt.Sprintf("candidates-%d", s.sets)))
	defer w.Close()
	opaque, any := s.opaque, false
	swaps := &spool.Swaps{}
	for _, d := range past {
		swaps = d.swaps()
		if err := s.walk(ctx, w, d, swaps); err != nil {
			return nil, err
		}
		d.walked(swaps)
		any = any || swaps.Any()
	}
	if any && len(past) > 1 { // no two parts were swapped alike
		s.opaque = opaque
		for _, d := range past {
			one, err := s.named(ctx, nil, []Delivered{d})
			if err != nil {
				closeNamed(out)
				return nil, err
			}
			out = append(out, one...)
		}
		return out, nil
	}
	if any {
		minus = nil // its names are of other databases
	}
	set, err := w.Finish(minus)
	return []provenance{{set, swaps}}, err
}

func closeNamed(all []provenance) {
	for _, n := range all {
		_ = n.set.Close()
	}
}

// placed are those of the named keys that the target has, without those in
// minus.
func (s *sweep) placed(ctx context.Context, all []provenance, minus *spool.KeySet) (*spool.KeySet, error) {
	conn, err := s.g.job.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	t, err := probe(ctx, conn)
	if err != nil {
		return nil, err
	}
	w := spool.NewKeySet(filepath.Join(s.dir, "placed"))
	defer w.Close()
	selected := s.g.job.o.Selection
	for _, at := range slices.Sorted(maps.Keys(t.keyspace)) {
		db := selected.From(at)
		if !s.reaches(db) {
			continue
		}
		err := scanKeys(ctx, conn, at, func(key []byte) error {
			if isOurs(key) || !selected.Key(key) {
				return nil
			}
			for _, n := range all {
				for _, from := range n.swaps.Origins(db) {
					switch _, ok, err := n.set.Find(spool.FingerprintOf(from, key)); {
					case err != nil:
						return err
					case ok:
						return w.Add(spool.FingerprintOf(db, key))
					}
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return w.Finish(minus)
}
