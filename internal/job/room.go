package job

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"tairlift/capture"
	"tairlift/internal/fsx"
	"tairlift/spool"
)

const (
	// reserveBytes of the disk stay free for what must be written even then:
	// seals, positions, status files. Of a small disk it is the twentieth part.
	reserveBytes = 64 << 20
	// diskEvery and usageEvery bound how often the disk is looked at, and, for
	// sessions that wait, the whole spool.
	diskEvery  = 100 * time.Millisecond
	usageEvery = 200 * time.Millisecond
	// usageFresh is how old the last count may be when it is the ground of a
	// refusal.
	usageFresh = 10 * time.Millisecond
	// refusedFor is how long after a refusal sessions are taken to wait.
	refusedFor = 2 * time.Second
	// least is what there must be room for when a session that was refused asks
	// again.
	least = 256 << 10
)

// room decides whether the spool may grow: --max-spool, and the disk. Key files
// do not count for the quota, because nothing could make room by removing them:
// they are bounded by the keys of the source.
type room struct {
	dir   string // DIR/spool
	max   int64  // 0: no quota
	now   func() time.Time
	space func(dir string) (free, total int64, err error)
	usage func(dir string) (segments, keys int64, err error)
	log   *slog.Logger

	mu      sync.Mutex // guards what follows
	walked  time.Time  // when used was counted
	used    int64      // by segments then: what prune left is not to be pruned
	keys    int64      // by key files
	granted int64      // since that count began
	looked  time.Time  // at the disk
	free    int64      // of it, less what was granted since
	reserve int64
	refused time.Time // when a session last was
	bad     bool      // the last look failed
}

func newRoom(dir string, quota int64, log *slog.Logger) *room {
	return &room{dir: dir, max: quota, now: time.Now, space: fsx.Space, usage: spool.Usage, log: log}
}

// Take is capture.Room's. It walks through the spool only for a session that
// waits: for the others refresh does.
func (r *room) Take(n int64) *capture.NoRoom {
	r.mu.Lock()
	waits := r.max > 0 && r.now().Sub(r.refused) < refusedFor && r.now().Sub(r.walked) >= usageEvery
	if r.walked.IsZero() || waits {
		r.mu.Unlock()
		r.refresh()
		r.mu.Lock()
	}
	defer r.mu.Unlock()
	r.look()
	ask := n
	if n == 0 {
		ask = least
	}
	if r.max > 0 && r.used+r.granted+ask > r.max && r.granted > 0 && r.now().Sub(r.walked) >= usageFresh {
		// What was granted is smaller in the file: look before refusing.
		r.mu.Unlock()
		r.refresh()
		r.mu.Lock()
	}
	if used := r.used + r.granted; r.max > 0 && used+ask > r.max {
		r.refused = r.now()
		return &capture.NoRoom{Reason: capture.ReasonQuota, What: fmt.Sprintf(
			"the spool holds %s, and --max-spool is %s", humanize.IBytes(uint64(used)), humanize.IBytes(uint64(r.max)))}
	}
	if lack := r.reserve + ask - r.free; lack > 0 {
		r.refused = r.now()
		return &capture.NoRoom{Reason: capture.ReasonDiskFull, What: fmt.Sprintf(
			"the disk of %s has %s free, of which %s are kept for seals and positions: at least %s more are needed",
			r.dir, humanize.IBytes(uint64(max(r.free, 0))), humanize.IBytes(uint64(r.reserve)), humanize.IBytes(uint64(lack)))}
	}
	r.granted += n
	r.free -= n
	return nil
}

// look looks at the disk, unless that was done just now.
func (r *room) look() {
	if r.now().Sub(r.looked) < diskEvery {
		return
	}
	r.looked = r.now()
	free, total, err := r.space(r.dir)
	if err != nil {
		free, total = 1<<62, 0 // a write that fails says so too
	}
	r.free, r.reserve = free, min(reserveBytes, total/20)
	r.tell(err)
}

// refresh counts the spool's bytes.
func (r *room) refresh() {
	r.mu.Lock()
	before := r.granted
	r.mu.Unlock()
	used, keys, err := r.usage(r.dir)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.walked = r.now()
	if err == nil {
		// What was granted during the count may be in it or not: it counts twice.
		r.used, r.keys, r.granted = used, keys, r.granted-before
	}
	r.tell(err)
}

func (r *room) tell(err error) {
	if err != nil && !r.bad {
		r.log.Warn("the spool's size or the free space cannot be told", "dir", r.dir, "error", err)
	}
	r.bad = err != nil
}

// short tells whether a session was refused a moment ago.
func (r *room) short() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now().Sub(r.refused) < refusedFor
}

// state is what status files say of it.
func (r *room) state() *SpoolFile {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &SpoolFile{Bytes: r.used, KeyBytes: r.keys, Max: r.max}
}
