package verify

import (
	"errors"
	"strings"
	"testing"
)

func TestVerdictsAreDecidedInOrder(t *testing.T) {
	lost := errors.New("connection lost")
	tests := []struct {
		name   string
		level  Level
		counts Counts
		failed error
		want   Verdict
		exit   int
	}{
		{"all equal", LevelFull, Counts{SourceKeys: 3, Compared: 3, Equal: 3}, nil, Identical, 0},
		{"all equal in a sample", LevelSample, Counts{SourceKeys: 9, Compared: 3, Equal: 3}, nil, NoDifferenceInSample, 0},
		{"one unverifiable", LevelFull, Counts{SourceKeys: 3, Compared: 2, Equal: 2, Unverifiable: 1}, nil, Inconclusive, 3},
		{"one unverifiable in a sample", LevelSample, Counts{SourceKeys: 9, Compared: 2, Equal: 2, Unverifiable: 1}, nil, Inconclusive, 3},
		{"one hot", LevelFull, Counts{SourceKeys: 3, Compared: 2, Equal: 2, Hot: 1}, nil, Inconclusive, 3},
		{"one about to expire", LevelFull, Counts{SourceKeys: 3, Compared: 2, Equal: 2, Expiring: 1}, nil, Inconclusive, 3},
		{"one duplicate", LevelFull, Counts{SourceKeys: 3, Compared: 2, Equal: 2, Duplicate: 1}, nil, Inconclusive, 3},
		{"nothing compared", LevelFull, Counts{}, nil, Inconclusive, 3},
		{"nothing compared, keys too many", LevelFull, Counts{TargetKeys: 1, Extra: 1}, nil, Different, 1},
		{"one different, one hot", LevelFull, Counts{SourceKeys: 3, Compared: 2, Equal: 1, Value: 1, Hot: 1}, nil, Different, 1},
		{"all equal until the connection was lost", LevelFull, Counts{SourceKeys: 3, Compared: 3, Equal: 3}, lost, Inconclusive, 3},
		{"one different before the connection was lost", LevelFull, Counts{SourceKeys: 3, Compared: 3, Equal: 2, TTL: 1}, lost, Different, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Report{Level: tt.level, Counts: tt.counts}
			r.decide(tt.failed)
			if r.Verdict != tt.want || r.Exit() != tt.exit {
				t.Errorf("got %s, exit %d, want %s, %d", r.Verdict, r.Exit(), tt.want, tt.exit)
			}
		})
	}
	var zero Report
	if zero.Exit() != 3 {
		t.Errorf("a report without a verdict: got exit %d, want 3", zero.Exit())
	}
}

func TestVerdictLineHasItsDenominator(t *testing.T) {
	tests := []struct {
		name string
		r    Report
		want string
	}{
		{
			"identical",
			Report{Verdict: Identical, Level: LevelFull, Counts: Counts{SourceKeys: 12_004_311, Compared: 12_004_311}, DurationMS: 252_000},
			"IDENTICAL: 12,004,311 of 12,004,311 keys compared, values and TTLs, 0 missing, 0 extra (4m12s)",
		},
		{
			"different",
			Report{Verdict: Different, Level: LevelFull, Counts: Counts{SourceKeys: 10, Compared: 9, Missing: 1, TTL: 2, Hot: 1}, DurationMS: 1234},
			"DIFFERENT: 9 of 10 keys compared, 1 missing, 0 extra, 2 ttl; not judged: 1 hot (still changing) (1.23s)",
		},
		{
			"inconclusive",
			Report{Verdict: Inconclusive, Level: LevelFull, Reason: "zero keys compared"},
			"INCONCLUSIVE: 0 of 0 keys compared; zero keys compared (0s)",
		},
		{
			"sample",
			Report{Verdict: NoDifferenceInSample, Level: LevelSample, Counts: Counts{SourceKeys: 1000, Compared: 10}},
			"NO DIFFERENCE IN SAMPLE: 10 of 1,000 keys compared, values and TTLs, 0 missing, 0 extra (0s)",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.r.Line(); got != tt.want {
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestOursAreKnownByPrefix(t *testing.T) {
	for key, want := range map[string]bool{
		"tairlift:mark": true, "tairlift:": true, "DTS_REDIS_TIMESTAMP_HEARTBEAT": true, "DTS_REDIS_TIMESTAMP_HEARTBEAT:1": true,
		"tairlift": false, "xtairlift:": false, "Tairlift:": false, "DTS_REDIS": false, "": false,
	} {
		if got := Ours([]byte(key)); got != want {
			t.Errorf("%q: got %v, want %v", key, got, want)
		}
	}
}

func TestPrintableKeysAreShownAsTheyAre(t *testing.T) {
	for key, want := range map[string]bool{"user:77": true, "ключ": true, "a b": true, "a\nb": false, "\xff": false, "\x1b[31m": false} {
		if got := printable(key); got != want {
			t.Errorf("%q: got %v, want %v", key, got, want)
		}
	}
}

func TestATaintBoundsWhatALevelMayClaim(t *testing.T) {
	for _, tt := range []struct {
		level  Level
		was    Verdict
		during bool
		want   Verdict
	}{
		{LevelFull, Identical, false, Identical},
		{LevelFull, Identical, true, Inconclusive},
		{LevelKeys, Identical, false, Inconclusive},
		{LevelCounts, Identical, false, Inconclusive},
		{LevelSample, NoDifferenceInSample, true, NoDifferenceInSample},
		{LevelKeys, Different, true, Different},
		{LevelFull, Inconclusive, true, Inconclusive},
	} {
		r := Report{Level: tt.level, Verdict: tt.was}
		r.Taint("keys were evicted", tt.during)
		if r.Verdict != tt.want || len(r.Taints) != 1 {
			t.Errorf("%s %s, during %v: got %s with %v, want %s", tt.level, tt.was, tt.during, r.Verdict, r.Taints, tt.want)
		}
		if tt.was != tt.want && !strings.Contains(r.Line(), "INCONCLUSIVE") || tt.was != tt.want && !strings.Contains(r.Line(), "evicted") {
			t.Errorf("%s: line: got %q, want inconclusive, and why", tt.level, r.Line())
		}
	}
}
