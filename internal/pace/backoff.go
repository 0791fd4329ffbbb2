package pace

import (
	"slices"
	"time"
)

// Backoff slows down when answers take much longer than they did while it was
// calm, and than a goal, and recovers when that is over: by a third at once, and back
// by a sixteenth of full speed at a time. It looks at the median of a short span, so
// that one slow answer means nothing.
//
// It slows down by pausing between pieces of work for a multiple of what they take, so
// it needs no notion of how fast is fast: at a speed of a half as much time is
// spent pausing as waiting for answers.
//
// The zero Backoff never slows down. It is not safe for concurrent use, and knows
// no clock but what it is told.
type Backoff struct {
	goal time.Duration

	slow   float64 // 1 - speed
	slowed int64   // times that it slowed down
	median time.Duration
	floor  time.Duration // of the medians, while it was calm

	samples []time.Duration
	begun   time.Time // of the samples
	last    time.Time
}

const (
	backoffSpan  = 250 * time.Millisecond // of the samples whose median counts
	leastSamples = 5                      // in a span; it is longer until there are
	mostSamples  = 256
	staleSpan    = 5 * time.Second // without a sample: what came before is forgotten

	// aboveCalm is how many times the calm latency is too much.
	aboveCalm = 3
	// rising is in how many calm spans the floor follows a higher median.
	rising = 64

	slowdown  = 0.7
	recovery  = 1.0 / 16
	leastPace = 1.0 / 8
	mostPause = time.Second
)

// Aim sets the latency from which on it slows down; 0 is never. It begins at full
// speed.
func (b *Backoff) Aim(goal time.Duration) {
	*b = Backoff{goal: goal, slowed: b.slowed, samples: b.samples[:0]}
}

// Add takes one more latency.
func (b *Backoff) Add(now time.Time, latency time.Duration) {
	if b.goal <= 0 {
		return
	}
	if len(b.samples) == 0 || now.Sub(b.last) > staleSpan {
		b.samples, b.begun = b.samples[:0], now
	}
	b.last = now
	if len(b.samples) < mostSamples {
		b.samples = append(b.samples, latency)
	}
	if len(b.samples) < leastSamples || now.Sub(b.begun) < backoffSpan {
		return
	}
	slices.Sort(b.samples)
	b.judge(b.samples[len(b.samples)/2])
	b.samples = b.samples[:0]
}

// judge takes the median of a span.
func (b *Backoff) judge(median time.Duration) {
	b.median = median
	if median > max(b.goal, aboveCalm*b.floor) && b.floor > 0 {
		b.slow = min(1-(1-b.slow)*slowdown, 1-leastPace)
		b.slowed++
		return
	}
	b.slow = max(b.slow-recovery, 0)
	if b.floor == 0 || median < b.floor {
		b.floor = max(median, time.Microsecond)
	} else {
		b.floor += (median - b.floor) / rising
	}
}

// Speed is 1 unless it has slowed down.
func (b *Backoff) Speed() float64 { return 1 - b.slow }

// Pause is how long to wait before the next piece of work.
func (b *Backoff) Pause() time.Duration {
	if b.slow == 0 {
		return 0
	}
	return min(time.Duration(float64(b.median)*b.slow/(1-b.slow)), mostPause)
}
