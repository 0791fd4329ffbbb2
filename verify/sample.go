package verify

import (
	"fmt"
	"math"
)

// Sample says what a sample can tell of the whole. The bounds hold with 95 %
// confidence and are in keys.
type Sample struct {
	Share       float64 `json:"share"`         // of keys that a hash chose, on both sides
	Keys        int64   `json:"keys"`          // compared
	Population  int64   `json:"population"`    // keys of the sources
	Different   int64   `json:"different"`     // of Keys
	AtMost      int64   `json:"at_most"`       // of Population differ
	TargetKeys  int64   `json:"target_keys"`   // target keys looked up
	TargetExtra int64   `json:"target_extra"`  // of them in no group
	ExtraAtMost int64   `json:"extra_at_most"` // of all target keys
	TargetAll   int64   `json:"target_all"`    // all target keys
	Confidence  float64 `json:"confidence"`    // 0.95
	AtMostShare float64 `json:"at_most_share"` // AtMost / Population
	Sentence    string  `json:"sentence"`
}

const confidence = 0.95

// complete fills in what follows from the counts.
func (s *Sample) complete() {
	s.Confidence = confidence
	s.AtMost = atMost(s.Population, s.Keys, s.Different, 1-confidence)
	s.ExtraAtMost = atMost(s.TargetAll, s.TargetKeys, s.TargetExtra, 1-confidence)
	if s.Population > 0 {
		s.AtMostShare = float64(s.AtMost) / float64(s.Population)
	}
	if s.Keys == 0 {
		s.Sentence = fmt.Sprintf("Sample: 0 of %s keys. Nothing can be said of them.", comma(s.Population))
		return
	}
	s.Sentence = fmt.Sprintf("Sample: %s of %s keys, %s different. With 95 %% confidence at most %s keys (%.3g %%) differ, "+
		"and at most %s of the target's %s keys are extra. A sample cannot show that nothing differs.",
		comma(s.Keys), comma(s.Population), comma(s.Different), comma(s.AtMost), 100*s.AtMostShare,
		comma(s.ExtraAtMost), comma(s.TargetAll))
}

// atMost is the largest number D of bad keys among population that n keys drawn
// without replacement would show at most bad of with a chance of alpha or more:
// the upper end of the exact one-sided confidence interval (hypergeometric).
// With nothing bad it is about 3/n of the population for an alpha of 0.05.
func atMost(population, n, bad int64, alpha float64) int64 {
	if n <= 0 {
		return population
	}
	lo, hi := bad, population-(n-bad) // lo can be, beyond hi the draw is impossible
	for lo < hi {
		mid := lo + (hi-lo+1)/2
		if chanceAtMost(population, mid, n, bad) >= alpha {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo
}

// chanceAtMost is the chance to draw at most k bad ones when n are drawn from
// population of which d are bad. The sum runs down from the term of k and ends
// where the terms no longer count.
func chanceAtMost(population, d, n, k int64) float64 {
	least := max(0, n-(population-d))
	k = min(k, d, n)
	if k < least {
		return 0
	}
	term := math.Exp(logChoose(d, k) + logChoose(population-d, n-k) - logChoose(population, n))
	if term == 0 {
		if float64(k) > float64(n)*float64(d)/float64(population) {
			return 1
		}
		return 0
	}
	sum := term
	for i := k; i > least && term > sum*1e-17; i-- {
		term *= float64(i) * float64(population-d-n+i) / (float64(d-i+1) * float64(n-i+1))
		sum += term
	}
	return min(sum, 1)
}

func logChoose(n, k int64) float64 {
	return logFactorial(n) - logFactorial(k) - logFactorial(n-k)
}

func logFactorial(n int64) float64 {
	v, _ := math.Lgamma(float64(n) + 1)
	return v
}
