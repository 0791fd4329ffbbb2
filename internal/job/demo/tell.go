package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
)

const (
	lookEvery = 50 * time.Millisecond
	tellEvery = time.Second
	patience  = 2 * time.Minute
)

func (d *demo) chapter(title string) {
	fmt.Printf("\n== %s  (%.1f s)\n", title, time.Since(d.begun).Seconds())
}

func (d *demo) say(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

// command prints a command line as a person would type it.
func (d *demo) command(args []string) {
	fmt.Printf("$ %s %s\n", d.bin, strings.Join(args, " "))
}

// indent sets off what the binary prints.
type indent struct {
	w      io.Writer
	inLine bool
}

func (i *indent) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		if !i.inLine {
			if _, err := io.WriteString(i.w, "   "); err != nil {
				return 0, err
			}
		}
		if _, err := i.w.Write(line); err != nil {
			return 0, err
		}
		i.inLine = !bytes.HasSuffix(line, []byte("\n"))
	}
	return len(p), nil
}

func comma(n int64) string { return humanize.Comma(n) }

// until looks at status until cond holds, and tells of the progress once a
// second.
func (d *demo) until(what string, cond func(status) (bool, error)) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	begun, told := time.Now(), time.Now()
	for {
		if err := alive(d.child); err != nil {
			return err
		}
		s, err := d.status(d.ctx)
		if err != nil && !errors.Is(err, errNoStatus) {
			return err
		}
		if ok, err := cond(s); ok || err != nil {
			return err
		}
		if time.Since(told) >= tellEvery {
			told = time.Now()
			d.progress(s)
		}
		if time.Since(begun) > patience {
			return fmt.Errorf("%s: not within %s", what, patience)
		}
		select {
		case <-look.C:
		case <-d.ctx.Done():
			return d.ctx.Err()
		}
	}
}

// watch tells of the progress for a while.
func (d *demo) watch(long time.Duration) error {
	begun := time.Now()
	return d.until("nothing", func(status) (bool, error) { return time.Since(begun) > long, nil })
}

// progress is one line on every group.
func (d *demo) progress(s status) {
	var parts []string
	for _, g := range s.Groups {
		text := fmt.Sprintf("group %d %s", g.ID, g.State)
		switch g.State {
		case "full-sync", "applying-rdb":
			text += ", " + humanize.IBytes(uint64(g.RDB.Done))
			if g.RDB.Total != nil {
				text += " of " + humanize.IBytes(uint64(*g.RDB.Total))
			}
			if g.RDB.Keys != nil {
				text += ", " + comma(*g.RDB.Keys) + " keys"
			}
		default:
			if g.Commands != nil {
				text += ", " + comma(*g.Commands) + " commands"
			}
			if g.LagBytes != nil {
				text += ", lag " + humanize.IBytes(uint64(*g.LagBytes))
			}
		}
		if g.Reason != "" {
			text += " (" + g.Reason + ")"
		}
		parts = append(parts, text)
	}
	if len(parts) > 0 {
		d.say("%s", strings.Join(parts, " | "))
	}
}

// onTarget is the number of keys on the target.
func (d *demo) onTarget() (int64, error) {
	sum := int64(0)
	for db := range databases {
		n, err := d.target.Keys(d.ctx, db)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// counted is the sum of the writers' counters on the target.
func (d *demo) counted() (int64, error) {
	sum := int64(0)
	for _, w := range d.writers {
		rep, err := d.target.Ask(d.ctx, w.DB, "GET", w.Counter())
		if err != nil {
			return 0, err
		}
		if !rep.Null {
			n, err := strconv.ParseInt(rep.String(), 10, 64)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// kill kills sync, and reads how far it came.
func (d *demo) kill(measure func() (int64, error)) (int64, error) {
	if err := alive(d.child); err != nil {
		return 0, err
	}
	d.child.End(syscall.SIGKILL)
	fmt.Printf("$ kill -9 %d\n", d.child.Pid())
	return measure()
}

// again starts the same command and waits until a measure has moved on.
func (d *demo) again(what string, from int64, measure func() (int64, error)) error {
	begun := time.Now()
	if err := d.sync(); err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := alive(d.child); err != nil {
			return err
		}
		n, err := measure()
		if err != nil {
			return err
		}
		if n > from {
			d.say("%s %.2f s after the start", what, time.Since(begun).Seconds())
			return nil
		}
		if time.Since(begun) > patience {
			return fmt.Errorf("%s: not within %s", what, patience)
		}
		select {
		case <-tick.C:
		case <-d.ctx.Done():
			return d.ctx.Err()
		}
	}
}

// tail shows the end of what sync has logged.
func (d *demo) tail() {
	text, err := os.ReadFile(d.log)
	if err != nil {
		return
	}
	lines := strings.SplitAfter(strings.TrimSpace(string(text)), "\n")
	fmt.Printf("the end of its log:\n%s\n", strings.Join(lines[max(0, len(lines)-15):], ""))
}
