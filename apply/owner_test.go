package apply

import (
	"testing"
)

func TestOwnerKnowsItsTokens(t *testing.T) {
	a, b := newOwner(), newOwner()
	if !a.wrote(a.token(3)) || !a.wrote(a.taking(3, 8)) || a.wrote(b.token(3)) || a.wrote("") || a.wrote(string(a)) {
		t.Errorf("owner %s wrote: own %v, %v, other's %v", a, a.wrote(a.token(3)), a.wrote(a.taking(3, 8)), b)
	}
	for token, want := range map[string]int64{a.taking(3, 8): 8, a.token(3): 0, "": 0, "a.b.c": 0, "a.1.2.3": 0} {
		if got := generation(token); got != want {
			t.Errorf("generation of %q: got %d, want %d", token, got, want)
		}
	}
}

// TestATargetThatGoesBackToAnEarlierProcess restarts with what it saved under
// an earlier run: its mark is another process's, which has not taken over.
func TestATargetThatGoesBackToAnEarlierProcess(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "k v").write("INCR n", "RPUSH l a")
	for _, save := range []bool{false, true} { // two earlier ones, the second of which is saved
		r.applyAll(Options{})
		if save {
			r.target.Do(t, "SAVE")
		}
		p.write("INCR n", "RPUSH l a")
	}
	r.applyAll(Options{})
	a := r.start(Options{batch: 1})
	p.write("INCR n", "RPUSH l a")
	a.reaches(t, p.end)
	for range 2 {
		r.target.Restart(t)
		p.write("INCR n", "RPUSH l a")
		a.reaches(t, p.end)
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	r.want("in the end", map[string]string{"0 GET n": "6", "0 LLEN l": "6"})
}
