package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"tairlift/internal/command"
	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// TestWalkKeysNamesWhatWasNamedUpToAnOffset, whether all of it is held or some
// of it pruned.
func TestWalkKeysNamesWhatWasNamedUpToAnOffset(t *testing.T) {
	s := exampleSource()
	start := testIdentity().Start
	end := start + repl.Offset(len(s.stream))
	for _, floor := range []Floor{
		{Epoch: 0}, {Epoch: 1}, {Epoch: 1, Stream: true, Offset: start}, {Epoch: 1, Stream: true, Offset: repl.Offset(s.ends[30])}, {Epoch: 2},
	} {
		for _, until := range []repl.Offset{WalkRDB, start, repl.Offset(s.ends[0]), repl.Offset(s.ends[30]), repl.Offset(s.ends[50]), end, WalkAll} {
			m := fsx.NewMem()
			o := options(m)
			o.SegmentBytes = 600
			w := s.write(t, o)
			if floor.Epoch == 2 { // all of it is pruned
				ok(t, w.Seal())
				id := testIdentity()
				id.Epoch = 2
				must(Create(testDir, id, o))(t)
			}
			if floor.Epoch == 2 && until < end || floor.Stream && until < floor.Offset {
				continue // what a key file holds is not divided
			}
			g := group(t, m)
			prune(t, g, floor)
			got := map[Fingerprint]bool{}
			opaque, err := g.WalkKeys(context.Background(), 1, until, nil, func(fp Fingerprint, _ bool) error { got[fp] = true; return nil })
			ok(t, err)
			want := before(s.inRDB, math.MaxInt64)
			maps.Copy(want, before(s.inStream, int64(until)))
			if !maps.Equal(got, want) {
				t.Errorf("floor %v, until %d: got %d keys, want %d", floor, until, len(got), len(want))
			}
			if until == WalkAll && opaque != 5 { // NEWCMD
				t.Errorf("floor %v: got %d opaque commands, want 5", floor, opaque)
			}
		}
	}
}

// Commands that empty databases come in their place among the keys.
func TestAWalkTellsWhatIsEmptied(t *testing.T) {
	s := &source{rdb: []byte("REDIS0009\xff\x00\x00\x00\x00\x00\x00\x00\x00")}
	for _, line := range []string{"SET a 1", "SELECT 3", "FLUSHDB", "SET b 1", "SLOTSDEL 7 9", "SWAPDB 0 3", "FLUSHALL ASYNC", "SET c 1"} {
		s.command(strings.Fields(line))
	}
	m := fsx.NewMem()
	s.write(t, options(m))
	var got []string
	opaque, err := group(t, m).WalkKeys(t.Context(), 1, WalkAll, nil,
		func(Fingerprint, bool) error { got = append(got, "key"); return nil },
		func(db int, c command.Cleared) error { got = append(got, fmt.Sprintf("%d:%v", db, c)); return nil })
	ok(t, err)
	if want := "[key 3:{false []} key 3:{false [7 9]} 3:{true []} key]"; fmt.Sprint(got) != want || opaque != 0 {
		t.Errorf("walk: got %v, %d opaque, want %s, none", got, opaque, want)
	}
	failed := errors.New("failed")
	_, err = group(t, m).WalkStream(t.Context(), 1, testIdentity().Start, 0, WalkAll, nil,
		func(Fingerprint, bool) error { return nil }, func(int, command.Cleared) error { return failed })
	if err != failed {
		t.Errorf("an error of the caller: got %v, want it as it is", err)
	}
}

func TestWalkStreamTellsWhatIsGoneForCertain(t *testing.T) {
	s := &source{rdb: []byte("REDIS0009\xff\x00\x00\x00\x00\x00\x00\x00\x00")}
	for _, args := range [][]string{
		{"SELECT", "3"},
		{"SET", "a", "1"},
		{"DEL", "a", "b"},
		{"RENAME", "c", "d"},
		{"MOVE", "e", "4"},
		{"LPOP", "f"},
		{"UNLINK", "g"},
	} {
		s.command(args)
	}
	m := fsx.NewMem()
	s.write(t, options(m))
	g := group(t, m)
	var got []string
	name := map[Fingerprint]string{}
	for db := range 5 {
		for _, k := range []string{"a", "b", "c", "d", "e", "f", "g"} {
			name[FingerprintOf(db, []byte(k))] = fmt.Sprintf("%d:%s", db, k)
		}
	}
	walk := func(after repl.Offset, db int, until repl.Offset) Walked {
		t.Helper()
		w, err := g.WalkStream(context.Background(), 1, after, db, until, nil, func(fp Fingerprint, removed bool) error {
			sign := "+"
			if removed {
				sign = "-"
			}
			got = append(got, sign+name[fp])
			return nil
		})
		ok(t, err)
		return w
	}
	// In two parts, of which the second goes on in the database of the first.
	half := repl.Offset(s.ends[2])
	w := walk(testIdentity().Start, 0, half)
	if w.DB != 3 {
		t.Errorf("database: got %d, want 3", w.DB)
	}
	walk(half, w.DB, WalkAll)
	if want := "[+3:a -3:a -3:b -3:c +3:d -3:e +4:e +3:f -3:g]"; fmt.Sprint(got) != want {
		t.Errorf("uses: got %v, want %s", got, want)
	}
	if _, err := g.WalkStream(context.Background(), 1, half, 0, half+99999, nil, func(Fingerprint, bool) error { return nil }); !errors.Is(err, ErrEnd) {
		t.Errorf("beyond the end: got %v, want ErrEnd", err)
	}
	failed := errors.New("failed")
	if _, err := g.WalkKeys(context.Background(), 1, WalkAll, nil, func(Fingerprint, bool) error { return failed }); err != failed {
		t.Errorf("an error of the caller: got %v, want it as it is", err)
	}
}

// walked are the keys that a walk over all of epoch 1 finds.
func walked(t testing.TB, g *Group) (map[Fingerprint]bool, error) {
	t.Helper()
	out := map[Fingerprint]bool{}
	_, err := g.WalkKeys(t.Context(), 1, WalkAll, nil, func(fp Fingerprint, _ bool) error { out[fp] = true; return nil })
	return out, err
}

func TestAWalkMissesNoSegment(t *testing.T) {
	s := exampleSource()
	m := fsx.NewMem()
	o := options(m)
	o.SegmentBytes = 600
	w := s.write(t, o)
	ok(t, w.Seal())
	all := must(walked(t, group(t, m)))(t)
	if want := len(before(append(slices.Clone(s.inRDB), s.inStream...), 1<<40)); len(all) != want {
		t.Fatalf("nothing pruned: got %d keys, want %d", len(all), want)
	}
	n := len(prune(t, group(t, m), Floor{Epoch: 1, Stream: true, Offset: repl.Offset(s.ends[20])}))
	if n < 5 {
		t.Fatalf("got %d segments pruned, want 5 or more", n)
	}
	if got := must(walked(t, group(t, m)))(t); len(got) != len(all) {
		t.Errorf("some pruned: got %d keys, want %d", len(got), len(all))
	}
	// A copy that has not got every key file yet.
	for seq := Seq(1); seq <= Seq(n); seq++ {
		path := KeysPath(testDir, 1, 1, seq)
		b := readFile(t, m, path)
		ok(t, m.Remove(path))
		var missing *MissingError
		if got, err := walked(t, group(t, m)); !errors.As(err, &missing) || missing.Path != Path(testDir, 1, 1, seq) {
			t.Errorf("without the key file of segment %s: got %d of %d keys, %v, want it to be missing", seq, len(got), len(all), err)
		}
		writeFile(t, m, path, b)
	}
}

func TestAWalkOverWhatIsPrunedMissesNoEnd(t *testing.T) {
	s := exampleSource()
	m := fsx.NewMem()
	o := options(m)
	o.SegmentBytes = 600
	ok(t, s.write(t, o).Seal())
	next := testIdentity()
	next.Epoch = 2
	w := must(Create(testDir, next, o))(t)
	ok(t, w.BeginRDB(100))
	all := prune(t, group(t, m), Floor{Epoch: 2})
	end := repl.Offset(s.ends[len(s.ends)-1])
	walk := func(until repl.Offset) error {
		_, err := group(t, m).WalkKeys(t.Context(), 1, until, nil, func(Fingerprint, bool) error { return nil })
		return err
	}
	for _, until := range []repl.Offset{WalkRDB, end, WalkAll} {
		ok(t, walk(until))
	}
	if err := walk(end + 1); !errors.Is(err, ErrEpochEnd) {
		t.Errorf("beyond the end: got %v, want ErrEpochEnd", err)
	}
	var missing *MissingError
	for _, p := range slices.Backward(all) {
		ok(t, m.Remove(KeysPath(testDir, 1, 1, p.Seq)))
		if p.Seq == 1 {
			break
		}
		if p.Stream && p.From > s.ends[len(s.ends)-2] {
			continue // within the last command
		}
		if err := walk(end); !errors.Is(err, ErrEpochEnd) && !errors.As(err, &missing) {
			t.Errorf("without the key files from %s on: got %v, want an error", p.Seq, err)
		}
	}
}

// listing is a file system that does something behind each look into a folder.
type listing struct {
	*fsx.Mem
	do func()
}

func (l *listing) ReadDir(dir string) ([]fs.DirEntry, error) {
	list, err := l.Mem.ReadDir(dir)
	l.do()
	return list, err
}

// A prune takes segments between any two looks of a walk, which reads them or
// says that it could not.
func TestAWalkBesideAPruneMissesNoSegment(t *testing.T) {
	s := exampleSource()
	for at, looks := 1, 99; at <= looks; at++ {
		m := fsx.NewMem()
		o := options(m)
		o.SegmentBytes = 600
		ok(t, s.write(t, o).Seal())
		g := group(t, m)
		all := must(walked(t, g))(t)
		prune(t, g, Floor{Epoch: 1, Stream: true, Offset: repl.Offset(s.ends[10])})
		n := 0
		beside := &listing{Mem: m, do: func() {
			if n++; n == at {
				prune(t, g, Floor{Epoch: 1, Stream: true, Offset: repl.Offset(s.ends[40])})
			}
		}}
		got, err := walked(t, must(openGroup(beside, testDir, testIdentity().Job, 1))(t))
		if err == nil && len(got) != len(all) {
			t.Errorf("pruned behind look %d: got %d keys, want %d or an error", at, len(got), len(all))
		}
		looks = n
	}
}
