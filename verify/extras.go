package verify

import (
	"context"
	"time"
)

// extraKeys looks for keys of the target that no group has.
type extraKeys struct {
	run   *run
	ctx   context.Context
	dst   *wire // scans; free of replies whenever check runs
	ask   *wire // asks about keys, beside the scan
	peers *peers
	queue *queue
	known fingerprints // candidates so far: SCAN may give a key twice
	batch keyList      // keys that are in no fingerprint
	db    int          // of the sources
	c     Counts
	done  int
}

// extras scans the target, when all sources have been.
func (r *run) extras(ctx context.Context, dbs []int) error {
	x := &extraKeys{run: r, ctx: ctx, peers: newPeers(ctx, r, -1), queue: newQueue(r.o.queueBytes)}
	defer x.peers.close()
	var err error
	if x.dst, err = r.target.dial(ctx); err != nil {
		return err
	}
	defer x.dst.close()
	if x.ask, err = r.target.dial(ctx); err != nil {
		return err
	}
	defer x.ask.close()
	defer x.queue.abandon(r.tally)
	act := &activity{servers: r.servers()}
	if _, err := act.busy(ctx); err != nil {
		return err
	}
	for _, db := range dbs {
		if err := x.scan(db, act); err != nil {
			return err
		}
	}
	return x.settle(act)
}

func (x *extraKeys) scan(db int, act *activity) error {
	if err := x.dst.selectDB(x.run.o.Selection.To(db)); err != nil {
		return err
	}
	x.db = db
	defer func() { x.run.tally.add(db, &x.c) }()
	err := newScan(x.dst, 4*x.run.o.Batch, "").walk(func(key []byte) error {
		if x.run.leftOut(key) {
			return nil
		}
		if x.done++; x.done == 1024 {
			x.run.progress(x.done)
			x.done = 0
		}
		sample := x.run.o.Level == LevelSample
		if sample {
			x.c.TargetKeys++
			if !x.run.chosen(db, key) {
				return nil
			}
		}
		f := fingerprintOf(x.run.o.Seed, db, key)
		known, first := x.run.seen.mark(f)
		if !known {
			if first = x.known.add(f); first {
				x.batch.add(key)
			}
		}
		if first && !sample {
			x.c.TargetKeys++
		}
		if x.batch.len() < x.run.o.Batch {
			return nil
		}
		if err := x.confirm(); err != nil {
			return err
		}
		if x.queue.full() {
			return x.settle(act)
		}
		return nil
	})
	if err != nil {
		return err
	}
	x.run.progress(x.done)
	x.done = 0
	return x.confirm()
}

// confirm asks every group for the keys of the batch.
func (x *extraKeys) confirm() error {
	if x.batch.len() == 0 {
		return nil
	}
	held, err := x.peers.holding(x.db, &x.batch)
	if err != nil {
		return err
	}
	for i, peer := range held {
		key := string(x.batch.at(i))
		if peer != 0 {
			x.appeared(x.db, key, peer-1)
			continue
		}
		x.queue.add(entry{db: x.db, key: key, src: state{gone: true}})
	}
	x.batch.reset()
	return nil
}

// appeared counts a key that a group has and that was not there when the group
// was scanned: it is on both sides, and it was not compared.
func (x *extraKeys) appeared(db int, key string, peer int) {
	var c Counts
	if x.run.o.Level != LevelSample {
		c.SourceKeys++
	}
	c.count(Hot)
	x.run.tally.add(db, &c)
	if x.run.tally.wants(Hot) {
		x.run.tally.example(Hot, x.peers.group(peer), db, key, "written while its group was being scanned")
	}
}

// settle runs the rounds on the candidates, and empties the queue.
func (x *extraKeys) settle(act *activity) error {
	r := x.run
	for round := 1; round <= r.o.Rounds && len(x.queue.entries) > 0; round++ {
		r.o.Log.Info("asking again for keys that the target alone has", "round", round, "keys", len(x.queue.entries))
		if err := pause(x.ctx, time.Now(), r.o.Interval); err != nil {
			return err
		}
		busy, err := act.busy(x.ctx)
		if err != nil {
			return err
		}
		if err := x.round(stableReads(busy, r.o.Rounds)); err != nil {
			return err
		}
	}
	for i := range x.queue.entries {
		e := &x.queue.entries[i]
		class := Hot
		if r.expiring(e.src, e.dst, time.Now()) {
			class = Expiring
		}
		x.finish(e, class)
	}
	x.queue.clear()
	return nil
}

func (x *extraKeys) finish(e *entry, class Class) {
	var c Counts
	c.count(class)
	x.run.tally.add(e.db, &c)
	if x.run.tally.wants(class) {
		x.run.tally.example(class, 0, e.db, e.key, "")
	}
}

func (x *extraKeys) round(need int) error {
	entries := x.queue.entries
	kept := 0
	defer func() {
		clear(x.queue.entries[kept:])
		x.queue.entries = x.queue.entries[:kept]
	}()
	var keys keyList
	for from := 0; from < len(entries); {
		db := entries[from].db
		to := from + 1
		for to < len(entries) && entries[to].db == db && to-from < 8*x.run.o.Batch {
			to++
		}
		keys.reset()
		for i := from; i < to; i++ {
			keys.addString(entries[i].key)
		}
		held, ttl, err := x.reread(db, &keys)
		if err != nil {
			kept += copy(entries[kept:], entries[from:])
			return err
		}
		now := time.Now()
		for i, e := range entries[from:to] {
			switch {
			case held[i] != 0:
				x.appeared(db, e.key, held[i]-1)
				continue
			case ttl[i] == -2:
				c := Counts{Gone: 1}
				if x.run.o.Level != LevelSample {
					c.TargetKeys--
				}
				x.run.tally.add(db, &c)
				continue
			}
			e.dst = state{}
			if ttl[i] >= 0 {
				e.dst.deadline = now.UnixMilli() + ttl[i]
			}
			if e.stable++; e.stable >= need && !x.run.expiring(e.src, e.dst, now) {
				x.finish(&e, Extra)
				continue
			}
			entries[kept] = e
			kept++
		}
		from = to
	}
	return nil
}

// reread asks every group whether it has the keys, and then the target for
// their TTLs: a key that is deleted on both sides meanwhile is gone, not extra.
func (x *extraKeys) reread(db int, keys *keyList) (held []int, ttl []int64, err error) {
	if held, err = x.peers.holding(db, keys); err != nil {
		return nil, nil, err
	}
	if err := x.ask.selectDB(x.run.o.Selection.To(db)); err != nil {
		return nil, nil, err
	}
	for i := range keys.len() {
		x.ask.putStrings("PTTL", string(keys.at(i)))
	}
	if err := x.ask.flush(); err != nil {
		return nil, nil, x.ask.fail(err)
	}
	for range keys.len() {
		n, err := x.ask.takeInt()
		if err != nil {
			return nil, nil, x.ask.fail(err)
		}
		left, isHeld := heldLeft(n)
		if isHeld && left == 0 { // it goes when it is set exact
			left = -2
		}
		ttl = append(ttl, left)
	}
	return held, ttl, nil
}
