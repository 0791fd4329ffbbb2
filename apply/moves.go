package apply

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"tairlift/checkpoint"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// moves carries out one SWAPDB.
type moves struct {
	s     *streamer
	g     *group
	w     *swapping
	at    Mark // as it was written last
	sweep *sweep
	own   *holder // the group itself
	mark  string
	lane  sync.Mutex // guards the session, which beats meanwhile
	conn  seldom     // for questions beside the lane
	name  []byte     // comes before the names of keys on their way

	moved, kept int64
}

func (g *group) newMoves(s *streamer, w *swapping, at Mark) (*moves, error) {
	p, err := g.newSweep(at.Epoch, []Delivered{{Epoch: at.Epoch, Until: at.Offset, Turns: at.Turns}})
	if err != nil {
		return nil, err
	}
	p.swaps = w
	before := at
	before.Swap = Swap{} // the names of the spool are of the databases before
	return &moves{
		s: s, g: g, w: w, at: at, sweep: p, own: &holder{id: g.id, spool: g.spool}, mark: before.String(),
		name: []byte(swapName(g.job.o.Job, g.id)), conn: seldom{job: g.job},
	}, nil
}

func (m *moves) close() {
	m.own.close()
	m.sweep.close()
	m.conn.close()
}

// run takes the steps that are left. Each may look at very many keys of which it
// moves none, so the lane beats all the time.
func (m *moves) run(ctx context.Context) error { return m.g.beside(ctx, m.beat, m.steps) }

func (m *moves) beat() error {
	m.lane.Lock()
	defer m.lane.Unlock()
	return m.g.beat()
}

func (m *moves) steps(ctx context.Context) error {
	resumed := m.at.Swap.Step
	if resumed < swapNamed {
		if err := m.prepare(ctx); err != nil {
			return err
		}
	}
	if resumed == 0 {
		if m.sweep.found == 0 {
			return nil
		}
		if err := m.meets(ctx); err != nil {
			return err
		}
	}
	for step := max(resumed, swapAside); step <= swapSteps && ctx.Err() == nil; step++ {
		if step > resumed {
			if err := m.begin(step); err != nil {
				return err
			}
		}
		var err error
		switch step {
		case swapAside:
			if err = m.replace(ctx); err == nil {
				err = m.each(ctx, m.w.a, func(ctx context.Context, keys []foundKey) error { return m.aside(ctx, keys, resumed == step) })
			}
		case swapBack:
			err = m.each(ctx, m.w.b, m.back)
		case swapNamed:
			err = m.named(ctx)
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// begin says in the mark which step is under way.
func (m *moves) begin(step int) error {
	m.lane.Lock()
	defer m.lane.Unlock()
	m.at.Swap = Swap{Step: step, A: m.w.a, B: m.w.b}
	return m.s.move(m.at)
}

// prepare finds the group's keys on the target, and what others hold of them.
func (m *moves) prepare(ctx context.Context) error {
	p := m.sweep
	candidates, err := p.candidates(ctx)
	if err != nil {
		return m.g.sweepErr(err)
	}
	defer candidates.Close()
	if err := p.scan(ctx, candidates); err != nil {
		return err
	}
	p.found = int64(p.set.Len())
	if p.holders, err = newHolders(m.g, p.dir, p.set, p.names, p.others); err != nil {
		return err
	}
	if err := p.look(ctx); err != nil {
		return err
	}
	if err := m.own.follow(ctx, p.holders, m.mark); err != nil {
		return m.g.sweepErr(err)
	}
	if p.loose || m.own.swaps.Loose() {
		return &StopError{
			Reason: "swap-unknown",
			What: fmt.Sprintf("group %s: SWAPDB %d %d of the source, ending at offset %s, moves keys of which it is not known in which database they are: an earlier SWAPDB was left out (--on-flush ignore), and what was named before it is pruned",
				m.g.id, m.w.a, m.w.b, m.w.end),
			Hint: "nothing is moved yet. " + newEpochHint,
		}
	}
	return nil
}

// owns tells whether the group holds the i-th key that was found, and nobody else.
func (m *moves) owns(i, db int, key []byte) (bool, error) {
	ok, err := m.own.holds(i, db, key)
	if err != nil || !ok {
		return false, err
	}
	by, err := m.sweep.holders.by(i, db, key)
	return by == nil, err
}

// chunks gathers keys and calls fn for as many at once as one EXEC may be about;
// flush is for the last of them.
func (m *moves) chunks(ctx context.Context, fn func(context.Context, []foundKey) error) (add func(foundKey) error, flush func() error) {
	var chunk []foundKey
	size := 0
	flush = func() error {
		if len(chunk) == 0 || ctx.Err() != nil {
			return ctx.Err()
		}
		err := fn(ctx, chunk)
		chunk, size = chunk[:0], 0
		return err
	}
	add = func(k foundKey) error {
		chunk = append(chunk, k)
		size += len(k.key)
		if most, room := m.g.pace.Most(min(swapChunk, m.s.limit), batchBytes); len(chunk) < most && size < room {
			return nil
		}
		return flush()
	}
	return add, flush
}

// each calls fn for the keys of a database that the group holds, in chunks.
func (m *moves) each(ctx context.Context, db int, fn func(context.Context, []foundKey) error) error {
	add, flush := m.chunks(ctx, fn)
	err := m.sweep.names.each(func(i, at int, key []byte) error {
		if at != db {
			return nil
		}
		if ok, err := m.own.holds(i, at, key); err != nil || !ok {
			return err
		}
		return add(foundKey{i: i, db: at, key: slices.Clone(key)})
	})
	if err == nil {
		err = flush()
	}
	return err
}

func (m *moves) other(db int) int { return m.w.a + m.w.b - db }

// meets stops the group if a key would meet one of somebody else.
func (m *moves) meets(ctx context.Context) error {
	for _, db := range []int{m.w.a, m.w.b} {
		err := m.each(ctx, db, func(ctx context.Context, keys []foundKey) error {
			to := m.other(db)
			there, err := m.exist(ctx, to, nil, keys)
			if err != nil {
				return err
			}
			for n, k := range keys {
				if !there[n] || m.g.job.existing.untouched(m.g.job.o.Selection.To(to), k.key) {
					continue
				}
				if by, err := m.sweep.holders.by(k.i, db, k.key); err != nil || by != nil { // it stays
					if err != nil {
						return err
					}
					continue
				}
				i, ok, err := m.sweep.set.Find(spool.FingerprintOf(to, k.key))
				if err == nil && ok {
					ok, err = m.owns(i, to, k.key)
				}
				if err != nil {
					return err
				}
				if !ok {
					return m.meet(to, k.key, "nothing is moved yet")
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *moves) meet(db int, key []byte, so string) error {
	return &StopError{
		Reason: "swap-collision",
		What: fmt.Sprintf("group %s: SWAPDB %d %d of the source, ending at offset %s, brings key %q to database %d, where the target has one of that name that is not the group's",
			m.g.id, m.w.a, m.w.b, m.w.end, short(key), m.g.job.o.Selection.To(db)),
		Hint: so + ", and that key is not touched: rename or delete it, then start the same command again; or " + newEpochHint,
	}
}

// exist tells which of the keys, behind a prefix, a database has.
func (m *moves) exist(ctx context.Context, db int, prefix []byte, keys []foundKey) ([]bool, error) {
	conn, err := m.conn.get(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Do(ctx, "SELECT", strconv.Itoa(m.g.job.o.Selection.To(db))); err != nil {
		return nil, fmt.Errorf("select database %d of the target: %w", m.g.job.o.Selection.To(db), err)
	}
	there := make([]bool, len(keys))
	return there, conn.askEach(ctx, "EXISTS", len(keys), func(i int) []byte { return slices.Concat(prefix, keys[i].key) }, func(i int, r resp.Reply, err error) error {
		if err != nil {
			return fmt.Errorf("look for keys of database %d of the target: %w", db, err)
		}
		there[i] = r.Int > 0
		return nil
	})
}

// replace makes room where keys go that were on the target before the job. They
// are gone before they count as handled, and count so before anything takes their
// place.
func (m *moves) replace(ctx context.Context) error {
	x, selected := m.g.job.existing, m.g.job.o.Selection
	if x == nil {
		return nil
	}
	for _, db := range []int{m.w.a, m.w.b} {
		to := m.other(db)
		err := m.each(ctx, db, func(ctx context.Context, keys []foundKey) error {
			keys = slices.DeleteFunc(slices.Clone(keys), func(k foundKey) bool { return !x.untouched(selected.To(to), k.key) })
			if len(keys) == 0 {
				return nil
			}
			kept, _, err := m.exec(ctx, keys, func(b *Batch, k foundKey) {
				b.use(to, 0)
				b.append(0, "DEL", k.key)
			})
			if err != nil {
				return err
			}
			stays := func(k foundKey) bool {
				return slices.ContainsFunc(kept, func(o foundKey) bool { return o.i == k.i })
			}
			for _, k := range slices.DeleteFunc(keys, stays) {
				x.take(m.g.id, m.at.Epoch, selected.To(to), k.key, m.at.Offset)
			}
			return x.sync()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// aside moves keys of the first database to the second one, with a name of their
// own. again tells that some may have been: what is there now under their names is
// somebody else's.
func (m *moves) aside(ctx context.Context, keys []foundKey, again bool) error {
	if again {
		done, err := m.exist(ctx, m.w.b, m.name, keys)
		if err != nil {
			return err
		}
		n := 0
		keys = slices.DeleteFunc(keys, func(foundKey) bool { n++; return done[n-1] })
	}
	to := strconv.AppendInt(nil, int64(m.g.job.o.Selection.To(m.w.b)), 10)
	kept, undone, err := m.exec(ctx, keys, func(b *Batch, k foundKey) {
		b.use(m.w.a, 0)
		aside := slices.Concat(m.name, k.key)
		b.append(0, "RENAMENX", k.key, aside)
		b.append(0, "MOVE", aside, to)
	})
	if err != nil {
		return err
	}
	m.moved += int64(len(keys) - len(kept) - len(undone))
	if err := m.keeps(kept); err != nil {
		return err
	}
	return m.left(ctx, m.w.a, m.w.b, undone, nil, m.name)
}

// back moves keys of the second database to the first one.
func (m *moves) back(ctx context.Context, keys []foundKey) error {
	to := strconv.AppendInt(nil, int64(m.g.job.o.Selection.To(m.w.a)), 10)
	kept, undone, err := m.exec(ctx, keys, func(b *Batch, k foundKey) {
		b.use(m.w.b, 0)
		b.append(0, "MOVE", k.key, to)
	})
	if err != nil {
		return err
	}
	m.moved += int64(len(keys) - len(kept) - len(undone))
	if err := m.keeps(kept); err != nil {
		return err
	}
	return m.left(ctx, m.w.b, m.w.a, undone, nil)
}

// named gives the keys that were moved aside their names.
func (m *moves) named(ctx context.Context) error {
	add, flush := m.chunks(ctx, func(ctx context.Context, keys []foundKey) error {
		_, undone, err := m.exec(ctx, keys, func(b *Batch, k foundKey) {
			b.use(m.w.b, 0)
			b.append(0, "RENAMENX", slices.Concat(m.name, k.key), k.key)
		})
		if err != nil {
			return err
		}
		return m.left(ctx, m.w.b, m.w.b, undone, m.name)
	})
	conn, err := m.g.job.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	err = scanKeys(ctx, conn, m.g.job.o.Selection.To(m.w.b), func(key []byte) error {
		return add(foundKey{i: -1, db: m.w.b, key: slices.Clone(key[len(m.name):])})
	}, "MATCH", string(m.name)+"*")
	if err == nil {
		err = flush()
	}
	return err
}

// left looks at keys that were not moved: they have died meanwhile, or there is
// another one where they go. befores are what may come before their names.
func (m *moves) left(ctx context.Context, db, to int, keys []foundKey, befores ...[]byte) error {
	if len(keys) == 0 {
		return nil
	}
	for _, before := range befores {
		there, err := m.exist(ctx, db, before, keys)
		if err != nil {
			return err
		}
		if n := slices.Index(there, true); n >= 0 {
			return m.meet(to, keys[n].key, "a part of the keys is moved")
		}
	}
	return nil
}

// keeps makes keys that stay for another group doubtful where the group's own would
// be: the value may be the one that it had put there last. One that stays for a
// group which swaps the same database may stay for nobody, as that may keep it for
// this one: it is doubtful where it is, too.
func (m *moves) keeps(kept []foundKey) error {
	if len(kept) == 0 {
		return nil
	}
	m.kept += int64(len(kept))
	var doubts []checkpoint.Doubt
	for _, k := range kept {
		d := checkpoint.Doubt{Group: m.g.id, Epoch: m.at.Epoch, DB: m.other(k.db), Key: k.key, Why: "shared", Offset: m.w.end}
		doubts = append(doubts, d)
		by, err := m.sweep.holders.by(k.i, k.db, k.key)
		if err != nil {
			return err
		}
		if by == nil {
			continue
		}
		if _, swaps := by.under.other(k.db); swaps {
			d.DB = k.db
			doubts = append(doubts, d)
		}
	}
	if err := m.g.store.AddDoubts(doubts); err != nil {
		return err
	}
	m.g.doubts.add(doubts)
	m.g.showDoubts(0)
	return nil
}

// exec commits what add makes of keys, without those kept that another group
// holds. It tells which of the others were not there, or met another one. Keys
// without a number are nobody else's.
func (m *moves) exec(ctx context.Context, keys []foundKey, add func(b *Batch, k foundKey)) (kept, undone []foundKey, err error) {
	if len(keys) == 0 {
		return nil, nil, nil
	}
	bytes := 0
	for _, k := range keys {
		bytes += len(k.key)
	}
	if err := m.g.paced(ctx, int64(len(keys)), int64(bytes), m.beat); err != nil {
		return nil, nil, err
	}
	p := m.sweep
	var others []string
	if keys[0].i >= 0 {
		others = p.holders.keys()
	}
	for tries := 0; ctx.Err() == nil; tries++ {
		if tries > 0 {
			p.crowded(ctx, tries)
		}
		if len(others) > 0 { // most of it before they are held up
			if err := p.look(ctx); err != nil {
				return nil, nil, err
			}
		}
		var of []int // the key of each command
		missed := map[int]bool{}
		failed, again, err := m.exclusive(ctx, others, func(texts []string) (b *Batch, err error) {
			if len(others) > 0 {
				if err := p.holders.follow(ctx, texts); err != nil {
					return nil, err
				}
			}
			b, of, kept, err = m.batch(keys, add)
			return b, err
		}, func(i int, n int64) {
			if n == 0 && i < len(of) {
				missed[of[i]] = true
			}
		})
		if err != nil {
			return nil, nil, err
		}
		if again {
			continue
		}
		for _, f := range failed {
			if !lacksKey(f.Err) {
				return nil, nil, f.Err
			}
			missed[of[f.Index]] = true
		}
		for n, k := range keys {
			if missed[n] {
				undone = append(undone, k)
			}
		}
		return kept, undone, nil
	}
	return nil, nil, ctx.Err()
}

// exclusive is the lane's, between two beats.
func (m *moves) exclusive(ctx context.Context, others []string, decide func(texts []string) (*Batch, error), tell func(i int, n int64)) (failed []resp.ExecError, again bool, err error) {
	m.lane.Lock()
	defer m.lane.Unlock()
	failed, again, err = m.g.lane.exclusive(ctx, others, decide, tell)
	if err == nil && !again {
		m.g.well = true
		m.g.markSeen()
	}
	return failed, again, err
}

// batch is nil when all keys are kept.
func (m *moves) batch(keys []foundKey, add func(b *Batch, k foundKey)) (b *Batch, of []int, kept []foundKey, err error) {
	b = &Batch{db: dbNone, selection: m.g.job.o.Selection}
	for n, k := range keys {
		if k.i >= 0 {
			by, err := m.sweep.holders.by(k.i, k.db, k.key)
			if err != nil {
				return nil, nil, nil, err
			}
			if by != nil {
				kept = append(kept, k)
				continue
			}
		}
		add(b, k)
		for len(of) < len(b.cmds) {
			of = append(of, n)
		}
	}
	if len(b.cmds) == 0 {
		b = nil
	}
	return b, of, kept, nil
}
