package capture

import (
	"sync"
	"time"
)

// frameSpan is how far apart the arrival of two bytes may be if they are to
// be handed to the spool under one receive time.
const frameSpan = 100 * time.Millisecond

// ring carries bytes from the one goroutine that reads the socket to the one
// that writes the spool. The reader goes on draining the source while an fsync
// runs, until the ring is full: then the bytes wait in the source's buffers,
// so the memory of a session is bounded.
type ring struct {
	filled chan struct{} // cap 1: bytes were committed, or the ring was closed
	freed  chan struct{} // cap 1: bytes were released

	mu    sync.Mutex // guards what follows
	buf   []byte
	at    int       // index of the oldest byte
	n     int       // bytes held
	marks []arrival // one per frameSpan of arrival, oldest first
	err   error     // why no more bytes will come
}

// arrival says when the next n bytes came.
type arrival struct {
	n     int
	first time.Time
	last  time.Time
}

func newRing(size int) *ring {
	return &ring{
		filled: make(chan struct{}, 1),
		freed:  make(chan struct{}, 1),
		buf:    make([]byte, size),
	}
}

// reset empties the ring for another reader. The last one must have ended.
func (r *ring) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at, r.n, r.marks, r.err = 0, 0, nil, nil
}

// space waits for room and returns a free part of the buffer, which is the
// reader's own until it commits. It returns nil once stop is closed.
func (r *ring) space(stop <-chan struct{}) []byte {
	for {
		r.mu.Lock()
		if r.n < len(r.buf) {
			from := (r.at + r.n) % len(r.buf)
			to := len(r.buf)
			if from < r.at {
				to = r.at
			}
			r.mu.Unlock()
			return r.buf[from:to]
		}
		r.mu.Unlock()
		select {
		case <-r.freed:
		case <-stop:
			return nil
		}
	}
}

// commit hands over the first n bytes of what space returned.
func (r *ring) commit(n int, now time.Time) {
	if n == 0 {
		return
	}
	r.mu.Lock()
	r.n += n
	if i := len(r.marks) - 1; i >= 0 && now.Sub(r.marks[i].first) < frameSpan {
		r.marks[i].n += n
		r.marks[i].last = now
	} else {
		r.marks = append(r.marks, arrival{n: n, first: now, last: now})
	}
	r.mu.Unlock()
	signal(r.filled)
}

// close tells the writer that nothing follows what was committed.
func (r *ring) close(err error) {
	r.mu.Lock()
	r.err = err
	r.mu.Unlock()
	signal(r.filled)
}

// next returns the oldest bytes that lie together and arrived within one
// frameSpan, with the time the last of them came. They stay in the ring until
// released. err is the reason of the end, returned once nothing is left.
func (r *ring) next() (p []byte, last time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == 0 {
		return nil, time.Time{}, r.err
	}
	n := min(r.marks[0].n, len(r.buf)-r.at)
	return r.buf[r.at : r.at+n], r.marks[0].last, nil
}

// release frees the first n bytes of what next returned.
func (r *ring) release(n int) {
	r.mu.Lock()
	r.at = (r.at + n) % len(r.buf)
	r.n -= n
	if r.marks[0].n -= n; r.marks[0].n == 0 {
		r.marks = r.marks[:copy(r.marks, r.marks[1:])]
	}
	r.mu.Unlock()
	signal(r.freed)
}

// signal wakes the one receiver of a channel with room for one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
