package spool

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func fpOf(n uint32) Fingerprint {
	return FingerprintOf(0, binary.BigEndian.AppendUint32(nil, n))
}

// makeSet makes a set of the numbers in [from, to), added in disorder and some
// twice, sorted in the file from small runs.
func makeSet(t *testing.T, path string, from, to uint32, minus *KeySet) *KeySet {
	t.Helper()
	w := NewKeySet(path)
	w.sort.size, w.sort.many = 50, 3
	rnd := rand.New(rand.NewPCG(uint64(from), uint64(to)))
	for _, i := range rnd.Perm(int(to - from)) {
		for range 1 + i%2 {
			if err := w.Add(fpOf(from + uint32(i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	s, err := w.Finish(minus)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestKeySetFindsWhatWasAddedAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []uint32{0, 1, setBlock - 1, setBlock, setBlock + 1, 3000} {
		s := makeSet(t, filepath.Join(dir, "set"), 1000, 1000+n, nil)
		if s.Len() != int(n) {
			t.Fatalf("set of %d has %d", n, s.Len())
		}
		seen := make([]bool, n)
		for i := range n + 2000 {
			at, ok, err := s.Find(fpOf(i))
			if err != nil {
				t.Fatal(err)
			}
			if want := i >= 1000 && i < 1000+n; ok != want {
				t.Fatalf("set of %d: find %d says %v", n, i, ok)
			}
			if ok && seen[at] {
				t.Fatalf("set of %d: two fingerprints have the place %d", n, at)
			} else if ok {
				seen[at] = true
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Fatalf("%s was left", left[0].Name())
	}
}

func TestKeySetWithoutAnother(t *testing.T) {
	dir := t.TempDir()
	minus := makeSet(t, filepath.Join(dir, "minus"), 500, 2500, nil)
	s := makeSet(t, filepath.Join(dir, "set"), 0, 3000, minus)
	if s.Len() != 1000 {
		t.Fatalf("%d are left, expected 1000", s.Len())
	}
	for i := range uint32(3000) {
		_, ok, err := s.Find(fpOf(i))
		if err != nil {
			t.Fatal(err)
		}
		if want := i < 500 || i >= 2500; ok != want {
			t.Fatalf("find %d says %v", i, ok)
		}
	}
}
