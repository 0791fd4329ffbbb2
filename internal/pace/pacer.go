package pace

import (
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits are per second; 0 is no limit.
type Limits struct {
	Ops   int64
	Bytes int64
}

// Pacer is a budget that its shares spend. Its methods may be called from any
// goroutine.
type Pacer struct {
	mu      sync.Mutex // guards all that follows, and the shares' fields
	limits  Limits
	ops     *rate.Limiter // its tokens are negative while there is a debt
	bytes   *rate.Limiter
	backoff Backoff
	gauge   gauge
	waits   int64

	head    *waiter   // whose turn it is to wait for the debt to be paid
	line    []*waiter // behind it
	vtime   float64   // what the share served last had had before
	changed chan struct{}
}

// waiter is a Wait under way.
type waiter struct {
	share *Share
	turn  chan struct{} // closed when it becomes the head
}

// saved is how much of a limit may be saved up while nothing is sent.
const saved = 100 * time.Millisecond

// New makes a pacer. goal is that of Backoff; 0 never backs off.
func New(l Limits, goal time.Duration) *Pacer {
	p := &Pacer{ops: rate.NewLimiter(rate.Inf, 1), bytes: rate.NewLimiter(rate.Inf, 1), changed: make(chan struct{})}
	p.backoff.Aim(goal)
	p.Set(l)
	return p
}

// Set changes the limits, for those that wait now too.
func (p *Pacer) Set(l Limits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limits = l
	now := time.Now()
	limit(p.ops, now, l.Ops)
	limit(p.bytes, now, l.Bytes)
	p.wake()
}

// Limits are those set last.
func (p *Pacer) Limits() Limits {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limits
}

func limit(b *rate.Limiter, now time.Time, perSecond int64) {
	if perSecond <= 0 {
		b.SetLimitAt(now, rate.Inf)
		return
	}
	b.SetLimitAt(now, rate.Limit(perSecond))
	b.SetBurstAt(now, int(max(worth(perSecond), 1)))
}

// worth is how much of a limit may be saved up.
func worth(perSecond int64) int64 { return perSecond / int64(time.Second/saved) }

// Aim changes the goal of the backoff, and forgets that it had slowed down.
func (p *Pacer) Aim(goal time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.backoff.Aim(goal)
	p.wake()
}

// wake lets whoever waits look again. p.mu is held.
func (p *Pacer) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// State is a pacer at one moment.
type State struct {
	Limits
	OpsPerSecond, BytesPerSecond float64 // of the last few seconds
	Waits                        int64   // pieces that had to wait for a limit

	Goal    time.Duration // of the backoff; 0 is none
	Latency time.Duration // of late; see Backoff
	Calm    time.Duration // while it was calm
	Speed   float64       // 1 is not slowed down
	Slowed  int64         // times that it slowed down
}

// State may be called at any time.
func (p *Pacer) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := State{
		Limits: p.limits, Waits: p.waits,
		Goal: p.backoff.goal, Latency: p.backoff.median, Calm: p.backoff.floor, Speed: p.backoff.Speed(), Slowed: p.backoff.slowed,
	}
	s.OpsPerSecond, s.BytesPerSecond = p.gauge.rates(time.Now())
	return s
}

// debt is how long it takes until what was charged is paid for. p.mu is held.
func (p *Pacer) debt(now time.Time) time.Duration {
	var d time.Duration
	for _, b := range []*rate.Limiter{p.ops, p.bytes} {
		if owed := -b.TokensAt(now); owed > 0 && b.Limit() != rate.Inf {
			seconds := min(owed/float64(b.Limit()), math.MaxInt32)
			d = max(d, time.Duration(seconds*float64(time.Second))+1)
		}
	}
	return d
}

// charge takes a piece from the budget. p.mu is held.
func (p *Pacer) charge(s *Share, now time.Time, ops, bytes int64) {
	p.vtime = max(p.vtime, s.had)
	s.had += max(p.cost(p.ops, ops), p.cost(p.bytes, bytes))
	p.gauge.add(now, ops, bytes)
	for _, c := range []struct {
		b *rate.Limiter
		n int64
	}{{p.ops, ops}, {p.bytes, bytes}} {
		if c.b.Limit() == rate.Inf || c.n <= 0 {
			continue
		}
		burst := c.b.Burst() // no reservation is larger
		c.b.SetBurstAt(now, max(burst, int(c.n)))
		c.b.ReserveN(now, int(c.n))
		c.b.SetBurstAt(now, burst)
	}
}

// cost is how many seconds of a limit n is.
func (p *Pacer) cost(b *rate.Limiter, n int64) float64 {
	if b.Limit() == rate.Inf {
		return 0
	}
	return float64(n) / float64(b.Limit())
}

// pass gives the turn to the waiter whose share had the least. p.mu is held.
func (p *Pacer) pass() {
	p.head = nil
	if len(p.line) == 0 {
		return
	}
	least := 0
	for i, w := range p.line {
		if w.share.had < p.line[least].share.had {
			least = i
		}
	}
	p.head = p.line[least]
	p.line = slices.Delete(p.line, least, least+1)
	close(p.head.turn)
}
