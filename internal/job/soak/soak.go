package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"tairlift/internal/job"
	"tairlift/internal/job/launch"
	"tairlift/internal/job/workload"
)

const (
	groups   = 2
	patience = 3 * time.Minute
	backlog  = "64mb"
)

// databases of each source.
var databases = []int{0, 1, 5}

// options of a soak.
type options struct {
	seed    uint64
	keys    int           // in each database of each source, that nobody writes afterwards
	lasts   time.Duration // of the chaos; what follows takes as long as it takes
	bin     string
	work    string // folder of everything
	without []fault
	out     io.Writer
}

// server is one that faults happen to. A fault locks what it holds.
type server struct {
	*launch.Server
	role string // source or target
	link *link

	process sync.Mutex // the server itself
	line    sync.Mutex // the link to it
}

// soak is one run.
type soak struct {
	options
	begun time.Time
	log   *os.File // every act, with its time

	sources  []*server
	target   *server
	tool     *tairlift
	toolLock sync.Mutex // held by a fault that ends tairlift
	writers  []*writer
	writing  sync.WaitGroup
	rest     context.CancelFunc // ends the writers, each behind a burst
	wrong    chan error         // the first error of a writer or of a fault's end
	healing  sync.WaitGroup     // of faults that last
	cancel   context.CancelFunc // ends everything, whatever state it is in
	foreign  []foreign

	rounds int
	done   map[fault]int
	epochs map[int]int // of each group, at the end
}

func newSoak(o options) *soak {
	return &soak{options: o, begun: time.Now(), wrong: make(chan error, 1), done: map[fault]int{}, epochs: map[int]int{}}
}

// run is the whole story. An error says what was not as it must be.
func (s *soak) run(ctx context.Context) error {
	ctx, s.cancel = context.WithCancel(ctx)
	if err := s.prepare(ctx); err != nil {
		return err
	}
	if err := s.first(ctx); err != nil {
		return fmt.Errorf("before any fault: %w", err)
	}
	for end := s.begun.Add(s.lasts); s.rounds == 0 || time.Now().Before(end); s.rounds++ {
		if err := s.round(ctx, end); err != nil {
			return fmt.Errorf("round %d: %w", s.rounds, err)
		}
	}
	if err := s.finish(ctx); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	return nil
}

// tell writes to the soak's log, and tellAll to its output too.
func (s *soak) tell(format string, args ...any) {
	fmt.Fprintf(s.log, "%s %8.3f  %s\n", time.Now().UTC().Format("15:04:05.000"), time.Since(s.begun).Seconds(), fmt.Sprintf(format, args...))
}

func (s *soak) tellAll(format string, args ...any) {
	s.tell(format, args...)
	fmt.Fprintf(s.out, "%6.1f s  %s\n", time.Since(s.begun).Seconds(), fmt.Sprintf(format, args...))
}

// prepare starts the servers with what they hold at first, and the writers.
func (s *soak) prepare(ctx context.Context) error {
	var err error
	if s.log, err = os.Create(filepath.Join(s.work, "soak.log")); err != nil {
		return err
	}
	for g := range groups {
		src, err := s.launch(ctx, fmt.Sprintf("source-%d", g+1), "SOURCE_SERVER", "--repl-backlog-size", backlog)
		if src != nil {
			s.sources = append(s.sources, src)
		}
		if err != nil {
			return err
		}
		for _, db := range databases {
			if err := workload.Fill(ctx, src.Addr, "", g+1, db, s.keys); err != nil {
				return err
			}
			w := &writer{group: g + 1, db: db, addr: src.Addr, ledger: newLedger(s.seed, g+1, db)}
			s.writers = append(s.writers, w)
		}
	}
	if s.target, err = s.launch(ctx, "target", "TARGET_SERVER", "--lua-time-limit", "100", "--aof-use-rdb-preamble", "no"); err != nil {
		return err
	}
	if err := s.plant(ctx); err != nil {
		return err
	}
	s.tool = &tairlift{
		bin: s.bin, logs: s.work, flags: s.flags(),
		parts: map[string]*part{}, codes: map[int]int{}, failed: make(chan error, 1),
	}
	writing, rest := context.WithCancel(ctx)
	s.rest = rest
	for _, w := range s.writers {
		s.writing.Go(func() { s.fail(w.run(ctx, writing.Done())) })
	}
	return nil
}

// launch starts a server that keeps what it has acknowledged when it is killed:
// without fsync each write is in its file before the answer is sent.
func (s *soak) launch(ctx context.Context, name, variable string, args ...string) (*server, error) {
	dir := filepath.Join(s.work, name)
	args = append([]string{"--appendonly", "yes", "--appendfsync", "no"}, args...)
	process, err := launch.Start(ctx, launch.Options{Variable: variable, Dir: dir, Args: args})
	if err != nil {
		return nil, err
	}
	l, err := newLink(process.Addr)
	if err != nil {
		process.Stop()
		return nil, err
	}
	s.tell("%s is at %s, version %s, pid %d, behind %s", name, process.Addr, process.Version, process.Pid(), l.addr)
	role, _, _ := strings.Cut(name, "-")
	return &server{Server: process, role: role, link: l}, nil
}

// flags are those of each verb, always the same.
func (s *soak) flags() map[string][]string {
	dir := []string{"--dir", s.dir()}
	var from []string
	for g, src := range s.sources {
		from = append(from, "--group", fmt.Sprintf("%d=%s", g+1, src.link.addr))
	}
	// Small segments, so that there are many to be pruned. The margin is longer
	// than what lose-target takes back.
	keep := []string{"all", "epoch", "applied"}[s.seed%3]
	from = append(from, "--segment-size", "512KiB", "--keep", keep, "--keep-margin", "20s")
	to := []string{"--target", s.target.link.addr, "--on-existing", "replace", "--max-deletes", "100%"}
	return map[string][]string{
		"sync":    slices.Concat(dir, from, to),
		"capture": slices.Concat(dir, from),
		"apply":   slices.Concat(dir, to),
		"verify":  slices.Concat(dir, []string{"--level", "full", "--json"}),
	}
}

func (s *soak) dir() string { return filepath.Join(s.work, "job") }

// first starts tairlift, and waits until it has met both ends: what was never
// reached is not waited for.
func (s *soak) first(ctx context.Context) error {
	if err := s.tool.start([]string{"sync"}); err != nil {
		return err
	}
	return s.until(ctx, "all groups to be captured, and a claim on the target", func() (bool, error) {
		st, err := s.status(ctx)
		if err != nil || len(st.Groups) < groups {
			return false, nil // not yet
		}
		for _, g := range st.Groups {
			if g.Epoch == nil {
				return false, nil
			}
		}
		rep, err := s.target.Ask(ctx, 0, "EXISTS", "tairlift:jobs")
		return rep.Int == 1, err
	})
}

// round commits the faults of one round, and then lets everything come right.
func (s *soak) round(ctx context.Context, end time.Time) error {
	begun := time.Now()
	n := 0
	for _, a := range acts(s.seed, s.rounds, s.without) {
		if err := s.pause(ctx, a.After); err != nil {
			return err
		}
		if n > 0 && time.Now().After(end) {
			break
		}
		s.tell("%s", a)
		if err := s.commit(ctx, a); err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
		s.done[a.Fault]++
		n++
	}
	s.healing.Wait()
	chaos := time.Since(begun)
	if err := s.calm(ctx); err != nil {
		return err
	}
	s.tellAll("round %d: %d faults in %.1f s, equal %.1f s later", s.rounds, n, chaos.Seconds(), (time.Since(begun) - chaos).Seconds())
	return nil
}

// calm waits, while no fault lasts, until tairlift has by itself brought
// everything to the target, and compares. The writers stand still meanwhile.
func (s *soak) calm(ctx context.Context) error {
	s.tell("calm")
	for _, w := range s.writers {
		w.mu.Lock()
		defer w.mu.Unlock()
		if err := w.settle(ctx); err != nil {
			return err
		}
	}
	if err := s.level(ctx); err != nil {
		return err
	}
	return s.equal(ctx)
}

// finish is how a migration ends.
func (s *soak) finish(ctx context.Context) error {
	s.rest()
	s.writing.Wait()
	if err := s.failure(); err != nil {
		return err
	}
	for _, w := range s.writers {
		if err := w.settle(ctx); err != nil {
			return err
		}
	}
	if err := s.tool.end(syscall.SIGINT, s.tool.running()...); err != nil {
		return err
	}
	if err := s.tool.finish("sync", "--until", "caught-up"); err != nil {
		return err
	}
	if err := s.compare(ctx); err != nil {
		return err
	}
	if err := s.uproot(ctx); err != nil {
		return err
	}
	return s.verify(ctx)
}

// close ends everything that was started.
func (s *soak) close() {
	s.cancel()
	s.healing.Wait() // or a server would be started again
	s.writing.Wait()
	if s.tool != nil {
		_ = s.tool.end(syscall.SIGKILL, s.tool.running()...)
	}
	for _, srv := range append(s.sources, s.target) {
		if srv == nil {
			continue
		}
		srv.Resume()
		srv.link.close()
		srv.Stop()
	}
	if s.log != nil {
		s.log.Close()
	}
}

// fail keeps the first error of what runs beside the rounds.
func (s *soak) fail(err error) {
	if err == nil {
		return
	}
	s.tell("failed: %v", err)
	select {
	case s.wrong <- err:
	default:
	}
}

// said is the end of what tairlift said.
func (s *soak) said() string {
	if s.tool == nil {
		return ""
	}
	return s.tool.said()
}

// failure is an error of what runs beside the rounds.
func (s *soak) failure() error {
	select {
	case err := <-s.wrong:
		return err
	case err := <-s.tool.failed:
		return err
	default:
		return nil
	}
}

// pause waits, for a time, or for what ends the soak.
func (s *soak) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-s.wrong:
		return err
	case err := <-s.tool.failed:
		return err
	case <-t.C:
		return nil
	}
}

// until waits for a condition, or for what ends the soak.
func (s *soak) until(ctx context.Context, what string, cond func() (bool, error)) error {
	return until(ctx, patience, what, func() (bool, error) {
		if err := s.failure(); err != nil {
			return false, err
		}
		return cond()
	})
}

const lookEvery = 20 * time.Millisecond

// until waits for a condition.
func until(ctx context.Context, most time.Duration, what string, cond func() (bool, error)) error {
	begun := time.Now()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if ok, err := cond(); ok || err != nil {
			return err
		}
		if time.Since(begun) > most {
			return fmt.Errorf("not within %s: %s", most, what)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// errStopped marks a group that needs a person, where none should.
var errStopped = errors.New("a group has stopped")

// passing are reasons of a group called stopped that only say that a process
// does not run yet, or has just been started.
var passing = map[string]bool{"not-running": true, "interrupted": true, "apply-not-running": true}

// stopped is an error if a group of the status needs a person.
func stopped(st job.Status) error {
	for _, g := range st.Groups {
		if g.State == job.StateStop && !passing[g.Reason] {
			return fmt.Errorf("%w: group %s: %s: %s", errStopped, g.ID, g.Reason, g.What)
		}
	}
	return nil
}
