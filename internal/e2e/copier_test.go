package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"tairlift/spool"
)

// manner is how a copier puts a file in its place.
type manner int

const (
	// byRename writes a hidden file beside it and renames that, as rsync does.
	byRename manner = iota
	// inPlace truncates it and writes it from front to back, as cp does.
	inPlace
	// byBlocks gives it its size, full of zeros, and fills its blocks in any
	// order, as parallel transfers and preallocation do.
	byBlocks
)

func (m manner) String() string { return []string{"by rename", "in place", "by blocks"}[m] }

// copier brings what travels of a job's folder to another one, again and
// again, while both are in use.
type copier struct {
	t         *testing.T
	manner    manner
	from, to  string
	keepTimes bool // of writing, as cp -p and rsync -t
	statusAt  int  // 0: status before the segments, 1: after them, 2: as it comes
	pace      func() bool
	rnd       *rand.Rand

	hold    chan struct{} // closed: the next pass stops with a segment not whole
	held    chan struct{} // closed when it has stopped
	release chan struct{} // closed: it may go on
	quit    chan struct{}
	done    sync.WaitGroup
}

func newCopier(t *testing.T, m manner, from, to string, pace func() bool) *copier {
	t.Helper()
	c := &copier{
		t: t, manner: m, from: from, to: to, pace: pace, rnd: rand.New(rand.NewPCG(uint64(m), 7)), keepTimes: m != inPlace, statusAt: int(m),
		hold: make(chan struct{}), held: make(chan struct{}), release: make(chan struct{}), quit: make(chan struct{}),
	}
	c.file("job.json", false) // which tells apply the groups
	return c
}

func (c *copier) start() {
	c.done.Go(func() {
		for !closed(c.quit) {
			c.pass()
			if !c.pace() {
				return
			}
		}
	})
	c.t.Cleanup(c.stop)
}

func (c *copier) stop() {
	if !closed(c.quit) {
		close(c.quit)
	}
	c.done.Wait()
}

func closed(ch chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// pass copies once what is there.
func (c *copier) pass() {
	segments := c.segments()
	keep := map[string]bool{}
	if closed(c.hold) && !closed(c.held) {
		for keep = c.middle(segments); len(keep) == 0 && c.pace(); keep = c.middle(segments) {
			segments = c.segments()
		}
	}
	if c.statusAt == 2 {
		c.rnd.Shuffle(len(segments), func(i, j int) { segments[i], segments[j] = segments[j], segments[i] })
	}
	status := filepath.Join("status", "capture.json")
	if c.statusAt == 0 || c.statusAt == 2 && c.rnd.IntN(2) == 0 {
		c.file(status, false)
		status = ""
	}
	for _, name := range segments {
		c.file(name, keep[name])
	}
	if status != "" {
		c.file(status, false)
	}
	if len(keep) > 0 {
		close(c.held)
		select {
		case <-c.release:
		case <-c.quit:
		}
	}
}

// segments are the names of the source's segments now.
func (c *copier) segments() []string {
	var out []string
	err := filepath.WalkDir(filepath.Join(c.from, "spool"), func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := spool.ParseSeqFile(e.Name()); err == nil {
			name, err := filepath.Rel(c.from, path)
			out = append(out, name)
			return err
		}
		return nil
	})
	if err != nil {
		c.t.Error(err)
	}
	return out
}

// middle are, one of each group, segments that the copy does not have yet and
// that others follow; nothing while a group has none.
func (c *copier) middle(segments []string) map[string]bool {
	sorted := slices.Sorted(slices.Values(segments))
	out, epochs := map[string]bool{}, map[string]bool{}
	for i, name := range sorted {
		dir := filepath.Dir(name)
		if _, err := os.Stat(filepath.Join(c.to, name)); err == nil || epochs[dir] {
			continue
		}
		if i+1 < len(sorted) && filepath.Dir(sorted[i+1]) == dir {
			out[name], epochs[dir] = true, true
		}
	}
	for _, name := range sorted {
		if !epochs[filepath.Dir(name)] {
			return nil
		}
	}
	return out
}

// file copies one file; half of it when it is to be held back.
func (c *copier) file(name string, half bool) {
	from, to := filepath.Join(c.from, name), filepath.Join(c.to, name)
	b, err := os.ReadFile(from)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // replaced at this moment, or not there yet
			c.t.Error(err)
		}
		return
	}
	old, err := os.ReadFile(to)
	same := err == nil && bytes.Equal(old, b)
	if same && c.manner != inPlace {
		return
	}
	info, err := os.Stat(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = c.put(to, b, half, !same)
	}
	if err == nil && c.keepTimes && !(half && c.manner == byRename) {
		err = os.Chtimes(to, info.ModTime(), info.ModTime())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Errorf("copy %s: %v", name, err)
	}
}

func (c *copier) put(to string, b []byte, half, slow bool) error {
	path, flags := to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC
	size := len(b)/4 + 1
	switch c.manner {
	case byRename:
		path = filepath.Join(filepath.Dir(to), fmt.Sprintf(".%s.x%05d", filepath.Base(to), c.rnd.IntN(1e5)))
	case byBlocks:
		flags = os.O_WRONLY | os.O_CREATE // what it held stays until it is written over
		size = 512 << c.rnd.IntN(4)
	}
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if c.manner == byBlocks {
		if err := f.Truncate(int64(len(b))); err != nil {
			return err
		}
	}
	blocks := (len(b) + size - 1) / size
	order := make([]int, blocks)
	for i := range order {
		order[i] = i
	}
	if c.manner == byBlocks {
		order = c.rnd.Perm(blocks)
	}
	if half {
		order = order[:blocks/2]
	}
	for n, i := range order {
		at := i * size
		if _, err := f.WriteAt(b[at:min(len(b), at+size)], int64(at)); err != nil {
			return err
		}
		if slow && n%(1+blocks/4) == 0 {
			c.pace() // when the writers rest there is no need to
		}
	}
	if path == to || half {
		return nil
	}
	return os.Rename(path, to)
}

// pacer lets copiers wait for what writers do, so that a copy takes as long on
// any machine as measured by what is written meanwhile.
func pacer(bursts func() int64, resting func() bool) func() bool {
	return func() bool {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for n := bursts(); bursts() < n+2; <-tick.C {
			if resting() {
				return false
			}
		}
		return true
	}
}
