package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// row is one measurement of the report.
type row struct {
	what, against string
	goal          float64 // of the ratio, at least; 0 is none
	text          string  // the goal as design and report say it
	unit          string  // of ours and theirs
	scale         float64 // ours and theirs are shown divided by it; 0 is 1
	ours, theirs  []float64
	notes         []string
}

// add takes one pair: how much was done, and how long each side took for it.
func (r *row) add(work float64, ours, theirs time.Duration) {
	r.ours = append(r.ours, work/ours.Seconds())
	r.theirs = append(r.theirs, work/theirs.Seconds())
}

// ratios are ours to theirs, pair by pair.
func (r *row) ratios() []float64 {
	out := make([]float64, len(r.ours))
	for i := range out {
		out[i] = r.ours[i] / r.theirs[i]
	}
	return out
}

// verdict is what the report says of the goal.
func (r *row) verdict() string {
	switch {
	case r.goal == 0:
		return ""
	case median(r.ratios()) >= r.goal:
		return "met"
	}
	return "**not met**"
}

func (r *row) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// spread is the least and the most of v.
func spread(v []float64) string {
	if len(v) == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f..%.2f", slices.Min(v), slices.Max(v))
}

func seconds(d []time.Duration) []float64 {
	out := make([]float64, len(d))
	for i := range d {
		out[i] = d[i].Seconds()
	}
	return out
}
