package checkpoint

import (
	"testing"
	"time"
)

func TestEvictionsAreCountedOverRestartsOfTheTarget(t *testing.T) {
	type look struct {
		run     string
		evicted int64
	}
	for _, tt := range []struct {
		claim string
		looks []look
		count int64
		since int // look at which the first was noticed; -1 none
	}{
		{"what was evicted before is not ours", []look{{"a", 100}, {"a", 100}}, 0, -1},
		{"a count that rises", []look{{"a", 100}, {"a", 103}, {"a", 110}}, 10, 1},
		{"a restart without any", []look{{"a", 100}, {"b", 0}, {"b", 0}}, 0, -1},
		{"a restart, and some", []look{{"a", 100}, {"b", 2}, {"b", 5}}, 5, 1},
		{"more than before the restart", []look{{"a", 100}, {"b", 300}}, 300, 1},
		{"statistics that were reset", []look{{"a", 100}, {"a", 0}, {"a", 7}}, 7, 2},
	} {
		var e Evictions
		begun := time.UnixMilli(1_700_000_000_000)
		for i, l := range tt.looks {
			e = e.Look(l.run, l.evicted, "allkeys-lru", begun.Add(time.Duration(i)*time.Second))
		}
		var since time.Time
		if tt.since >= 0 {
			since = begun.Add(time.Duration(tt.since) * time.Second)
		}
		if e.Count != tt.count || !e.Since().Equal(since) {
			t.Errorf("%s: got %d since %s, want %d since %s", tt.claim, e.Count, e.Since(), tt.count, since)
		}
		last := tt.looks[len(tt.looks)-1]
		if c := e.Cleared().Look(last.run, last.evicted+1, "", begun); c.Count != 1 {
			t.Errorf("%s: cleared, and one more: got %d, want 1", tt.claim, c.Count)
		}
	}
}
