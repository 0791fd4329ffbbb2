package checkpoint

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/repl"
)

// tell is the doubtful and the healed keys of group 1.
func tell(t *testing.T, a *Apply) string {
	t.Helper()
	var out []string
	for _, list := range []func(repl.GroupID, func(Doubt) error) error{a.Doubts, a.Healed} {
		var names []string
		if err := list(1, func(d Doubt) error { names = append(names, string(d.Key)); return nil }); err != nil {
			t.Fatal(err)
		}
		out = append(out, strings.Join(names, " "))
	}
	return strings.Join(out, " | ")
}

func TestDoubtsAreHealedByWhatIsNotBeforeThem(t *testing.T) {
	a := must[*Apply](t)(OpenApply(filepath.Join(t.TempDir(), "apply.db")))
	defer a.Close()
	doubt := func(name string, e repl.Epoch, o repl.Offset) Doubt {
		return Doubt{Group: 1, Epoch: e, Key: []byte(name), Why: "gone", Offset: o}
	}
	all := []Doubt{doubt("a", 2, 100), doubt("b", 2, 101), doubt("c", 1, 999), doubt("d", 3, 1), doubt("e", 0, 500)}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(claim, want string) {
		t.Helper()
		if got := tell(t, a); got != want {
			t.Errorf("%s: got %q, want %q", claim, got, want)
		}
	}
	check(a.AddRejects([]Reject{
		{Group: 1, Keys: [][]byte{[]byte("a"), []byte("c")}}, {Group: 1, Keys: [][]byte{[]byte("a"), []byte("b")}}, {Group: 1},
	}, all))
	check(a.HealDoubts(append(all, doubt("never", 1, 1)), Heal{Epoch: 2, Offset: 100, Commands: 7}))
	want("a later command keeps its doubt", "b d | a c e")
	var healed []bool
	check(a.Rejects(1, func(r Reject) error { healed = append(healed, r.Healed); return nil }))
	if diff := cmp.Diff([]bool{true, false, false}, healed); diff != "" {
		t.Errorf("rejects that are healed, of those with all keys, one key, and none (-want +got)\n%s", diff)
	}
	check(a.AddDoubts([]Doubt{doubt("a", 2, 150), doubt("b", 2, 90)}))
	want("doubtful again", "a b d | c e")
	check(a.HealDoubts(all[:2], Heal{Epoch: 2, Offset: 100, Commands: 8}))
	want("by a value older than the second doubt, and than the first of b", "a b d | c e")
	check(a.HealDoubts(all[:2], Heal{Epoch: 2, Offset: 150, Commands: 9}))
	want("by one that is not", "d | a b c e")

	for _, tt := range []struct {
		epoch    repl.Epoch
		commands int64
		revived  string
	}{{2, 9, ""}, {3, 0, ""}, {2, 8, "a b"}, {1, 100, "c e"}} {
		lost, err := a.ReviveDoubts(1, tt.epoch, tt.commands)
		check(err)
		var names []string
		for _, d := range lost {
			names = append(names, string(d.Key))
		}
		if got := strings.Join(names, " "); got != tt.revived {
			t.Errorf("a mark of epoch %d with %d commands: got %q revived, want %q", tt.epoch, tt.commands, got, tt.revived)
		}
	}
	want("all revived", "a b c d e | ")
}

func TestDoubtsBehindAPlace(t *testing.T) {
	a := must[*Apply](t)(OpenApply(filepath.Join(t.TempDir(), "apply.db")))
	defer a.Close()
	for g := repl.GroupID(1); g <= 3; g++ {
		var ds []Doubt
		for i := range 7 {
			ds = append(ds, Doubt{Group: g, DB: i / 4, Key: fmt.Appendf(nil, "%d", i), Why: "gone"})
		}
		if err := a.AddDoubts(ds); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.HealDoubts([]Doubt{{Group: 2, Key: []byte("1")}}, Heal{Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for after := []byte(nil); ; {
		var some []string
		err := a.DoubtsBehind(2, after, func(d Doubt) bool {
			some, after = append(some, string(d.Key)), d.Place()
			return len(some) < 2
		})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.Join(some, ","))
		if len(some) == 0 {
			break
		}
	}
	if diff := cmp.Diff([]string{"0,2", "3,4", "5,6", ""}, got); diff != "" {
		t.Errorf("two at a time (-want +got)\n%s", diff)
	}
}

func TestDoubtsMoveWithTheirDatabases(t *testing.T) {
	a := must[*Apply](t)(OpenApply(filepath.Join(t.TempDir(), "apply.db")))
	defer a.Close()
	doubt := func(db int, name string, o repl.Offset) Doubt {
		return Doubt{Group: 1, Epoch: 2, DB: db, Key: []byte(name), Why: "gone", Offset: o}
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(claim, doubtful string, healed ...bool) {
		t.Helper()
		var got []string
		check(a.Doubts(1, func(d Doubt) error {
			got = append(got, fmt.Sprintf("%d:%.6s@%d", d.DB, d.Key, d.Offset))
			return nil
		}))
		if got := strings.Join(got, " "); got != doubtful {
			t.Errorf("%s: got %s, want %s", claim, got, doubtful)
		}
		var all []bool
		check(a.Rejects(1, func(r Reject) error { all = append(all, r.Healed); return nil }))
		if diff := cmp.Diff(healed, all); diff != "" {
			t.Errorf("%s: rejects that are healed (-want +got)\n%s", claim, diff)
		}
	}
	long := strings.Repeat("long", maxDoubtKey)
	check(a.AddRejects([]Reject{
		{Group: 1, DB: 0, Keys: [][]byte{[]byte("only")}}, {Group: 1, DB: 3, Keys: [][]byte{[]byte("both")}},
	}, []Doubt{
		doubt(0, "only", 100), doubt(0, "both", 100), doubt(3, "both", 50), doubt(5, "else", 100), doubt(3, "behind", 200), doubt(0, long, 100), {Group: 2, Key: []byte("only")},
	}))
	at := Heal{Epoch: 2, Offset: 200, Commands: 7}
	const swapped = "0:both@200 0:longlo@100 3:behind@200 3:both@200 3:longlo@200 3:only@200 5:else@100"
	for range 2 { // once more, as behind a crash
		added, healed, err := a.SwapDoubts(1, 3, 0, at)
		check(err)
		if len(added) < 1 || len(healed) > 1 {
			t.Errorf("swap: got %d doubts more, %d less", len(added), len(healed))
		}
		want("swapped", swapped, false, false)
		lost, err := a.ReviveDoubts(1, 2, 6)
		check(err)
		if len(lost) != 1 || string(lost[0].Key) != "only" || lost[0].DB != 0 {
			t.Errorf("the target has lost the mark: got %v, want that of database 0 back", lost)
		}
	}
	_, _, err := a.SwapDoubts(1, 0, 3, at)
	check(err)
	want("in the end", swapped, false, false)
	check(a.HealDoubts([]Doubt{doubt(3, "only", 0), doubt(3, "both", 0)}, Heal{Epoch: 2, Offset: 300, Commands: 9}))
	want("healed where they are now", "0:both@200 0:longlo@100 3:behind@200 3:longlo@200 5:else@100", true, true)
	// And moved back: what was healed stays so.
	_, _, err = a.SwapDoubts(1, 0, 3, Heal{Epoch: 2, Offset: 400, Commands: 12})
	check(err)
	want("moved back", "0:behind@400 0:longlo@400 3:both@400 3:longlo@400 5:else@100", true, false)
}
