package main

import (
	"fmt"
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
	if err := b.bound(d); err != nil {
		return err
	}
	return b.apply(d, &row{
		what: fmt.Sprintf("apply, stream phase, exactly once: %d mixed commands of 2 groups in the spool", d.replies), goal: 0.85, text: ">= 0.85",
		against: "the same commands, encoded beforehand, written raw down two sockets", unit: "commands/s",
	}, int64(d.replies))
}

// inOne is how many commands the raw transactions hold, as apply's batches do.
const inOne = 1000

// bound measures what transactions alone cost the target: raw sockets with MULTI
// and EXEC around every so many commands against raw sockets without.
func (b *bench) bound(d *dataset) error {
	loads := make([]load, len(d.loads))
	for i, l := range d.loads {
		var err error
		if loads[i], err = transactions(l, inOne); err != nil {
			return err
		}
	}
	r := &row{
		what: fmt.Sprintf("no tool: the stream's commands raw, %d in each MULTI and EXEC, no marks, nothing waited for", inOne), text: "the bound of the next row",
		against: "the same commands, encoded beforehand, written raw down two sockets", unit: "commands/s",
	}
	var with, without []turn
	for range b.runs {
		in, err := b.turn(d, func() (time.Duration, error) { return blast(b.ctx, b.target.Addr, loads...) })
		if err != nil {
			return err
		}
		raw, err := b.turn(d, func() (time.Duration, error) { return blast(b.ctx, b.target.Addr, d.loads...) })
		if err != nil {
			return err
		}
		with, without = append(with, in), append(without, raw)
		r.add(float64(d.replies), in.took, raw.took)
		b.say("   in transactions %s; raw %s; ratio %.2f, without waits %.2f", in, raw, raw.took.Seconds()/in.took.Seconds(), raw.own()/in.own())
	}
	r.waits(with, without)
	b.rows = append(b.rows, r)
	return nil
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
	r.waits(ours, theirs)
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
	defer b.remove(dir)
	if err := b.flush(); err != nil {
		return err
	}
	if _, err := b.tairlift("apply", "--dir", dir, "--target", b.target.Addr, "--until", "end"); err != nil {
		return err
	}
	_, err := b.tairlift("verify", "--dir", dir, "--level", "full")
	return err
}
