package apply

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/spool"
)

func (r *rig) closing() *Closing {
	r.t.Helper()
	c, err := OpenClosing(r.t.Context(), ClosingOptions{Addr: r.target.Addr, Secret: r.target.Secret, Job: r.job})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	return c
}

func (r *rig) traces(c *Closing) Traces {
	r.t.Helper()
	t, err := c.Traces(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return t
}

// end removes what the job has on the target, and returns its marks.
func (r *rig) end() []GroupMark {
	r.t.Helper()
	c := r.closing()
	left := r.traces(c)
	marks, err := c.TakeOver(r.t.Context(), left.Marks)
	if err == nil {
		err = c.Remove(r.t.Context(), marks, left.Others)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	if left := r.traces(c); !left.None() {
		r.t.Errorf("behind the end: got %+v, want nothing of the job", left)
	}
	return marks
}

// data is every key of the target and its value.
func (r *rig) data() map[string]string {
	r.t.Helper()
	out := map[string]string{}
	for db := range 3 {
		for _, k := range r.target.DoIn(r.t, db, "KEYS", "*").Strings() {
			out[fmt.Sprintf("%d:%s", db, k)] = r.target.DoIn(r.t, db, "GET", k).String()
		}
	}
	return out
}

// TestAnApplyHeldAtAnyCommandNeverWritesBehindTheEnd holds each command of an
// apply in turn, and all behind it on that connection, ends the job from
// elsewhere, and then lets the server execute what was held, and the apply go on.
func TestAnApplyHeldAtAnyCommandNeverWritesBehindTheEnd(t *testing.T) {
	base := bareRig(t, 1)
	late := 0
	for existing, step := range map[ExistingPolicy]int64{ExistingRefuse: 2, ExistingReplace: 5} {
		for n := int64(1); ; n += step {
			r := base.again(t)
			p := r.craft(1, 1, "a 1", "b 2", "1:c 3", "2:d 4", "e 5", "f 6")
			p.write("INCR n", "INCR n", "SELECT 1", "INCR n", "SET a x", "SELECT 0", "INCR n", "INCR n")
			var seen atomic.Int64
			held := make(chan struct{})
			proxy := redistest.NewProxy(t, r.target.Addr, func(conn, _ int, _ [][]byte) redistest.Action {
				if conn > 1 && seen.Add(1) == n { // the first claims
					close(held)
					return redistest.Hang()
				}
				return redistest.Pass()
			})
			a := r.start(Options{
				Addr: proxy.Addr, batch: 2, chunkEntries: 1, markEntries: 2, Timeout: 60 * time.Millisecond, OnExisting: existing, UntilEnd: true,
			})
			over := false
			redistest.Eventually(t, fmt.Sprintf("command %d", n), func() bool {
				select {
				case <-held:
					return true
				default:
					over = a.job.Status()[0].Applied == p.end
					return over
				}
			})
			if over && seen.Load() < n {
				proxy.Close()
				if n < 60 {
					t.Errorf("commands held: got %d, want more than 60", n)
				}
				break
			}
			if _, claimed := a.job.hadMark(1); !claimed {
				// A busy machine did not answer the claim in time. It is made again,
				// and that was held: there is nothing to end yet.
				proxy.Close()
				_ = a.stop()
				n -= step
				continue
			}
			r.end()
			before := r.data()
			late += proxy.Release()
			end := p.end
			p.write("INCR n", "SET late 1")
			err := a.wait()
			var stop *StopError
			// What was held may be the next transaction's opening, behind all there was.
			done := err == nil && a.job.Status()[0].Applied == end
			if !done && !errors.Is(err, ErrTaken) && (!errors.As(err, &stop) || stop.Reason != "mark-missing") {
				t.Errorf("held at command %d: the apply ended by %v, want it taken over, or its mark missing", n, err)
			}
			if diff := cmp.Diff(before, r.data()); diff != "" {
				t.Errorf("held at command %d: the target behind the end (-then +now):\n%s", n, diff)
			}
			proxy.Close()
			if t.Failed() {
				return
			}
		}
	}
	if late == 0 {
		t.Error("commands executed late: got 0, want some")
	}
}

func TestOnlyWhatIsTheJobsIsRemoved(t *testing.T) {
	r := bareRig(t, 2)
	r.craft(1, 1, "k v").write("INCR n").seal()
	r.craft(2, 1, "l v").seal()
	r.applyAll(Options{})
	other := spool.NewJobID()
	id := r.job.String()
	theirs := map[string]string{
		"tairlift:mark:" + other.String() + ":0001": "a mark", "tairlift:note": "nobody's", "tairlift:mark:" + id + "0:0001": "of a longer name",
	}
	for k, v := range theirs {
		r.target.Do(t, "SET", k, v)
	}
	r.target.Do(t, "SADD", jobsKey, other.String())
	r.target.Do(t, "SET", "tairlift:temp:"+id+":x", "ours")
	c := r.closing()
	left := r.traces(c)
	if len(left.Marks) != 2 || !left.Listed || !slices.Equal(left.Jobs, []string{other.String()}) || len(left.Others) != 1 || left.Keys != 3 {
		t.Errorf("traces: got %+v, want two marks, a key beside them, and another job", left)
	}
	was := r.mark(1)
	r.end()
	for k, v := range theirs {
		r.want("behind the end", map[string]string{"0 GET " + k: v})
	}
	r.want("behind the end", map[string]string{"0 SMEMBERS " + jobsKey: "[" + other.String() + "]", "0 GET n": "1", "0 GET l": "v", "0 DBSIZE": "7"})
	if got := markKey(r.job, 2); r.target.Do(t, "EXISTS", got).Int != 0 {
		t.Errorf("mark %s is there", got)
	}

	// Back again, the apply goes on from its place.
	if err := c.Restore(t.Context(), left.Marks); err != nil {
		t.Fatal(err)
	}
	if now := r.mark(1); !SamePlace(was, now) || now.Owner == was.Owner || now.RunID != left.RunID {
		t.Errorf("mark put back: got %s, want %s under another owner", now, was)
	}
	if err := c.Restore(t.Context(), left.Marks); !errors.Is(err, ErrTaken) {
		t.Errorf("put back onto marks that are there: got %v, want ErrTaken", err)
	}
	r.applyAll(Options{})
	r.want("gone on", map[string]string{"0 GET n": "1"})
}

// A mark that somebody writes between the two is not removed.
func TestAMarkThatMovesIsNotRemoved(t *testing.T) {
	r := bareRig(t, 1)
	r.craft(1, 1, "k v").write("INCR n").seal()
	r.applyAll(Options{})
	c := r.closing()
	marks, err := c.TakeOver(t.Context(), r.traces(c).Marks)
	if err != nil {
		t.Fatal(err)
	}
	r.setMark(func(m *Mark) { m.Owner = "somebody.1" })
	if err := c.Remove(t.Context(), marks, nil); !errors.Is(err, ErrTaken) {
		t.Errorf("remove: got %v, want ErrTaken", err)
	}
	if r.mark(1).Owner != "somebody.1" || r.target.Do(t, "EXISTS", jobsKey).Int != 1 {
		t.Error("something was removed")
	}
}

func TestMarkNames(t *testing.T) {
	job := spool.NewJobID()
	for _, g := range []repl.GroupID{1, 42, 9999} {
		if got, ok := markGroup(job, markKey(job, g)); !ok || got != g {
			t.Errorf("%s: got group %s, %v", markKey(job, g), got, ok)
		}
	}
	for _, name := range []string{markKey(spool.NewJobID(), 1), jobsKey, strings.TrimSuffix(markKey(job, 1), "1"), "tairlift:mark:" + job.String() + ":1", "x" + markKey(job, 1)} {
		if g, ok := markGroup(job, name); ok {
			t.Errorf("%s: got group %s, want none", name, g)
		}
	}
}

// Nobody owns a mark that cannot be read: it goes as it is, or not at all.
func TestAMarkThatCannotBeReadIsRemovedAsItIs(t *testing.T) {
	r := bareRig(t, 1)
	r.target.Do(t, "SET", markKey(r.job, 1), "garbage")
	c := r.closing()
	marks, err := c.TakeOver(t.Context(), r.traces(c).Marks)
	if err != nil {
		t.Fatal(err)
	}
	r.target.Do(t, "SET", markKey(r.job, 1), "other garbage")
	if err := c.Remove(t.Context(), marks, nil); !errors.Is(err, ErrTaken) {
		t.Errorf("remove what changed: got %v, want ErrTaken", err)
	}
	if marks := r.end(); len(marks) != 1 || marks[0].Text != "other garbage" {
		t.Errorf("removed: got %v, want the mark as it was", marks)
	}
	if err := c.Restore(t.Context(), marks); err == nil {
		t.Error("put back: got no error, want the mark refused")
	}
}

// What a group was writing is removed also where its mark is gone, from whichever
// database it is in.
func TestAValueThatAGroupWithoutAMarkWasWritingIsRemoved(t *testing.T) {
	r := bareRig(t, 1)
	r.craft(1, 1, "k v").seal()
	r.applyAll(Options{})
	for g, db := range map[repl.GroupID]int{1: 1, 7: 9} {
		r.target.DoIn(t, db, "RPUSH", tempKey(r.job, g), "half")
	}
	r.target.DoIn(t, 9, "RPUSH", tempKey(spool.NewJobID(), 7), "of another job")
	c, err := OpenClosing(t.Context(), ClosingOptions{Addr: r.target.Addr, Job: r.job, Groups: []repl.GroupID{1, 7}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	marks, err := c.TakeOver(t.Context(), r.traces(c).Marks)
	if err != nil || len(marks) != 1 {
		t.Fatalf("take over: got %v, %v, want the mark of group 1", marks, err)
	}
	for db, want := range map[int]int{0: 0, 1: 0, 9: 1} {
		if got := r.target.DoIn(t, db, "KEYS", "tairlift:tmp:*").Strings(); len(got) != want {
			t.Errorf("left in database %d: got %q, want %d keys", db, got, want)
		}
	}
}
