package verify

import (
	"context"
	"fmt"
	"time"

	"tairlift/internal/held"
)

// entry is a key that differed when it was last read.
type entry struct {
	db        int
	key       string
	src, dst  state
	tolerance time.Duration // of the deadlines in src and dst
	stable    int           // readings that found both sides as the one before did
	copied    bool          // another group has the key, and there it was counted
}

// queue holds the keys that differ until the rounds, in a bounded piece of
// memory: when it is full, the pass stops for rounds of its own.
type queue struct {
	entries []entry
	bytes   int
	limit   int
}

const entryBytes = 224 // an entry without its key, at most

func newQueue(limit int) *queue { return &queue{limit: max(limit, 16<<10)} }

func (q *queue) full() bool { return q.bytes >= q.limit }

func (q *queue) add(e entry) {
	q.entries = append(q.entries, e)
	q.bytes += entryBytes + len(e.key)
}

func (q *queue) clear() {
	clear(q.entries)
	q.entries, q.bytes = q.entries[:0], 0
}

// abandon counts what a run that ends early leaves unsettled.
func (q *queue) abandon(t *tally) {
	for _, e := range q.entries {
		c := Counts{Unjudged: 1}
		t.add(e.db, &c)
	}
	q.clear()
}

// activity tells whether servers are being written.
type activity struct {
	servers []*server
	last    []string
}

// busy is true when any of the servers was written since the last call, or when
// that cannot be known.
func (a *activity) busy(ctx context.Context) (bool, error) {
	busy := false
	for i, s := range a.servers {
		mark, err := s.writes(ctx)
		if err != nil {
			return false, err
		}
		if len(a.last) <= i {
			a.last = append(a.last, "")
		}
		if mark == "" || mark != a.last[i] {
			busy = true
		}
		a.last[i] = mark
	}
	return busy, nil
}

// stableReads is how many further readings in a row must find a difference as
// it was before it counts. On a side that is being written, a key can look the
// same twice and have changed in between (a list that is pushed and popped), so
// there it takes more.
func stableReads(busy bool, rounds int) int {
	if busy {
		return min(3, rounds)
	}
	return 1
}

// expiring tells whether a difference may still vanish by itself.
func (r *run) expiring(src, dst state, now time.Time) bool {
	deadline := src.deadline
	if src.gone {
		deadline = dst.deadline
	}
	window := r.o.TTLTolerance + held.Margin + 2*r.o.Interval
	return deadline != 0 && deadline-now.UnixMilli() < window.Milliseconds()
}

// settle runs the rounds on what is in the queue, and empties it.
func (w *worker) settle() error {
	r := w.run
	for round := 1; round <= r.o.Rounds && len(w.queue.entries) > 0; round++ {
		r.o.Log.Info("reading again what differed", "group", w.srv.group, "round", round, "keys", len(w.queue.entries))
		if err := pause(w.ctx, time.Now(), r.o.Interval); err != nil {
			return err
		}
		busy, err := w.activity.busy(w.ctx)
		if err != nil {
			return err
		}
		if err := w.round(stableReads(busy, r.o.Rounds)); err != nil {
			return err
		}
	}
	for i := range w.queue.entries {
		e := &w.queue.entries[i]
		class := Hot
		if r.expiring(e.src, e.dst, time.Now()) {
			class = Expiring
		}
		w.finish(e, class, "")
	}
	w.queue.clear()
	return nil
}

// round reads every key of the queue once more and keeps those that are not settled.
func (w *worker) round(need int) error {
	entries := w.queue.entries
	kept := 0
	// What could not be read stays in the queue, to be counted.
	defer func() {
		clear(w.queue.entries[kept:])
		w.queue.entries = w.queue.entries[:kept]
	}()
	var c chunk
	for from := 0; from < len(entries); {
		db := entries[from].db
		to := from + 1
		for size := w.chunkSize(); to < len(entries) && entries[to].db == db && to-from < size; {
			to++
		}
		part := entries[from:to]
		err := w.reread(db, part, &c, need, func(e entry) {
			entries[kept] = e
			kept++
		})
		if err != nil {
			kept += copy(entries[kept:], entries[from:])
			return err
		}
		from = to
	}
	return nil
}

// reread reads a part of the queue, all of one db; keep is called for what is
// to stay in it. After an error nothing was kept or counted.
func (w *worker) reread(db int, part []entry, c *chunk, need int, keep func(entry)) error {
	if err := w.src.selectDB(db); err != nil {
		return err
	}
	if err := w.dst.selectDB(w.run.o.Selection.To(db)); err != nil {
		return err
	}
	c.keys.reset()
	for i := range part {
		c.keys.addString(part[i].key)
	}
	if err := w.ask(c); err != nil {
		return err
	}
	at, err := w.read(c)
	if err != nil {
		return err
	}
	now := time.Now()
	found := make([]finding, len(part))
	details := make([]string, len(part))
	var settled []int // differences that count from now on
	for i := range part {
		e := &part[i]
		f := w.judge.key(&w.a, &w.b, i, at)
		found[i] = f
		if f.class == equal || f.class == gone {
			continue
		}
		tolerance := max(e.tolerance, w.judge.tolerance+at.slack)
		stable := e.stable + 1
		if !f.src.same(e.src, tolerance) || !f.dst.same(e.dst, tolerance) {
			stable = 0
		}
		if stable >= need && !w.run.expiring(f.src, f.dst, now) {
			settled = append(settled, i)
			continue
		}
		// The next round compares with this one.
		e.src, e.dst, e.stable, e.tolerance = f.src, f.dst, stable, w.judge.tolerance+at.slack
		found[i].class = unsettled
	}
	if err := w.elsewhere(db, part, found, details, settled, at); err != nil {
		return err
	}
	for _, i := range settled {
		if details[i] == "" && w.run.tally.wants(found[i].class) {
			details[i] = found[i].explain(now)
		}
	}
	for i := range part {
		if found[i].class == unsettled {
			keep(part[i])
		} else {
			w.finish(&part[i], found[i].class, details[i])
		}
	}
	return nil
}

// elsewhere looks for copies of settled keys in the other groups. Which of two
// copies is live, nothing here tells: if the target has the other one, the key
// is a duplicate and no difference.
func (w *worker) elsewhere(db int, part []entry, found []finding, details []string, settled []int, at moment) error {
	if len(w.run.sources) == 1 || len(settled) == 0 {
		return nil
	}
	w.repeated.reset()
	for _, i := range settled {
		w.repeated.addString(part[i].key)
	}
	held, err := w.peers.holding(db, &w.repeated)
	if err != nil {
		return err
	}
	for k, i := range settled {
		if held[k] == 0 {
			continue
		}
		g := w.peers.group(held[k] - 1)
		switch {
		case found[i].class == Extra:
			found[i].class, details[i] = Hot, fmt.Sprintf("moved to group %s during the run", g)
			continue
		case found[i].class == Missing && !part[i].copied:
			continue
		}
		other, err := w.peers.read(held[k]-1, part[i].key)
		if err != nil {
			return err
		}
		if part[i].copied || w.judge.keys(other, 0, &w.b, i, at).class == equal {
			found[i].class, details[i] = Duplicate, fmt.Sprintf("group %s holds another copy", g)
		}
	}
	return nil
}

// finish counts a key that is settled.
func (w *worker) finish(e *entry, class Class, detail string) {
	var c Counts
	switch {
	case e.copied && (class == equal || class == gone):
	case class == gone:
		c.Gone++
		c.SourceKeys--
	case class == equal:
		c.count(equal)
		c.Converged++
	default:
		if e.copied && class != Hot && class != Expiring {
			class = Duplicate
		}
		c.count(class)
		if class == Extra && !e.copied {
			c.SourceKeys-- // deleted since it was scanned
		}
		if w.run.tally.wants(class) {
			w.run.tally.example(class, w.srv.group, e.db, e.key, detail)
		}
	}
	w.run.tally.add(e.db, &c)
}
