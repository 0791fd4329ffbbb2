package apply

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"tairlift/checkpoint"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/spool"
)

// TestABatchWhoseRepliesWereLost is committed, its answer lost, and its process
// killed at once; the next process finds the mark.
func TestABatchWhoseRepliesWereLost(t *testing.T) {
	r := bareRig(t, 1)
	for _, tt := range []struct {
		claim    string
		before   []string // on the target
		stream   []string
		doubtful []string
	}{
		{"types that fit prove that nothing failed", nil, []string{"INCR n", "RPUSH l a", "HSET h f v", "SADD s a", "ZADD z 1 a", "APPEND t x", "PERSIST n"}, nil},
		{"what was written anew cannot have failed", []string{"RPUSH n x"}, []string{"INCR n", "DEL n", "INCR n"}, nil},
		{"a type that does not fit failed", []string{"RPUSH n x"}, []string{"INCR n", "INCR m"}, []string{"n"}},
		{"no integer", []string{"SET n x"}, []string{"INCR n"}, []string{"n"}},
		{"a key of two types", nil, []string{"RPUSH k a", "DEL k", "SADD k a", "RENAME k k2"}, []string{"k", "k2"}},
		{"a key that is gone", nil, []string{"RPUSH l a", "LPOP l"}, []string{"l"}},
		{"commands that may fail otherwise", nil, []string{"PFADD h f", "SET n 1"}, []string{"h"}},
		{"fields that are integers", nil, []string{"HINCRBY h f 1", "HSET h g x", "ZINCRBY z 1 a", "RPUSH l a", "RPOPLPUSH l l2", "RPUSH l b"}, nil},
		{"a field that is no integer", []string{"HSET h f x"}, []string{"HINCRBY h g 1", "HINCRBY h f 1"}, []string{"h"}},
		{"a move to a key of another type leaves both", []string{"RPUSH l a", "SET m x"}, []string{"RPUSH l b", "RPOPLPUSH l m"}, []string{"l", "m"}},
		{"a move whose other end was written anew", nil, []string{"RPUSH l a b", "RPOPLPUSH l m", "DEL m"}, []string{"l"}},
		{"a field that was no integer", []string{"HSET h f x"}, []string{"HINCRBY h f 1", "HSET h g 1"}, []string{"h"}},
		{"scripts", nil, []string{"EVAL return(1) 1 k"}, []string{"k"}},
		{"keys of ours are not sent, thus not doubtful", nil, []string{"INCR n", "HINCRBY tairlift:x f 1"}, nil},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			r := r.again(t)
			p := r.craft(1, 1, "k0 v")
			r.applyAll(Options{})
			for _, line := range tt.before {
				r.target.DoIn(t, 2, strings.Fields(line)...)
			}
			p.write("SELECT 2").write(tt.stream...)
			lost := make(chan struct{})
			var dead atomic.Bool
			var execs atomic.Int64
			proxy := redistest.NewProxy(t, r.target.Addr, func(conn, _ int, args [][]byte) redistest.Action {
				switch {
				case dead.Load():
					return redistest.Close()
				case conn == 2 && bytes.EqualFold(args[0], []byte("EXEC")):
					if execs.Add(1) == 2 { // behind the take-over's
						dead.Store(true)
						close(lost)
						return redistest.DropReply()
					}
				}
				return redistest.Pass()
			})
			a := r.start(Options{Addr: proxy.Addr})
			<-lost
			redistest.Eventually(t, "the batch is committed", func() bool { return r.mark(1).Offset == p.end })
			if err := a.stop(); err != nil {
				t.Fatal(err)
			}
			proxy.Close()
			for range 2 { // told once
				a := r.start(Options{UntilEnd: true})
				if err := <-a.done; err != nil {
					t.Fatal(err)
				}
				var got []string
				a.done <- a.store.Doubts(1, func(d checkpoint.Doubt) error { got = append(got, string(d.Key)); return nil })
				if strings.Join(got, " ") != strings.Join(tt.doubtful, " ") {
					t.Errorf("doubtful: got %v, want %v", got, tt.doubtful)
				}
				if st := a.job.Status()[0]; st.Doubtful != len(tt.doubtful) || st.Applied != p.end {
					t.Errorf("status: got %d doubtful at %s, want %d at %s", st.Doubtful, st.Applied, len(tt.doubtful), p.end)
				}
				if err := a.stop(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestMarksThatDoNotBelong(t *testing.T) {
	rig := bareRig(t, 1)
	for _, tt := range []struct {
		claim, reason string
		spoil         func(*rig2)
	}{
		{"the mark is gone", "mark-missing", func(r *rig2) { r.target.Do(r.t, "DEL", markKey(r.job, 1)) }},
		{"the target is empty", "mark-missing", func(r *rig2) { r.target.Do(r.t, "FLUSHALL") }},
		{"ahead of the spool", "mark-ahead", func(r *rig2) {
			r.setMark(func(m *Mark) { m.Start, m.Offset = m.Offset, m.Offset+1 })
		}},
		{"far ahead of it, with an unread batch", "mark-ahead", func(r *rig2) {
			r.setMark(func(m *Mark) { m.Start, m.Offset = m.Offset+900, m.Offset+1000 })
		}},
		{"before what the spool holds", "spool-missing", func(r *rig2) {
			r.pen.seal()
			for seq := spool.Seq(2); seq < 9; seq++ {
				os.Remove(spool.Path(r.dir+"/spool", 1, 1, seq))
			}
			r.setMark(func(m *Mark) { m.Offset, m.Start = craftedStart, craftedStart })
		}},
		{"in an epoch that is not here", "mark-unknown-epoch", func(r *rig2) { r.setMark(func(m *Mark) { m.Epoch = 7 }) }},
		{"before the epoch began", "mark-unknown-epoch", func(r *rig2) { r.setMark(func(m *Mark) { m.Offset, m.Start = 5, 5 }) }},
		{"in another history", "mark-unknown-epoch", func(r *rig2) {
			r.setMark(func(m *Mark) { m.ReplID = repl.ReplID(strings.Repeat("cd", 20)) })
		}},
		{"garbage", "mark-unreadable", func(r *rig2) { r.target.Do(r.t, "SET", markKey(r.job, 1), "hello") }},
		{"of a newer version", "mark-unreadable", func(r *rig2) {
			r.target.Do(r.t, "SET", markKey(r.job, 1), strings.Replace(r.markText(1), "v=2", "v=3", 1))
		}},
		{"not a string", "mark-unreadable", func(r *rig2) {
			r.target.Do(r.t, "DEL", markKey(r.job, 1))
			r.target.Do(r.t, "RPUSH", markKey(r.job, 1), "x")
		}},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			r := rig.again(t)
			p := r.craftBegin(1, 1, spool.WriterOptions{SegmentBytes: 200})
			p.rdb(handRDB("k v"))
			for range 40 {
				p.write("INCR n")
			}
			r.applyAll(Options{})
			tt.spoil(&rig2{r, p})
			before := r.target.Do(t, "GET", "n").String()
			for range 2 {
				r.stopped(Options{}, tt.reason)
			}
			if got := r.target.Do(t, "GET", "n").String(); got != before {
				t.Errorf("data: got n = %s, want %s: nothing is applied", got, before)
			}
		})
	}
}

type rig2 struct {
	*rig
	pen *pen
}

func TestATargetEmptiedInTheRDBPhaseBeginsAgain(t *testing.T) {
	r := bareRig(t, 2)
	r.craft(1, 1, "a v", "b v").write("INCR n").seal()
	half := r.craftBegin(2, 1, spool.WriterOptions{}) // never whole
	half.check(half.w.BeginRDB(99))
	half.check(func() error { _, err := half.w.Sync(); return err }())
	a := r.start(Options{})
	redistest.Eventually(t, "group 2 has its mark", func() bool { return r.target.Do(t, "EXISTS", markKey(r.job, 2)).Int == 1 })
	redistest.Eventually(t, "group 1 is through", func() bool { return r.target.Do(t, "GET", "n").String() == "1" })
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	r.target.Do(t, "FLUSHALL")
	// Group 1 had begun its stream, so that nothing may begin again, and group 2
	// has no target to go on with.
	a = r.start(Options{})
	err := a.wait()
	for i, st := range a.job.Status() {
		if st.State != StateStopped || st.Reason != "mark-missing" {
			t.Errorf("group %d: got %s %s (%v), want it stopped for its mark", i+1, st.State, st.Reason, err)
		}
	}
	r.target.Do(t, "FLUSHALL")
	if err := os.RemoveAll(filepath.Join(r.dir, "apply")); err != nil {
		t.Fatal(err)
	}
	r.groups = 1
	r.applyAll(Options{})
	r.target.Do(t, "FLUSHALL")
	o := r.options(Options{UntilEnd: true})
	rec, _, err := o.Store.Group(1)
	if err != nil {
		t.Fatal(err)
	}
	rec.Phase = "rdb" // as if it had been killed there
	if err := o.Store.PutGroup(1, rec); err != nil {
		t.Fatal(err)
	}
	a = r.start(Options{UntilEnd: true, Store: o.Store})
	if err := a.wait(); err != nil {
		t.Fatal(err)
	}
	r.want("begun again", map[string]string{"0 GET a": "v", "0 GET n": "1"})
}

// TestTheOlderOfTwoGivesUp runs two processes of one job, each with its own
// folder, as after a DIR was copied.
func TestTheOlderOfTwoGivesUp(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "k v").write("INCR n", "RPUSH l a")
	older := r.start(Options{batch: 1})
	older.reaches(t, p.end)
	newer := r.start(Options{batch: 1, StateDir: filepath.Join(r.dir, "apply", "copy")})
	newer.reaches(t, p.end)
	for range 50 {
		p.write("INCR n", "RPUSH l a")
	}
	err := older.wait()
	if !errors.Is(err, ErrTaken) {
		t.Errorf("the older one: got %v, want ErrTaken", err)
	}
	if st := older.job.Status()[0]; st.State != StateStopped || st.Reason != "taken-over" || st.Hint == "" {
		t.Errorf("the older one's status: got %s %s %q", st.State, st.Reason, st.Hint)
	}
	newer.reaches(t, p.end)
	if err := newer.stop(); err != nil {
		t.Fatal(err)
	}
	r.want("with two at work", map[string]string{"0 GET n": "51", "0 LLEN l": "51"})
}
