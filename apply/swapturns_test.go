package apply

import (
	"fmt"
	"strings"
	"testing"

	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/internal/selection"
	"tairlift/spool"
)

func TestASwapUnderASelection(t *testing.T) {
	base := bareRig(t, 1)
	for _, tt := range []struct {
		claim string
		spec  selection.Spec
		line  string
		want  map[string]string // nil: it stops
	}{
		{"of two that are selected", selection.Spec{DBs: []int{0, 3}}, "SWAPDB 0 3", map[string]string{"0 GET k": "3x", "3 GET k": "0", "5 EXISTS k": "0"}},
		{"of two that are not", selection.Spec{DBs: []int{0}}, "SWAPDB 5 3", map[string]string{"0 GET k": "0x", "3 EXISTS k": "0", "5 EXISTS k": "0"}},
		{"of one that is not with one that is", selection.Spec{DBs: []int{0}}, "SWAPDB 5 0", nil},
		{"and the other way round", selection.Spec{DBs: []int{0}}, "SWAPDB 0 5", nil},
		{"of one that is selected with itself", selection.Spec{DBs: []int{0}}, "SWAPDB 0 0", map[string]string{"0 GET k": "0x"}},
		{"of databases that are moved", selection.Spec{DBs: []int{0, 3, 5}, DBMap: map[int]int{0: 6, 3: 7}}, "SWAPDB 3 0", map[string]string{"6 GET k": "3x", "7 GET k": "0", "7 GET other": "0", "0 EXISTS k": "0", "5 GET k": "5"}},
		{"of databases in each other's place", selection.Spec{DBMap: map[int]int{0: 3, 3: 0}}, "SWAPDB 3 0", map[string]string{"3 GET k": "3x", "0 GET k": "0", "0 GET other": "0"}},
		{"of some names", selection.Spec{IncludePrefix: []selection.Text{"k"}}, "SWAPDB 0 3", map[string]string{"0 GET k": "3x", "3 GET k": "0", "0 EXISTS other": "0", "3 EXISTS other": "0"}},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			r := base.again(t)
			r.craft(1, 1, "k 0", "other 0", "3:k 3", "5:k 5").write("SELECT 0", tt.line, "APPEND k x").seal()
			o := Options{OnFlush: FlushScoped, Selection: selecting(t, tt.spec)}
			if tt.want == nil {
				if stop := r.stopped(o, "flush-in-stream"); !strings.Contains(stop.What, "not") || !strings.Contains(stop.Hint, "--db") {
					t.Errorf("stop: got %q, %q", stop.What, stop.Hint)
				}
				r.want("before it", map[string]string{"0 GET k": "0"})
				return
			}
			r.applyAll(o)
			r.want("in the end", tt.want)
		})
	}
}

// Swaps that are left out and others that are carried out, in turns: names are
// looked for where the target has them.
func TestSwapsOfWhichSomeAreSkipped(t *testing.T) {
	base := bareRig(t, 1)
	for _, pruned := range []bool{false, true} {
		t.Run(fmt.Sprintf("pruned %t", pruned), func(t *testing.T) {
			r := base.again(t)
			p := r.craftBegin(1, 1, spool.WriterOptions{SegmentBytes: 64})
			p.rdb(handRDB("a 1", "3:b 1"))
			ignore := Options{OnFlush: FlushIgnore, OnExisting: ExistingReplace}
			p.write("SELECT 0").write("SWAPDB 0 3").write("SET c 1")
			r.applyAll(ignore)
			r.want("the first is left out", map[string]string{"0 GET a": "1", "3 GET b": "1", "0 GET c": "1"})
			p.write("SWAPDB 0 3", "SET d 1")
			r.applyAll(scoped)
			r.want("the second is carried out", map[string]string{"3 GET a": "1", "0 GET b": "1", "3 GET c": "1", "0 GET d": "1"})
			p.write("SWAPDB 0 3", "SET e 1").write("SWAPDB 0 5", "SET f 1")
			at := p.end
			if st := r.applyAll(ignore).Status()[0]; st.FlushesIgnored != 3 {
				t.Errorf("skipped: got %d, want 3", st.FlushesIgnored)
			}
			r.want("the others are not", map[string]string{"3 GET a": "1", "0 GET e": "1", "0 GET f": "1", "5 DBSIZE": "0"})
			if got := len(r.mark(1).Turns); got != 2 {
				t.Errorf("mark: got %s, want two turns", r.markText(1))
			}
			if pruned {
				r.prune(1, spool.Floor{Epoch: 1, Stream: true, Offset: at})
			}
			p.write("SET g 1", "SWAPDB 5 3", "APPEND g 2")
			if pruned {
				stop := r.stopped(scoped, "swap-unknown")
				if !strings.Contains(stop.Hint, "--new-epoch") {
					t.Errorf("stop: got %q", stop.Hint)
				}
				r.want("nothing is moved", map[string]string{"3 GET a": "1", "3 GET c": "1", "5 DBSIZE": "0"})
				return
			}
			r.applyAll(scoped)
			r.want("and carried out again", map[string]string{"5 GET a": "1", "5 GET c": "1", "3 DBSIZE": "0", "0 GET g": "12"})
			// By somebody else, where the group had keys of these names.
			r.target.DoIn(t, 3, "MSET", "a", "f", "c", "f")
			p.write("SELECT 5", "FLUSHDB", "SELECT 3", "FLUSHDB", "SELECT 0", "SET h 1").seal()
			r.applyAll(scoped)
			r.want("flushed", map[string]string{"5 DBSIZE": "0", "3 GET a": "f", "3 GET c": "f", "0 EXISTS b d e f g h": "6"})
		})
	}
}

// Where it is not known what was moved, a person is asked before anything goes.
func TestDeletionsWhereSwapsAreNotKnown(t *testing.T) {
	base := bareRig(t, 1)
	first := func(t *testing.T) (*rig, *pen) {
		r := base.again(t)
		p := r.craftBegin(1, 1, spool.WriterOptions{SegmentBytes: 64})
		p.rdb(handRDB("a 1", "3:b 1"))
		p.write("SELECT 0").write("SWAPDB 0 3").write("SET c 1")
		return r, p
	}
	asks := Options{OnFlush: FlushScoped}
	agreed := asks
	agreed.DeletesAgreed = true
	t.Run("a flush", func(t *testing.T) {
		r, p := first(t)
		r.applyAll(Options{OnFlush: FlushIgnore})
		r.prune(1, spool.Floor{Epoch: 1, Stream: true, Offset: p.end})
		p.write("FLUSHDB", "SET d 1").seal()
		if stop := r.stopped(asks, "confirm-deletes"); !strings.Contains(stop.What, "SWAPDB") {
			t.Errorf("stop: got %q", stop.What)
		}
		r.want("not yet", map[string]string{"0 GET a": "1", "0 GET c": "1"})
		r.applyAll(agreed)
		r.want("in the end", map[string]string{"0 EXISTS a c": "0", "0 GET d": "1", "3 GET b": "1"})
	})
	t.Run("a reseed", func(t *testing.T) {
		r, p := first(t)
		p.write("SET a 2").seal()
		r.applyAll(asks)
		r.want("before", map[string]string{"3 GET a": "1", "0 GET a": "2", "0 GET b": "1", "0 GET c": "1"})
		r.target.DoIn(t, 3, "SET", swapName(r.job, 1)+"x", "left") // by a swap that was cut short
		r.target.Do(t, "DEL", markKey(r.job, 1))
		reseed := asks
		reseed.Reseed = true
		if stop := r.stopped(reseed, "confirm-deletes"); !strings.Contains(stop.What, "SWAPDB") {
			t.Errorf("stop: got %q", stop.What)
		}
		agreed.Reseed = true
		r.applyAll(agreed)
		r.want("in the end", map[string]string{"3 GET a": "1", "0 GET a": "2", "0 GET b": "1", "0 GET c": "1", "3 DBSIZE": "1", "0 DBSIZE": "5"})
	})
}

// A real source, whose swaps come among what is written.
func TestASwapOfASourceInUse(t *testing.T) {
	r := newRig(t, 2)
	if _, err := r.sources[0].DoErr("SWAPDB", "0", "0"); err != nil {
		t.Skipf("the source does not know SWAPDB: %v", err)
	}
	for i, s := range r.sources {
		for k := range 50 {
			s.DoIn(t, k%3, "SET", fmt.Sprintf("g%d:%d", i, k/2), fmt.Sprint(k))
			s.DoIn(t, k%3, "PEXPIREAT", fmt.Sprintf("g%d:%d", i, k/2), farDeadline)
		}
	}
	r.target.DoIn(t, 1, "SET", "foreign", "f")
	o := scoped
	a := r.start(o)
	r.capture()
	for round := range 6 {
		for i, s := range r.sources {
			for k := range 20 {
				s.DoIn(t, (k+round)%3, "APPEND", fmt.Sprintf("g%d:%d", i, k), fmt.Sprint(round))
			}
		}
		r.sources[0].Do(t, "SWAPDB", fmt.Sprint(round%3), fmt.Sprint((round+1)%3))
		if round == 3 {
			r.sources[1].DoIn(t, 1, "FLUSHDB")
			r.sources[1].Do(t, "SWAPDB", "1", "2")
		}
	}
	r.caughtUp(a)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	r.stopCapture()
	r.applyAll(o)
	want := map[string]string{"1 foreign": "f"}
	for _, s := range r.sources {
		for k, v := range contents(t, s) {
			want[k] = v
		}
	}
	got := contents(t, r.target)
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: got %q, want %q", k, got[k], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("target: got %d keys, want %d", len(got), len(want))
	}
}

// A group that is applied alone, in a job whose other group's marks say that it
// swaps, spares what that may hold in either database.
func TestAFlushBesideASwapUnderWay(t *testing.T) {
	r := bareRig(t, 2)
	one := r.craft(1, 1, "k 1", "3:w 1", "both 1")
	two := r.craft(2, 1)
	r.applyAll(scoped)
	two.write("SET k 2", "SET w 2", "SELECT 3", "SET k 2", "SET w 2", "SELECT 5", "SET k 2")
	o := scoped
	o.Groups = []repl.GroupID{2}
	r.applyAll(o)
	one.write("SWAPDB 0 3", "INCR n")
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if isWord(args, "SET") && strings.Contains(string(argOf(args, 2)), " swap=2:0-3") {
			return redistest.Close()
		}
		return redistest.Pass()
	})
	half := scoped
	half.Groups, half.Addr, half.UntilEnd, half.MaxWait = []repl.GroupID{1}, proxy.Addr, true, 1
	if r.started(half) == nil {
		t.Fatal("got no error")
	}
	proxy.Close()
	if m := r.mark(1); m.Swap != (Swap{Step: swapAside, A: 0, B: 3}) {
		t.Fatalf("mark: got %s, want step %d", m, swapAside)
	}
	two.write("FLUSHALL", "SET n2 1").seal()
	r.applyAll(o)
	r.want("spared", map[string]string{"0 EXISTS k w": "2", "3 EXISTS k w": "2", "5 EXISTS k": "0", "5 GET n2": "1"})
	if got := strings.Join(r.doubts(), " "); got != "0:k 0:w 3:k 3:w" {
		t.Errorf("doubts: got %s, want those in both databases", got)
	}
}
