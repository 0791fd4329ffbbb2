package verify

import (
	"bytes"
	"fmt"
	"time"

	"tairlift/internal/held"
	"tairlift/internal/rdb"
)

// Class is what can be said of a key that is not simply equal.
type Class string

// The classes. The first seven are differences.
const (
	Missing    Class = "missing"     // not on the target
	Extra      Class = "extra"       // on the target, in no group
	Value      Class = "value"       // same type, another value
	Type       Class = "type"        // another type
	TTLMissing Class = "ttl-missing" // expires on the source only
	TTLExtra   Class = "ttl-extra"   // expires on the target only
	TTLDrift   Class = "ttl-drift"   // expires at another time

	Unverifiable Class = "unverifiable" // not the same bytes, and of a type that cannot be decoded
	Hot          Class = "hot"          // changed with every read
	Expiring     Class = "expiring"     // differed, and was about to expire until the end
	Duplicate    Class = "duplicate"    // several groups hold it, and the target has the copy of another one

	equal Class = ""
	gone  Class = "gone" // neither side has it: expired or deleted since it was scanned

	unsettled Class = "unsettled" // differs, and is to be read again
)

// state is what one side held at one reading, in the form that two readings are
// compared in.
type state struct {
	digest   digest
	deadline int64 // ms of the local clock; 0 none
	gone     bool
}

// same tells whether nothing happened to a key between two readings. Deadlines
// are computed from a duration and a time of asking, so they swing a little.
func (s state) same(t state, tolerance time.Duration) bool {
	if s.gone || t.gone {
		return s.gone == t.gone
	}
	return s.digest == t.digest && (s.deadline == 0) == (t.deadline == 0) &&
		abs(s.deadline-t.deadline) <= tolerance.Milliseconds()
}

func abs(n int64) int64 { return max(n, -n) }

// judge compares the readings of two sides. It is used by one goroutine.
type judge struct {
	probe     probe
	digests   *digester
	tolerance time.Duration
	skew      int64 // ms that the source's clock is ahead of the target's
	drift     *driftStats
}

// moment is when a chunk was asked for on both sides, and how much later an
// answer may have been made.
type moment struct {
	asked time.Time
	slack time.Duration
}

// finding is the judgement of one key.
type finding struct {
	class    Class
	src, dst state // not set when equal or gone
	err      error // why it is unverifiable
}

// key judges the i-th key of two readings.
func (j *judge) key(src, dst *reading, i int, at moment) finding { return j.keys(src, i, dst, i, at) }

// keys judges the i-th key of src against the k-th of dst.
func (j *judge) keys(src *reading, i int, dst *reading, k int, at moment) finding {
	switch {
	case src.gone[i] && (dst.gone[k] || dst.held[k] && dst.ttl[k] == 0): // it goes when it is set exact
		return finding{class: gone}
	case src.gone[i] || dst.gone[k]:
		f := finding{class: Missing}
		if src.gone[i] {
			f.class = Extra
		}
		f.src, _ = j.state(src, i, at)
		f.dst, _ = j.state(dst, k, at)
		return f
	}
	ttl := j.ttl(src.ttl[i], dst.ttl[k], at)
	if ttl == equal && dst.held[k] {
		j.drift.held++
	}
	raw := j.sameBytes(src, i, dst, k)
	if raw && ttl == equal {
		return finding{}
	}
	var f finding
	var errA, errB error
	f.src, errA = j.state(src, i, at)
	f.dst, errB = j.state(dst, k, at)
	switch p, q := f.src.digest, f.dst.digest; {
	case raw:
		f.class = ttl
	case !j.probe.dump:
		f.class = ttl
		if p != q {
			f.class = Type
		}
	case errA != nil || errB != nil:
		f.class = Unverifiable
		if f.err = errA; f.err == nil {
			f.err = errB
		}
		// A module's value is a type of its own, decodable or not.
		if (kindAt(src, i) == rdb.KindModule) != (kindAt(dst, k) == rdb.KindModule) {
			f.class = Type
		}
	case p == q:
		f.class = ttl
	case p.kind == q.kind, p.kind.String() == q.kind.String():
		f.class = Value
	default:
		f.class = Type
	}
	return f
}

func kindAt(r *reading, i int) rdb.Kind {
	typ, ok := r.typeAt(i)
	if !ok {
		return rdb.KindUnknown
	}
	return rdb.KindOf(typ)
}

// sameBytes is the fast path: the same encoding of the same value.
func (j *judge) sameBytes(src *reading, i int, dst *reading, k int) bool {
	a, b := src.body(i), dst.body(k)
	if !j.probe.dump {
		return bytes.Equal(a, b)
	}
	if len(src.far)+len(dst.far) > 0 && (src.farAt(i) != nil || dst.farAt(k) != nil) {
		raw := j.digests.rawAt(src, i)
		return raw.count > 0 && raw == j.digests.rawAt(dst, k)
	}
	return len(a) == len(b) && len(a) > dumpFooter &&
		bytes.Equal(a[:len(a)-dumpFooter], b[:len(b)-dumpFooter])
}

func (j *judge) state(r *reading, i int, at moment) (state, error) {
	if r.gone[i] {
		return state{gone: true}, nil
	}
	var s state
	var err error
	if f := r.farAt(i); f != nil {
		s.digest, err = f.said, f.err
	} else if j.probe.dump {
		s.digest, err = j.digests.of(r.body(i))
	} else {
		s.digest = j.digests.typeName(r.body(i))
	}
	if ttl := r.ttl[i]; ttl >= 0 {
		s.deadline = at.asked.UnixMilli() + ttl
	}
	return s, err
}

// ttl compares times to live, in ms, -1 for none. Both were asked for at the
// same time, so what remains differs as the deadlines do. A deadline that is
// the same moment by each server's own clock is right as well: it is what
// PEXPIREAT carries over. What apply adds to each is no drift.
func (j *judge) ttl(src, dst int64, at moment) Class {
	switch {
	case src < 0 && dst < 0:
		return equal
	case dst < 0:
		return TTLMissing
	case src < 0:
		return TTLExtra
	}
	if !j.probe.dump {
		return equal
	}
	drift := min(abs(held.Off(dst, src)), abs(held.Off(dst, src+j.skew)))
	if drift > (j.tolerance + at.slack).Milliseconds() {
		return TTLDrift
	}
	j.drift.add(drift)
	return equal
}

// explain says in words how the two sides of a finding differ. It shows no
// values.
func (f finding) explain(now time.Time) string {
	switch f.class {
	case Value:
		p, q := f.src.digest, f.dst.digest
		unit := "elements"
		if p.kind.String() == rdb.KindString.String() {
			unit = "bytes"
		}
		switch {
		case p.kind != q.kind:
			return fmt.Sprintf("%s: a HyperLogLog on one side only", p.kind)
		case p.count != q.count:
			return fmt.Sprintf("%s: %d %s on the source, %d on the target", p.kind, p.count, unit, q.count)
		case p.kind == kindHLL:
			return "string: HyperLogLog registers differ"
		}
		return fmt.Sprintf("%s: %d %s on both sides, not the same", p.kind, p.count, unit)
	case Type:
		p, q := f.src.digest.kind, f.dst.digest.kind
		if p >= kindOpaque || q >= kindOpaque {
			return ""
		}
		return fmt.Sprintf("%s on the source, %s on the target", p, q)
	case TTLMissing, TTLExtra, TTLDrift:
		return fmt.Sprintf("expires %s on the source, %s on the target", remaining(f.src, now), remaining(f.dst, now))
	case Unverifiable:
		if f.err != nil {
			return f.err.Error()
		}
	}
	return ""
}

func remaining(s state, now time.Time) string {
	if s.deadline == 0 {
		return "never"
	}
	return "in " + time.UnixMilli(s.deadline).Sub(now).Round(time.Millisecond).String()
}
