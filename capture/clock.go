package capture

import (
	"context"
	"fmt"
	"sync"
	"time"

	"tairlift/internal/psync"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// clock samples (source time, source offset) pairs on a connection of its own,
// once per interval and whenever asked. The samples wait in pending for the
// goroutine that writes the spool; those taken while the replication link was
// down are what dates the bytes that waited out the break.
type clock struct {
	s     *Session
	asks  chan clockAsk
	ready chan struct{} // cap 1: pending is not empty

	conn    *resp.Conn // owned by loop
	failing bool       // owned by loop

	mu      sync.Mutex // guards pending
	pending []sampled
}

// sampled is a sample with the history that its offset counts in.
type sampled struct {
	history repl.ReplID
	spool.ClockSample
}

type clockAsk struct {
	ctx    context.Context
	answer chan<- clockAnswer // cap 1
}

type clockAnswer struct {
	sample psync.ClockSample
	err    error
}

func newClock(s *Session) *clock {
	return &clock{s: s, asks: make(chan clockAsk), ready: make(chan struct{}, 1)}
}

// loop samples until ctx ends, beginning with the first ask: before a source
// has answered PSYNC there is nothing to date.
func (c *clock) loop(ctx context.Context) {
	defer c.hangUp()
	timer := time.NewTimer(c.s.o.SampleEvery)
	timer.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case a := <-c.asks:
			var sample psync.ClockSample
			one, cancel := context.WithCancel(a.ctx)
			stop := context.AfterFunc(ctx, cancel)
			sample, err = c.sample(one)
			stop()
			cancel()
			a.answer <- clockAnswer{sample, err}
		case <-timer.C:
			_, err = c.sample(ctx)
		}
		if err != nil {
			timer.Reset(max(c.s.o.SampleEvery, c.s.o.BackoffMax/2))
		} else {
			timer.Reset(c.s.o.SampleEvery)
		}
	}
}

// ask returns a sample that begins after the call.
func (c *clock) ask(ctx context.Context, ended <-chan struct{}) (psync.ClockSample, error) {
	answer := make(chan clockAnswer, 1)
	select {
	case c.asks <- clockAsk{ctx, answer}:
	case <-ctx.Done():
		return psync.ClockSample{}, ctx.Err()
	case <-ended:
		return psync.ClockSample{}, ErrNotRunning
	}
	select {
	case a := <-answer:
		return a.sample, a.err
	case <-ended:
		return psync.ClockSample{}, ErrNotRunning
	}
}

func (c *clock) sample(ctx context.Context) (psync.ClockSample, error) {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	sample, err := c.trySample(ctx)
	if err != nil {
		c.hangUp()
		if !c.failing && ctx.Err() != context.Canceled {
			c.failing = true
			c.s.o.Log.Warn("offset clock failed, capture goes on without it", "addr", c.s.o.Addr, "err", err)
		}
		return sample, err
	}
	if c.failing {
		c.failing = false
		c.s.o.Log.Info("offset clock is back", "addr", c.s.o.Addr)
	}
	c.keep(sample)
	return sample, nil
}

// trySample asks once more on a new connection when an old one fails: what cut
// the link usually cut this one too.
func (c *clock) trySample(ctx context.Context) (psync.ClockSample, error) {
	if c.conn != nil {
		sample, err := psync.Sample(ctx, c.conn)
		if err == nil || ctx.Err() != nil {
			return sample, err
		}
		c.hangUp()
	}
	conn, err := resp.Dial(ctx, c.s.o.Addr, c.s.o.Secret)
	if err != nil {
		return psync.ClockSample{}, err
	}
	c.conn = conn
	sample, err := psync.Sample(ctx, c.conn)
	if err != nil {
		return sample, fmt.Errorf("sample offset of %s: %w", c.s.o.Addr, err)
	}
	return sample, nil
}

func (c *clock) hangUp() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// keep queues a sample for the spool and shows it in the status.
func (c *clock) keep(sample psync.ClockSample) {
	c.mu.Lock()
	if len(c.pending) == maxPending {
		// An outage of ten minutes: every other sample still dates it.
		kept := c.pending[:0]
		for i := 1; i < maxPending; i += 2 {
			kept = append(kept, c.pending[i])
		}
		c.pending = kept
	}
	c.pending = append(c.pending, sampled{sample.ReplID, spool.ClockSample{
		SourceMicros: sample.SourceMicros, Offset: sample.Offset, LocalMicros: sample.LocalMicros,
	}})
	c.mu.Unlock()
	signal(c.ready)
	c.s.update(func(st *Status) {
		st.ClockSkew = time.Duration(sample.SourceMicros-sample.LocalMicros) * time.Microsecond
		if st.ReplID == sample.ReplID {
			st.SourceOffset, st.SourceSampledAt = sample.Offset, time.UnixMicro(sample.LocalMicros)
		}
	})
}

// take returns what was queued and forgets it.
func (c *clock) take() []sampled {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pending
	c.pending = nil
	return p
}

// AskSource returns the offset that the source has now, asked on the clock's
// connection. It returns ErrOtherHistory when that offset cannot be compared
// with the session's, ErrNotRunning outside of Run, else why the source did not
// answer.
func (s *Session) AskSource(ctx context.Context) (repl.Offset, error) {
	s.mu.Lock()
	cur := s.cur
	s.mu.Unlock()
	if cur == nil {
		return 0, ErrNotRunning
	}
	sample, err := cur.clock.ask(ctx, cur.ended)
	if err != nil {
		return 0, err
	}
	if st := s.Status(); st.Epoch == 0 || st.ReplID != sample.ReplID {
		return 0, fmt.Errorf("%w: it is at %s, the spool follows %s",
			ErrOtherHistory, repl.Position{ReplID: sample.ReplID, Offset: sample.Offset}, st.ReplID)
	}
	return sample.Offset, nil
}
