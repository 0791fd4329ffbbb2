package verify

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func TestFingerprintsAreASet(t *testing.T) {
	var s fingerprints
	model := map[fingerprint]bool{}
	rng := rand.New(rand.NewPCG(1, 2))
	var all []fingerprint
	for i := range 50_000 {
		f := fingerprintOf(7, i%3, fmt.Appendf(nil, "key:%d", rng.IntN(30_000)))
		if got, want := s.add(f), !model[f]; got != want {
			t.Fatalf("add %x: got new %v, want %v", f, got, want)
		}
		model[f] = true
		all = append(all, f)
	}
	marked := map[fingerprint]bool{}
	for _, f := range all {
		known, first := s.mark(f)
		if !known || first != !marked[f] {
			t.Fatalf("mark %x: got known %v, first %v, want true, %v", f, known, first, !marked[f])
		}
		marked[f] = true
	}
	for i := range 1000 {
		f := fingerprintOf(8, 0, fmt.Appendf(nil, "other:%d", i))
		if known, _ := s.mark(f); known {
			t.Fatalf("mark %x: got known, want not", f)
		}
	}
	var empty fingerprints
	if known, first := empty.mark(1); known || first {
		t.Errorf("mark in an empty set: got %v, %v, want false", known, first)
	}
}

func TestSameKeyOfTwoDBsHasTwoFingerprints(t *testing.T) {
	if fingerprintOf(1, 0, []byte("k")) == fingerprintOf(1, 1, []byte("k")) {
		t.Error("got the same fingerprint, want another one per db")
	}
}
