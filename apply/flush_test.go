package apply

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"tairlift/checkpoint"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/spool"
)

// flushed is a target that two groups and somebody else have filled; the stream
// of the first goes on with lines.
func flushed(r *rig, lines ...string) {
	r.t.Helper()
	r.target.Do(r.t, "MSET", "foreign", "f", "touched", "f", "named", "f")
	r.target.DoIn(r.t, 3, "SET", "foreign", "f")
	p := r.craft(1, 1, "rdb 1", "3:rdb 1", "touched 1", "shared 1", "3:shared 1")
	p.write("SET named 1", "SELECT 3", "RPUSH list x", "SET {a} 1", "SELECT 0", "MOVE rdb 5")
	o := scoped
	o.Groups = []repl.GroupID{1}
	r.applyAll(o)
	q := r.craft(2, 1, "own 2", "3:own 2", "shared 2")
	q.write("SELECT 3", "SET shared 2", "INCR n", "SELECT 0", "INCR n", "SET given 2", "DEL given")
	q.seal()
	o.Groups = []repl.GroupID{2}
	r.applyAll(o)
	p.write("SET given 1", "RPUSH list x")
	p.write(lines...).seal()
}

var scoped = Options{OnFlush: FlushScoped, OnExisting: ExistingReplace}

// others are the keys that no flush of the first group reaches.
var others = map[string]string{
	"0 GET foreign": "f", "3 GET foreign": "f", "0 GET own": "2", "3 GET own": "2", "0 GET n": "1", "3 GET n": "1",
	"0 GET shared": "2", "3 GET shared": "2",
}

func TestAScopedFlush(t *testing.T) {
	base := bareRig(t, 2)
	for _, tt := range []struct {
		claim  string
		stream []string
		want   map[string]string
	}{
		{"of one database", []string{"SELECT 3", "FLUSHDB", "RPUSH list y"}, map[string]string{
			"3 DBSIZE": "5", "3 LRANGE list 0 -1": "[y]", "0 LRANGE list 0 -1": "[x]", "0 GET touched": "1", "0 GET named": "1", "5 GET rdb": "1",
		}},
		{"of database 0, with the marks", []string{"FLUSHDB ASYNC", "RPUSH list y", "SELECT 5", "APPEND rdb 2"}, map[string]string{
			"0 DBSIZE": "8", "0 LRANGE list 0 -1": "[y]", "0 EXISTS touched named given": "0", "3 LRANGE list 0 -1": "[x]", "3 GET rdb": "1", "5 GET rdb": "12",
		}},
		{"of all", []string{"SELECT 5", "FLUSHALL", "APPEND rdb 2"}, map[string]string{
			"0 DBSIZE": "7", "3 DBSIZE": "4", "5 DBSIZE": "1", "5 GET rdb": "2",
		}},
		{"twice", []string{"FLUSHALL SYNC", "RPUSH list y", "FLUSHALL", "RPUSH list z"}, map[string]string{
			"0 DBSIZE": "8", "3 DBSIZE": "4", "5 DBSIZE": "0", "0 LRANGE list 0 -1": "[z]",
		}},
		{"of slots", []string{"SELECT 3", "SLOTSDEL 7 579", "RPUSH list y"}, map[string]string{ // that of {a}
			"3 EXISTS {a}": "0", "3 LRANGE list 0 -1": "[x y]", "3 GET rdb": "1", "0 LRANGE list 0 -1": "[x]",
		}},
		{
			"in a transaction",
			[]string{"MULTI", "RPUSH list y", "MOVE touched 3", "SELECT 3", "APPEND rdb 2", "SELECT 0", "FLUSHDB", "RPUSH list z", "RPUSH list z", "EXEC", "RPUSH list z"},
			map[string]string{
				"0 DBSIZE": "8", "0 LRANGE list 0 -1": "[z z z]", "3 GET touched": "1", "3 GET rdb": "12", "5 GET rdb": "1",
			},
		},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			r := base.again(t)
			flushed(r, tt.stream...)
			job := r.applyAll(scoped)
			r.want("in the end", tt.want)
			r.want("others", others)
			if m := r.mark(1); m.Clearing || m.Phase != checkpoint.PhaseStream {
				t.Errorf("mark: got %s", m)
			}
			if st := job.Status()[0]; st.Flushes == 0 || st.Flushed == 0 || st.Reason != "" {
				t.Errorf("status: got %d flushes, %d keys, reason %q, want some and none", st.Flushes, st.Flushed, st.Reason)
			}
		})
	}
}

// TestAScopedFlushEndsExactWhereverItBreaks ends a process behind one command
// after the other; another one goes on.
func TestAScopedFlushEndsExactWhereverItBreaks(t *testing.T) {
	base := bareRig(t, 2)
	for n, done := int64(1), false; !done; n += 3 {
		r := base.again(t)
		flushed(r, "INCR before", "MULTI", "INCR before", "FLUSHDB", "INCR behind", "EXEC", "INCR behind")
		o := scoped
		o.Groups = []repl.GroupID{1}
		var seen atomic.Int64
		proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, _ [][]byte) redistest.Action {
			if seen.Add(1) < n {
				return redistest.Pass()
			}
			return redistest.DropReply()
		})
		o.Addr, o.UntilEnd, o.MaxWait, o.batch = proxy.Addr, true, 1, 3
		err := r.started(o)
		done = err == nil
		proxy.Close()
		o.Addr, o.MaxWait = "", 0
		r.applyAll(o)
		claim := fmt.Sprintf("command %d", n)
		r.want(claim, map[string]string{
			"0 DBSIZE": "8", "0 EXISTS before rdb list touched named": "0", "0 GET behind": "2", "3 LRANGE list 0 -1": "[x]", "3 GET rdb": "1", "5 GET rdb": "1",
		})
		r.want(claim, others)
		if t.Failed() {
			return
		}
	}
}

// started is a whole run, which may not come to its end, nor even begin.
func (r *rig) started(o Options) error {
	r.t.Helper()
	o = r.options(o)
	job, err := Open(r.t.Context(), o)
	if err == nil {
		err = job.Run(r.t.Context())
	}
	if cerr := o.Store.Close(); cerr != nil {
		r.t.Fatal(cerr)
	}
	return err
}

// A target that goes back in front of a flush is given the stream again, the
// flush in its place, and what lies behind it.
func TestATargetThatGoesBackInFrontOfAFlush(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "a 1", "b 1").write("RPUSH list x")
	r.applyAll(scoped)
	r.target.Do(t, "SAVE")
	p.write("RPUSH list x", "FLUSHALL", "RPUSH list y", "SET a 2", "RPUSH list y")
	r.applyAll(scoped)
	want := map[string]string{"0 GET a": "2", "0 EXISTS b": "0", "0 LRANGE list 0 -1": "[y y]", "0 DBSIZE": "4"}
	r.want("before", want)
	r.target.Restart(t)
	r.want("taken back", map[string]string{"0 GET b": "1", "0 LRANGE list 0 -1": "[x]"})
	r.applyAll(scoped)
	r.want("in the end", want)
}

// Two groups that have both put a key there and flush at a time: neither spares
// it for the other.
func TestTwoGroupsThatFlushAtATime(t *testing.T) {
	r := bareRig(t, 2)
	one := r.craft(1, 1, "k 1", "only1 1")
	two := r.craft(2, 1, "k 2", "only2 2").write("INCR n")
	r.applyAll(scoped)
	one.write("FLUSHALL", "INCR m").seal()
	deleting, released := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if isWord(args, "WATCH") && len(args) > 2 && once.CompareAndSwap(false, true) { // the first decision
			close(deleting)
			<-released
		}
		return redistest.Pass()
	})
	o := scoped
	o.Addr = proxy.Addr
	a := r.startOnly(o, 1)
	<-deleting
	if m := r.mark(1); !m.Clearing {
		t.Errorf("mark: got %s, want it to say that a flush is carried out", m)
	}
	// The other group's flush comes and goes meanwhile, in another process.
	two.write("FLUSHALL", "INCR n").seal()
	o = scoped
	o.StateDir, o.Groups, o.UntilEnd = r.dir+"/apply/other", []repl.GroupID{2}, true
	if err := r.start(o).wait(); err != nil {
		t.Fatal(err)
	}
	r.want("behind the other's flush", map[string]string{"0 EXISTS k": "0", "0 EXISTS only1": "1", "0 GET n": "1"})
	close(released)
	a.reaches(t, one.end)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	r.want("in the end", map[string]string{"0 EXISTS only1 only2 k": "0", "0 GET n": "1", "0 GET m": "1", "0 DBSIZE": "5"})
}

// A key that a group had, and has flushed, is not spared for it later on.
func TestWhatAGroupHasFlushedItHoldsNoLonger(t *testing.T) {
	for claim, flush := range map[string][]string{
		"all":      {"FLUSHALL"},
		"a db":     {"FLUSHDB"},
		"its slot": {"SLOTSDEL 861 786"}, // those of k, and of w
	} {
		t.Run(claim, func(t *testing.T) {
			r := bareRig(t, 2)
			one := r.craft(1, 1, "k 1", "mine 1", "w 1")
			two := r.craft(2, 1, "k 2", "3:other 2")
			r.applyAll(scoped)
			two.write(flush...).write("SET w 2", "SELECT 3", "SET other 3").seal()
			r.applyAll(scoped)
			r.target.Do(t, "SET", "k", "1") // spared for the other one, and then that one's again
			one.write("FLUSHALL").seal()
			r.applyAll(scoped)
			r.want("in the end", map[string]string{"0 EXISTS k mine": "0", "0 GET w": "2", "3 GET other": "3"})
		})
	}
}

func TestAFlushThatIsSkipped(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "a 1").write("RPUSH list x", "FLUSHALL", "MULTI", "FLUSHDB ASYNC", "RPUSH list y", "EXEC", "SWAPDB 0 1", "INCR n")
	o := Options{OnFlush: FlushIgnore}
	job := r.applyAll(o)
	r.want("in the end", map[string]string{"0 GET a": "1", "0 LRANGE list 0 -1": "[x y]", "0 GET n": "1", "1 DBSIZE": "0"})
	if st := job.Status()[0]; st.FlushesIgnored != 3 || st.Flushes != 0 {
		t.Errorf("status: got %d skipped, %d carried out, want 3, 0", st.FlushesIgnored, st.Flushes)
	}
	// Read again, they are not counted again.
	r.setMark(func(m *Mark) { m.Offset, m.Start, m.DB = craftedStart, craftedStart, 0 })
	p.write("FLUSHDB", "INCR n")
	if st := r.applyAll(o).Status()[0]; st.FlushesIgnored != 4 {
		t.Errorf("status: got %d skipped, want 4", st.FlushesIgnored)
	}
	p.seal()
	// Slots are the group's own in any case.
	q := r.craft(1, 2, "a 2").write("SET b 2", "SLOTSDEL 579", "SET c 2") // that of a
	q.seal()
	job = r.applyAll(o)
	r.want("in a new epoch", map[string]string{"0 EXISTS a list n": "0", "0 GET b": "2", "0 GET c": "2"})
	if st := job.Status()[0]; st.FlushesIgnored != 0 {
		t.Errorf("status: got %d skipped behind a new full sync, want none", st.FlushesIgnored)
	}
}

// What verify clears stays cleared.
func TestSkippedFlushesAreClearedByVerify(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "a 1").write("FLUSHALL", "SET a 1")
	o := r.options(Options{OnFlush: FlushIgnore, UntilEnd: true})
	store := o.Store
	run := func() int64 {
		t.Helper()
		job, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := job.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		return job.Status()[0].FlushesIgnored
	}
	if n := run(); n != 1 {
		t.Errorf("skipped: got %d, want 1", n)
	}
	if err := store.ClearDoubts(); err != nil {
		t.Fatal(err)
	}
	p.write("INCR n").seal()
	if n := run(); n != 0 {
		t.Errorf("skipped: got %d behind a verify, want none", n)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFlushesThatStop(t *testing.T) {
	base := bareRig(t, 1)
	for _, tt := range []struct {
		claim  string
		policy FlushPolicy
		args   []string
		hint   string
		reason string
	}{
		{"by default", FlushStop, []string{"FLUSHALL"}, "--on-flush scoped", ""},
		{"a swap by default", FlushStop, []string{"SWAPDB", "0", "1"}, "--new-epoch", ""},
		{"a script cannot be scoped", FlushScoped, []string{"EVAL", "redis.call('set','x',1) redis.call('FLUSHALL')", "0"}, "--new-epoch", ""},
		{"a script is not skipped", FlushIgnore, []string{"EVAL", "return redis.call(ARGV[1])", "0", "flushdb"}, "--new-epoch", ""},
		{"what no server sends", FlushScoped, []string{"FLUSHDB", "NOW"}, "report", "stream-corrupt"},
		{"nor that", FlushScoped, []string{"SLOTSDEL", "1024"}, "report", "stream-corrupt"},
		{"a swap of no database", FlushScoped, []string{"SWAPDB", "0", "x"}, "report", "stream-corrupt"},
		{"nor of that", FlushStop, []string{"SWAPDB", "-1", "0"}, "report", "stream-corrupt"},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			r := base.again(t)
			p := r.craft(1, 1, "a 1").write("INCR n").command(tt.args...)
			p.write("INCR n").seal()
			reason := "flush-in-stream"
			if tt.reason != "" {
				reason = tt.reason
			}
			if stop := r.stopped(Options{OnFlush: tt.policy}, reason); !strings.Contains(stop.Hint, tt.hint) {
				t.Errorf("hint: got %q, want %s in it", stop.Hint, tt.hint)
			}
			r.want("before it", map[string]string{"0 GET n": "1", "0 GET a": "1", "0 EXISTS x": "0", "0 DBSIZE": "4"})
		})
	}
}

// A script whose text came by SCRIPT LOAD is known by it.
func TestAScriptThatFlushesByItsName(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "a 1").command("SCRIPT", "LOAD", "return redis.call('flushall')")
	p.write("INCR n", "EVALSHA d530a22111e074618d24a380340dd3d8bc48af4a 0")
	p.seal()
	r.stopped(scoped, "flush-in-stream")
	r.want("before it", map[string]string{"0 GET n": "1"})
}

// Deletions on a target with another job's marks are a person's to agree to, and
// the stream waits for that in its place.
func TestAFlushBesideAnotherJob(t *testing.T) {
	r := bareRig(t, 1)
	r.craft(1, 1, "a 1").write("FLUSHALL", "INCR n").seal()
	o := scoped
	o.OnExisting = ExistingRefuse
	o.MaxDeletes = 1
	r.applyAll(Options{OnFlush: FlushScoped, MaxDeletes: 1})
	r.want("alone", map[string]string{"0 EXISTS a": "0", "0 GET n": "1"})

	r = bareRig(t, 1)
	p := r.craft(1, 1, "a 1", "3:b 1")
	r.applyAll(o)
	r.target.Do(t, "SADD", jobsKey, "another-job")
	p.write("SELECT 2", "FLUSHDB", "SELECT 3", "FLUSHDB", "INCR n").seal()
	for range 2 {
		stop := r.stopped(o, "confirm-deletes")
		if !strings.Contains(stop.What, "another-job") || !strings.Contains(stop.What, "FLUSHDB") || !strings.Contains(stop.What, "1 keys") {
			t.Errorf("stop: got %q", stop.What)
		}
		r.want("before anybody has agreed", map[string]string{"3 EXISTS b n": "1"})
		if r.mark(1).Clearing {
			t.Errorf("mark: got %s, want it to claim nothing before anybody has agreed", r.mark(1))
		}
	}
	o.DeletesAgreed = true
	r.applyAll(o)
	r.want("in the end", map[string]string{"3 EXISTS b": "0", "3 GET n": "1", "0 GET a": "1"})
}

// Doubtful keys that are flushed are gone at the source too; a target that goes
// back makes them doubtful again.
func TestAFlushEndsTheDoubtAboutWhatItDeletes(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "n 1", "3:n 1").write("SELECT 3", "INCR n", "SELECT 0", "INCR n")
	o := scoped
	o.OnReject = RejectContinue
	a := r.start(o)
	a.reaches(t, p.end)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	for _, db := range []int{0, 3} {
		r.target.DoIn(t, db, "DEL", "n")
		r.target.DoIn(t, db, "RPUSH", "n", "x")
	}
	p.write("INCR n", "SELECT 3", "INCR n")
	want := func(claim string, job *Job, doubtful, rejects int) {
		t.Helper()
		if st := job.Status()[0]; st.Doubtful != doubtful || st.Rejects != rejects {
			t.Errorf("%s: got %d doubtful, %d rejects, want %d, %d", claim, st.Doubtful, st.Rejects, doubtful, rejects)
		}
	}
	want("before", r.applyAll(o), 2, 2)
	r.target.Do(t, "SAVE")
	p.write("FLUSHDB", "INCR n")
	want("behind the flush of one", r.applyAll(o), 1, 1)
	r.want("behind the flush of one", map[string]string{"3 GET n": "1"})
	r.target.Restart(t)
	stopping := o
	stopping.OnFlush, stopping.UntilEnd = FlushStop, true
	a = r.start(stopping)
	if err := a.wait(); err == nil {
		t.Error("run with another policy: got no stop")
	}
	want("taken back", a.job, 2, 2)
	want("taken back, and flushed again", r.applyAll(o), 1, 1)
	p.write("FLUSHALL", "INCR n").seal()
	want("behind the flush of all", r.applyAll(o), 0, 0)
	r.want("in the end", map[string]string{"3 GET n": "1", "0 EXISTS n": "0"})
}

// What was pruned is known by its key files.
func TestAFlushOfWhatWasPruned(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craftBegin(1, 1, spool.WriterOptions{SegmentBytes: 64})
	p.rdb(handRDB("a v", "3:b v"))
	p.write("INCR n", "RPUSH l x").write("INCR n").write("INCR n")
	r.applyAll(scoped)
	r.prune(1, spool.Floor{Epoch: 1, Stream: true, Offset: p.end})
	p.write("FLUSHDB", "INCR n").seal()
	r.applyAll(scoped)
	r.want("in the end", map[string]string{"0 EXISTS a l": "0", "0 GET n": "1", "3 GET b": "v"})
}
