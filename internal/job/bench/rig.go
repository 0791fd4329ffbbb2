package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"tairlift/internal/job/launch"
)

// bench is one run.
type bench struct {
	ctx   context.Context
	bin   string
	runs  int
	scale float64
	work  string // folder of everything
	owned bool   // it is temporary, and ours to remove
	begun time.Time
	took  time.Duration // all of it
	count int           // of folders

	servers []*launch.Server
	target  *launch.Server
	rdb     *dataset // made when first needed
	stream  *dataset

	rdbRate float64 // bytes per second of an RDB that is thrown away, 0 when not measured

	rows   []*row
	tables []*table
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// scaled is n by the --scale of this run.
func (b *bench) scaled(n int) int { return max(int(float64(n)*b.scale), 100) }

func (b *bench) prepare() error {
	b.begun = time.Now()
	var err error
	if b.bin, err = filepath.Abs(b.bin); err != nil {
		return err
	}
	if _, err := os.Stat(b.bin); err != nil {
		return fmt.Errorf("%w (hint: make build)", err)
	}
	if b.work == "" {
		b.owned = true
		if b.work, err = os.MkdirTemp("", "tairlift-bench-"); err != nil {
			return err
		}
	}
	b.target, err = b.server("TARGET_SERVER")
	return err
}

func (b *bench) close() {
	for _, s := range b.servers {
		s.Stop()
	}
	if b.owned {
		b.remove(b.work)
	}
}

// remove makes room on the disk; that it cannot is no measurement's failure.
func (b *bench) remove(path string) {
	if err := os.RemoveAll(path); err != nil {
		b.say("%v", err)
	}
}

// folder is a new one below the work folder.
func (b *bench) folder(name string) string {
	b.count++
	return filepath.Join(b.work, fmt.Sprintf("%s-%d", name, b.count))
}

// server starts one that is stopped at the end of the run at the latest.
func (b *bench) server(variable string, args ...string) (*launch.Server, error) {
	s, err := launch.Start(b.ctx, launch.Options{Variable: variable, Dir: b.folder("server"), Args: args})
	if err == nil {
		b.servers = append(b.servers, s)
	}
	return s, err
}

// parallel runs f for 0 to n-1 at once.
func parallel(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// binary is a run of tairlift in the background.
type binary struct {
	*launch.Process
	name  string
	begun time.Time
	log   bytes.Buffer // to be read once it has ended
}

func (b *bench) spawn(args ...string) (*binary, error) {
	p := &binary{name: "tairlift " + strings.Join(args, " "), begun: time.Now()}
	cmd := exec.Command(b.bin, args...)
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	var err error
	p.Process, err = launch.Run(cmd)
	return p, err
}

// wait waits for the end, which must be an exit code of 0.
func (p *binary) wait(ctx context.Context) (time.Duration, error) {
	select {
	case <-p.Exited:
	case <-ctx.Done():
		p.End(syscall.SIGKILL)
		return 0, ctx.Err()
	}
	took := time.Since(p.begun)
	if code := p.Cmd.ProcessState.ExitCode(); code != 0 {
		return 0, fmt.Errorf("%s: exit code %d\n%s", p.name, code, p.log.String())
	}
	return took, nil
}

// tairlift runs the binary to its end and tells how long that took.
func (b *bench) tairlift(args ...string) (time.Duration, error) {
	p, err := b.spawn(args...)
	if err != nil {
		return 0, err
	}
	return p.wait(b.ctx)
}

// flush empties the target and waits for it.
func (b *bench) flush() error {
	_, err := b.target.Conn.Do(b.ctx, "FLUSHALL", "SYNC")
	if err != nil { // before 6.2 it knows no SYNC, and waits anyway
		_, err = b.target.Conn.Do(b.ctx, "FLUSHALL")
	}
	return err
}

// keysOn is the number of keys on the target that are not tairlift's.
func (b *bench) keysOn() (int64, error) {
	n, err := b.target.Keys(b.ctx, 0)
	if err != nil {
		return 0, err
	}
	var own int64
	for cursor := "0"; ; {
		rep, err := b.target.Ask(b.ctx, 0, "SCAN", cursor, "MATCH", "tairlift:*", "COUNT", "10000")
		if err != nil {
			return 0, err
		}
		own += int64(len(rep.Elems[1].Elems))
		if cursor = rep.Elems[0].String(); cursor == "0" {
			return n - own, nil
		}
	}
}

// travel makes a job folder as it is after a journey to another machine: the
// spool, and no traces of an apply. The segments are links.
func travel(from, to string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		dest := filepath.Join(to, rel)
		switch {
		case e.IsDir() && (rel == "apply" || rel == "capture"):
			return filepath.SkipDir
		case e.IsDir():
			return os.MkdirAll(dest, 0o755)
		case filepath.Ext(path) == ".seg":
			return os.Link(path, dest)
		}
		return copyFile(path, dest)
	})
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o644)
}

// settle writes what the disk still owes, so that one side of a pair does not
// pay for the other.
func settle() { syscall.Sync() }
