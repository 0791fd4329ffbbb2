package meter

import "time"

// span is over how long rates are taken.
const span = 10 * time.Second

// rates keeps what was done and how far behind, over the last span.
type rates struct {
	phase   string
	samples []sample
}

type sample struct {
	at       time.Time
	done     int64
	commands int64
	lag      int64
}

// rate is what follows from the samples; below 0 is not known.
type rate struct {
	bytes    float64 // per second
	commands float64 // per second
	eta      time.Duration
}

// add takes one more sample. Another phase counts other bytes, and a smaller count is
// another count: both begin anew.
func (r *rates) add(now time.Time, v View) {
	if n := len(r.samples); v.Phase != r.phase || n > 0 && v.Done < r.samples[n-1].done {
		r.phase, r.samples = v.Phase, r.samples[:0]
	}
	s := sample{at: now, done: v.Done, commands: v.Commands, lag: v.LagBytes}
	if v.Total > 0 {
		s.lag = v.Total - v.Done
	}
	// Samples closer than a hundredth of the span add nothing but memory: the newest
	// one is moved instead.
	if n := len(r.samples); n > 1 && now.Sub(r.samples[n-2].at) < span/100 {
		r.samples[n-1] = s
		return
	}
	r.samples = append(r.samples, s)
	// One sample older than the span stays, so that the whole span is covered.
	old := 0
	for old+1 < len(r.samples) && now.Sub(r.samples[old+1].at) >= span {
		old++
	}
	r.samples = append(r.samples[:0], r.samples[old:]...)
}

func (r *rates) now() rate {
	out := rate{bytes: -1, commands: -1, eta: -1}
	if len(r.samples) == 0 {
		return out
	}
	first, last := r.samples[0], r.samples[len(r.samples)-1]
	if last.lag == 0 {
		out.eta = 0
	}
	seconds := last.at.Sub(first.at).Seconds()
	if seconds <= 0 {
		return out
	}
	out.bytes = float64(last.done-first.done) / seconds
	out.commands = float64(last.commands-first.commands) / seconds
	shrinks := float64(first.lag-last.lag) / seconds
	if first.lag >= 0 && last.lag > 0 && shrinks > 0 {
		// Beyond a year the number says nothing, and might not fit a Duration.
		if left := float64(last.lag) / shrinks; left < 365*24*3600 {
			out.eta = time.Duration(left * float64(time.Second))
		}
	}
	return out
}
