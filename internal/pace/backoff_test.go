package pace

import (
	"testing"
	"time"
)

// server is a target of the simulation: it answers one piece after the other, each
// in service time, for several senders that keep one piece under way each and pause
// as a Backoff tells them.
type server struct {
	now     time.Time
	b       Backoff
	service time.Duration // for one piece
	others  time.Duration // what others add to each answer
	free    time.Time     // when the server has answered all it has
	next    []time.Time   // when each sender sends
}

func newServer(goal time.Duration, senders int) *server {
	s := &server{now: time.Unix(1_000_000, 0), service: time.Millisecond, next: make([]time.Time, senders)}
	s.b.Aim(goal)
	for i := range s.next {
		s.next[i] = s.now
	}
	return s
}

// run simulates d, and returns the number of pieces that were answered.
func (s *server) run(d time.Duration) (answered int) {
	end := s.now.Add(d)
	for {
		first := 0
		for i, t := range s.next {
			if t.Before(s.next[first]) {
				first = i
			}
		}
		sent := s.next[first]
		if sent.After(end) {
			s.now = end
			return answered
		}
		begun := sent
		if s.free.After(begun) {
			begun = s.free
		}
		s.free = begun.Add(s.service)
		at := s.free.Add(s.others)
		s.b.Add(at, at.Sub(sent))
		s.next[first] = at.Add(s.b.Pause())
		answered++
	}
}

func TestBackoffFollowsTheTarget(t *testing.T) {
	s := newServer(100*time.Millisecond, 6)
	calm := s.run(30 * time.Second)
	if s.b.slowed != 0 || calm < 29_000 {
		t.Fatalf("a server that is busy with us alone: slowed down %d times, %d answers; want 0 and 30,000", s.b.slowed, calm)
	}
	s.others = 400 * time.Millisecond
	s.run(10 * time.Second)
	if got := s.b.Speed(); s.b.slowed == 0 || got != leastPace {
		t.Errorf("beside others' load: slowed down %d times to %.2f, want to %.2f", s.b.slowed, got, leastPace)
	}
	busy := s.run(10 * time.Second)
	if full := int(6 * 10 * time.Second / s.others); busy == 0 || busy > full/3 {
		t.Errorf("beside others' load: got %d answers, want some, and less than a third of %d", busy, full)
	}
	if s.b.floor > 10*time.Millisecond {
		t.Errorf("the calm latency rose to %s with the load", s.b.floor)
	}
	s.others = 0
	s.run(30 * time.Second)
	slowed := s.b.slowed
	if got := s.run(30 * time.Second); s.b.slowed != slowed || s.b.Speed() != 1 || got < calm*99/100 {
		t.Errorf("when that is over: at %.2f, %d answers; want full speed, and %d", s.b.Speed(), got, calm)
	}
}

// Our own load never slows us down while answers come within the goal, however
// much it grows, nor does a link that is far.
func TestBackoffKeepsABusyTargetBusy(t *testing.T) {
	tests := []struct {
		claim   string
		senders int
		service time.Duration
		others  time.Duration
	}{
		{"one sender", 1, 5 * time.Millisecond, 0},
		{"two groups in the full phase", 6, 10 * time.Millisecond, 0},
		{"a far target", 6, time.Millisecond, 300 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			s := newServer(100*time.Millisecond, 1)
			s.service, s.others = tt.service, tt.others
			s.run(10 * time.Second)
			for range tt.senders - 1 {
				s.next = append(s.next, s.now)
			}
			s.run(60 * time.Second)
			if s.b.slowed != 0 {
				t.Errorf("slowed down %d times, calm %s, median %s", s.b.slowed, s.b.floor, s.b.median)
			}
		})
	}
}

func TestBackoffIgnoresSingleAnswers(t *testing.T) {
	var b Backoff
	b.Aim(100 * time.Millisecond)
	now := time.Unix(1_000_000, 0)
	for i := range 10_000 {
		d := 10 * time.Millisecond
		if i%3 == 0 {
			d = 3 * time.Second
		}
		now = now.Add(50 * time.Millisecond)
		b.Add(now, d)
	}
	if b.slowed != 0 {
		t.Errorf("one slow answer of three: slowed down %d times", b.slowed)
	}
	// Of what came before a long rest nothing is left.
	for range leastSamples - 1 {
		b.Add(now, time.Second)
	}
	now = now.Add(time.Hour)
	for range 100 {
		now = now.Add(50 * time.Millisecond)
		b.Add(now, 10*time.Millisecond)
	}
	if b.slowed != 0 || b.median != 10*time.Millisecond {
		t.Errorf("slowed down %d times, median %s", b.slowed, b.median)
	}
}

func TestBackoffOff(t *testing.T) {
	var b Backoff
	now := time.Unix(1_000_000, 0)
	for i := range 1000 {
		now = now.Add(time.Second)
		b.Add(now, time.Duration(i)*time.Second)
	}
	if b.Pause() != 0 || b.Speed() != 1 || b.slowed != 0 {
		t.Errorf("got %+v, want nothing", b)
	}
}
