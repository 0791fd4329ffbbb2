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
