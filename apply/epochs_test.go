package apply

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/spool"
)

// The first epoch of the tests below: an RDB, and a stream that makes keys,
// removes some, and ends.
func (r *rig) firstEpoch() *pen {
	return r.craft(1, 1, "stays v", "gone v", "1:gone v", "renewed old").
		write("INCR counter", "INCR counter", "RPUSH made x", "SET short v", "DEL short", "SELECT 1", "RPUSH list a")
}

// secondEpoch lacks what the source deleted meanwhile: gone, 1:gone, made.
func (r *rig) secondEpoch() *pen {
	return r.craft(1, 2, "stays v", "counter 7", "renewed new", "1:list2 w").write("INCR counter", "RPUSH made y", "SELECT 1", "RPUSH list b")
}

var afterSecond = map[string]string{
	"0 GET stays": "v", "0 EXISTS gone": "0", "1 EXISTS gone": "0", "0 GET renewed": "new", "0 GET counter": "8",
	"0 LRANGE made 0 -1": "[y]", "0 EXISTS short": "0", "1 LRANGE list 0 -1": "[b]", "1 GET list2": "w",
	"0 DBSIZE": "6", "1 DBSIZE": "2", // with the mark and the set of jobs
}

func TestANewEpochTakesThePlaceOfTheOldOne(t *testing.T) {
	for claim, run := range map[string]func(*rig){
		"when the old one is applied to its end": func(r *rig) {
			r.firstEpoch().seal()
			r.applyAll(Options{})
			r.secondEpoch().seal()
			r.applyAll(Options{})
		},
		"when some of the old one is applied": func(r *rig) {
			p := r.firstEpoch()
			r.applyAll(Options{})
			p.write("SELECT 0", "INCR counter", "SET never v").seal()
			r.secondEpoch().seal()
			r.applyAll(Options{})
		},
		"when nothing of the old one is applied": func(r *rig) {
			r.firstEpoch().seal()
			r.secondEpoch().seal()
			r.applyAll(Options{})
		},
		"when all but names of the old one was pruned": func(r *rig) {
			r.firstEpoch().seal()
			r.applyAll(Options{})
			p := r.secondEpoch()
			p.seal()
			r.prune(1, spool.Floor{Epoch: 2})
			r.applyAll(Options{})
		},
		"in the process that has applied the old one": func(r *rig) {
			p := r.firstEpoch()
			a := r.start(Options{})
			a.reaches(r.t, p.end)
			p.seal()
			a.reachesIn(r.t, 2, r.secondEpoch().end)
			if err := a.stop(); err != nil {
				r.t.Fatal(err)
			}
		},
	} {
		t.Run(claim, func(t *testing.T) {
			r := bareRig(t, 1)
			run(r)
			r.want("in the end", afterSecond)
			if m := r.mark(1); m.Epoch != 2 || m.Phase != checkpoint.PhaseStream || len(m.Past) != 0 {
				t.Errorf("mark: got epoch %s, %s, past %v, want 2, stream, none", m.Epoch, m.Phase, m.Past)
			}
			left, err := filepath.Glob(filepath.Join(r.dir, "apply", "target", "*-0001*"))
			if len(left) > 0 || err != nil {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// TestANewEpochEndsExactWhereverItBreaks loses the reply to each command in
// turn, from the first epoch's stream to the second's.
func TestANewEpochEndsExactWhereverItBreaks(t *testing.T) {
	base := bareRig(t, 1)
	for n, done := int64(1), false; !done; n += 3 {
		r := base.again(t)
		r.firstEpoch().seal()
		r.applyAll(Options{})
		r.secondEpoch().seal()
		var seen atomic.Int64
		proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, _ [][]byte) redistest.Action {
			if seen.Add(1) == n {
				return redistest.DropReply()
			}
			return redistest.Pass()
		})
		r.applyAll(Options{Addr: proxy.Addr})
		proxy.Close()
		r.want(fmt.Sprintf("command %d", n), afterSecond)
		if t.Failed() {
			return
		}
		done = seen.Load() < n
	}
}

func TestDeletionsAreCountedBeforeAnyIsMade(t *testing.T) {
	r := bareRig(t, 1)
	var all []string
	for i := range 100 {
		all = append(all, fmt.Sprintf("k%02d v", i))
	}
	r.craft(1, 1, all...).seal()
	r.applyAll(Options{})
	r.craft(1, 2, all[2:]...).write("INCR n").seal()
	want := func(claim, there string) {
		t.Helper()
		r.want(claim, map[string]string{"0 EXISTS k00 k01": there})
	}
	for range 2 {
		stop := r.stopped(Options{MaxDeletes: 1}, "confirm-deletes")
		if !strings.Contains(stop.What, "2 of the 100 keys") || !strings.Contains(stop.What, "1%") || !strings.Contains(stop.Hint, "--max-deletes 100%") {
			t.Errorf("stop: got %q, %q", stop.What, stop.Hint)
		}
		want("before anybody has agreed", "2")
		r.want("before anybody has agreed", map[string]string{"0 EXISTS n": "0"})
	}
	raw, err := os.ReadFile(filepath.Join(r.dir, "apply", "target", "deletes-0001.jsonl"))
	if lines := strings.Fields(string(raw)); err != nil || len(lines) != 2 || !strings.Contains(string(raw), `{"db":0,"key":"k00"}`) {
		t.Errorf("list: got %q, %v, want two keys", raw, err)
	}
	r.target.Do(t, "SADD", jobsKey, "another-job")
	stop := r.stopped(Options{MaxDeletes: 2}, "confirm-deletes")
	if !strings.Contains(stop.What, "another-job") {
		t.Errorf("stop: got %q, want the other job named", stop.What)
	}
	want("with another job on the target", "2")
	r.applyAll(Options{MaxDeletes: 2, DeletesAgreed: true})
	want("in the end", "0")
	r.want("in the end", map[string]string{"0 GET n": "1", "0 GET k02": "v"})
}

// A key of two groups belongs, in the sweep of one, to the other when that one
// holds it now.
func TestASweepSparesWhatIsNotItsOwn(t *testing.T) {
	r := bareRig(t, 2)
	r.target.Do(t, "MSET", "foreign", "f", "replaced", "f", "named", "f")
	r.craft(1, 1, "inRDB 1", "written 1", "removed 1", "renamed 1", "later 1", "mine 1", "replaced 1", "both 1").seal()
	two := r.craft(2, 1, "inRDB 2", "removed 2")
	o := Options{OnExisting: ExistingReplace}
	r.applyAll(o)
	two.write("SET written 2", "DEL removed", "SET renamed 2", "RENAME renamed other", "INCR n").seal()
	r.applyAll(o)
	// What is back on the target came from the first group's own writes.
	r.target.Do(t, "MSET", "removed", "1", "renamed", "1")
	r.craft(1, 2, "both 1").write("SET mine2 1").seal()
	r.craft(2, 2, "later 2", "inRDB 2", "written 2", "other 2", "n 1").seal()
	r.applyAll(o)
	r.want("in the end", map[string]string{
		"0 GET inRDB": "2", "0 GET written": "2", "0 EXISTS removed": "0", "0 EXISTS renamed": "0", "0 GET later": "2",
		"0 EXISTS mine": "0", "0 EXISTS replaced": "0", "0 GET both": "1", "0 GET foreign": "f", "0 GET named": "f",
		"0 GET other": "2", "0 GET n": "1", "0 GET mine2": "1",
	})
}

// TestASweepSeesWhatAnotherGroupDoesMeanwhile lets another group write a key
// between the look at what it holds and the deletion.
func TestASweepSeesWhatAnotherGroupDoesMeanwhile(t *testing.T) {
	r := bareRig(t, 2)
	r.craft(1, 1, "moved 1", "ghost 1").seal()
	two := r.craft(2, 1, "k 2")
	r.applyAll(Options{})
	r.craft(1, 2).seal()
	deleting, written := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		// The sweep's own look: another mark by GET on a lane that has watched it.
		if isWord(args, "WATCH") && len(args) > 2 && once.CompareAndSwap(false, true) {
			close(deleting)
			<-written
		}
		return redistest.Pass()
	})
	a := r.startOnly(Options{Addr: proxy.Addr}, 1)
	<-deleting
	// The other group runs in another process.
	b := r.startOnly(Options{StateDir: filepath.Join(r.dir, "apply", "other")}, 2)
	two.write("SET moved 2", "INCR n")
	b.reachesIn(t, 1, two.end)
	close(written)
	a.reachesIn(t, 2, craftedStart)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	r.want("in the end", map[string]string{"0 GET moved": "2", "0 EXISTS ghost": "0", "0 GET n": "1"})
}

func TestAnEpochWhoseRDBIsNotThereYetIsWaitedFor(t *testing.T) {
	r := bareRig(t, 1)
	p := r.firstEpoch()
	r.applyAll(Options{})
	p.write("SELECT 0", "INCR counter").seal()
	next := r.craftBegin(1, 2, spool.WriterOptions{})
	next.check(next.w.BeginRDB(99))
	stop := r.stopped(Options{}, "rdb-incomplete")
	if !strings.Contains(stop.What, "epoch 2") || !strings.Contains(stop.What, p.end.String()) {
		t.Errorf("stop: got %q, want the epoch, and how far the one before is applied", stop.What)
	}
	r.want("before it", map[string]string{"0 GET counter": "3", "0 EXISTS gone": "1"})
	a := r.start(Options{})
	a.reaches(t, p.end)
	next.seal() // it was cut short
	r.craft(1, 3, "other v").write("INCR n")
	a.reachesIn(t, 3, craftedStart+1)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	r.want("in the end", map[string]string{"0 GET other": "v", "0 GET n": "1", "0 DBSIZE": "4", "1 DBSIZE": "0"})
}

func TestWhatWasDoubtfulBeforeANewEpochIsNoLonger(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "n 1")
	r.applyAll(Options{})
	r.target.Do(t, "DEL", "n")
	r.target.Do(t, "RPUSH", "n", "x")
	p.write("INCR n").seal()
	r.stopped(Options{}, "reject")
	r.craft(1, 2, "n 2").write("INCR n").seal()
	job := r.applyAll(Options{})
	r.want("in the end", map[string]string{"0 GET n": "3"})
	if st := job.Status()[0]; st.Rejects != 0 || st.Doubtful != 0 {
		t.Errorf("status: got %d rejects, %d doubtful, want none", st.Rejects, st.Doubtful)
	}
}

// A target that takes its own past back takes the mark back with it, into the
// epoch before if need be.
func TestAMarkThatGoesBackIntoTheEpochBefore(t *testing.T) {
	r := bareRig(t, 1)
	r.firstEpoch().seal()
	r.applyAll(Options{})
	r.target.Do(t, "SAVE")
	r.secondEpoch().seal()
	r.applyAll(Options{})
	r.want("before", afterSecond)
	r.target.Restart(t)
	r.applyAll(Options{})
	r.want("in the end", afterSecond)
}

func TestReseed(t *testing.T) {
	for claim, harm := range map[string]struct {
		do     func(*rig, *pen)
		reason string
	}{
		"the mark is gone":        {func(r *rig, _ *pen) { r.target.Do(r.t, "DEL", markKey(r.job, 1)) }, "mark-missing"},
		"everything is gone":      {func(r *rig, _ *pen) { r.target.Do(r.t, "FLUSHALL") }, "mark-missing"},
		"the mark cannot be read": {func(r *rig, _ *pen) { r.target.Do(r.t, "SET", markKey(r.job, 1), "junk") }, "mark-unreadable"},
		"the mark is a list": {func(r *rig, _ *pen) {
			r.target.Do(r.t, "DEL", markKey(r.job, 1))
			r.target.Do(r.t, "RPUSH", markKey(r.job, 1), "x")
		}, "mark-unreadable"},
		"the mark is ahead of the spool":  {func(r *rig, p *pen) { r.setMark(func(m *Mark) { m.Offset = p.end + 9000 }) }, "mark-ahead"},
		"the mark is of an unknown epoch": {func(r *rig, _ *pen) { r.setMark(func(m *Mark) { m.Epoch = 7 }) }, "mark-unknown-epoch"},
		"the target refused a command": {func(r *rig, p *pen) {
			r.target.Do(r.t, "DEL", "counter")
			r.target.Do(r.t, "RPUSH", "counter", "x")
			p.write("SELECT 0", "INCR counter", "DEL counter", "INCR counter", "INCR counter", "SELECT 1")
		}, "reject"},
	} {
		t.Run(claim, func(t *testing.T) {
			r := bareRig(t, 1)
			p := r.firstEpoch()
			r.applyAll(Options{})
			harm.do(r, p)
			p.write("RPUSH list b")
			p.seal()
			stop := r.stopped(Options{}, harm.reason)
			if harm.reason != "mark-ahead" && harm.reason != "reject" && !strings.Contains(stop.Hint, "--reseed") {
				t.Errorf("hint: got %q, want --reseed in it", stop.Hint)
			}
			r.applyAll(Options{Reseed: true})
			r.want("in the end", map[string]string{
				"0 GET stays": "v", "0 GET gone": "v", "1 GET gone": "v", "0 GET renewed": "old", "0 GET counter": "2",
				"0 LRANGE made 0 -1": "[x]", "0 EXISTS short": "0", "1 LRANGE list 0 -1": "[a b]", "0 DBSIZE": "7", "1 DBSIZE": "2",
			})
			// It is done, and once is enough.
			text := r.mark(1)
			r.applyAll(Options{Reseed: true})
			if m := r.mark(1); m.Offset != text.Offset || m.Commands != text.Commands {
				t.Errorf("a second --reseed: got mark %v, want it where it was, %v", m, text)
			}
		})
	}
}

// TestAReseedEndsExactWhereverItBreaks loses each reply in turn, and starts
// again without the flag: the wish is recorded.
func TestAReseedEndsExactWhereverItBreaks(t *testing.T) {
	base := bareRig(t, 1)
	for n, done := int64(1), false; !done; n += 3 {
		r := base.again(t)
		r.firstEpoch().seal()
		r.applyAll(Options{})
		r.target.Do(t, "DEL", markKey(r.job, 1))
		r.target.Do(t, "APPEND", "counter", "9")
		r.target.Do(t, "RPUSH", "list", "later") // of a life that the mark would tell of
		var seen atomic.Int64
		var cut atomic.Bool
		proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, _ [][]byte) redistest.Action {
			if cut.Load() || seen.Add(1) == n {
				cut.Store(true)
				return redistest.DropReply()
			}
			return redistest.Pass()
		})
		a := r.start(Options{Addr: proxy.Addr, Reseed: true, UntilEnd: true, MaxWait: 1})
		err := a.wait()
		proxy.Close()
		if done = err == nil; !done && a.job.groups[0].lane.taken > 0 {
			r.applyAll(Options{})
		} else if !done {
			r.applyAll(Options{Reseed: true})
		}
		r.want(fmt.Sprintf("command %d", n), map[string]string{
			"0 GET counter": "2", "0 LRANGE made 0 -1": "[x]", "1 LRANGE list 0 -1": "[a]", "0 GET gone": "v",
		})
		if t.Failed() {
			return
		}
	}
}

// reachesIn waits until group 1 has applied an epoch up to the offset.
func (a *applying) reachesIn(t *testing.T, e repl.Epoch, o repl.Offset) {
	t.Helper()
	redistest.Eventually(t, fmt.Sprintf("epoch %s, offset %s", e, o), func() bool {
		st := a.job.Status()[0]
		if st.State == StateStopped {
			t.Fatalf("group stopped: %s: %s", st.Reason, st.What)
		}
		return st.Epoch == e && st.Phase == checkpoint.PhaseStream && st.Applied >= o
	})
}

func (r *rig) prune(id repl.GroupID, f spool.Floor) {
	r.t.Helper()
	g, err := spool.OpenGroup(filepath.Join(r.dir, "spool"), r.job, id)
	if err != nil {
		r.t.Fatal(err)
	}
	gone, err := g.Prune(r.t.Context(), f, spool.PruneOptions{})
	if err != nil || len(gone) == 0 {
		r.t.Fatalf("prune: got %d segments, %v", len(gone), err)
	}
}

// A reseed whose RDB was pruned waits for a new full sync, which then has all
// that is left of the old ones for its past.
func TestAReseedWithoutAnRDB(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craftBegin(1, 1, spool.WriterOptions{SegmentBytes: 64})
	p.rdb(handRDB("a v", "b v"))
	p.write("INCR n", "RPUSH l x").write("INCR n").write("INCR n").seal()
	r.applyAll(Options{})
	r.prune(1, spool.Floor{Epoch: 1, Stream: true, Offset: p.end})
	r.target.Do(t, "DEL", markKey(r.job, 1))
	stop := r.stopped(Options{Reseed: true}, "spool-pruned")
	if !strings.Contains(stop.Hint, "--new-epoch") {
		t.Errorf("hint: got %q, want --new-epoch in it", stop.Hint)
	}
	a := r.start(Options{NewEpoch: map[repl.GroupID]repl.Epoch{1: 1}})
	a.waitsFor(t, "new-epoch")
	q := r.craft(1, 2, "b w", "n 7").write("INCR n")
	a.reachesIn(t, 2, q.end)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	r.want("in the end", map[string]string{"0 EXISTS a l": "0", "0 GET b": "w", "0 GET n": "8"})
}

// What the stream makes again is not asked about when an epoch is begun again;
// what nothing makes again is.
func TestAReseedCountsOnlyWhatGoesForGood(t *testing.T) {
	r := bareRig(t, 1)
	r.craft(1, 1, "old v").write("SET ghost 1").seal()
	r.applyAll(Options{})
	q := r.craft(1, 2, "k v").write("INCR n", "SET m 1", "RPUSH l x")
	r.applyAll(Options{})
	q.seal()
	r.target.Do(t, "DEL", markKey(r.job, 1))
	r.applyAll(Options{Reseed: true, MaxDeletes: 1})
	r.want("in the end", map[string]string{"0 GET n": "1", "0 LRANGE l 0 -1": "[x]", "0 GET m": "1", "0 DBSIZE": "6"})
	r.target.Do(t, "DEL", markKey(r.job, 1))
	r.target.Do(t, "SET", "ghost", "1")
	r.stopped(Options{Reseed: true, MaxDeletes: 1}, "confirm-deletes")
	r.applyAll(Options{MaxDeletes: 100})
	r.want("in the end", map[string]string{"0 GET n": "1", "0 LRANGE l 0 -1": "[x]", "0 EXISTS ghost": "0"})
}

// A reject stops the group also while a new epoch is awaited, which then heals
// it.
func TestNothingIsAppliedBehindARejectWhileANewEpochIsAwaited(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "n 1")
	r.applyAll(Options{})
	r.target.Do(t, "DEL", "n")
	r.target.Do(t, "RPUSH", "n", "x")
	p.write("INCR n", "SET behind v").seal()
	o := Options{NewEpoch: map[repl.GroupID]repl.Epoch{1: 1}, UntilEnd: true, batch: 1}
	waits := o
	waits.MaxWait = 20 * time.Millisecond
	var stop *StopError
	if err := r.start(waits).wait(); !errors.As(err, &stop) || stop.Reason != "new-epoch" {
		t.Errorf("run: got %v, want it to wait for the new epoch", err)
	}
	r.want("behind the reject", map[string]string{"0 EXISTS behind": "0"})
	r.craft(1, 2, "n 2", "behind v").seal()
	r.applyAll(o)
	r.want("in the end", map[string]string{"0 GET n": "2", "0 GET behind": "v"})
}

// What another group holds is not known without its mark: nothing is deleted
// until it is there again, and nobody is waited for who will not come.
func TestASweepBesideAGroupWhoseMarkIsLost(t *testing.T) {
	for claim, harm := range map[string]func(*rig){
		"gone":       func(r *rig) { r.target.Do(r.t, "DEL", markKey(r.job, 2)) },
		"unreadable": func(r *rig) { r.target.Do(r.t, "SET", markKey(r.job, 2), "junk") },
	} {
		t.Run(claim, func(t *testing.T) {
			r := bareRig(t, 2)
			r.craft(1, 1, "a b", "gone v", "moved 1").seal()
			r.craft(2, 1, "c d").write("SET moved 2").seal()
			r.applyAll(Options{})
			harm(r)
			r.craft(1, 2, "a b").seal()
			r.stopped(Options{}, "other-mark-lost")
			r.want("without the mark", map[string]string{"0 EXISTS gone moved": "2"})
			r.applyAll(Options{Reseed: true})
			r.want("in the end", map[string]string{"0 EXISTS gone": "0", "0 GET moved": "2", "0 GET c": "d", "0 GET a": "b"})
		})
	}
}

// What cannot be read in the stream was never applied: it stops the group again,
// and not the sweep on the way there.
func TestAReseedBehindWhatCannotBeRead(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "k v").write("INCR n")
	r.applyAll(Options{})
	p.bytes([]byte("*1\r\n$x\r\n")).write("INCR n").seal()
	r.stopped(Options{}, "stream-corrupt")
	r.stopped(Options{Reseed: true}, "stream-corrupt")
	r.want("before it", map[string]string{"0 GET n": "1", "0 GET k": "v"})
	r.craft(1, 2, "k w").seal()
	r.applyAll(Options{})
	r.want("in the end", map[string]string{"0 EXISTS n": "0", "0 GET k": "w"})
}
