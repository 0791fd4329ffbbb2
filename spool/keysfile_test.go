package spool

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"testing"

	"tairlift/internal/fsx"
)

// wholeKeys makes one key file and returns its bytes and path.
func wholeKeys(t testing.TB) (*fsx.Mem, string, []byte) {
	t.Helper()
	s := exampleSource()
	m := fsx.NewMem()
	o := options(m)
	o.SegmentBytes = 3000
	ok(t, s.write(t, o).Seal())
	g := group(t, m)
	prune(t, g, Floor{Epoch: 2})
	_, _, _, list := keysOf(t, g)
	p := slices.MaxFunc(list, func(a, b PrunedSegment) int { return cmp.Compare(a.Keys, b.Keys) })
	return m, p.Path, readFile(t, m, p.Path)
}

func TestEveryDamageOfAKeyFileIsFound(t *testing.T) {
	m, path, whole := wholeKeys(t)
	found := func(what string, b []byte) {
		t.Helper()
		writeFile(t, m, path, b)
		rep, err := check(m, testDir, CheckOptions{})
		if err != nil || rep.OK() {
			t.Errorf("%s: got %v and %v, want a problem", what, rep.Problems, err)
		}
	}
	for i := range len(whole) * 8 {
		b := bytes.Clone(whole)
		b[i/8] ^= 1 << (i % 8)
		found(fmt.Sprintf("bit %d flipped", i), b)
	}
	for n := range whole {
		found(fmt.Sprintf("cut at %d", n), whole[:n])
	}
	found("bytes behind the end", append(bytes.Clone(whole), make([]byte, 40)...))
	writeFile(t, m, path, whole)
	wantCheck(t, m, CheckOptions{}, 0, 0)
	ok(t, m.Remove(path))
	wantCheck(t, m, CheckOptions{}, 1, 0)
}

// However many keys there are, they come out in order and once each, and the
// file that it took is gone.
func TestKeysAreSortedInBoundedMemory(t *testing.T) {
	for _, n := range []int{0, 1, 15, 16, 17, 1000, 5000} {
		m := fsx.NewMem()
		s := keySorter{fs: m, path: "/sort.tmp", size: 16}
		want := map[Fingerprint]bool{}
		for i := range n {
			fp := FingerprintOf(0, fmt.Append(nil, i*7919%max(1, n*2/3)))
			want[fp] = true
			ok(t, s.add(fp))
			if len(s.set) > 16 {
				t.Fatalf("%d fingerprints are held", len(s.set))
			}
		}
		var got []Fingerprint
		ok(t, s.each(func(fp Fingerprint) error { got = append(got, fp); return nil }))
		ok(t, s.close())
		if len(got) != len(want) || !slices.IsSortedFunc(got, compareKeys) {
			t.Errorf("%d keys: got %d, want %d in order", n, len(got), len(want))
		}
		for _, fp := range got {
			if !want[fp] {
				t.Errorf("%d keys: got %x, which was not put in", n, fp)
			}
		}
		if _, err := m.Stat("/sort.tmp"); err == nil {
			t.Errorf("%d keys: the file for sorting is left", n)
		}
	}
}

// What the key files of an epoch hold together grows with the keys, not with
// the writes.
func TestKeyFilesOfAnEpochNeverRepeatAKey(t *testing.T) {
	s := exampleSource()
	m := fsx.NewMem()
	o := options(m)
	o.SegmentBytes = 600
	ok(t, s.write(t, o).Seal())
	g := group(t, m)
	prune(t, g, Floor{Epoch: 2})
	seen := map[Fingerprint]Seq{}
	for _, seq := range must(g.listKeySeqs(1))(t) {
		_, err := g.ReadKeys(1, seq, func(fp Fingerprint) error {
			if before, twice := seen[fp]; twice {
				t.Errorf("%x is in the key files of segments %d and %d", fp, before, seq)
			}
			seen[fp] = seq
			return nil
		})
		ok(t, err)
	}
	if len(seen) < 60 {
		t.Errorf("got %d keys, want those of the whole source", len(seen))
	}
}
