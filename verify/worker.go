package verify

import (
	"context"
	"time"
)

// worker compares one group with the target: a connection to each, nothing
// shared but the run's sums and fingerprints.
type worker struct {
	run   *run
	ctx   context.Context
	srv   *server
	src   *wire
	dst   *wire
	judge *judge
	queue *queue
	peers *peers

	activity *activity // of the group and the target

	sizeOf   int64 // bytes of a key's reply, as seen lately
	a, b     reading
	repeated keyList // keys of the chunk whose fingerprint was there before
	at       []int   // their places in the chunk
	counts   Counts
}

// chunk is a list of keys that both sides have been asked about.
type chunk struct {
	keys  keyList
	asked time.Time
}

func (r *run) compareGroup(ctx context.Context, i int, dbs []int) error {
	w := &worker{run: r, ctx: ctx, srv: r.sources[i], peers: newPeers(ctx, r, i), sizeOf: firstSize}
	defer w.peers.close()
	var err error
	if w.src, err = w.srv.dial(ctx); err != nil {
		return err
	}
	defer w.src.close()
	if w.dst, err = r.target.dial(ctx); err != nil {
		return err
	}
	defer w.dst.close()
	var drift driftStats
	w.judge = &judge{
		probe: r.probe, digests: newDigester(r.o.Seed), tolerance: r.o.TTLTolerance,
		skew: (w.srv.ahead - r.target.ahead).Milliseconds(), drift: &drift,
	}
	w.a = reading{most: r.o.holdBytes, digests: w.judge.digests}
	w.b = w.a
	w.queue = newQueue(r.o.queueBytes / len(r.sources))
	defer func() {
		w.queue.abandon(r.tally)
		r.tally.addDrift(&drift)
	}()
	w.activity = &activity{servers: []*server{w.srv, r.target}}
	if _, err := w.activity.busy(ctx); err != nil {
		return err
	}
	for _, db := range dbs {
		if err := w.pass(db); err != nil {
			return err
		}
	}
	return w.settle()
}

// pass walks the keys of a db. One SCAN and two chunks are under way at a time.
func (w *worker) pass(db int) error {
	if err := w.src.selectDB(db); err != nil {
		return err
	}
	if err := w.dst.selectDB(w.run.o.Selection.To(db)); err != nil {
		return err
	}
	defer w.run.tally.add(db, &w.counts)
	var (
		sc      = newScan(w.src, w.run.o.Batch, "")
		pending keyList // scanned, not asked about
		chunks  [2]chunk
		order   []bool // what the source has been asked, oldest first: true for a SCAN
		oldest  int
		flying  int
		passed  int // keys that the sample leaves out
	)
	accept := func(key []byte) error {
		if w.run.leftOut(key) {
			return nil
		}
		if w.run.o.Level == LevelSample {
			w.counts.SourceKeys++
			if !w.run.chosen(db, key) {
				passed++
				return nil
			}
		}
		pending.add(key)
		return nil
	}
	for {
		if w.queue.full() {
			// Nothing new is asked until what is under way has come.
			if len(order) == 0 {
				if err := w.settle(); err != nil {
					return err
				}
				if err := w.src.selectDB(db); err != nil {
					return err
				}
				if err := w.dst.selectDB(w.run.o.Selection.To(db)); err != nil {
					return err
				}
				continue
			}
		} else {
			// A server answers all that one read gave it at once, so a SCAN's
			// keys come with the replies to the chunk sent behind it: there
			// must be another chunk's keys in hand, or the source would idle.
			if !sc.asked && !sc.done && pending.len() < 2*w.run.o.Batch {
				sc.put()
				order = append(order, true)
			}
			for flying < len(chunks) && pending.len() > 0 {
				c := &chunks[(oldest+flying)%len(chunks)]
				c.keys.reset()
				pending.move(&c.keys, min(w.chunkSize(), pending.len()))
				if err := w.ask(c); err != nil {
					return err
				}
				order = append(order, false)
				flying++
			}
			if err := w.src.flush(); err != nil {
				return w.src.fail(err)
			}
			if len(order) == 0 {
				return nil
			}
		}
		isScan := order[0]
		order = append(order[:0], order[1:]...)
		if isScan {
			if err := sc.take(accept); err != nil {
				return err
			}
			w.run.progress(passed)
			passed = 0
			continue
		}
		if err := w.compare(db, &chunks[oldest]); err != nil {
			return err
		}
		oldest = (oldest + 1) % len(chunks)
		flying--
		w.run.tally.add(db, &w.counts)
	}
}

// chunkSize keeps what is under way within bytesInFlight, as far as the sizes
// seen lately tell.
func (w *worker) chunkSize() int {
	n := w.run.o.Batch
	if w.sizeOf > 0 {
		n = min(n, int(bytesInFlight/4/w.sizeOf))
	}
	return max(n, 1)
}

// ask sends a chunk to both sides.
func (w *worker) ask(c *chunk) error {
	w.src.putProbe(w.run.probe, &c.keys)
	w.dst.putProbe(w.run.probe, &c.keys)
	c.asked = time.Now()
	if err := w.src.flush(); err != nil {
		return w.src.fail(err)
	}
	if err := w.dst.flush(); err != nil {
		return w.dst.fail(err)
	}
	return nil
}

// read takes both sides' answers about a chunk.
func (w *worker) read(c *chunk) (moment, error) {
	n := c.keys.len()
	if err := w.src.takeProbe(w.run.probe, n, &w.a); err != nil {
		return moment{}, err
	}
	if err := w.dst.takeProbe(w.run.probe, n, &w.b); err != nil {
		return moment{}, err
	}
	// A jump in size counts at once, shrinking takes a few chunks.
	size := max(w.a.size(), w.b.size())/int64(n) + 1
	w.sizeOf = max(size, (3*w.sizeOf+size)/4)
	return moment{asked: c.asked, slack: time.Since(c.asked)}, nil
}

// compare judges the keys of a chunk. Keys that differ go to the queue.
func (w *worker) compare(db int, c *chunk) error {
	at, err := w.read(c)
	if err != nil {
		return err
	}
	n := c.keys.len()
	w.repeated.reset()
	w.at = w.at[:0]
	for i := range n {
		if w.a.gone[i] {
			// What the target still has of it, the search for extra keys finds.
			if w.run.o.Level == LevelSample {
				w.counts.SourceKeys--
			}
			continue
		}
		key := c.keys.at(i)
		if !w.run.seen.add(fingerprintOf(w.run.o.Seed, db, key)) {
			w.repeated.add(key)
			w.at = append(w.at, i)
			continue
		}
		if w.run.o.Level != LevelSample {
			w.counts.SourceKeys++
		}
		w.one(db, key, i, at, false)
	}
	if w.repeated.len() > 0 {
		if err := w.copies(db, &c.keys, at); err != nil {
			return err
		}
	}
	w.run.progress(n)
	return nil
}

func (w *worker) one(db int, key []byte, i int, at moment, copied bool) {
	f := w.judge.key(&w.a, &w.b, i, at)
	if f.class == equal {
		if !copied {
			w.counts.count(equal)
		}
		return
	}
	w.queue.add(entry{
		db: db, key: string(key), src: f.src, dst: f.dst, copied: copied,
		tolerance: w.judge.tolerance + at.slack,
	})
}

// copies looks at keys that were seen before: SCAN may give a key twice, which
// is nothing, or another group holds it as well. Then the copy here must be
// what the target has, too.
func (w *worker) copies(db int, keys *keyList, at moment) error {
	if len(w.run.sources) == 1 {
		return nil
	}
	held, err := w.peers.holding(db, &w.repeated)
	if err != nil {
		return err
	}
	for k, i := range w.at {
		if held[k] == 0 {
			continue
		}
		w.counts.Copies++
		w.one(db, keys.at(i), i, at, true)
	}
	return nil
}
