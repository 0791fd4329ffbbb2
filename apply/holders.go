package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"tairlift/checkpoint"
	"tairlift/internal/command"
	"tairlift/internal/repl"
	"tairlift/spool"
)

// holders knows which of a set of keys other groups hold now, as their marks
// say: what the RDB of the mark's epoch holds, or its stream up to the mark
// wrote, and did not remove for certain or empty the database of. An RDB that is restored counts whole.
// One that the mark is not in does not count: another may take its place, and
// then nobody would know of the key any more. Of what was pruned only names are
// known: such a key counts as held. So does one, in both databases, that a SWAPDB
// under way may have moved or not.
type holders struct {
	g    *group
	dir  string // for files, while it is used
	set  *spool.KeySet
	rows []*holder // by the name of the mark

	found *found       // the keys in set by their names
	inDB  map[int]bits // which of set lie in a database, once that was asked
}

// newHolders takes the marks that the target has. A group of the job without
// one holds nothing, unless it had one before: then nobody knows.
func newHolders(g *group, dir string, set *spool.KeySet, names *found, marks map[string]repl.GroupID) (*holders, error) {
	h := &holders{g: g, dir: dir, set: set, found: names, inDB: map[int]bits{}}
	for _, key := range slices.Sorted(maps.Keys(marks)) {
		h.rows = append(h.rows, &holder{id: marks[key], key: key})
	}
	all, err := spool.Groups(g.job.o.SpoolDir)
	if err != nil {
		return nil, err
	}
	for _, o := range g.job.groups {
		all = append(all, o.id)
	}
	slices.Sort(all)
	for _, id := range slices.Compact(all) {
		key := markKey(g.job.o.Job, id)
		if _, ok := marks[key]; ok || id == g.id {
			continue
		}
		rec, _, err := g.store.Group(id)
		if err != nil {
			return nil, err
		}
		if rec.Filled() {
			return nil, h.unknown(id, errors.New("it is gone"))
		}
		h.rows = append(h.rows, &holder{id: id, key: key, new: true})
	}
	return h, nil
}

// unknown says that a group's mark does not tell what it holds. That passes only
// if the group is reseeded beside this one.
func (h *holders) unknown(id repl.GroupID, cause error) error {
	o := &h.g.job.o
	if o.Reseed && slices.Contains(o.Groups, id) {
		return &waitError{reason: "reconciling", err: fmt.Errorf("the mark of group %s: %w", id, cause)}
	}
	return &StopError{
		Reason: "other-mark-lost",
		What:   fmt.Sprintf("group %s: what group %s holds on the target is not known, as its mark does not tell: %v", h.g.id, id, cause),
		Hint:   fmt.Sprintf("nothing is deleted yet. Bring group %s in order first; what stopped it names the way out", id),
	}
}

// keys are the names of the marks.
func (h *holders) keys() []string {
	var keys []string
	for _, row := range h.rows {
		keys = append(keys, row.key)
	}
	return keys
}

// by is who holds the i-th key of the set, or nil.
func (h *holders) by(i, db int, key []byte) (*holder, error) {
	for _, row := range h.rows {
		if ok, err := row.holds(i, db, key); err != nil || ok {
			return row, err
		}
	}
	return nil, nil
}

// follow reads on to where the marks stand.
func (h *holders) follow(ctx context.Context, texts []string) error {
	for i, row := range h.rows {
		if err := row.follow(ctx, h, texts[i]); err != nil {
			return h.g.sweepErr(fmt.Errorf("find out what group %s holds: %w", row.id, err))
		}
	}
	return nil
}

// holder is one other group.
type holder struct {
	id    repl.GroupID
	key   string
	new   bool // it had no mark when the keys were looked for
	spool *spool.Group

	text  string      // of the mark that is followed
	epoch repl.Epoch  // 0: nothing was read
	at    repl.Offset // in its stream, as far as that was read
	db    int         // selected there
	swaps spool.Swaps // up to there
	under Swap        // is under way behind it
	wide  *wideSet    // what held is about, rather than the set, since databases were swapped
	held  bits
}

// holds tells whether the group holds the i-th key of the set.
func (r *holder) holds(i, db int, key []byte) (bool, error) {
	if r.wide == nil {
		return r.held.has(i), nil
	}
	if r.held == nil {
		return false, nil
	}
	swaps := &r.swaps
	if r.under.Step > 0 {
		swaps = swaps.Clone()
		swaps.Halve(r.under.A, r.under.B)
	}
	for _, from := range swaps.Origins(db) {
		switch j, ok, err := r.wide.set.Find(spool.FingerprintOf(from, key)); {
		case err != nil:
			return false, err
		case ok && r.held.has(j):
			return true, nil
		}
	}
	return false, nil
}

// doubts are those about a key that stays for the group. Where it is to be once a
// swap that is under way is over is not known.
func (r *holder) doubts(db int, key []byte) []checkpoint.Doubt {
	d := checkpoint.Doubt{Group: r.id, Epoch: r.epoch, DB: db, Key: key, Why: "shared", Offset: r.at, Own: true}
	other, swapped := r.under.other(db)
	if !swapped {
		return []checkpoint.Doubt{d}
	}
	d.Own = false
	there := d
	there.DB = other
	return []checkpoint.Doubt{d, there}
}

func (r *holder) follow(ctx context.Context, h *holders, text string) error {
	if text == r.text && text != "" {
		return nil
	}
	m, err := ParseMark(text)
	if text == "" && r.text == "" && r.new {
		m, err = Mark{}, nil // not begun
	}
	switch {
	case text == "" && err != nil: // it was there a moment ago
		return &waitError{reason: "reconciling", err: fmt.Errorf("the mark of group %s is gone", r.id)}
	case err != nil:
		return h.unknown(r.id, err)
	}
	if m.Phase != checkpoint.PhaseNone && r.spool == nil {
		if r.spool, err = spool.OpenGroup(h.g.job.o.SpoolDir, h.g.job.o.Job, r.id); err != nil {
			r.spool = nil
			return err
		}
	}
	if err := r.follows(ctx, h, m); err != nil {
		r.epoch, r.text = 0, "" // what was read of it is not known
		return err
	}
	r.text = text
	return nil
}

func (r *holder) follows(ctx context.Context, h *holders, m Mark) error {
	if m.Phase == checkpoint.PhaseNone {
		r.epoch, r.held = 0, nil
		return nil
	}
	use := func(fp spool.Fingerprint, removed bool) error {
		i, ok, err := r.set(h).Find(fp)
		switch {
		case err != nil || !ok:
		case !removed:
			r.held.set(i)
		case !r.swaps.Loose():
			r.held.clear(i)
		}
		return err
	}
	cleared := func(db int, c command.Cleared) error { return r.cleared(h, db, c) }
	streaming := m.Phase == checkpoint.PhaseStream
	if r.epoch == m.Epoch && m.Offset >= r.at {
		if !streaming {
			return nil // its RDB was read whole
		}
		r.swaps.Turns = m.Turns
		w, err := r.spool.WalkStream(ctx, m.Epoch, r.at, r.db, m.Offset, &r.swaps, use, cleared)
		r.at, r.db, r.under = m.Offset, w.DB, m.Swap
		if err != nil {
			return err
		}
		if r.covers() {
			return r.clearing(ctx, h, m)
		}
	}
	until := spool.WalkRDB
	if streaming {
		until = m.Offset
	}
	for again := true; again; {
		if !r.covers() {
			if err := r.widen(h); err != nil {
				return err
			}
		}
		r.held = newBits(r.set(h).Len())
		r.swaps, r.under = spool.Swaps{Turns: m.Turns}, m.Swap
		if _, err := r.spool.WalkKeys(ctx, m.Epoch, until, &r.swaps, use, cleared); err != nil {
			return err
		}
		again = !r.covers()
	}
	r.epoch, r.at, r.db = m.Epoch, m.Offset, m.DB
	return r.clearing(ctx, h, m)
}

// clearing takes from what the group holds what the command behind its mark
// empties, when that is being carried out. Two groups that empty a database at a
// time would else spare for each other what both had put there.
func (r *holder) clearing(ctx context.Context, h *holders, m Mark) error {
	if !m.Clearing {
		return nil
	}
	var done error
	_, err := r.spool.WalkStream(ctx, m.Epoch, m.Offset, m.DB, spool.WalkAll, r.swaps.Clone(),
		func(spool.Fingerprint, bool) error { return errOther },
		func(db int, c command.Cleared) error {
			done = r.cleared(h, db, c)
			return errFirst
		})
	switch {
	case errors.Is(err, errFirst):
		return done
	case err == nil, errors.Is(err, errOther): // its bytes were here
		return &waitError{reason: "reconciling", err: fmt.Errorf("the spool of group %s does not hold the command behind its mark, at offset %s", r.id, m.Offset)}
	}
	return err
}

// What the first command of a walk was.
var (
	errFirst = errors.New("it empties databases")
	errOther = errors.New("it names keys")
)

// cleared takes from what the group holds what is emptied.
func (r *holder) cleared(h *holders, db int, c command.Cleared) error {
	switch {
	case c.All:
		clear(r.held)
		return nil
	case r.swaps.Loose():
		return nil
	case r.wide != nil:
		return h.found.each(func(_, _ int, key []byte) error {
			if c.Slots != nil && !inSlots(c.Slots, key) {
				return nil
			}
			j, ok, err := r.wide.set.Find(spool.FingerprintOf(db, key))
			if ok {
				r.held.clear(j)
			}
			return err
		})
	case c.Slots != nil:
		return h.found.each(func(i, at int, key []byte) error {
			if at == db && inSlots(c.Slots, key) {
				r.held.clear(i)
			}
			return nil
		})
	case h.inDB[db] == nil:
		all := newBits(h.set.Len())
		err := h.found.each(func(i, at int, _ []byte) error {
			if at == db {
				all.set(i)
			}
			return nil
		})
		if err != nil {
			return err
		}
		h.inDB[db] = all
	}
	for i, word := range h.inDB[db] {
		r.held[i] &^= word
	}
	return nil
}

// bits is a set of small numbers.
type bits []uint64

func newBits(n int) bits { return make(bits, (n+63)/64) }

func (b bits) has(i int) bool { return i/64 < len(b) && b[i/64]&(1<<(i%64)) != 0 }
func (b bits) set(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bits) clear(i int)    { b[i/64] &^= 1 << (i % 64) }
