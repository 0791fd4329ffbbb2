package spool

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

// swapped is a stream with swaps in it, one segment for each command, and a
// second epoch behind it.
func swapped(t *testing.T) (m *fsx.Mem, g *Group, ends []repl.Offset) {
	t.Helper()
	m = fsx.NewMem()
	o := options(m)
	o.SegmentBytes = 1
	w := must(Create(testDir, testIdentity(), o))(t)
	rdb := []byte("REDIS0009\xff\x00\x00\x00\x00\x00\x00\x00\x00")
	ok(t, w.BeginRDB(int64(len(rdb))))
	ok(t, w.AppendRDB(rdb, testStart))
	ok(t, w.EndRDB(1, false))
	at := testIdentity().Start
	for _, line := range []string{
		"SELECT 0", "SET a 1", "SELECT 1", "SET a 1", "SET b 1", "SWAPDB 0 1", "SET c 1", "MOVE c 2",
		"SWAPDB 2 1", "SET d 1", "SWAPDB 3 3", "SWAPDB x 1", "SWAPDB 1 2", "FLUSHDB", "SET e 1",
	} {
		raw := resp.AppendCommandStrings(nil, strings.Fields(line)...)
		ok(t, w.AppendStream(raw, testStart))
		must(w.Sync())(t)
		at += repl.Offset(len(raw))
		ends = append(ends, at)
	}
	ok(t, w.Seal())
	id := testIdentity()
	id.Epoch = 2
	must(Create(testDir, id, o))(t)
	return m, group(t, m), ends
}

// numbered are the names of the stream with the databases in which they are at
// the start when the swaps at these places, of three, are carried out.
func numbered(carried ...int) (named map[Fingerprint]bool, origin map[int]int) {
	origin = map[int]int{0: 0, 1: 1, 2: 2}
	named = map[Fingerprint]bool{}
	name := func(db int, key string) { named[FingerprintOf(origin[db], []byte(key))] = true }
	swap := func(n, a, b int) {
		if slices.Contains(carried, n) {
			origin[a], origin[b] = origin[b], origin[a]
		}
	}
	name(0, "a")
	name(1, "a")
	name(1, "b")
	swap(1, 0, 1)
	name(1, "c")
	name(2, "c")
	swap(2, 2, 1)
	name(1, "d")
	swap(3, 1, 2)
	name(1, "e")
	return named, origin
}

func TestAWalkFollowsSwaps(t *testing.T) {
	_, _, ends := swapped(t)
	swaps := []repl.Offset{ends[5], ends[8], ends[12]}
	for _, tt := range []struct {
		turns   Turns
		carried []int
	}{
		{nil, nil},
		{Turns{ends[4]}, []int{1, 2, 3}},
		{Turns{ends[5]}, []int{2, 3}},
		{Turns{ends[4], ends[7]}, []int{1}},
		{Turns{ends[4], ends[7], ends[11]}, []int{1, 3}},
	} {
		for n := range ends {
			for _, pruned := range []int{0, n} {
				_, g, _ := swapped(t)
				floor := ends[pruned]
				if pruned == 0 {
					floor = 0
				}
				if floor > 0 {
					prune(t, g, Floor{Epoch: 1, Stream: true, Offset: floor})
				}
				claim := fmt.Sprintf("turns %v, until %d, pruned until %d", tt.turns, ends[n], floor)
				got, all := map[Fingerprint]bool{}, map[Fingerprint]bool{}
				w := &Swaps{Turns: tt.turns}
				if _, err := g.WalkKeys(t.Context(), 1, WalkAll, w, func(fp Fingerprint, _ bool) error { got[fp] = true; return nil }); err != nil {
					t.Fatal(err)
				}
				want, origin := numbered(tt.carried...)
				passed := 0 // swaps that were pruned
				for _, o := range swaps {
					if o <= floor {
						passed++
					}
				}
				carried := 0
				for _, o := range swaps[:passed] {
					if tt.turns.Did(o) {
						carried++
					}
				}
				if loose := passed > 0 && carried < passed; w.Loose() != loose {
					t.Errorf("%s: loose: got %t, want %t", claim, w.Loose(), loose)
				} else if loose {
					// Each key is among what may be in its place.
					for db := range 3 {
						for _, k := range "abcde" {
							if !want[FingerprintOf(origin[db], []byte(string(k)))] {
								continue
							}
							found := slices.ContainsFunc(w.Origins(db), func(x int) bool { return got[FingerprintOf(x, []byte(string(k)))] })
							if !found {
								t.Errorf("%s: key %c of database %d is not known", claim, k, db)
							}
						}
					}
					continue
				}
				if !maps.Equal(got, want) {
					t.Errorf("%s: got %d names, want %d, or others", claim, len(got), len(want))
				}
				for db, from := range origin {
					if w.Origin(db) != from {
						t.Errorf("%s: database %d: got what was %d, want %d", claim, db, w.Origin(db), from)
					}
				}
				// In two steps it is the same.
				half := &Swaps{Turns: tt.turns}
				add := func(fp Fingerprint, _ bool) error { all[fp] = true; return nil }
				if _, err := g.WalkKeys(t.Context(), 1, ends[n], half, add); err != nil {
					t.Fatal(err)
				}
				db := 0
				if n >= 2 {
					db = 1
				}
				if _, err := g.WalkStream(t.Context(), 1, ends[n], db, WalkAll, half.Clone(), add); err != nil {
					t.Fatal(err)
				}
				if !maps.Equal(all, want) {
					t.Errorf("%s: in two steps: got %d names, want %d, or others", claim, len(all), len(want))
				}
			}
		}
	}
}

// A key file of an epoch without swaps is of the first version; one behind a swap
// is of the second, and damage to what it tells of swaps is found.
func TestKeyFilesBehindASwap(t *testing.T) {
	m, g, ends := swapped(t)
	prune(t, g, Floor{Epoch: 1, Stream: true, Offset: ends[6]})
	for i, seq := range must(g.listKeySeqs(1))(t) {
		k := must(g.openKeys(1, seq))(t)
		k.close()
		want := uint32(1)
		if k.head.hdr.Stream && k.head.end() >= int64(ends[5]) {
			want = 2
		}
		if v := k.head.version(); v != want {
			t.Errorf("key file %d, of segment %s to %d: got version %d, want %d", i, seq, k.head.end(), v, want)
		}
		if want == 1 {
			continue
		}
		if got, want := fmt.Sprint(k.end.Swaps.origin), "map[0:1 1:0]"; got != want {
			t.Errorf("key file %d: got %s, want %s", i, got, want)
		}
		path := KeysPath(testDir, 1, 1, seq)
		raw := readFile(t, m, path)
		for at := range raw {
			bad := slices.Clone(raw)
			bad[at] ^= 4
			writeFile(t, m, path, bad)
			if _, err := g.ReadKeys(1, seq, func(Fingerprint) error { return nil }); err == nil {
				t.Errorf("byte %d of %s flipped: got no error", at, path)
			}
		}
		writeFile(t, m, path, raw)
	}
}
