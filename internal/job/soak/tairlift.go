package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"tairlift/internal/job"
	"tairlift/internal/job/launch"
)

const (
	endTime = 2 * time.Minute // for a process that was interrupted
	tellEnd = 15              // lines of a log that are shown
)

// tairlift is the program that the soak is about: `sync`, or `capture` and
// `apply` as two processes. Nothing that the soak does is a reason for one of them to
// end by itself.
type tairlift struct {
	bin   string
	logs  string // folder of what the processes say
	flags map[string][]string

	mu     sync.Mutex // guards what follows
	parts  map[string]*part
	starts int
	codes  map[int]int // how often each exit code was seen
	failed chan error  // the first end by itself
}

// part is one process.
type part struct {
	*launch.Process
	begun time.Time
}

// deaf is how long after its start a process may not listen for SIGINT yet.
const deaf = 5 * time.Second

// pair are the verbs that do together what sync does alone.
var pair = []string{"capture", "apply"}

// start starts what a mode runs and does not run yet. Whatever captures gets more
// flags, for this one time.
func (p *tairlift) start(verbs []string, more ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, verb := range verbs {
		if p.parts[verb] != nil {
			continue
		}
		once := more
		if verb == "apply" {
			once = nil
		}
		if err := p.spawn(verb, once...); err != nil {
			return err
		}
	}
	return nil
}

// spawn starts one process; mu is held.
func (p *tairlift) spawn(verb string, more ...string) error {
	log, err := os.OpenFile(p.log(verb), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	args := slices.Concat([]string{verb}, p.flags[verb], more)
	fmt.Fprintf(log, "$ %s %s\n", p.bin, strings.Join(args, " "))
	cmd := exec.Command(p.bin, args...)
	cmd.Stdout, cmd.Stderr = log, log
	process, err := launch.Run(cmd)
	if err != nil {
		return err
	}
	child := &part{process, time.Now()}
	p.parts[verb] = child
	p.starts++
	go p.watch(verb, child)
	return nil
}

func (p *tairlift) log(verb string) string { return filepath.Join(p.logs, verb+".log") }

// watch tells of a process that ends while it is still wanted.
func (p *tairlift) watch(verb string, child *part) {
	<-child.Exited
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.parts[verb] != child {
		return
	}
	code := child.Cmd.ProcessState.ExitCode()
	p.codes[code]++
	delete(p.parts, verb)
	select {
	case p.failed <- fmt.Errorf("`tairlift %s` has ended by itself, with exit code %d", verb, code):
	default:
	}
}

// running are the verbs that run.
func (p *tairlift) running() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.parts))
}

// end ends some of the processes, by SIGKILL or SIGINT.
func (p *tairlift) end(sig syscall.Signal, verbs ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, verb := range verbs {
		child := p.parts[verb]
		if child == nil {
			continue
		}
		delete(p.parts, verb)
		if sig == syscall.SIGKILL {
			child.End(sig)
			continue
		}
		child.Signal(sig)
		select {
		case <-child.Exited:
		case <-time.After(endTime):
			child.End(syscall.SIGKILL)
			errs = append(errs, fmt.Errorf("`tairlift %s` has not ended %s after SIGINT", verb, endTime))
			continue
		}
		code := child.Cmd.ProcessState.ExitCode()
		p.codes[code]++
		early := code == -1 && time.Since(child.begun) < deaf
		if code != int(job.Interrupted) && !early {
			errs = append(errs, fmt.Errorf("exit code of `tairlift %s` after SIGINT: got %d, want %d", verb, code, job.Interrupted))
		}
	}
	return errors.Join(errs...)
}

// finish runs one verb to its own end, which must be a good one.
func (p *tairlift) finish(verb string, more ...string) error {
	p.mu.Lock()
	err := p.spawn(verb, more...)
	child := p.parts[verb]
	delete(p.parts, verb) // its end is waited for
	p.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case <-child.Exited:
	case <-time.After(patience):
		child.End(syscall.SIGKILL)
		return fmt.Errorf("`tairlift %s %s` has not ended after %s", verb, strings.Join(more, " "), patience)
	}
	code := child.Cmd.ProcessState.ExitCode()
	p.mu.Lock()
	p.codes[code]++
	p.mu.Unlock()
	if code != int(job.OK) {
		return fmt.Errorf("exit code of `tairlift %s %s`: got %d, want 0", verb, strings.Join(more, " "), code)
	}
	return nil
}

// said is the end of what each verb said.
func (p *tairlift) said() string {
	var b strings.Builder
	for _, verb := range append([]string{"sync"}, pair...) {
		raw, err := os.ReadFile(p.log(verb))
		if err != nil {
			continue
		}
		lines := strings.SplitAfter(strings.TrimSpace(string(raw)), "\n")
		fmt.Fprintf(&b, "the end of %s:\n%s\n", p.log(verb), strings.Join(lines[max(0, len(lines)-tellEnd):], ""))
	}
	return b.String()
}

// output runs one verb, which must end with 0, and is what it writes to stdout.
func (p *tairlift) output(ctx context.Context, verb string) ([]byte, error) {
	log, err := os.OpenFile(p.log(verb), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, p.bin, slices.Concat([]string{verb}, p.flags[verb])...)
	cmd.Stderr = log
	return cmd.Output()
}
