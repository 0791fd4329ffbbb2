package pace

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// send lets n pieces through and returns how long that took, by the bubble's clock.
func send(t *testing.T, s *Share, n int, ops, bytes int64) time.Duration {
	t.Helper()
	begun := time.Now()
	for range n {
		if err := s.Wait(t.Context(), ops, bytes); err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(begun)
}

// about compares durations, with a percent and a tenth of a second to spare.
func about(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if diff := (got - want).Abs(); diff > want/100+saved {
		t.Errorf("%s: took %s, want %s", what, got, want)
	}
}

func TestLimits(t *testing.T) {
	tests := []struct {
		claim      string
		l          Limits
		n          int
		ops, bytes int64
		want       time.Duration // until the last piece is sent: what comes behind it waits for that one
	}{
		{"without limits nothing waits", Limits{}, 1000, 1 << 20, 1 << 30, 0},
		{"operations", Limits{Ops: 1000}, 101, 100, 1 << 20, 10 * time.Second},
		{"bytes", Limits{Bytes: 1 << 20}, 101, 1000, 1 << 20, 100 * time.Second},
		{"the tighter of both", Limits{Ops: 1000, Bytes: 1 << 20}, 11, 2000, 1 << 20, 20 * time.Second},
		{"the tighter of both, which is the other", Limits{Ops: 4000, Bytes: 1 << 20}, 11, 2000, 1 << 20, 10 * time.Second},
		{"a piece larger than a second's worth", Limits{Ops: 10}, 3, 1000, 0, 200 * time.Second},
		{"one operation a second, of which one is saved up", Limits{Ops: 1}, 62, 1, 0, time.Minute},
		{"pieces of nothing", Limits{Ops: 1, Bytes: 1}, 100, 0, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := New(tt.l, 0)
				about(t, tt.claim, send(t, p.Share(), tt.n, tt.ops, tt.bytes), tt.want)
				if got := p.State().Waits > 0; got != (tt.want > 0) {
					t.Errorf("waits: got %t, want %t", got, tt.want > 0)
				}
			})
		})
	}
}

// What is saved while nothing is sent is bounded: the pace is that of now.
func TestIdlenessIsNotSavedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Limits{Ops: 1000}, 0).Share()
		send(t, s, 1, 1, 0)
		time.Sleep(time.Hour)
		about(t, "10,000 operations behind an idle hour", send(t, s, 1001, 10, 0), 10*time.Second)
	})
}

// fill lets pieces of one size through by several goroutines until ctx ends.
func fill(ctx context.Context, wg *sync.WaitGroup, s *Share, goroutines int, ops int64, sent *atomic.Int64) {
	for range goroutines {
		wg.Go(func() {
			for s.Wait(ctx, ops, 0) == nil {
				sent.Add(ops)
			}
		})
	}
}

func TestSharesAreEqual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Limits{Ops: 10_000}, 0)
		var wg sync.WaitGroup
		var large, small, late atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		fill(ctx, &wg, p.Share(), 1, 1000, &large)
		fill(ctx, &wg, p.Share(), 3, 50, &small)
		time.Sleep(100 * time.Second)
		one, two := large.Load(), small.Load()
		for _, got := range []int64{one, two} {
			if got < 480_000 || got > 520_000 {
				t.Errorf("two shares had %d and %d, want about half of 1,000,000 each", one, two)
				break
			}
		}
		fill(ctx, &wg, p.Share(), 1, 200, &late)
		time.Sleep(99 * time.Second)
		cancel()
		wg.Wait()
		one, two, three := large.Load()-one, small.Load()-two, late.Load()
		for _, got := range []int64{one, two, three} {
			if got < 310_000 || got > 350_000 {
				t.Errorf("with a third, which had nothing before, they had %d, %d and %d, want about 330,000 each", one, two, three)
				break
			}
		}
	})
}

func TestLimitChangesForWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Limits{Ops: 1}, 0)
		s := p.Share()
		send(t, s, 1, 1_000_000, 0)
		var wg sync.WaitGroup
		begun := time.Now()
		for range 3 {
			wg.Go(func() {
				if err := s.Wait(t.Context(), 1, 0); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if s.Waiting() != ReasonLimited || p.State().Waits != 3 {
			t.Errorf("got %q and %d waits, want %q and 3", s.Waiting(), p.State().Waits, ReasonLimited)
		}
		time.Sleep(time.Second)
		p.Set(Limits{})
		wg.Wait()
		about(t, "waits whose limit was lifted", time.Since(begun), time.Second)
		if s.Waiting() != ReasonLimited {
			t.Error("a wait that has just ended is not shown")
		}
		time.Sleep(recent)
		if got := s.Waiting(); got != "" {
			t.Errorf("a second later: got %q, want nothing", got)
		}
		p.Set(Limits{Ops: 100})
		about(t, "under a limit again", send(t, s, 11, 100, 0), 10*time.Second)
	})
}

// A wait ends with its context, wherever in the queue it is, and what it was in
// the way of goes on.
func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Limits{Ops: 10}, 0)
		s := p.Share()
		send(t, s, 1, 1000, 0) // 100 s of debt
		ended := make(chan error, 2)
		ctx, cancel := context.WithCancel(t.Context())
		other, stop := context.WithCancel(t.Context())
		begun := time.Now()
		for _, c := range []context.Context{ctx, other} {
			go func() { ended <- s.Wait(c, 1, 0) }()
			synctest.Wait() // the first is the head, the other in line
		}
		var last error
		go func() { last = s.Wait(t.Context(), 1, 0); ended <- nil }()
		synctest.Wait()
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Errorf("the head: got %v, want its context's error", err)
		}
		stop()
		if err := <-ended; err != context.Canceled {
			t.Errorf("one in line: got %v, want its context's error", err)
		}
		about(t, "the end of two waits", time.Since(begun), 0)
		<-ended
		if last != nil {
			t.Errorf("the one behind them: got %v, want it to go on", last)
		}
		about(t, "the one behind them", time.Since(begun), 100*time.Second)
		if err := s.Wait(ctx, 0, 0); err != context.Canceled {
			t.Errorf("under a context that has ended: got %v", err)
		}
	})
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Limits{}, 0)
		s := p.Share()
		if st := p.State(); st.OpsPerSecond != 0 {
			t.Errorf("before anything was sent: got %+v", st)
		}
		look := func(what string, ops, bytes float64) {
			t.Helper()
			st := p.State()
			if math.Abs(st.OpsPerSecond-ops) > ops/10 || math.Abs(st.BytesPerSecond-bytes) > bytes/10 {
				t.Errorf("%s: got %.0f operations and %.0f bytes per second, want %.0f and %.0f", what, st.OpsPerSecond, st.BytesPerSecond, ops, bytes)
			}
		}
		for i := range 1000 {
			send(t, s, 1, 5, 500)
			time.Sleep(10 * time.Millisecond)
			if i == 99 {
				look("behind one second", 500, 50_000)
			}
		}
		look("behind ten seconds", 500, 50_000)
		time.Sleep(10 * time.Second)
		look("ten seconds later", 0, 0)
	})
}

func TestPiecesAreSmallUnderALimit(t *testing.T) {
	tests := []struct {
		l          Limits
		ops, bytes int
	}{
		{Limits{}, 1000, 512 << 10},
		{Limits{Ops: 1, Bytes: 1}, 1, leastPiece},
		{Limits{Ops: 5000, Bytes: 1 << 20}, 500, 104857},
		{Limits{Ops: math.MaxInt64, Bytes: math.MaxInt64}, 1000, 512 << 10},
	}
	for _, tt := range tests {
		ops, bytes := New(tt.l, 0).Share().Most(1000, 512<<10)
		if ops != tt.ops || bytes != tt.bytes {
			t.Errorf("%+v: got %d, %d, want %d, %d", tt.l, ops, bytes, tt.ops, tt.bytes)
		}
	}
}

// A share pauses while the other side is slow, and says so.
func TestShareBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Limits{}, 100*time.Millisecond)
		s := p.Share()
		answers := func(d time.Duration) {
			for range 50 {
				begun := time.Now()
				time.Sleep(d)
				s.Took(time.Since(begun), 0, 0)
			}
		}
		answers(10 * time.Millisecond)
		about(t, "a piece while it is calm", send(t, s, 1, 1, 1), 0)
		answers(500 * time.Millisecond)
		if st := p.State(); st.Slowed == 0 || st.Speed > 0.5 || st.Calm > 11*time.Millisecond {
			t.Errorf("got %+v, want it slowed down", st)
		}
		begun := time.Now()
		done := make(chan error)
		go func() { done <- s.Wait(t.Context(), 1, 1) }()
		synctest.Wait()
		if s.Waiting() != ReasonBacking {
			t.Errorf("got %q, want %q", s.Waiting(), ReasonBacking)
		}
		if err := <-done; err != nil || time.Since(begun) != mostPause {
			t.Errorf("got %v after %s, want a pause of %s", err, time.Since(begun), mostPause)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { done <- s.Wait(ctx, 1, 1) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != context.Canceled {
			t.Errorf("got %v, want the pause to end with its context", err)
		}
		p.Aim(0)
		begun = time.Now()
		send(t, s, 1, 1, 1)
		about(t, "a piece once it is off", time.Since(begun), 0)
	})
}

// What a server needs for a large piece is no sign of trouble.
func TestLargePiecesAreNotSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Limits{}, 50*time.Millisecond)
		s := p.Share()
		for range 200 {
			time.Sleep(10 * time.Millisecond)
			s.Took(time.Millisecond, 1, 100)
		}
		for range 200 {
			time.Sleep(160 * time.Millisecond)
			s.Took(160*time.Millisecond, 16_000, 512<<10)
		}
		if st := p.State(); st.Slowed != 0 {
			t.Errorf("got %+v, want it never slowed down", st)
		}
	})
}

func TestTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Limits{Ops: 10}, 0)
		s := p.Share()
		if !s.Take(20, 0) {
			t.Error("nothing is owed: got it held back")
		}
		if s.Take(1, 0) {
			t.Error("something is owed: got it let through")
		}
		about(t, "the wait behind them", send(t, s, 1, 1, 0), 2*time.Second)
		p.Set(Limits{})
		if !s.Take(1<<20, 1<<30) {
			t.Error("no limits: got it held back")
		}
	})
}
