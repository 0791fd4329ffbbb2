package apply

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/spool"
)

// swapRig is a target that two groups, and somebody else, have filled, and a
// replica of the first group. The stream of that one goes on with lines.
type swapRig struct {
	*rig
	p       *pen
	replica *redistest.Server
	db      int // that is selected
	others  map[string]string
}

// replaced were on the target before the job, and go where a key comes to.
var replaced = []string{"0 onlyb", "3 touched"}

const farDeadline = "7000000000000"

var swapRDB = []string{"a 1", "both 0", "shared 1", "gone 1", "touched 1", "3:b 1", "3:both 3", "3:onlyb 1", "3:gone 1", "5:five 1"}

// swapBegun fills the target.
func swapBegun(t *testing.T, r *rig) *swapRig {
	t.Helper()
	s := &swapRig{rig: r, replica: redistest.Start(t, "redis-server")}
	r.target.Do(t, "MSET", "foreign", "f", "touched", "f", "onlyb", "f")
	r.target.DoIn(t, 3, "MSET", "foreign", "f", "touched", "f", "old", "f")
	s.p = r.craft(1, 1, swapRDB...)
	for _, e := range swapRDB {
		name, v, _ := strings.Cut(e, " ")
		db, key, ok := strings.Cut(name, ":")
		if !ok {
			db, key = "0", db
		}
		n, _ := strconv.Atoi(db)
		s.replica.DoIn(t, n, "SET", key, v)
	}
	s.write(
		"RPUSH list x y", "PEXPIREAT list "+farDeadline, "HSET h f v", "DEL gone", "SELECT 3", "SADD list z",
		"SET ttl 1", "PEXPIREAT ttl "+farDeadline, "DEL gone", "SELECT 0", "MOVE a 5", "SET a 2",
	)
	o := scoped
	o.Groups = []repl.GroupID{1}
	r.applyAll(o)
	q := r.craft(2, 1, "own 2", "3:own 2", "3:theirs 2")
	q.write("SELECT 3", "INCR n", "SELECT 0", "SET gone 2", "SET mine 2", "DEL mine")
	q.seal()
	o.Groups = []repl.GroupID{2}
	r.applyAll(o)
	r.target.Do(t, "SADD", jobsKey, "another-job")
	r.target.DoIn(t, 3, "SET", "gone", "f") // by somebody else, since
	s.others = map[string]string{
		"0 foreign": "f", "3 foreign": "f", "3 old": "f", "0 own": "2", "3 own": "2", "3 theirs": "2", "3 n": "1", "0 gone": "2", "3 gone": "f",
	}
	return s
}

// write adds lines to the stream of the first group, and to its replica.
func (s *swapRig) write(lines ...string) {
	s.t.Helper()
	s.p.write(lines...)
	for _, l := range lines {
		f := strings.Fields(l)
		switch f[0] {
		case "SELECT":
			s.db, _ = strconv.Atoi(f[1])
		case "MULTI", "EXEC":
		default:
			s.replica.DoIn(s.t, s.db, f...)
		}
	}
}

// contents are the keys of a server with their values and deadlines.
func contents(t *testing.T, s *redistest.Server) map[string]string {
	t.Helper()
	out := map[string]string{}
	for db := range 8 {
		for _, e := range s.DoIn(t, db, "KEYS", "*").Elems {
			key := string(e.Str)
			if strings.HasPrefix(key, "tairlift:mark:") || key == jobsKey {
				continue
			}
			var v string
			switch typ := string(s.DoIn(t, db, "TYPE", key).Str); typ {
			case "string":
				v = s.DoIn(t, db, "GET", key).String()
			case "list":
				v = s.DoIn(t, db, "LRANGE", key, "0", "-1").String()
			case "set":
				v = s.DoIn(t, db, "SMEMBERS", key).String()
			case "hash":
				v = s.DoIn(t, db, "HGETALL", key).String()
			default:
				v = typ
			}
			if ttl := s.DoIn(t, db, "PTTL", key).Int; ttl > 0 {
				v += " expires"
				if ttl > 6_000_000_000_000 {
					v += " held"
				}
			}
			out[fmt.Sprintf("%d %s", db, key)] = v
		}
	}
	return out
}

// same compares the target with what the replica and others have.
func (s *swapRig) same(claim string) {
	s.t.Helper()
	want := contents(s.t, s.replica)
	maps.Copy(want, s.others)
	got := contents(s.t, s.target)
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got[k] != want[k] {
			s.t.Errorf("%s: %s: got %q, want %q", claim, k, got[k], want[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[k]; !ok && (got[k] != "f" || !slices.Contains(replaced, k)) {
			s.t.Errorf("%s: %s: got %q, want none", claim, k, got[k])
		}
	}
}

func TestASwap(t *testing.T) {
	base := bareRig(t, 2)
	for _, tt := range []struct {
		claim string
		lines []string
		swaps int64
	}{
		{"of two databases", []string{"RPUSH list q", "SWAPDB 0 3", "APPEND both x", "APPEND onlyb x", "SELECT 3", "RPUSH list w", "SET new 1"}, 1},
		{"the other way round", []string{"RPUSH list q", "SWAPDB 3 0", "APPEND both x", "SELECT 3", "RPUSH list w", "SET new 1"}, 1},
		{"with an empty one", []string{"SWAPDB 6 0", "APPEND both x", "SELECT 6", "APPEND both y"}, 1},
		{"of three, in turns", []string{"SWAPDB 0 3", "SET n1 1", "SWAPDB 3 5", "SET n2 1", "SELECT 5", "SET n3 1", "SWAPDB 0 5", "APPEND n3 1", "SELECT 3", "SET n4 1"}, 3},
		{"and back", []string{"SWAPDB 0 3", "APPEND both 1", "SWAPDB 3 0", "APPEND both 2", "SELECT 3", "APPEND both 3"}, 2},
		{"of one with itself", []string{"SWAPDB 3 3", "APPEND both 1"}, 0},
		{"in a transaction", []string{"MULTI", "APPEND both 1", "SWAPDB 0 3", "APPEND both 2", "SELECT 3", "APPEND both 3", "SWAPDB 5 3", "APPEND both 4", "EXEC", "APPEND both 5"}, 2},
		{"before a flush of one", []string{"SWAPDB 0 3", "SET n1 1", "FLUSHDB", "SET n2 1", "SELECT 3", "APPEND both 1"}, 1},
		{"behind a flush of one", []string{"FLUSHDB", "SET n1 1", "SWAPDB 0 3", "SET n2 1", "SELECT 3", "APPEND n1 1"}, 1},
		{"before a flush of all", []string{"SWAPDB 0 3", "SET n1 1", "FLUSHALL", "SET n2 1"}, 1},
		{"before a MOVE between them", []string{"SWAPDB 0 3", "MOVE onlyb 5", "SELECT 5", "MOVE five 3", "SWAPDB 3 5", "APPEND five 1"}, 2},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			s := swapBegun(t, base.again(t))
			s.write(tt.lines...)
			s.p.seal()
			if strings.Contains(strings.Join(tt.lines, " "), "FLUSH") { // which goes by names alone
				s.target.DoIn(t, 3, "DEL", "gone")
				delete(s.others, "3 gone")
			}
			o := scoped
			o.DeletesAgreed = true // a flush beside another job asks
			job := s.applyAll(o)
			s.same(tt.claim)
			if tt.swaps == 0 {
				s.want("nothing came there", map[string]string{"0 GET onlyb": "f", "3 GET touched": "f"})
			}
			if m := s.mark(1); m.Swap.Step != 0 || m.Phase != checkpoint.PhaseStream {
				t.Errorf("mark: got %s", m)
			}
			if st := job.Status()[0]; st.Swaps != tt.swaps || st.Reason != "" || st.Doubtful != 0 {
				t.Errorf("status: got %d swaps, reason %q, %d doubtful, want %d, none, none", st.Swaps, st.Reason, st.Doubtful, tt.swaps)
			}
		})
	}
}

// TestASwapEndsExactWhereverItBreaks ends a process behind one command after the
// other, executed or not; another one goes on.
func TestASwapEndsExactWhereverItBreaks(t *testing.T) {
	base := bareRig(t, 2)
	steps := map[int]int{}
	for n, done := int64(1), false; !done; n += 3 {
		r := base.again(t)
		r.target.Do(t, "MSET", "foreign", "f", "b", "f")
		r.target.DoIn(t, 3, "SET", "foreign", "f")
		p := r.craft(1, 1, "a 1", "both 0", "3:b 1", "3:both 3").write("RPUSH list x", "PEXPIREAT list "+farDeadline)
		r.craft(2, 1, "own 2", "3:own 2").seal()
		r.applyAll(scoped)
		p.write("INCR n", "SWAPDB 0 3", "APPEND both 2", "INCR n").seal()
		o := scoped
		o.Groups = []repl.GroupID{1}
		var seen atomic.Int64
		proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
			if seen.Load() == 0 && !isWord(args, "SCAN") { // before it looks for its keys
				return redistest.Pass()
			}
			switch at := seen.Add(1); {
			case at < n:
				return redistest.Pass()
			case n%2 == 1:
				return redistest.DropReply()
			}
			return redistest.Close()
		})
		o.Addr, o.UntilEnd, o.MaxWait, o.batch = proxy.Addr, true, 1, 2
		done = r.started(o) == nil
		proxy.Close()
		step := r.mark(1).Swap.Step
		steps[step]++
		o.Addr, o.MaxWait = "", 0
		if step > 0 { // what was begun is carried out, whatever the policy is by then
			o.OnFlush = FlushStop
		}
		r.applyAll(o)
		r.want(fmt.Sprintf("command %d", n), map[string]string{
			"0 GET b": "1", "0 GET both": "32", "0 GET n": "1", "0 GET own": "2", "0 GET foreign": "f", "0 DBSIZE": "8",
			"3 GET a": "1", "3 GET both": "0", "3 GET n": "1", "3 GET own": "2", "3 GET foreign": "f", "3 LRANGE list 0 -1": "[x]", "3 DBSIZE": "6",
		})
		if ttl := r.target.DoIn(t, 3, "PTTL", "list").Int; ttl < 1e12 {
			t.Errorf("command %d: deadline: got %d ms from now, want that of the list", n, ttl)
		}
		if t.Failed() {
			return
		}
	}
	for step := swapAside; step <= swapSteps; step++ {
		if steps[step] == 0 {
			t.Errorf("step %d: got no break in it, want some: %v", step, steps)
		}
	}
}

// A key of somebody else where one goes stops the group before anything is moved;
// one that comes there while keys are moved stops it then.
func TestASwapThatMeetsAnother(t *testing.T) {
	base := bareRig(t, 2)
	for claim, key := range map[string]string{"foreign": "a", "of another group": "mine"} {
		t.Run(claim, func(t *testing.T) {
			s := swapBegun(t, base.again(t))
			s.write("SET mine 1", "SWAPDB 0 3", "APPEND both 1")
			s.p.seal()
			o := scoped
			if key == "mine" {
				q := s.craft(2, 2, "own 2", "3:own 2", "3:theirs 2", "gone 2", "3:n 1", "3:mine 2")
				q.seal()
				o.Groups = []repl.GroupID{2}
				o.DeletesAgreed = true
				s.applyAll(o)
			} else {
				s.target.DoIn(t, 3, "SET", key, "f")
			}
			o.Groups = []repl.GroupID{1}
			before := contents(t, s.target)
			o.UntilEnd = true
			for range 2 {
				stop := s.stopped(o, "swap-collision")
				if !strings.Contains(stop.What, strconv.Quote(key)) || !strings.Contains(stop.Hint, "nothing is moved yet") {
					t.Errorf("stop: got %q, %q", stop.What, stop.Hint)
				}
			}
			before["0 mine"] = "1" // what came before the swap
			if got := contents(t, s.target); !maps.Equal(got, before) {
				t.Errorf("target: got %v, want %v", got, before)
			}
			s.target.DoIn(t, 3, "DEL", key)
			s.applyAll(o)
			s.same("in the end")
		})
	}
}

func TestASwapThatIsMetOnItsWay(t *testing.T) {
	base := bareRig(t, 2)
	for _, tt := range []struct {
		word string // before which somebody writes
		db   int    // there
		at   int
	}{{"MOVE", 0, 1}, {"RENAMENX", 3, 2}} {
		t.Run(tt.word, func(t *testing.T) {
			s := swapBegun(t, base.again(t))
			s.write("SWAPDB 0 3", "APPEND both 1")
			s.p.seal()
			var step atomic.Int64
			proxy := redistest.NewProxy(t, s.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
				if isWord(args, "SET") && strings.Contains(string(argOf(args, 2)), " swap="+strconv.Itoa(tt.at+1)) && step.CompareAndSwap(0, 1) {
					s.target.DoIn(t, tt.db, "SET", map[int]string{0: "b", 3: "a"}[tt.db], "f")
				}
				return redistest.Pass()
			})
			o := scoped
			o.Groups, o.Addr = []repl.GroupID{1}, proxy.Addr
			stop := s.stopped(o, "swap-collision")
			if !strings.Contains(stop.Hint, "a part of the keys is moved") {
				t.Errorf("stop: got %q, %q", stop.What, stop.Hint)
			}
			name := map[int]string{0: "b", 3: "a"}[tt.db]
			s.want("it is not touched", map[string]string{fmt.Sprintf("%d GET %s", tt.db, name): "f"})
			s.target.DoIn(t, tt.db, "DEL", name)
			o.Addr = ""
			s.applyAll(o)
			s.same("in the end")
		})
	}
}

// A key that comes under the name of one that was moved is not taken for it.
func TestASwapThatBreaksBehindItsFirstStep(t *testing.T) {
	s := swapBegun(t, bareRig(t, 2))
	s.write("SWAPDB 0 3", "APPEND both 1")
	s.p.seal()
	proxy := redistest.NewProxy(t, s.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if isWord(args, "SET") && strings.Contains(string(argOf(args, 2)), " swap=2:0-3") {
			return redistest.Close()
		}
		return redistest.Pass()
	})
	o := scoped
	o.Groups, o.UntilEnd, o.Addr, o.MaxWait = []repl.GroupID{1}, true, proxy.Addr, 1
	if s.started(o) == nil {
		t.Fatal("got no error")
	}
	proxy.Close()
	if m := s.mark(1); m.Swap.Step != swapAside {
		t.Fatalf("mark: got %s, want step %d", m, swapAside)
	}
	s.target.Do(t, "SET", "a", "f")
	o.Addr, o.MaxWait = "", 0
	s.applyAll(o)
	s.others["0 a"] = "f"
	s.same("in the end")
}

// Deadlines that are held are set exact where the keys are now.
func TestDeadlinesThatAreHeldFollowASwap(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1)
	var clock lagging
	clock.set(time.Minute)
	o := scoped
	o.Now = clock.now
	a := r.start(o)
	d := time.Now().Add(time.Hour).UnixMilli()
	p.write("SET k v", "PEXPIREAT k "+at(d), "SET both 0", "PEXPIREAT both "+at(d), "SELECT 3", "SET both 3", "PEXPIREAT both "+at(d+60_000))
	a.reaches(t, p.end)
	p.write("SWAPDB 0 3", "INCR n")
	a.reaches(t, p.end)
	r.wantDeadline("behind", 3, "k", 1, d)
	r.wantDeadline("behind", 3, "both", 1, d)
	r.wantDeadline("behind", 0, "both", 1, d+60_000)
	clock.set(0)
	p.write("PUBLISH c m") // something that is fresh
	r.exact(a, 1)
	r.wantDeadline("caught up", 3, "k", 0, d)
	r.wantDeadline("caught up", 3, "both", 0, d)
	r.wantDeadline("caught up", 0, "both", 0, d+60_000)
}

// Names that a walk gives are of the databases as they were: the sweep behind a new
// full sync finds what is to go where it is now, and so does another group's flush
// what to spare.
func TestASweepBehindASwap(t *testing.T) {
	base := bareRig(t, 2)
	for _, pruned := range []bool{false, true} {
		for _, half := range []bool{false, true} {
			t.Run(fmt.Sprintf("pruned %t, half %t", pruned, half), func(t *testing.T) {
				s := swapBegun(t, base.again(t))
				s.write("SET only0 1", "SELECT 3", "SET only3 1", "SWAPDB 0 3", "SET new 1")
				at := s.p.end
				if half { // then each key may be in either, as one of that name was
					s.target.DoIn(t, 3, "DEL", "gone")
					delete(s.others, "3 gone")
					s.write("SET only3 2", "SWAPDB 3 5")
				} else {
					s.write("SWAPDB 3 5", "SET last 1")
				}
				o := scoped
				o.Groups = []repl.GroupID{1}
				if half {
					o.UntilEnd = true
					proxy := redistest.NewProxy(t, s.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
						if isWord(args, "SET") && strings.Contains(string(argOf(args, 2)), " swap=3:3-5") {
							return redistest.Close()
						}
						return redistest.Pass()
					})
					o.Addr, o.MaxWait = proxy.Addr, 1
					if s.started(o) == nil {
						t.Fatal("got no error")
					}
					proxy.Close()
					o.Addr, o.MaxWait, o.UntilEnd = "", 0, false
					if m := s.mark(1); m.Swap.Step != swapBack {
						t.Fatalf("mark: got %s, want step %d", m, swapBack)
					}
				} else {
					s.applyAll(o)
				}
				s.p.seal()
				next := s.craft(1, 2, "only3 2", "3:both 9")
				next.write("INCR counter")
				next.seal()
				if pruned {
					s.prune(1, spool.Floor{Epoch: 1, Stream: true, Offset: at})
				}
				// By somebody else, under names that were the group's in other databases.
				s.target.DoIn(t, 6, "MSET", "only0", "f", "list", "f")
				o.DeletesAgreed = true
				s.applyAll(o)
				s.others["6 only0"], s.others["6 list"] = "f", "f"
				s.replica.Do(t, "FLUSHALL")
				s.replica.DoIn(t, 0, "MSET", "only3", "2", "counter", "1")
				s.replica.DoIn(t, 3, "SET", "both", "9")
				s.same("behind the sweep")
			})
		}
	}
}

func TestAFlushSparesWhatAnotherGroupHasSwapped(t *testing.T) {
	base := bareRig(t, 2)
	for _, pruned := range []bool{false, true} {
		t.Run(fmt.Sprintf("pruned %t", pruned), func(t *testing.T) {
			r := base.again(t)
			one := r.craftBegin(1, 1, spool.WriterOptions{SegmentBytes: 64})
			one.rdb(handRDB("k 1", "gone 1", "3:w 1"))
			one.write("SELECT 0").write("SET x 1").write("SET y 1").write("SWAPDB 0 3").write("SELECT 3").write("DEL gone").write("SET z 1")
			o := scoped
			o.Groups = []repl.GroupID{1}
			r.applyAll(o)
			two := r.craft(2, 1, "k 2", "3:k 2", "gone 2", "3:x 2", "3:gone 2")
			r.applyAll(scoped)
			if pruned {
				r.prune(1, spool.Floor{Epoch: 1, Stream: true, Offset: one.end})
			}
			two.write("FLUSHALL", "INCR n").seal()
			r.applyAll(scoped)
			// k is the first group's in database 3 now; in 0 it is the second one's alone.
			r.want("in the end", map[string]string{
				"0 EXISTS k gone": "0", "3 EXISTS k x y z": "4", "0 GET w": "1", "0 GET n": "1",
			})
			if !pruned { // then only names are known
				r.want("in the end", map[string]string{"3 EXISTS gone": "0"})
			}
			if n := len(r.doubts()); n < 2 {
				t.Errorf("doubts: got %d, want k and x of the first group", n)
			}
		})
	}
}

// What is doubtful is so where it is now, and a target that goes back makes it so
// where it was.
func TestDoubtsFollowASwap(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "n 1", "m 1", "3:m 1").write("INCR n", "INCR m", "SELECT 3", "INCR m")
	o := scoped
	o.OnReject = RejectContinue
	a := r.start(o)
	a.reaches(t, p.end)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	for _, at := range []struct {
		db  int
		key string
	}{{0, "n"}, {0, "m"}, {3, "m"}} {
		r.target.DoIn(t, at.db, "DEL", at.key)
		r.target.DoIn(t, at.db, "RPUSH", at.key, "x")
	}
	p.write("INCR m", "SELECT 0", "INCR m", "INCR n")
	r.applyAll(o)
	want := func(claim, names string, rejects int) {
		t.Helper()
		if got := strings.Join(r.doubts(), " "); got != names {
			t.Errorf("%s: doubts: got %s, want %s", claim, got, names)
		}
		if got := r.start(Options{OnFlush: FlushStop, OnReject: RejectContinue, UntilEnd: true}); got != nil {
			_ = got.wait()
			if st := got.job.Status()[0]; st.Rejects != rejects {
				t.Errorf("%s: got %d rejects, want %d", claim, st.Rejects, rejects)
			}
		}
	}
	want("before", "0:m 0:n 3:m", 3)
	r.target.Do(t, "SAVE")
	p.write("SWAPDB 0 3", "SET o 1")
	r.applyAll(o)
	want("behind it", "0:m 3:m 3:n", 3)
	p.write("SELECT 3", "FLUSHDB", "SELECT 0", "SET o 1")
	r.applyAll(o)
	want("behind a flush of one", "0:m", 1)
	r.target.Restart(t)
	a = r.start(Options{OnFlush: FlushStop, OnReject: RejectContinue, UntilEnd: true})
	if err := a.wait(); err == nil {
		t.Error("run with another policy: got no stop")
	}
	if got := strings.Join(r.doubts(), " "); !strings.Contains(got, "0:m") || !strings.Contains(got, "0:n") || !strings.Contains(got, "3:m") {
		t.Errorf("taken back: doubts: got %s, want all three", got)
	}
	p.seal()
	r.applyAll(o)
	want("and again", "0:m", 1)
}

// doubts are the doubtful keys of group 1.
func (r *rig) doubts() []string { return r.doubtsOf(1) }

func (r *rig) doubtsOf(id repl.GroupID) (out []string) {
	r.t.Helper()
	store, err := checkpoint.OpenApply(r.dir + "/apply/target/apply.db")
	if err != nil {
		r.t.Fatal(err)
	}
	defer store.Close()
	err = store.Doubts(id, func(d checkpoint.Doubt) error {
		out = append(out, fmt.Sprintf("%d:%s", d.DB, d.Key))
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}
