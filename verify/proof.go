package verify

import "context"

// unproven is which of the target's dbs must be scanned for extra keys. A db
// need not when nothing in it has changed since before the groups were read, and
// it holds as many keys as were found there for source keys (each counted
// once), besides our own: then it has no others. INFO counts keys that have
// expired and were not yet removed, which errs towards scanning.
func (r *run) unproven(ctx context.Context, dbs []int, before string) ([]int, error) {
	if r.o.Level == LevelSample || before == "" || len(dbs) == 0 {
		return dbs, nil
	}
	sizes, now, err := r.target.snapshot(ctx)
	if err != nil || now != before {
		return dbs, err
	}
	// Our own keys are counted between two marks that are the same.
	var scan []int
	proven := map[int]int64{}
	var w *wire
	for _, db := range dbs {
		c := r.tally.counts(db)
		found := c.Compared - c.Missing
		at := r.o.Selection.To(db)
		rest := sizes[at].keys - found
		if r.o.Selection.ByName() && rest > 0 || c.undecided() > 0 || c.Extra > 0 || rest < 0 {
			scan = append(scan, db)
			continue
		}
		if rest > 0 {
			if w == nil {
				if w, err = r.target.dial(ctx); err != nil {
					return nil, err
				}
				defer w.close()
			}
			own, err := r.countOurs(w, at)
			if err != nil {
				return nil, err
			}
			if own != rest {
				scan = append(scan, db)
				continue
			}
		}
		proven[db] = found
	}
	if _, now, err = r.target.snapshot(ctx); err != nil || now != before {
		return dbs, err
	}
	for db, found := range proven {
		r.tally.add(db, &Counts{TargetKeys: found})
		r.progress(int(found))
	}
	return scan, nil
}
