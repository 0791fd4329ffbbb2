package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"tairlift/spool"
)

// resumeGoal is what a restart may take; a PSYNC comes on top in sync.
const resumeGoal = 2 * time.Second

// resume kills apply in the middle of a stream, and measures from the next start
// to the first EXEC with data that follows.
func (b *bench) resume() error {
	d, err := b.streamData()
	if err != nil {
		return err
	}
	in, err := spool.OpenGroup(filepath.Join(d.dir, "spool"), spool.JobID{}, 1)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("tairlift:mark:%s:0001", in.Job())
	var took []time.Duration
	for range b.runs {
		dir := b.folder("resume")
		if err := travel(d.dir, dir); err != nil {
			return err
		}
		if err := b.flush(); err != nil {
			return err
		}
		args := []string{"apply", "--dir", dir, "--target", b.target.Addr, "--until", "end"}
		p, err := b.spawn(args...)
		if err != nil {
			return err
		}
		half := d.from[0].Offset + (d.to[0]-d.from[0].Offset)/2
		if _, err := b.markBeyond(p, name, int64(half)); err != nil {
			return err
		}
		p.End(syscall.SIGKILL)
		at, err := b.mark(name)
		if err != nil {
			return err
		}
		if at >= int64(d.to[0]) {
			return fmt.Errorf("apply was at the end (offset %d) before it was killed (hint: a larger --scale)", at)
		}
		if p, err = b.spawn(args...); err != nil {
			return err
		}
		moved, err := b.markBeyond(p, name, at)
		if err != nil {
			return err
		}
		took = append(took, moved)
		if _, err := p.wait(b.ctx); err != nil {
			return err
		}
		if err := b.landed(d); err != nil {
			return err
		}
	}
	verdict := "met"
	if median(seconds(took)) > resumeGoal.Seconds() {
		verdict = "**not met**"
	}
	t := b.table("Resume after kill -9 in the stream phase: from the start to the first new EXEC",
		"goal", "median", "spread", "n", "")
	t.add("< 2 s", fmt.Sprintf("%.0f ms", 1000*median(seconds(took))), spread(seconds(took))+" s", strconv.Itoa(len(took)), verdict)
	return nil
}

var markOffset = regexp.MustCompile(`\boffset=(\d+)`)

// mark is the offset in a mark on the target, 0 when it is not there.
func (b *bench) mark(name string) (int64, error) {
	rep, err := b.target.Ask(b.ctx, 0, "GET", name)
	if err != nil {
		return 0, err
	}
	m := markOffset.FindSubmatch(rep.Str)
	if m == nil {
		return 0, nil
	}
	return strconv.ParseInt(string(m[1]), 10, 64)
}

// markBeyond waits until the mark is beyond an offset, and tells how long after
// the process's start that was.
func (b *bench) markBeyond(p *binary, name string, at int64) (time.Duration, error) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		n, err := b.mark(name)
		if err != nil {
			return 0, err
		}
		if n > at {
			return time.Since(p.begun), nil
		}
		select {
		case <-tick.C:
		case <-p.Exited:
			return 0, fmt.Errorf("%s ended with exit code %d before its mark was beyond %d\n%s", p.name, p.Cmd.ProcessState.ExitCode(), at, p.log.String())
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
	}
}
