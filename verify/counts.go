package verify

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"tairlift/internal/selection"
)

// counts compares the number of keys per db: the sum of the groups against the
// target, without our own keys. INFO keyspace counts keys that have expired and
// were not yet removed, so the numbers of keys with a TTL say how far apart two
// equal sides may be.
func (r *run) counts(ctx context.Context) error {
	all := r.servers()
	sizes := make([]map[int]dbSize, len(all))
	g, gctx := errgroup.WithContext(ctx)
	for i, s := range all {
		g.Go(func() (err error) {
			place := func(db int) (int, bool) { return db, r.o.Selection.DB(db) }
			if s == r.target {
				place = func(at int) (int, bool) {
					db := r.o.Selection.From(at)
					return db, db != selection.None
				}
			}
			sizes[i], err = r.sizes(gctx, s, place)
			return err
		})
	}
	if err := waitCause(ctx, g); err != nil {
		return err
	}
	target := sizes[len(sizes)-1]
	source := map[int]dbSize{}
	for _, m := range sizes[:len(sizes)-1] {
		for db, n := range m {
			sum := source[db]
			source[db] = dbSize{sum.keys + n.keys, sum.expires + n.expires}
		}
	}
	dbs := maps.Clone(source)
	maps.Copy(dbs, target)
	for _, db := range slices.Sorted(maps.Keys(dbs)) {
		s, t := source[db], target[db]
		if s.keys == 0 && t.keys == 0 {
			continue
		}
		r.tally.add(db, &Counts{
			SourceKeys: s.keys, TargetKeys: t.keys, Compared: s.keys, Equal: min(s.keys, t.keys),
			Missing: max(0, s.keys-t.keys), Extra: max(0, t.keys-s.keys),
		})
		r.tally.expires[db] = [2]int64{s.expires, t.expires}
	}
	return nil
}

// sizes is the server's INFO keyspace less our own keys, which one SCAN per db
// counts. Where keys are selected by their names, one that reads all of them counts
// those that are. place gives the number that the sources have for a db, and
// whether it is selected.
func (r *run) sizes(ctx context.Context, s *server, place func(int) (int, bool)) (map[int]dbSize, error) {
	all, err := s.keyspace(ctx)
	if err != nil {
		return nil, err
	}
	w, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer w.close()
	sizes := map[int]dbSize{}
	for at, n := range all {
		db, selected := place(at)
		switch {
		case !selected:
			continue
		case r.o.Selection.ByName():
			n.keys, err = r.countSelected(w, at)
		default:
			var own int64
			own, err = r.countOurs(w, at)
			n.keys = max(0, n.keys-own)
		}
		if err != nil {
			return nil, err
		}
		n.expires = min(n.expires, n.keys)
		sizes[db] = n
	}
	return sizes, nil
}

// countSelected counts the keys of a db that are selected by their names.
func (r *run) countSelected(w *wire, db int) (n int64, err error) {
	if err := w.selectDB(db); err != nil {
		return 0, err
	}
	var seen fingerprints // SCAN may name a key twice
	err = newScan(w, 1000, "").walk(func(key []byte) error {
		if !r.leftOut(key) && seen.add(fingerprintOf(r.o.Seed, db, key)) {
			n++
		}
		return nil
	})
	return n, err
}

// countOurs counts our own keys in a db by a SCAN that answers few others.
func (r *run) countOurs(w *wire, db int) (int64, error) {
	if err := w.selectDB(db); err != nil {
		return 0, err
	}
	match := oursPattern
	if r.o.IsOurs != nil {
		match = ""
	}
	own := map[string]bool{} // SCAN may name a key twice
	err := newScan(w, 1000, match).walk(func(key []byte) error {
		if r.ours(key) {
			own[string(key)] = true
		}
		return nil
	})
	return int64(len(own)), err
}

// decideCounts sets the verdict of level counts. A gap is told per db: a key too
// many in one does not make up for one too few in another.
func (r *Report) decideCounts(failed error) {
	var gap, beyond int64
	for _, d := range r.PerDB {
		n := abs(d.SourceKeys - d.TargetKeys)
		gap += n
		if n > max(d.SourceExpires, d.TargetExpires) {
			beyond += n
		}
	}
	switch {
	case beyond > 0:
		r.Verdict = Different
	case failed != nil:
		r.decide(failed)
	case r.SourceKeys == 0 && r.TargetKeys == 0:
		r.Verdict, r.Reason = Inconclusive, "zero keys on both sides"
	case gap > 0:
		r.Verdict = Inconclusive
		r.Reason = fmt.Sprintf("the gap of %s keys may be keys that have expired", comma(gap))
	default:
		r.Verdict = Identical
	}
}
