package apply

import (
	"time"

	"tairlift/internal/repl"
	"tairlift/spool"
)

// offsetClock dates bytes of a stream by the source's own clock. Capture
// samples (source time, source offset) pairs five times a second; a byte was written
// between the two samples around its offset.
type offsetClock struct {
	samples []spool.ClockSample // ascending by offset
}

const (
	// sampleGap is the distance of two samples above which interpolation between
	// them is a guess.
	sampleGap = 3 * time.Second
	// waitGap is the same for bytes that came after the later sample had told of
	// them: they waited while no link was there. Two samples of one link are
	// closer to each other.
	waitGap = 1100 * time.Millisecond
	// waitAge is how much later than the sample behind them bytes may come that the
	// link did not hold back: they were written when they came.
	waitAge = 100 * time.Millisecond
)

// add takes samples in the order of the spool, whose reader hands out none twice.
// After a failover the new master may be behind what the old one had told: from
// there on its offsets are those of other bytes, so older samples beyond a newer one
// go. What the clocks say is not in order: either may have been set back.
func (c *offsetClock) add(samples []spool.ClockSample) {
	for _, s := range samples {
		n := len(c.samples)
		for n > 0 && c.samples[n-1].Offset > s.Offset {
			n--
		}
		c.samples = append(c.samples[:n], s)
	}
}

// forget drops samples that no byte behind done needs.
func (c *offsetClock) forget(done repl.Offset) {
	i := c.search(done)
	if i > 64 { // keep the one at or before done
		c.samples = append(c.samples[:0], c.samples[i-1:]...)
	}
}

// search returns the index of the first sample at or behind o.
func (c *offsetClock) search(o repl.Offset) int {
	lo, hi := 0, len(c.samples)
	for lo < hi {
		if mid := (lo + hi) / 2; c.samples[mid].Offset < o {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// at dates the byte with offset o, received by capture at recv: source time in
// Unix milliseconds, and how far the true time may lie before it, if that is more than
// datingError. Of bytes that came when they were written that is their time but for
// the link's. That they did is not known: a link or a process may stall for a
// moment. So a byte is never taken to be younger than the sample before it by more
// than that, without its width; of bytes that were held back for sure it is known
// between which samples they were written.
func (c *offsetClock) at(o repl.Offset, recv time.Time) (ms int64, width time.Duration) {
	n := len(c.samples)
	if n == 0 {
		return recv.UnixMilli(), 0
	}
	i := c.search(o)
	// The source cannot have written a byte after capture received it.
	ref := c.samples[min(i, n-1)]
	latest := recv.UnixMicro() + ref.SourceMicros - ref.LocalMicros
	came := func(us int64, lo spool.ClockSample) (int64, time.Duration) {
		width := time.Duration(us-lo.SourceMicros) * time.Microsecond
		if width <= datingError {
			width = 0
		}
		return us / 1000, width
	}
	if i == n {
		return came(max(latest, ref.SourceMicros), ref)
	}
	hi := c.samples[i]
	if i == 0 {
		return min(hi.SourceMicros, latest) / 1000, 0
	}
	lo := c.samples[i-1]
	gap := hi.SourceMicros - lo.SourceMicros
	if gap > sampleGap.Microseconds() || gap > waitGap.Microseconds() && latest >= hi.SourceMicros {
		end := max(min(hi.SourceMicros, latest), lo.SourceMicros)
		return end / 1000, time.Duration(end-lo.SourceMicros) * time.Microsecond
	}
	if latest < hi.SourceMicros+waitAge.Microseconds() {
		return came(max(min(hi.SourceMicros, latest), lo.SourceMicros), lo)
	}
	t := hi.SourceMicros
	if hi.Offset > lo.Offset {
		t = lo.SourceMicros + int64(float64(gap)*float64(o-lo.Offset)/float64(hi.Offset-lo.Offset))
	}
	return t / 1000, time.Duration(t-lo.SourceMicros) * time.Microsecond
}
