package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"tairlift/internal/resp"
)

// applyRDB measures the RDB phase, applyStream the stream phase of apply.
func (b *bench) applyRDB() error {
	d, err := b.rdbData()
	if err != nil {
		return err
	}
	return b.apply(d, &row{
		what: fmt.Sprintf("apply, RDB phase: %d mixed keys of 2 groups in the spool -> one target", d.keys), goal: 0.85, text: ">= 0.85",
		against: "the same keys as SET and RESTORE, encoded beforehand, written raw down two sockets", unit: "keys/s",
	}, d.keys)
}

func (b *bench) applyStream() error {
	d, err := b.streamData()
	if err != nil {
		return err
	}
	return b.apply(d, &row{
		what: fmt.Sprintf("apply, stream phase, exactly once: %d mixed commands of 2 groups in the spool", d.replies), goal: 0.85, text: ">= 0.85",
		against: "the same commands, encoded beforehand, written raw down two sockets", unit: "commands/s",
	}, int64(d.replies))
}

// apply lets the binary and raw sockets take turns at bringing a dataset to the
// emptied target. The binary's time is that of the whole process.
func (b *bench) apply(d *dataset, r *row, work int64) error {
	var startup, stop []time.Duration
	dir := ""
	for range b.runs {
		dir = b.folder("apply")
		if err := travel(d.dir, dir); err != nil {
			return err
		}
		if err := b.flush(); err != nil {
			return err
		}
		settle()
		seen := watch(b.ctx, b.target.Addr, d.keys)
		ours, err := b.tairlift("apply", "--dir", dir, "--target", b.target.Addr, "--until", "end")
		first, last := seen()
		if err != nil {
			return err
		}
		if err := b.landed(d); err != nil {
			return err
		}
		startup = append(startup, first)
		if last > 0 {
			stop = append(stop, ours-last)
		}
		if err := b.flush(); err != nil {
			return err
		}
		settle()
		seen = watch(b.ctx, b.target.Addr, d.keys) // the raw side bears it too
		theirs, err := blast(b.ctx, b.target.Addr, d.loads...)
		seen()
		if err != nil {
			return err
		}
		if err := b.landed(d); err != nil {
			return err
		}
		r.add(float64(work), ours, theirs)
		b.say("   %.3f s against %.3f s raw: %.2f", ours.Seconds(), theirs.Seconds(), theirs.Seconds()/ours.Seconds())
	}
	r.note("The time of apply is that of the whole process. From its start to the first key on the target: median %.0f ms, "+
		"which the raw side does not pay: its sockets are open.", 1000*median(seconds(startup)))
	if len(stop) > 0 {
		r.note("From the last key on the target to the end of the process: median %.0f ms.", 1000*median(seconds(stop)))
	}
	b.rows = append(b.rows, r)
	return b.verify(d)
}

// landed checks that the target holds as many keys as the sources.
func (b *bench) landed(d *dataset) error {
	n, err := b.keysOn()
	if err == nil && n != d.keys {
		err = fmt.Errorf("the target holds %d keys, expected %d", n, d.keys)
	}
	return err
}

// verify applies once more, and compares every key, value and deadline.
func (b *bench) verify(d *dataset) error {
	dir := b.folder("verify")
	if err := travel(d.dir, dir); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := b.flush(); err != nil {
		return err
	}
	if _, err := b.tairlift("apply", "--dir", dir, "--target", b.target.Addr, "--until", "end"); err != nil {
		return err
	}
	_, err := b.tairlift("verify", "--dir", dir, "--level", "full")
	return err
}

const watchEvery = 2 * time.Millisecond

// watch asks the target how many keys it holds until the function it returns is
// called, which tells when the first and the last of them were seen.
func watch(ctx context.Context, addr string, all int64) func() (first, last time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	var first, last time.Duration
	begun := time.Now()
	go func() {
		defer close(done)
		conn, err := resp.Dial(ctx, addr, "")
		if err != nil {
			return
		}
		defer conn.Close()
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for ctx.Err() == nil {
			rep, err := conn.Do(ctx, "DBSIZE")
			if err != nil {
				return
			}
			at := time.Since(begun)
			if first == 0 && rep.Int > ownKeys {
				first = at
			}
			if last == 0 && rep.Int == all+ownKeys {
				last = at
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
	return func() (time.Duration, time.Duration) {
		cancel()
		<-done
		return first, last
	}
}

// ownKeys is how many keys of its own apply keeps on the target for a dataset: a
// mark for each group, and the list of jobs.
const ownKeys = groups + 1
