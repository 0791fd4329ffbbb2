package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/repl"
	"tairlift/spool"
)

// The sweep removes, behind a new epoch's RDB, what earlier epochs of the group
// have put on the target and that RDB lacks: the source deleted it while nobody
// listened. What may be deleted is told by where it came from, never by slots:
//
//	what the RDBs and streams of the mark's past name, as far as they were applied
//	- what the new RDB holds
//	- what was on the target before the job and nothing has touched
//	- what another group holds: see holders
//
// Names come from the target itself, by SCAN; all else is fingerprints, in
// files of the group's own, of 16 bytes each and less than a bit in memory.
// Everything is counted before anything is deleted. Nothing is recorded on the
// way: a sweep that was cut short begins again, and finds less.

const (
	sweepChunk = 2000 // keys that one EXEC deletes at most
	// crowdedTries is how many tries in vain to delete a chunk are told of, and
	// crowdedPause the longest wait for another.
	crowdedTries = 5
	crowdedPause = 250 * time.Millisecond
)

// sweep runs until everything is deleted, and begins the epoch's stream.
func (g *group) sweep(ctx context.Context, info spool.EpochInfo) error {
	g.status.waits(&waitError{reason: "reconciling", err: fmt.Errorf("what the source deleted before epoch %s is looked for on the target", info.Epoch)}, g.now())
	s, err := g.newSweep(info.Epoch, g.lane.Mark().Past)
	if err != nil {
		return err
	}
	defer s.close()
	s.start = info.Start
	if err := g.beating(ctx, s.prepare); err != nil {
		return err
	}
	if err := s.fuse(); err != nil {
		return err
	}
	if err := s.run(ctx); err != nil {
		return err
	}
	if s.found > 0 {
		g.log.Info("what the epoch lacks is deleted", "epoch", info.Epoch, "deleted", s.deleted, "kept", s.found-s.deleted)
	}
	if err := s.told(); err != nil {
		return err
	}
	return g.beginStream(g.lane.Mark(), info)
}

// newSweep begins with a folder of its own.
func (g *group) newSweep(e repl.Epoch, past []Delivered) (*sweep, error) {
	dir := filepath.Join(g.job.o.StateDir, "sweep-"+fmt.Sprintf("%04d", uint32(g.id)))
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return nil, err
	}
	return &sweep{g: g, dir: dir, epoch: e, past: past, marks: seldom{job: g.job}}, nil
}

// told ends a sweep that is through: nobody has to agree to it any more.
func (s *sweep) told() error {
	if s.opaque > 0 {
		s.g.log.Warn("scripts may have written keys that they do not name: `tairlift verify --level full` shows what is left of those as extra", "scripts", s.opaque)
	}
	if err := os.Remove(s.g.deletesFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// sweep is one run of it.
type sweep struct {
	g     *group
	dir   string
	epoch repl.Epoch
	start repl.Offset // of its stream
	past  []Delivered
	// clears is the command of the stream that this is about, which empties
	// databases; nil behind an RDB.
	clears *clearing
	// swaps is a SWAPDB of the stream that this is about.
	swaps *swapping
	loose bool // where keys are that were delivered is not known: see spool.Swaps

	names   *found        // the candidates that the target has
	set     *spool.KeySet // the same, by their fingerprints
	marks   seldom        // on which the marks of others are read
	coming  *spool.KeySet // what the stream behind the RDB names; nil unless it was applied before
	holders *holders
	others  map[string]repl.GroupID // their marks on the target
	takes   *accepts
	jobs    []string // others that share it

	sets    int // of names, so far
	opaque  uint64
	found   int64 // keys on the target that the RDB lacks
	count   int64 // of them, those to delete for good
	deleted int64
}

func (s *sweep) close() {
	if s.names != nil {
		s.names.Close()
	}
	s.marks.close()
	if s.holders != nil {
		for _, row := range s.holders.rows {
			row.close()
		}
	}
	for _, set := range []*spool.KeySet{s.set, s.coming} {
		if set != nil {
			set.Close()
		}
	}
	_ = os.RemoveAll(s.dir)
}

// prepare finds out what is to be deleted.
func (s *sweep) prepare(ctx context.Context) error {
	candidates, err := s.candidates(ctx)
	if err != nil {
		return s.g.sweepErr(err)
	}
	defer candidates.Close()
	if candidates.Len() == 0 {
		return nil
	}
	if s.takes, err = s.g.job.accepts(ctx, s.g.id, s.g.lane.target); err != nil {
		return err
	}
	if err := s.scan(ctx, candidates); err != nil {
		return err
	}
	if s.found = int64(s.set.Len()); s.found == 0 {
		return nil
	}
	if err := s.foresee(ctx); err != nil {
		return s.g.sweepErr(err)
	}
	if s.holders, err = newHolders(s.g, s.dir, s.set, s.names, s.others); err != nil {
		return err
	}
	if err := s.look(ctx); err != nil {
		return err
	}
	s.count, err = s.list()
	return err
}

// candidates are the keys that the past delivered and the new RDB lacks. What a
// command has emptied since is among them: it may have been skipped.
func (s *sweep) candidates(ctx context.Context) (*spool.KeySet, error) {
	var rdb *spool.KeySet
	if s.clears == nil && s.swaps == nil {
		w := spool.NewKeySet(filepath.Join(s.dir, "rdb"))
		defer w.Close()
		if err := s.walk(ctx, w, Delivered{Epoch: s.epoch, Until: spool.WalkRDB}, nil); err != nil {
			return nil, err
		}
		var err error
		if rdb, err = w.Finish(nil); err != nil {
			return nil, err
		}
		defer rdb.Close()
	}
	return s.delivered(ctx, rdb)
}

// walk adds what was delivered of an epoch.
func (s *sweep) walk(ctx context.Context, w *spool.KeySetWriter, d Delivered, swaps *spool.Swaps) error {
	opaque, err := s.g.spool.WalkKeys(ctx, d.Epoch, d.Until, swaps, func(fp spool.Fingerprint, _ bool) error { return w.Add(fp) })
	if errors.Is(err, spool.ErrRDBIncomplete) && d.Until == spool.WalkAll {
		return nil // nothing of it was ever applied
	}
	if errors.Is(err, spool.ErrEnd) || errors.Is(err, spool.ErrEpochEnd) {
		return s.g.ahead(err, "copy the spool again from where it was captured, then start the same command; if that is gone, --reseed loads the newest RDB again",
			"epoch %s was applied up to offset %s, and the spool's part of it ends before that", d.Epoch, d.Until)
	}
	if err != nil {
		return fmt.Errorf("read which keys epoch %s had: %w", d.Epoch, err)
	}
	s.opaque += opaque
	return nil
}

// foresee reads, when an epoch is begun again, what its own stream names: most
// of that is going to be made again, so nobody is asked whether it may go.
func (s *sweep) foresee(ctx context.Context) error {
	again := s.clears == nil && slices.ContainsFunc(s.past, func(d Delivered) bool { return d.Epoch == s.epoch && d.Until != spool.WalkRDB })
	if !again {
		return nil
	}
	w := spool.NewKeySet(filepath.Join(s.dir, "coming"))
	defer w.Close()
	_, err := s.g.spool.WalkStream(ctx, s.epoch, s.start, 0, spool.WalkAll, nil, func(fp spool.Fingerprint, _ bool) error { return w.Add(fp) })
	if err != nil {
		return fmt.Errorf("read which keys the stream of epoch %s has: %w", s.epoch, err)
	}
	s.coming, err = w.Finish(nil)
	return err
}

// sweepErr is spoolErr for what prune may remove while it is read: then its key
// files are there the next time. Of a group whose mark is ahead of the spool it
// is that group itself that says so.
func (g *group) sweepErr(err error) error {
	var (
		stop   *StopError
		wait   *waitError
		pruned *spool.PrunedError
		gap    *spool.GapError
	)
	if errors.As(err, &stop) || errors.As(err, &wait) {
		return err
	}
	if errors.As(err, &pruned) || errors.As(err, &gap) || errors.Is(err, spool.ErrEnd) || errors.Is(err, spool.ErrEpochEnd) {
		return &waitError{reason: "reconciling", err: err}
	}
	return g.spoolErr(err)
}

// reaches tells whether the sweep is about a database of the source.
func (s *sweep) reaches(db int) bool {
	switch {
	case db == dbNone:
		return false
	case s.clears != nil:
		return s.clears.reaches(db)
	case s.swaps != nil:
		return s.swaps.reaches(db)
	}
	return true
}

// scan looks for the candidates on the target, and for the marks of others.
func (s *sweep) scan(ctx context.Context, candidates *spool.KeySet) (err error) {
	conn, err := s.g.job.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	t, err := probe(ctx, conn)
	if err != nil {
		return err
	}
	if s.names, err = newFound(filepath.Join(s.dir, "names"), candidates.Len()); err != nil {
		return err
	}
	w := spool.NewKeySet(filepath.Join(s.dir, "found"))
	defer w.Close()
	s.others = map[string]repl.GroupID{}
	selected := s.g.job.o.Selection
	for _, at := range slices.Sorted(maps.Keys(t.keyspace)) {
		db := selected.From(at)
		var pattern []string
		if !s.reaches(db) {
			if at != 0 {
				continue
			}
			pattern = []string{"MATCH", keyPrefix + "*"} // the marks of others
		}
		err := scanKeys(ctx, conn, at, func(key []byte) error {
			if isOurs(key) {
				if id, ok := markGroup(s.g.job.o.Job, string(key)); ok && at == 0 && id != s.g.id {
					s.others[string(key)] = id
				}
				return nil
			}
			// What is not selected is never ours, whatever the spool names.
			if !s.reaches(db) || !selected.Key(key) || s.clears != nil && !s.clears.covers(db, key) {
				return nil
			}
			fp := spool.FingerprintOf(db, key)
			i, ok, err := candidates.Find(fp)
			if err != nil || !ok || s.names.has(i) || s.g.job.existing.untouched(at, key) {
				return err
			}
			return errors.Join(w.Add(fp), s.names.add(i, db, key))
		}, pattern...)
		if err != nil {
			return err
		}
	}
	r, err := conn.Do(ctx, "SMEMBERS", jobsKey)
	if err != nil {
		return fmt.Errorf("look for other jobs on the target: %w", err)
	}
	for _, e := range r.Elems {
		if id := string(e.Str); id != s.g.job.o.Job.String() {
			s.jobs = append(s.jobs, id)
		}
	}
	s.names.rank()
	s.set, err = w.Finish(nil)
	return err
}

// look brings what the other groups hold up to their marks.
func (s *sweep) look(ctx context.Context) error {
	keys := s.holders.keys()
	if len(keys) == 0 {
		return nil
	}
	conn, err := s.marks.get(ctx)
	if err != nil {
		return err
	}
	texts := make([]string, len(keys))
	for i, key := range keys {
		if texts[i], _, err = getMark(ctx, conn, key); err != nil {
			return err
		}
	}
	return s.holders.follow(ctx, texts)
}

// list counts what is to be deleted for good, and writes it down for a person
// to read.
func (s *sweep) list() (n int64, err error) {
	out, err := newList(s.g.deletesFile())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	err = s.names.each(func(i, db int, key []byte) error {
		if s.coming != nil {
			if _, ok, err := s.coming.Find(spool.FingerprintOf(db, key)); err != nil || ok {
				return err
			}
		}
		by := ""
		row, err := s.holders.by(i, db, key)
		if err != nil {
			return err
		}
		if row != nil {
			by = row.id.String()
		} else {
			n++
		}
		return out.add(s.g.job.o.Selection.To(db), key, by)
	})
	return n, err
}

// fuse stops the group when more is to be deleted than it may.
func (s *sweep) fuse() error {
	if s.count == 0 {
		return nil
	}
	g := s.g
	keys := g.lane.Mark().Keys + s.count // what the group has on the target
	limit := g.job.o.MaxDeletes
	what := fmt.Sprintf("group %s: the full sync (epoch %s) lacks %d of the %d keys that the target has of the group", g.id, s.epoch, s.count, keys)
	switch {
	case float64(s.count)*100 > limit*float64(keys):
		what += fmt.Sprintf(", more than the %s%% that may be deleted without asking", strconv.FormatFloat(limit, 'f', -1, 64))
	case len(s.jobs) > 0 && !g.job.o.DeletesAgreed:
		what += ", and the target has marks of another job, " + strings.Join(s.jobs, ", ")
	case s.loose && !g.job.o.DeletesAgreed:
		what += ", and which SWAPDB of the source were carried out there is not known, so one may be another database's that was swapped"
	default:
		g.log.Warn("keys that the full sync lacks are deleted on the target", "epoch", s.epoch, "delete", s.count, "keep", s.found-s.count, "list", g.deletesFile())
		return nil
	}
	return &StopError{
		Reason: "confirm-deletes", What: what,
		Hint: fmt.Sprintf("nothing is deleted yet. %s lists them; if they may go, start the same command with --max-deletes 100%%", g.deletesFile()),
	}
}

// deletesFile lists, for a person, what a sweep is about to delete.
func (g *group) deletesFile() string {
	return filepath.Join(g.job.o.StateDir, fmt.Sprintf("deletes-%04d.jsonl", uint32(g.id)))
}

// run deletes.
func (s *sweep) run(ctx context.Context) error {
	if s.found == 0 {
		return nil
	}
	var chunk []foundKey
	size := 0
	flush := func() error {
		if len(chunk) == 0 {
			return ctx.Err()
		}
		err := s.delete(ctx, chunk)
		chunk, size = chunk[:0], 0
		return err
	}
	err := s.names.each(func(i, db int, key []byte) error {
		chunk = append(chunk, foundKey{i: i, db: db, key: slices.Clone(key)})
		size += len(key)
		if most, room := s.g.pace.Most(sweepChunk, batchBytes); len(chunk) < most && size < room {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	return err
}

type foundKey struct {
	i   int // in set
	db  int
	key []byte
}

// delete removes those of the keys that no other group holds at that moment.
func (s *sweep) delete(ctx context.Context, chunk []foundKey) error {
	g := s.g
	bytes := 0
	for _, k := range chunk {
		bytes += len(k.key)
	}
	if err := g.paced(ctx, int64(len(chunk)), int64(bytes), g.beat); err != nil {
		return err
	}
	others := s.holders.keys()
	for tries := 0; ctx.Err() == nil; tries++ {
		if tries > 0 {
			s.crowded(ctx, tries)
		}
		// Most of what the others have done since is read before they are held up.
		if err := s.look(ctx); err != nil {
			return err
		}
		n := int64(0)
		moved, err := g.lane.Exclusive(ctx, others, func(texts []string) (*Batch, error) {
			if err := s.holders.follow(ctx, texts); err != nil {
				return nil, err
			}
			var b *Batch
			var err error
			b, n, err = s.batch(chunk)
			return b, err
		})
		switch {
		case err != nil:
			return err
		case !moved:
			s.deleted += n
			g.well = true
			g.markSeen()
			return s.spared(chunk)
		}
	}
	return ctx.Err()
}

// crowded waits a little longer from one try to the next, and says so: another
// process may commit on the same target faster than we can look at its marks.
func (s *sweep) crowded(ctx context.Context, tries int) {
	if tries >= crowdedTries {
		s.g.status.update(func(st *Status) {
			if st.Reason == "reconciling" {
				st.What = fmt.Sprintf("marks of other groups moved at each of %d tries to delete what they do not hold", tries)
			}
		})
	}
	select {
	case <-ctx.Done():
	case <-time.After(min(time.Millisecond<<min(tries, 10), crowdedPause)):
	}
}

// spared makes the keys of a chunk that stay for another group doubtful there: the
// value may be the one that this group had put there last.
func (s *sweep) spared(chunk []foundKey) error {
	doubts := map[repl.GroupID][]checkpoint.Doubt{}
	for _, k := range chunk {
		by, err := s.holders.by(k.i, k.db, k.key)
		if err != nil {
			return err
		}
		if by != nil {
			doubts[by.id] = append(doubts[by.id], by.doubts(k.db, k.key)...)
		}
	}
	for id, ds := range doubts {
		var err error
		if i := slices.IndexFunc(s.g.job.groups, func(o *group) bool { return o.id == id }); i >= 0 {
			_, err = s.g.job.groups[i].addDoubts(ds)
		} else {
			err = s.g.store.AddDoubts(ds)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *sweep) batch(chunk []foundKey) (b *Batch, n int64, err error) {
	var keys [][]byte // of one database, behind the word
	flush := func(db int) {
		if len(keys) == 0 {
			return
		}
		if b == nil {
			b = &Batch{db: dbNone, selection: s.g.job.o.Selection}
		}
		b.use(db, 0)
		b.append(0, s.takes.remove(), keys...)
		n += int64(len(keys))
		keys = keys[:0]
	}
	for i, k := range chunk {
		if i > 0 && chunk[i-1].db != k.db {
			flush(chunk[i-1].db)
		}
		by, err := s.holders.by(k.i, k.db, k.key)
		if err != nil {
			return nil, 0, err
		}
		if by == nil {
			keys = append(keys, k.key)
		}
	}
	flush(chunk[len(chunk)-1].db)
	return b, n, nil
}
