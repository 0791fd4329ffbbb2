package apply

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"tairlift/checkpoint"
	"tairlift/internal/redistest"
	"tairlift/internal/selection"
)

// aNames selects names that begin with a and do not end with x, in the databases 0
// and 1 of the sources; 1 is 3 on the target.
func aNames(t testing.TB) *selection.Selection {
	return selecting(t, selection.Spec{
		DBs: []int{0, 1}, DBMap: map[int]int{1: 3}, IncludePrefix: []selection.Text{"a"}, ExcludeRegex: []selection.Text{"x$"},
	})
}

// Two epochs of two groups, and keys of somebody else's which the spool names,
// where the job has no business: they stay, and keep nobody from beginning.
func (r *rig) partsOfTwoEpochs() (second func()) {
	for _, q := range []string{"0 bgone", "0 agonex", "1 agone", "1 alist", "2 agone"} {
		db, key, _ := strings.Cut(q, " ")
		r.target.DoIn(r.t, int(db[0]-'0'), "SET", key, "foreign")
	}
	r.craft(1, 1, "astays v", "agone v", "bgone v", "agonex v", "1:agone v", "1:bgone v", "2:agone v").
		write("INCR acounter", "INCR bcounter", "SELECT 1", "RPUSH alist a", "RPUSH blist a", "MULTI", "INCR acounter", "SELECT 2", "INCR acounter",
			"SELECT 0", "DEL astale bstale", "INCRBY acounter 5", "EXEC", "SELECT 2", "RPUSH alist never").seal()
	r.craft(2, 1, "a2 v", "b2 v").write("SELECT 1", "MSET a2 w b2 w").seal()
	return func() {
		r.craft(1, 2, "astays v", "acounter 7", "bcounter 7", "1:alist2 w").
			write("SELECT 1", "RPUSH alist b", "INCR acounter", "SELECT 0", "INCR acounter", "INCR bcounter").seal()
	}
}

var afterParts = map[string]string{
	"0 GET astays": "v", "0 GET acounter": "8", "0 EXISTS agone": "0", "3 EXISTS agone": "0", "3 GET alist2": "w",
	"3 LRANGE alist 0 -1": "[b]", "3 GET acounter": "1", "0 GET a2": "v", "3 GET a2": "w",
	"0 EXISTS bcounter b2": "0", "3 EXISTS blist bgone b2": "0",
	// Somebody else's.
	"0 GET bgone": "foreign", "0 GET agonex": "foreign", "1 GET agone": "foreign", "1 GET alist": "foreign", "2 GET agone": "foreign",
	"0 DBSIZE": "8", "1 DBSIZE": "2", "2 DBSIZE": "1", "3 DBSIZE": "4",
}

func TestOnlyWhatIsSelectedIsAppliedAndSwept(t *testing.T) {
	r := bareRig(t, 2)
	second := r.partsOfTwoEpochs()
	o := Options{Selection: aNames(t)}
	st := r.applyAll(o).Status()[0]
	// Of the stream: INCR, RPUSH, and two of the transaction with half a DEL.
	if st.Keys != 3 || st.Commands != 5 || st.Filtered != 8 || st.Doubtful != 0 {
		t.Errorf("status: got %d keys, %d commands, %d left out, %d doubtful, want 3, 5, 8, 0", st.Keys, st.Commands, st.Filtered, st.Doubtful)
	}
	r.want("behind the first epoch", map[string]string{
		"0 GET acounter": "6", "3 GET acounter": "1", "3 LRANGE alist 0 -1": "[a]", "0 GET agone": "v", "3 GET agone": "v",
		"2 EXISTS acounter alist": "0", "1 GET agone": "foreign",
	})
	second()
	r.applyAll(o)
	r.want("in the end", afterParts)
	if m := r.mark(1); m.Selection != o.Selection.Digest() || m.Selection == "" {
		t.Errorf("the mark's selection: got %q, want %q", m.Selection, o.Selection.Digest())
	}
}

func TestAPartIsExactWhereverItBreaks(t *testing.T) {
	base := bareRig(t, 2)
	for n, done := int64(1), false; !done; n++ {
		r := base.again(t)
		second := r.partsOfTwoEpochs()
		o := Options{Selection: aNames(t), batch: 2}
		var seen atomic.Int64
		proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
			if strings.EqualFold(string(args[0]), "EXEC") && seen.Add(1) == n {
				return redistest.DropReply()
			}
			return redistest.Pass()
		})
		o.Addr = proxy.Addr
		// A batch whose answer was lost is looked at where it went.
		sure := func() {
			t.Helper()
			if d := r.doubtful(); len(d) > 0 {
				t.Errorf("EXEC %d: doubtful are %v, want none", n, d)
			}
		}
		r.applyAll(o)
		sure()
		second()
		r.applyAll(o)
		sure()
		proxy.Close()
		r.want(fmt.Sprintf("EXEC %d", n), afterParts)
		if t.Failed() {
			return
		}
		done = seen.Load() < n
	}
}

// A flush takes what the job has put there, and no key of another name or place.
func TestAScopedFlushOfAPart(t *testing.T) {
	base := bareRig(t, 2)
	for flush, want := range map[string]map[string]string{
		"SELECT 1;FLUSHDB": {"0 GET a": "v", "3 EXISTS a al": "0", "3 GET a2": "v"},
		"FLUSHALL":         {"0 EXISTS a": "0", "3 EXISTS a al": "0", "3 GET a2": "v"},
		"SELECT 3;FLUSHDB": {"0 GET a": "v", "3 GET a": "v", "3 LRANGE al 0 -1": "[x]", "3 GET a2": "v"},
	} {
		r := base.again(t)
		for _, db := range []int{1, 3} { // that the group's spool names, and others have
			r.target.DoIn(t, db, "SET", "b", "foreign")
		}
		r.target.DoIn(t, 1, "SET", "a", "foreign")
		r.craft(1, 1, "a v", "b v", "1:a v", "1:b v").
			write(append([]string{"SELECT 1", "RPUSH al x", "RPUSH b x"}, append(strings.Split(flush, ";"), "SELECT 0", "INCR an")...)...).seal()
		r.craft(2, 1, "1:a2 v").seal()
		r.applyAll(Options{Selection: aNames(t), OnFlush: FlushScoped})
		r.want(flush, want)
		r.want(flush, map[string]string{"1 GET b": "foreign", "3 GET b": "foreign", "1 GET a": "foreign", "0 GET an": "1"})
	}
}

func TestForeignKeysAreThoseOfThePlace(t *testing.T) {
	r := bareRig(t, 1)
	r.craft(1, 1, "1:arest v").write("SELECT 1", "RPUSH alist new", "RPUSH blist new", "COPY arest acopy", "RENAME bfrom ato", "INCR ato",
		"RPOPLPUSH blist alast", "COPY aread bcopy").seal()
	for _, db := range []int{1, 3} {
		r.target.DoIn(t, db, "RPUSH", "alist", "old")
		r.target.DoIn(t, db, "RPUSH", "blist", "old")
		r.target.DoIn(t, db, "RPUSH", "ato", "old")
		r.target.DoIn(t, db, "RPUSH", "alast", "old")
		r.target.DoIn(t, db, "RPUSH", "aread", "old")
	}
	o := r.options(Options{Selection: aNames(t)})
	_, err := Open(t.Context(), o)
	o.Store.Close()
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.What, `keys that are selected of somebody else's`) ||
		strings.Contains(refused.What, `db1:`) || !strings.Contains(refused.What, `db3:"a`) || strings.Contains(refused.What, "blist") {
		t.Errorf("open: got %v, want a refusal for the keys in database 3 that would be replaced", err)
	}
	r.applyAll(Options{Selection: aNames(t), OnExisting: ExistingReplace})
	r.want("with --on-existing replace", map[string]string{
		"3 LRANGE alist 0 -1": "[new]", "3 LRANGE blist 0 -1": "[old]", "3 GET ato": "1", "3 EXISTS alast": "0",
		"1 LRANGE alist 0 -1": "[old]", "1 LRANGE blist 0 -1": "[old]", "1 LRANGE ato 0 -1": "[old]", "1 LRANGE alast 0 -1": "[old]",
	})
	// What a command has only read, and nothing has touched, no later epoch removes.
	r.craft(1, 2, "1:arest v").seal()
	r.applyAll(Options{Selection: aNames(t), OnExisting: ExistingReplace})
	r.want("behind a new epoch", map[string]string{"3 LRANGE aread 0 -1": "[old]", "3 EXISTS alist": "0", "1 LRANGE alist 0 -1": "[old]"})
}

// What fails on a key that the target could not be given stops nothing.
func TestAFailureThatADoubtExplainsIsNoReject(t *testing.T) {
	r := bareRig(t, 1)
	r.craft(1, 1).write("SET a1 1", "RENAME b a1", "RENAME a1 a2", "SET a3 1", "SELECT 1", "RPUSH a 1", "INCR a4").seal()
	st := r.applyAll(Options{Selection: aNames(t)}).Status()[0]
	if got := r.doubtful(); got["0:a1"] != "selection" || got["0:a2"] != "derived" || len(got) != 2 || st.Rejects != 0 {
		t.Errorf("got %v doubtful and %d rejects, want a1 (selection), a2 (derived), 0", got, st.Rejects)
	}
	r.want("behind it", map[string]string{"0 GET a3": "1", "3 GET a4": "1", "0 EXISTS a1 a2": "0"})
	// A doubt is kept also where nothing is sent with it.
	r = r.again(t)
	r.craft(1, 1).write("RPOPLPUSH b a").seal()
	r.applyAll(Options{Selection: aNames(t)})
	if got := r.doubtful(); got["0:a"] != "selection" {
		t.Errorf("got %v doubtful, want a", got)
	}
	// Any other failure does, in a job with a selection too.
	r = r.again(t)
	p := r.craft(1, 1).write("RPUSH a 1")
	r.applyAll(Options{Selection: aNames(t)})
	p.write("INCR a").seal()
	r.stopped(Options{Selection: aNames(t)}, "reject")
}

func TestASelectionStaysAsItIs(t *testing.T) {
	r := bareRig(t, 1)
	r.craft(1, 1, "a v", "b v").write("INCR an").seal()
	r.applyAll(Options{Selection: aNames(t)})
	before := r.markText(1)
	for claim, s := range map[string]*selection.Selection{
		"none":    nil,
		"another": selecting(t, selection.Spec{DBs: []int{0}}),
	} {
		for _, reseed := range []bool{false, true} {
			for _, fresh := range []bool{false, true} { // a folder that knows nothing of the first
				o := Options{Selection: s, Reseed: reseed}
				if fresh {
					o.StateDir = t.TempDir()
				}
				o = r.options(o)
				_, err := Open(t.Context(), o)
				o.Store.Close()
				var refused *RefusedError
				if !errors.As(err, &refused) || !strings.Contains(refused.What, "selects") || refused.Hint == "" {
					t.Errorf("%s, reseed %v, fresh %v: got %v, want a refusal", claim, reseed, fresh, err)
				}
			}
		}
	}
	if got := r.markText(1); got != before {
		t.Errorf("the mark has changed: got %s, want %s", got, before)
	}
	r.want("nothing was written", map[string]string{"0 GET a": "v", "0 EXISTS b": "0", "0 GET an": "1"})
}

// A mark of another selection that comes while apply runs, or was not to be seen
// when it began, stops the group before anything is written.
func TestAMarkOfAnotherSelectionStopsTheGroup(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "a v").write("INCR an")
	a := r.start(Options{Selection: aNames(t)})
	a.reaches(t, p.end)
	r.setMark(func(m *Mark) { m.Selection = "" })
	p.write("INCR an")
	err := a.wait()
	var refused *RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("run: got %v, want a refusal", err)
	}
	if st := a.job.Status()[0]; st.State != StateStopped || st.Reason != "refused" || st.Hint == "" {
		t.Errorf("status: got %s %s, want it stopped and refused", st.State, st.Reason)
	}
	r.want("nothing was written", map[string]string{"0 GET an": "1"})
}

func TestADatabaseThatTheTargetDoesNotHave(t *testing.T) {
	r := bareRig(t, 1)
	r.craft(1, 1, "a v").write("SELECT 1", "INCR a").seal()
	stop := r.stopped(Options{Selection: selecting(t, selection.Spec{DBs: []int{0, 1}, DBMap: map[int]int{1: 99}})}, "target-database")
	if want := "database 1 of the source goes to database 99, which the target does not have"; !strings.Contains(stop.What, want) {
		t.Errorf("got %s, want %s", stop.What, want)
	}
}

func TestMarksOfSelections(t *testing.T) {
	m := Mark{Owner: "a.0", Selection: "0123456789abcdef"}
	got, err := ParseMark(m.String())
	if err != nil || got.Selection != m.Selection || got.String() != m.String() {
		t.Errorf("ParseMark(%q): got %+v, %v", m, got, err)
	}
	if plain := (Mark{Owner: "a.0"}).String(); strings.Contains(plain, "sel") {
		t.Errorf("got %q, want a mark that an older tairlift reads", plain)
	}
	if _, err := ParseMark((Mark{Owner: "a.0", Phase: checkpoint.PhaseNone}).String() + " sel="); err == nil {
		t.Error("an empty selection: got no error")
	}
}

// Keys that became doubtful for what the target does not have end as the source has
// them, in their places, while the source goes on.
func TestWhatDependsOnWhatIsLeftOutIsCopiedAgain(t *testing.T) {
	r := newRig(t, 1)
	s := r.sources[0]
	for db := range 3 {
		s.DoIn(t, db, "SADD", "bset", "1", "2")
		s.DoIn(t, db, "SADD", "aset", "2", "3")
		s.DoIn(t, db, "RPUSH", "blist", "x", "y", "z")
		s.DoIn(t, db, "RPUSH", "alist", "1", "2", "3")
		s.DoIn(t, db, "SET", "bvalue", "b")
	}
	r.capture()
	a := r.start(Options{Selection: aNames(t), Sources: r.sourcesOf()})
	for db := range 3 {
		for _, args := range []string{
			"SUNIONSTORE amade bset aset", "RPOPLPUSH blist alist", "RPOPLPUSH alist blist", "SMOVE bset aset 1", "SMOVE aset bset 3",
			"PFADD bp 1 2", "PFMERGE ap bp", "SORT blist ALPHA STORE asorted", "BITOP NOT abits bvalue", "SET bv 1", "RENAME bv anew", "APPEND anew x",
			"EVAL return(redis.call('RPOPLPUSH',KEYS[1],KEYS[2])) 2 blist alist", "MOVE bvalue 7", "SET amoved 1", "MOVE amoved 7", "SET aother 1",
		} {
			s.DoIn(t, db, strings.Fields(args)...)
		}
	}
	r.caughtUp(a)
	a.healed(t, 1)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[int]int{0: 0, 1: 3} {
		want := s.DoIn(t, from, "KEYS", "a*").Strings()
		got := r.target.DoIn(t, to, "KEYS", "[ab]*").Strings()
		if len(got) != len(want) || len(want) < 8 {
			t.Errorf("database %d: got %d keys %q, want the %d of the source %q", to, len(got), got, len(want), want)
		}
		for _, k := range want {
			if got, want := value(t, r.target, to, k), value(t, s, from, k); got != want {
				t.Errorf("%s in database %d: got %s, want %s", k, to, got, want)
			}
		}
	}
	for _, db := range []int{1, 2, 7} {
		if n := r.target.DoIn(t, db, "DBSIZE").Int; n != 0 {
			t.Errorf("database %d: got %d keys, want none", db, n)
		}
	}
}
