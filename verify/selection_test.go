package verify

import (
	"strings"
	"testing"

	"tairlift/internal/redistest"
	"tairlift/internal/selection"
)

// What is not selected counts on neither side, at no level, and what is is looked
// for in its place.
func TestOnlyWhatIsSelectedIsCompared(t *testing.T) {
	a, b, dst := redistest.Source(t), redistest.Source(t), redistest.Target(t)
	load(t, a, 0, c("SET user:1 a0", "SET tmp:1 x", "SET user:tmp:1 x")...)
	load(t, a, 1, c("SET user:1 a1", "RPUSH user:2 a b", "SET tmp:1 x")...)
	load(t, a, 2, c("SET user:1 out")...)
	load(t, b, 1, c("SET user:3 b1", "SETEX user:4 100000 b1")...)
	// Database 1 of the target is nobody's, and 2 is that of another.
	load(t, dst, 0, c("SET user:1 a0", "SET own:1 o", "SET user:tmp:9 o")...)
	load(t, dst, 3, c("SET user:1 a1", "RPUSH user:2 a b", "SET user:3 b1", "SETEX user:4 100000 b1", "SET own:2 o")...)
	load(t, dst, 1, c("SET user:1 other", "SET user:9 o")...)
	load(t, dst, 2, c("SET user:1 other", "SET user:7 o")...)
	sel, err := selection.New(selection.Spec{
		DBs: []int{0, 1}, DBMap: map[int]int{1: 3}, IncludePrefix: []selection.Text{"user:"}, ExcludeRegex: []selection.Text{":tmp:"},
	})
	if err != nil {
		t.Fatal(err)
	}
	levels := []Level{LevelCounts, LevelKeys, LevelSample, LevelFull}
	run := func(level Level) Report {
		o := options(dst, a, b)
		o.Level, o.Sample, o.Selection = level, 1, sel
		return verify(t, o)
	}
	for _, level := range levels {
		rep := run(level)
		want := Identical
		if level == LevelSample {
			want = NoDifferenceInSample
		}
		expect(t, &rep, want, nil)
		if rep.SourceKeys != 5 || rep.TargetKeys != 5 {
			t.Errorf("%s: got %d source and %d target keys, want 5 and 5", level, rep.SourceKeys, rep.TargetKeys)
		}
		if out := text(t, &rep); !strings.Contains(out, "1:3") || !strings.Contains(out, `compared is what is selected: --db 0,1`) {
			t.Errorf("%s: got\n%s\nwant the selection and where database 1 went", level, out)
		}
	}
	load(t, dst, 3, c("SET user:3 changed", "SET user:5 more")...)
	rep := run(LevelFull)
	expect(t, &rep, Different, map[Class][]string{Value: {"user:3"}, Extra: {"user:5"}})
	for _, e := range rep.Examples {
		if e.DB != 1 {
			t.Errorf("got %s in database %d, want the source's, 1", e.Key, e.DB)
		}
	}
	for _, level := range []Level{LevelKeys, LevelSample} {
		rep := run(level)
		if rep.Verdict != Different || rep.Extra != 1 {
			t.Errorf("%s: got %s with %d extra, want different with 1", level, rep.Verdict, rep.Extra)
		}
	}
	load(t, dst, 3, c("DEL user:5", "DEL user:1", "DEL user:2")...)
	if rep := run(LevelCounts); rep.Verdict != Different || rep.Missing != 2 {
		t.Errorf("counts: got %s with %d missing, want different with 2", rep.Verdict, rep.Missing)
	}
}

// Without filters by name the proof that spares the scan for extra keys holds with
// a map as well.
func TestMappedDatabasesAreProvenWithoutAScan(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t)
	load(t, src, 0, c("SET k 0")...)
	load(t, src, 1, c("SET k 1", "SET l 1")...)
	load(t, dst, 1, c("SET k 0", "SET tairlift:x 1")...)
	load(t, dst, 0, c("SET k 1", "SET l 1")...)
	sel, err := selection.New(selection.Spec{DBMap: map[int]int{0: 1, 1: 0}})
	if err != nil {
		t.Fatal(err)
	}
	o := options(dst, src)
	o.Selection = sel
	rep := verify(t, o)
	expect(t, &rep, Identical, nil)
	if rep.TargetKeys != 3 || rep.Compared != 3 {
		t.Errorf("got %d target keys, %d compared, want 3 and 3", rep.TargetKeys, rep.Compared)
	}
	o.Selection = nil
	if rep := verify(t, o); rep.Verdict != Different {
		t.Errorf("without the map: got %s, want different", rep.Verdict)
	}
}
