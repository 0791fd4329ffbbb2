package main

import (
	"fmt"
	"os"
	"time"
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
	var cpu []float64
	var ours, theirs []turn
	for range b.runs {
		dir := b.folder("apply")
		if err := travel(d.dir, dir); err != nil {
			return err
		}
		mine, err := b.turn(d, func() (time.Duration, error) {
			p, err := b.spawn("apply", "--dir", dir, "--target", b.target.Addr, "--until", "end")
			if err != nil {
				return 0, err
			}
			took, err := p.wait(b.ctx)
			if err == nil {
				cpu = append(cpu, (p.Cmd.ProcessState.UserTime() + p.Cmd.ProcessState.SystemTime()).Seconds())
			}
			return took, err
		})
		if err != nil {
			return err
		}
		raw, err := b.turn(d, func() (time.Duration, error) { return blast(b.ctx, b.target.Addr, d.loads...) })
		if err != nil {
			return err
		}
		ours, theirs = append(ours, mine), append(theirs, raw)
		r.add(float64(work), mine.took, raw.took)
		startup = append(startup, mine.first)
		if mine.last > 0 {
			stop = append(stop, mine.took-mine.last)
		}
		b.say("   apply %s; raw %s; ratio %.2f, without waits %.2f", mine, raw, raw.took.Seconds()/mine.took.Seconds(), raw.own()/mine.own())
	}
	r.note("The time of apply is that of the whole process. From its start to the first key on the target: median %.0f ms, "+
		"which the raw side does not pay: its sockets are open.", 1000*median(seconds(startup)))
	if len(stop) > 0 {
		r.note("From the last key on the target to the end of the process: median %.0f ms.", 1000*median(seconds(stop)))
	}
	r.note("CPU time: apply %.2f s; the target %.2f s for apply, %.2f s for the raw side.", median(cpu), median(each(ours, cpuOf)), median(each(theirs, cpuOf)))
	if ours[0].waits {
		var ratios []float64
		for i := range ours {
			ratios = append(ratios, theirs[i].own()/ours[i].own())
		}
		r.note("Other processes keep the target waiting for a core; without that time, which is %.2f s and %.2f s, the ratio is **%.2f** (%s). "+
			"The target slept, with nothing to do, for %.2f s and %.2f s.", median(each(ours, waitOf)), median(each(theirs, waitOf)),
			median(ratios), spread(ratios), median(each(ours, idleOf)), median(each(theirs, idleOf)))
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
