package job

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/redistest"
	"tairlift/internal/selection"
)

func TestASelectionIsThatOfATarget(t *testing.T) {
	dir := t.TempDir()
	writeJob(t, dir, jobText(jobA, `{"id": 1, "addr": "a:1"}`))
	f, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	spec := selection.Spec{DBs: []int{0, 1}, DBMap: map[int]int{1: 3}, IncludePrefix: []selection.Text{"\xff"}}
	// Nothing is remembered of a target that was never used: what is given counts.
	s, err := f.selectFor("t:1", spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.rememberTarget("t:1", s.Spec()); err != nil {
		t.Fatal(err)
	}
	if err := f.rememberTarget("t:2", selection.Spec{}); err != nil {
		t.Fatal(err)
	}
	for _, given := range []selection.Spec{{}, spec, {DBs: []int{1, 0}}} {
		got, err := f.selectFor("t:1", given)
		if err != nil {
			t.Errorf("%s: %v", given, err)
			continue
		}
		if diff := cmp.Diff(s.Spec(), got.Spec()); diff != "" || got.Digest() != s.Digest() {
			t.Errorf("%s: what was remembered is another (-want +got):\n%s", given, diff)
		}
	}
	_, err = f.selectFor("t:1", selection.Spec{DBs: []int{0}})
	checkError(t, err, Refused, `--db is 0, and this job began with 0,1 on target t:1 (--db 0,1 --db-map 1:3 --include-prefix "\xff")`)
	// Everything is a selection too.
	_, err = f.selectFor("t:2", selection.Spec{ExcludePrefix: []selection.Text{"x"}})
	checkError(t, err, Refused, `--exclude-prefix is "x", and this job began with none on target t:2 (everything)`)
	if got, err := f.selectFor("t:2", selection.Spec{}); err != nil || got != nil {
		t.Errorf("everything: got %v, %v", got, err)
	}
	// A file of an earlier version, and one that makes no sense.
	write(t, f.targetFile("t:3"), `{"addr": "t:3"}`)
	if got, err := f.selectFor("t:3", selection.Spec{}); err != nil || got != nil {
		t.Errorf("of an earlier version: got %v, %v, want everything", got, err)
	}
	write(t, f.targetFile("t:4"), `{"addr": "t:4", "selection": {"include_regex": ["a("]}}`)
	_, err = f.selectFor("t:4", selection.Spec{})
	checkError(t, err, Refused, f.targetFile("t:4")+`: --include-regex "a(": missing closing ): `+"`a(`")
	_, err = f.selectFor("t:5", selection.Spec{DBMap: map[int]int{1: 0}})
	checkError(t, err, Usage, "databases 0 and 1 of the sources would both go to database 0 of the target")
}

func TestAScriptThatNamesNoKeyStopsAGroupThatSelectsByName(t *testing.T) {
	target := redistest.Target(t)
	m := redistest.FakeMaster(t, redistest.Script{Session: crafted()})
	o := Options{
		Dir: filepath.Join(t.TempDir(), "job"), Groups: []Group{{1, m.Addr}}, Target: target.Addr, Until: UntilCaughtUp,
		Selection: selection.Spec{ExcludePrefix: []selection.Text{"tmp:"}},
	}
	if err := RunSync(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	m.Append(commandsOf("EVAL return(1) 0", "INCR n"))
	want := end{Stopped, "filter-script", `command "EVAL" "return(1)"`, "--new-epoch"}
	want.check(t, o, RunSync(t.Context(), o))
	if got := target.Do(t, "GET", "n").String(); got != "1" {
		t.Errorf("n on the target: got %s, want 1: nothing behind it is applied", got)
	}
}
