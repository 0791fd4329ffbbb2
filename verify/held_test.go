package verify

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"tairlift/internal/held"
	"tairlift/internal/redistest"
)

// A deadline that apply holds back counts as the one that it stands for, and the
// report says how many there were.
func TestHeldDeadlinesAreWhatTheyStandFor(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t)
	at := time.Now().Add(time.Hour).UnixMilli()
	shift := held.By(7)
	expire := func(s *redistest.Server, k string, ms int64) {
		s.Do(t, "SET", k, "v")
		s.Do(t, "PEXPIREAT", k, strconv.FormatInt(ms, 10))
	}
	const n = 9
	for i := range int64(n) {
		expire(src, fmt.Sprint("held", i), at+i)
		expire(dst, fmt.Sprint("held", i), shift.Hold(at+i))
	}
	expire(src, "exact", at)
	expire(dst, "exact", at)
	expire(dst, "passed", shift.Hold(time.Now().Add(-time.Hour).UnixMilli())) // the source's is gone
	for _, level := range []Level{LevelFull, LevelKeys} {
		o := options(dst, src)
		o.Level = level
		rep := verify(t, o)
		expect(t, &rep, Identical, nil)
		if rep.TTLHeld != n || rep.Equal != n+1 {
			t.Errorf("level %s: got %d held, %d equal, want %d, %d", level, rep.TTLHeld, rep.Equal, n, n+1)
		}
		if got := asJSON(t, &rep)["ttl_held"]; got != float64(n) {
			t.Errorf("level %s, json: got ttl_held %v, want %d", level, got, n)
		}
		if !strings.Contains(text(t, &rep), "ttl: 9 deadlines are held back") {
			t.Errorf("level %s: the text does not tell of the held deadlines: %s", level, text(t, &rep))
		}
	}
	dst.Do(t, "PEXPIREAT", "held3", strconv.FormatInt(shift.Hold(at+60_000), 10))
	dst.Do(t, "PERSIST", "held4")
	rep := verify(t, options(dst, src))
	expect(t, &rep, Different, map[Class][]string{TTLDrift: {"held3"}, TTLMissing: {"held4"}})
}
