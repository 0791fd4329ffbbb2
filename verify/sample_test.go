package verify

import "testing"

func TestSampleBoundsAreTheHypergeometricOnes(t *testing.T) {
	tests := []struct {
		name               string
		population, n, bad int64
		want               int64
	}{
		{"3,000 of ten million, none bad", 10_000_000, 3_000, 0, 9_979},
		{"30,000 of ten million, none bad", 10_000_000, 30_000, 0, 997},
		{"300,000 of ten million, none bad", 10_000_000, 300_000, 0, 98},
		{"everything, none bad", 1000, 1000, 0, 0},
		{"everything, some bad", 1000, 1000, 7, 7},
		{"nothing drawn", 1000, 0, 0, 1000},
		{"one of two, good", 2, 1, 0, 1},
		{"all drawn are bad", 100, 10, 10, 100},
		{"no keys at all", 0, 0, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := atMost(tt.population, tt.n, tt.bad, 0.05); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

// The bound by its definition, worked out term by term.
func TestSampleBoundIsTheLargestThatIsNotRefuted(t *testing.T) {
	choose := func(n, k int64) float64 {
		if k < 0 || k > n {
			return 0
		}
		v := 1.0
		for i := range k {
			v = v * float64(n-i) / float64(i+1)
		}
		return v
	}
	chance := func(pop, d, n, k int64) (p float64) {
		for i := range k + 1 {
			p += choose(d, i) * choose(pop-d, n-i) / choose(pop, n)
		}
		return p
	}
	for _, tt := range [][3]int64{{60, 10, 0}, {60, 10, 3}, {200, 50, 1}, {45, 44, 0}, {100, 30, 29}} {
		pop, n, bad := tt[0], tt[1], tt[2]
		got := atMost(pop, n, bad, 0.05)
		if p := chance(pop, got, n, bad); p < 0.05 {
			t.Errorf("%v: %d bad keys would be seen as few with chance %g, want at least 0.05", tt, got, p)
		}
		if p := chance(pop, got+1, n, bad); got < pop-(n-bad) && p >= 0.05 {
			t.Errorf("%v: %d bad keys are not refuted either (chance %g), want the largest", tt, got+1, p)
		}
	}
}

func TestSampleSentenceIsHonest(t *testing.T) {
	s := Sample{Keys: 30_000, Population: 10_000_000, TargetKeys: 30_000, TargetAll: 10_000_000}
	s.complete()
	want := "Sample: 30,000 of 10,000,000 keys, 0 different. With 95 % confidence at most 997 keys (0.00997 %) differ, " +
		"and at most 997 of the target's 10,000,000 keys are extra. A sample cannot show that nothing differs."
	if s.Sentence != want {
		t.Errorf("got %q\nwant %q", s.Sentence, want)
	}
}
