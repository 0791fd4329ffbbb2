package verify

import "math/bits"

// driftStats counts how far apart the deadlines were of keys whose TTLs were
// accepted, by powers of two of a millisecond.
type driftStats struct {
	buckets [64]int64
	n       int64
	max     int64
	held    int64 // keys whose deadline agrees and is held back
}

func (d *driftStats) add(ms int64) {
	d.buckets[bits.Len64(uint64(ms))]++
	d.n++
	d.max = max(d.max, ms)
}

func (d *driftStats) merge(e *driftStats) {
	for i, n := range e.buckets {
		d.buckets[i] += n
	}
	d.n += e.n
	d.held += e.held
	d.max = max(d.max, e.max)
}

// Drift is how far apart accepted deadlines were. The percentiles are upper
// bounds, exact to a factor of two.
type Drift struct {
	Keys  int64 `json:"keys"`
	P50MS int64 `json:"p50_ms"`
	P99MS int64 `json:"p99_ms"`
	MaxMS int64 `json:"max_ms"`
}

func (d *driftStats) summary() *Drift {
	if d.n == 0 {
		return nil
	}
	at := func(percent int64) int64 {
		var seen int64
		for i, n := range d.buckets {
			if seen += n; seen*100 >= d.n*percent {
				return min(d.max, int64(1)<<i-1)
			}
		}
		return d.max
	}
	return &Drift{Keys: d.n, P50MS: at(50), P99MS: at(99), MaxMS: d.max}
}
