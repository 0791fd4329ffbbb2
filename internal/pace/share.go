package pace

import (
	"context"
	"slices"
	"time"
)

// Why a share waits.
const (
	ReasonLimited = "rate-limited" // for a limit
	ReasonBacking = "backing-off"  // for the other side, which answers slowly
)

// Share is one of those that spend a pacer's budget, such as a group. Its methods
// may be called from any goroutine.
type Share struct {
	p *Pacer

	// Guarded by Pacer.mu.
	had   float64   // seconds of the limits
	waits int       // Waits under way that wait
	why   string    // the last of them
	ended time.Time // when it ended
}

// Share makes another one.
func (p *Pacer) Share() *Share { return &Share{p: p} }

// Take counts a piece of work as sent if it may be at once: else it is for Wait.
func (s *Share) Take(ops, bytes int64) bool {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.backoff.Pause() > 0 || !p.free(now) {
		return false
	}
	s.had = max(s.had, p.vtime)
	p.charge(s, now, ops, bytes)
	return true
}

// free tells that nothing has to wait. p.mu is held.
func (p *Pacer) free(now time.Time) bool { return p.head == nil && p.debt(now) == 0 }

// Wait returns when a piece of work may be sent, and counts it as sent; or with
// ctx's error as soon as ctx ends.
func (s *Share) Wait(ctx context.Context, ops, bytes int64) error {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.backoff.Pause(); d > 0 {
		end := s.waiting(ReasonBacking)
		p.sleep(ctx, d)
		end()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.had = max(s.had, p.vtime) // what was not taken in time is gone
	if now := time.Now(); p.free(now) {
		p.charge(s, now, ops, bytes)
		return nil
	}
	p.waits++
	defer s.waiting(ReasonLimited)()
	if err := p.queue(ctx, s); err != nil {
		return err
	}
	defer p.pass()
	for ctx.Err() == nil {
		now := time.Now()
		d := p.debt(now)
		if d == 0 {
			p.charge(s, now, ops, bytes)
			return nil
		}
		p.sleep(ctx, d)
	}
	return ctx.Err()
}

// queue waits for the turn. p.mu is held, but while it waits.
func (p *Pacer) queue(ctx context.Context, s *Share) error {
	w := &waiter{share: s, turn: make(chan struct{})}
	if p.head == nil {
		p.head = w
		return nil
	}
	p.line = append(p.line, w)
	p.mu.Unlock()
	select {
	case <-w.turn:
	case <-ctx.Done():
	}
	p.mu.Lock()
	if ctx.Err() == nil {
		return nil
	}
	if p.head == w { // it has just become so
		p.pass()
	} else {
		p.line = slices.DeleteFunc(p.line, func(o *waiter) bool { return o == w })
	}
	return ctx.Err()
}

// sleep waits for d, a change of the limits, or ctx's end. p.mu is held, but
// while it sleeps.
func (p *Pacer) sleep(ctx context.Context, d time.Duration) {
	changed := p.changed
	p.mu.Unlock()
	defer p.mu.Lock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-changed:
	case <-ctx.Done():
	}
}

// waiting shows that the share waits until the function returned is called.
// p.mu is held at both.
func (s *Share) waiting(why string) (end func()) {
	s.waits++
	s.why = why
	return func() {
		s.waits--
		s.ended = time.Now()
	}
}

// recent is for how long a wait that has ended is shown: pieces that wait one after
// the other are one wait to a person.
const recent = time.Second

// Waiting says why the share waits, or has waited within the last second: by one of
// the reasons, or empty.
func (s *Share) Waiting() string {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.waits > 0 || !s.ended.IsZero() && time.Since(s.ended) < recent {
		return s.why
	}
	return ""
}

// leastPiece is how small a piece becomes for the sake of an even pace.
const leastPiece = 4 << 10

// Most says how large a piece should be at most, where without limits it would be
// of ops and bytes.
func (s *Share) Most(ops, bytes int) (int, int) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if n := s.p.limits.Ops; n > 0 {
		ops = int(min(int64(ops), max(worth(n), 1)))
	}
	if n := s.p.limits.Bytes; n > 0 {
		bytes = int(min(int64(bytes), max(worth(n), leastPiece)))
	}
	return ops, bytes
}

// What a server that is well does in one second, for Took.
const (
	wellOps   = 100_000
	wellBytes = 100 << 20
)

// Took tells the backoff how long the other side took for a piece. What a server
// that is well needs for as much is not counted, so that pieces of all sizes can be
// compared.
func (s *Share) Took(d time.Duration, ops, bytes int64) {
	d -= time.Duration(ops)*(time.Second/wellOps) + time.Duration(bytes)*time.Second/wellBytes
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.backoff.Add(time.Now(), max(d, 0))
}
