package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"tairlift/internal/job/launch"
)

const (
	rssBase = 64 << 20
	rssEach = 2 << 20 // for each group
	// looked is how often a process's peak is read: it only grows, so that the
	// last one read before the end is short of the truth by one such span.
	looked = 5 * time.Millisecond
)

// memory measures the peak of sync's resident memory: once over the full sync,
// once over a stream that waits in the backlogs of all groups.
func (b *bench) memory() error {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		b.say("   skipped: there is no /proc")
		return nil
	}
	t := b.table("Peak memory of sync (VmHWM)", "groups", "full sync", "stream", "goal: 64 MiB + 2 MiB per group", "")
	t.note("Each group brings 25,000 keys of at most some 20 KB and then 25,000 commands from its backlog; all of them at once.")
	for _, n := range []int{1, 8, 40} {
		full, stream, err := b.peaks(n)
		if err != nil {
			return fmt.Errorf("%d groups: %w", n, err)
		}
		goal := int64(rssBase + n*rssEach)
		verdict := "met"
		if max(full, stream) > goal {
			verdict = "**not met**"
		}
		t.add(strconv.Itoa(n), mebi(full), mebi(stream), mebi(goal), verdict)
	}
	return nil
}

func mebi(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// peaks are those of two runs of sync with n groups.
func (b *bench) peaks(n int) (full, stream int64, err error) {
	var sources []*launch.Server
	defer func() {
		for _, s := range sources {
			s.Stop()
		}
	}()
	for range n {
		s, err := b.server("SOURCE_SERVER", "--repl-backlog-size", "16mb")
		if err != nil {
			return 0, 0, err
		}
		sources = append(sources, s)
	}
	each := b.scaled(25_000)
	if err := b.feed(sources, func(group int) load { return keys(group, each) }); err != nil {
		return 0, 0, err
	}
	if err := b.flush(); err != nil {
		return 0, 0, err
	}
	dir := b.folder("sync")
	defer b.remove(dir)
	run := func() (int64, error) {
		args := append([]string{"sync", "--dir", dir, "--target", b.target.Addr, "--until", "caught-up"}, groupFlags(sources)...)
		peak, err := b.peak(args...)
		if err != nil {
			return 0, err
		}
		want := int64(0)
		for _, s := range sources {
			n, err := s.Keys(b.ctx, 0)
			if err != nil {
				return 0, err
			}
			want += n
		}
		if got, err := b.keysOn(); err != nil || got != want {
			return 0, fmt.Errorf("the target holds %d keys, expected %d (%w)", got, want, err)
		}
		return peak, nil
	}
	if full, err = run(); err != nil {
		return 0, 0, err
	}
	if err := b.feed(sources, func(group int) load { return writes(group, each) }); err != nil {
		return 0, 0, err
	}
	stream, err = run()
	b.say("   %d groups: %s, %s", n, mebi(full), mebi(stream))
	return full, stream, err
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peak runs the binary to its end and reads meanwhile what the kernel says of
// its largest resident size. (What wait tells counts the parent's pages too.)
func (b *bench) peak(args ...string) (peak int64, err error) {
	p, err := b.spawn(args...)
	if err != nil {
		return 0, err
	}
	tick := time.NewTicker(looked)
	defer tick.Stop()
	for {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid())); err == nil {
			if m := highWater.FindSubmatch(text); m != nil {
				kb, err := strconv.ParseInt(string(m[1]), 10, 64)
				if err != nil {
					return 0, err
				}
				peak = max(peak, kb<<10)
			}
		}
		select {
		case <-tick.C:
		case <-p.Exited:
			_, err := p.wait(b.ctx)
			return peak, err
		case <-b.ctx.Done():
			p.End(syscall.SIGKILL)
			return 0, b.ctx.Err()
		}
	}
}
