package job

import (
	"strings"
	"testing"

	"tairlift/checkpoint"
	"tairlift/verify"
)

func TestEvictionsDuringAVerifyAreNotSettledByIt(t *testing.T) {
	for _, tt := range []struct {
		claim         string
		before, after int64
		want          verify.Verdict
		taints        string
	}{
		{"none", 0, 0, verify.Identical, ""},
		{"before it", 1, 1, verify.Identical, "has evicted 1 key since 2023-11-14T22:13:20Z (maxmemory-policy allkeys-lru)"},
		{"during it", 0, 3, verify.Inconclusive, "has evicted 3 keys since 2023-11-14T22:13:20Z (maxmemory-policy allkeys-lru), 3 of them while keys were compared"},
		{"before and during it", 1, 3, verify.Inconclusive, "2 of them while"},
	} {
		at := func(n int64) checkpoint.Evictions {
			return checkpoint.Evictions{RunID: "a", Count: n, SinceMS: 1_700_000_000_000, Policy: "allkeys-lru"}
		}
		r := verify.Report{Level: verify.LevelFull, Verdict: verify.Identical}
		taint(&r, at(tt.before), at(tt.after))
		if got := strings.Join(r.Taints, "; "); r.Verdict != tt.want || !strings.Contains(got, tt.taints) || (got == "") != (tt.taints == "") {
			t.Errorf("%s: got %s with %q, want %s with %q", tt.claim, r.Verdict, got, tt.want, tt.taints)
		}
	}
}
