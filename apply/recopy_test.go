package apply

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/held"
	"tairlift/internal/rdb"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
)

// sources are the rig's, for Options.
func (r *rig) sourcesOf() map[repl.GroupID]Source {
	out := map[repl.GroupID]Source{}
	for i, s := range r.sources {
		out[repl.GroupID(i+1)] = Source{Addr: s.Addr, Secret: s.Secret}
	}
	return out
}

// writing keeps commands coming to a server until it is called.
func writing(t *testing.T, s *redistest.Server, rounds ...func(i int) []string) (stop func()) {
	t.Helper()
	end := make(chan struct{})
	var wg sync.WaitGroup
	for _, round := range rounds {
		c := s.Dial(t)
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-end:
					return
				default:
				}
				if _, err := c.Do(t.Context(), round(i)...); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	return sync.OnceFunc(func() { close(end); wg.Wait() })
}

func always(args ...string) func(int) []string { return func(int) []string { return args } }

// healed waits until nothing of group 1 is doubtful, n keys having been.
func (a *applying) healed(t *testing.T, n int) {
	t.Helper()
	var st Status
	defer func() {
		if t.Failed() {
			t.Logf("status: %+v", st)
		}
	}()
	redistest.Eventually(t, "every doubtful key to be copied again", func() bool {
		st = a.job.Status()[0]
		if st.State == StateStopped {
			t.Fatalf("group stopped: %s: %s", st.Reason, st.What)
		}
		return st.Doubtful == 0 && st.Healed >= n && st.Rejects == 0
	})
}

// Keys that differ on the target for every reason that makes one doubtful end
// as the source has them, while the source goes on writing to them.
func TestDoubtfulKeysAreCopiedAgain(t *testing.T) {
	r := newRig(t, 1)
	s, dst := r.sources[0], r.target
	fill(t, s, "k", 5)
	for db := range 2 {
		s.DoIn(t, db, "SET", "n", "1")
		s.DoIn(t, db, "HSET", "h", "f", "1")
		s.DoIn(t, db, "RPUSH", "l", "a", "b", "c")
		s.DoIn(t, db, "SADD", "members", "1", "2", "3", "4", "5", "6")
		s.DoIn(t, db, "SET", "ttl", "v")
	}
	r.capture()
	a := r.start(Options{OnReject: RejectContinue, Sources: r.sourcesOf()})
	s.Do(t, "SET", "behind-the-rdb", "v")
	redistest.Eventually(t, "the stream phase", func() bool { return dst.Do(t, "EXISTS", "behind-the-rdb").Int == 1 })
	doubtful := 0
	for db := range 2 {
		dst.DoIn(t, db, "DEL", "n", "h", "l", "ttl")
		dst.DoIn(t, db, "RPUSH", "n", "another type")
		dst.DoIn(t, db, "SET", "h", "another type")
		dst.DoIn(t, db, "SET", "l", "another type")
		doubtful += 4
	}
	var rounds []func(int) []string
	for db := range 2 {
		rounds = append(rounds, func(i int) []string {
			if i == 0 {
				return []string{"SELECT", strconv.Itoa(db)}
			}
			switch i % 6 {
			case 0:
				return []string{"HINCRBY", "h", "f", "1"}
			case 1:
				return []string{"RPUSH", "l", strconv.Itoa(i)}
			case 2:
				return []string{"LPOP", "l"}
			case 3:
				return []string{"EXPIRE", "ttl", "1000"}
			case 4:
				return []string{"SADD", "members", strconv.Itoa(i)}
			}
			return []string{"INCR", "n"}
		})
	}
	major, _ := s.Version()
	if major < 5 { // what calls SPOP is propagated as it is, and pops others here
		rounds = append(rounds, always("EVAL", "return redis.call('SPOP', KEYS[1])", "1", "members"))
	}
	stop := writing(t, s, rounds...)
	defer stop()
	redistest.Eventually(t, "every key to have been doubtful and healed, under load", func() bool { return a.job.Status()[0].Healed >= doubtful })
	stop()
	if major < 5 { // healed when it is doubtful no more, all the time
		doubtful++
	}
	r.caughtUp(a)
	a.healed(t, doubtful)
	sameKeys(t, "copied again", dst, s)
	if st := a.job.Status()[0]; st.Held != 0 || st.Healing || st.Recopy != "" {
		t.Errorf("status: got %d held, healing %v, %q, want none of it", st.Held, st.Healing, st.Recopy)
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	// The next process knows, and rejects that are healed stop nothing.
	s.Do(t, "INCR", "n")
	r.stopCapture()
	job := r.applyAll(Options{OnReject: RejectStop})
	if st := job.Status()[0]; st.Doubtful != 0 || st.Rejects != 0 || st.Healed < doubtful {
		t.Errorf("the next process: got %d doubtful, %d rejects, %d healed, want 0, 0, %d", st.Doubtful, st.Rejects, st.Healed, doubtful)
	}
	sameKeys(t, "in the end", dst, s)
}

// asked is a source whose offset and history a test decides, and whose values
// are those of a real server.
type asked struct {
	*redistest.Proxy
	values *redistest.Server
	offset atomic.Int64
	dumps  atomic.Int64
	replid repl.ReplID
	newer  bool // its payloads are of a version that no target knows
}

// crafted is the history of a spool written by hand.
var crafted = repl.ReplID(strings.Repeat("ab", 20))

func (r *rig) askedSource() *asked {
	r.t.Helper()
	s := &asked{values: redistest.Target(r.t), replid: crafted}
	s.Proxy = redistest.NewProxy(r.t, s.values.Addr, func(_, _ int, args [][]byte) redistest.Action {
		switch {
		case isWord(args, "DUMP"):
			s.dumps.Add(1)
			if payload, err := s.values.DoErr("DUMP", string(args[1])); err == nil && s.newer {
				typ, body, _, err := rdb.ParseDump(payload.Str)
				if err != nil {
					r.t.Error(err)
				}
				newer := rdb.AppendDump(nil, typ, body, 999)
				return redistest.Reply(fmt.Sprintf("$%d\r\n%s\r\n", len(newer), newer))
			}
		case isWord(args, "INFO") && string(args[1]) == "replication":
			info := fmt.Sprintf("role:master\r\nmaster_replid:%s\r\nmaster_repl_offset:%d\r\nrepl_backlog_active:1\r\n", s.replid, s.offset.Load())
			return redistest.Reply(fmt.Sprintf("$%d\r\n%s\r\n", len(info), info))
		}
		return redistest.Pass()
	})
	return s
}

func (s *asked) source() map[repl.GroupID]Source {
	return map[repl.GroupID]Source{1: {Addr: s.Addr}}
}

// rejecting is a rig whose target has a list at n, and at m.
func rejecting(t *testing.T) (*rig, *pen, *asked) {
	t.Helper()
	r := bareRig(t, 1)
	p := r.craft(1, 1)
	p.write("SET n 1", "SET m 1")
	r.applyAll(Options{})
	for _, k := range []string{"n", "m"} {
		r.target.Do(t, "DEL", k)
		r.target.Do(t, "RPUSH", k, "x")
	}
	return r, p, r.askedSource()
}

// The value is put between the command that ends at its offset and the next.
func TestACopyIsPutInPlaceAtItsOffset(t *testing.T) {
	r, p, s := rejecting(t)
	s.values.Do(t, "SET", "n", "10", "PX", "500000")
	a := r.start(Options{OnReject: RejectContinue, Sources: s.source()})
	p.write("INCR n", "INCR m")
	s.offset.Store(int64(p.end) + 1<<20) // far ahead
	redistest.Eventually(t, "a question", func() bool { return s.dumps.Load() > 0 })
	filler := int64(0)
	for int64(p.end)+100 < s.offset.Load() {
		size := min(1<<18, s.offset.Load()-int64(p.end)-100)
		p.command("SET", "filler", strings.Repeat("f", int(size)))
		filler++
	}
	p.write("INCR n") // the value counts this one
	pad := s.offset.Load() - int64(p.end) - int64(len("*3\r\n$3\r\nSET\r\n$1\r\np\r\n$10\r\n\r\n"))
	if pad < 10 || pad > 99 {
		t.Fatalf("bytes to the offset: got %d, want 10 to 99", pad)
	}
	p.command("SET", "p", strings.Repeat("x", int(pad)))
	if int64(p.end) != s.offset.Load() {
		t.Fatalf("end: got %s, want %d", p.end, s.offset.Load())
	}
	s.offset.Store(0) // what is asked next tells nothing
	p.write("MULTI", "INCR n", "INCR n", "EXEC", "INCR n")
	a.reaches(t, p.end)
	r.want("between", map[string]string{"0 GET n": "13", "0 EXISTS m": "0"})
	if got := r.target.Do(t, "PTTL", "n").Int; got < 400000 || held.Off(got, 500000) > 0 {
		t.Errorf("PTTL: got %d, want that of the source", got)
	}
	redistest.Eventually(t, "both to be healed", func() bool { st := a.job.Status()[0]; return st.Healed == 2 && st.Doubtful == 0 })
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	if m := r.mark(1); m.Commands != 2+2+filler+1+1+3+2 {
		t.Errorf("commands of the mark: got %d, want %d, the two copies among them", m.Commands, 2+2+filler+1+1+3+2)
	}
}

// Behind its offset a later command makes the key doubtful again.
func TestALaterDoubtSurvivesTheCopy(t *testing.T) {
	r, p, s := rejecting(t)
	s.values.Do(t, "RPUSH", "n", "not a number")
	p.write("INCR n")
	s.offset.Store(int64(p.end))
	a := r.start(Options{OnReject: RejectContinue, Sources: s.source()})
	redistest.Eventually(t, "n to be healed", func() bool { return a.job.Status()[0].Healed == 1 })
	s.offset.Store(0)
	p.write("INCR n", "INCR m")
	a.reaches(t, p.end)
	redistest.Eventually(t, "n and m to be doubtful by 3 rejects, of which a pass makes the healed one count again", func() bool {
		st := a.job.Status()[0]
		return st.Doubtful == 2 && st.Rejects == 3
	})
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatTheSourceHasNotIsDeletedOrHeld(t *testing.T) {
	r, p, s := rejecting(t)
	r.target.Do(t, "SET", "another-group's", "v")
	r.target.Do(t, "SET", "unknown", "v")
	p.command("EVAL", "return redis.call('INCR', KEYS[1])", "2", "n", "another-group's").write("NO-SUCH-COMMAND unknown", "NO-SUCH-COMMAND nowhere")
	s.offset.Store(int64(p.end))
	a := r.start(Options{OnReject: RejectContinue, Sources: s.source(), JobGroups: []repl.GroupID{1, 2}})
	a.reaches(t, p.end)
	redistest.Eventually(t, "what the target lacks too to be healed, the others held", func() bool {
		st := a.job.Status()[0]
		return st.Healed == 2 && st.Doubtful == 2 && st.Held == 2 && !st.Healing
	})
	r.want("absent at the source", map[string]string{"0 EXISTS n": "0", "0 GET another-group's": "v", "0 GET unknown": "v"})
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
}

// In a job of one group a key that its source has not is nobody's.
func TestWhatTheOnlySourceHasNotIsDeleted(t *testing.T) {
	r, p, s := rejecting(t)
	r.target.Do(t, "SET", "unknown", "v")
	p.write("INCR n", "NO-SUCH-COMMAND unknown")
	s.offset.Store(int64(p.end))
	a := r.start(Options{OnReject: RejectContinue, Sources: s.source()})
	redistest.Eventually(t, "both to be healed", func() bool {
		st := a.job.Status()[0]
		return st.Healed == 2 && st.Doubtful == 0
	})
	r.want("absent at the source", map[string]string{"0 EXISTS n": "0", "0 EXISTS unknown": "0"})
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestACopyThatCannotBeMadeKeepsItsDoubt(t *testing.T) {
	big := strings.Repeat("v", 3000)
	for _, tt := range []struct {
		claim  string
		set    []string
		hook   func(args [][]byte) (redistest.Action, bool) // of the target
		held   string
		values map[string]string
	}{
		{"a value larger than may be held", []string{"SET", "n", big}, nil, heldLarge, map[string]string{"0 LLEN n": "1"}},
		{"a value that the target takes neither by RESTORE nor by commands", []string{"RPUSH", "n", "a"}, func(args [][]byte) (redistest.Action, bool) {
			return redistest.Reject("ERR no lists here"), isWord(args, "RESTORE") && string(args[1]) == "n" || isWord(args, "RPUSH") && string(args[2]) == "a"
		}, heldRefused, map[string]string{"0 LRANGE n 0 -1": "[x]"}},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			r, p, s := rejecting(t)
			s.values.Do(t, tt.set...)
			s.values.Do(t, "SET", "m", "7")
			p.write("INCR n", "INCR m")
			s.offset.Store(int64(p.end))
			s.newer = tt.held == heldRefused // which alone is put right
			o := Options{OnReject: RejectContinue, Sources: s.source(), copyBytes: 1000}
			if tt.hook != nil {
				proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
					act, ok := tt.hook(args)
					if ok {
						return act
					}
					return redistest.Pass()
				})
				o.Addr = proxy.Addr
			}
			a := r.start(o)
			redistest.Eventually(t, "m to be healed, n held", func() bool {
				st := a.job.Status()[0]
				return st.Healed == 1 && st.Doubtful == 1 && st.Held == 1 && st.Rejects == 1 && !st.Healing
			})
			r.want(tt.claim, tt.values)
			r.want(tt.claim, map[string]string{"0 GET m": "7"})
			if err := a.stopKeeping(func(store *checkpoint.Apply) {
				if err := store.Doubts(1, func(d checkpoint.Doubt) error {
					if string(d.Key) != "n" || !strings.HasPrefix(d.Held, tt.held) {
						t.Errorf("held: got %s by %q, want n by %s", d.Key, d.Held, tt.held)
					}
					return nil
				}); err != nil {
					t.Error(err)
				}
			}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// stopKeeping is stop, with a look into the store before it is closed.
func (a *applying) stopKeeping(look func(*checkpoint.Apply)) error {
	a.cancel()
	err := <-a.done
	look(a.store)
	a.done <- err
	return a.wait()
}

func TestASourceThatCannotBeAskedHealsNothing(t *testing.T) {
	for _, tt := range []struct {
		claim string
		spoil func(t *testing.T, s *asked, end repl.Offset) map[repl.GroupID]Source
		what  string
	}{
		{"another run id", func(t *testing.T, s *asked, end repl.Offset) map[repl.GroupID]Source {
			s.replid = repl.ReplID(strings.Repeat("cd", 20))
			return s.source()
		}, "another history"},
		{"an offset behind the stream", func(t *testing.T, s *asked, end repl.Offset) map[repl.GroupID]Source {
			s.offset.Store(int64(end) - 1)
			return s.source()
		}, "behind what was applied"},
		{"a replica", func(t *testing.T, s *asked, end repl.Offset) map[repl.GroupID]Source {
			replica := redistest.Source(t)
			replica.ReplicaOf(t, redistest.Source(t))
			return map[repl.GroupID]Source{1: {Addr: replica.Addr}}
		}, `its role is "slave"`},
		{"one that is away", func(t *testing.T, s *asked, end repl.Offset) map[repl.GroupID]Source {
			s.Down()
			return s.source()
		}, "connect to"},
		{"one that wants a password", func(t *testing.T, s *asked, end repl.Offset) map[repl.GroupID]Source {
			locked := redistest.Source(t, redistest.Password("secret"))
			return map[repl.GroupID]Source{1: {Addr: locked.Addr}}
		}, "NOAUTH"},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			r, p, s := rejecting(t)
			s.values.Do(t, "SET", "n", "10")
			p.write("INCR n")
			s.offset.Store(int64(p.end))
			a := r.start(Options{OnReject: RejectContinue, Sources: tt.spoil(t, s, p.end)})
			redistest.Eventually(t, "the source to be given up for now", func() bool {
				st := a.job.Status()[0]
				return st.Doubtful == 1 && !st.Healing && st.Recopy != ""
			})
			p.write("SET other v") // the stream goes on
			a.reaches(t, p.end)
			if st := a.job.Status()[0]; st.Healed != 0 || st.Doubtful != 1 || st.Rejects != 1 || !strings.Contains(st.Recopy, tt.what) {
				t.Errorf("status: got %d healed, %d doubtful, %d rejects, %q, want 0, 1, 1, %q", st.Healed, st.Doubtful, st.Rejects, st.Recopy, tt.what)
			}
			if err := a.stop(); err != nil {
				t.Fatal(err)
			}
			r.applyAll(Options{OnReject: RejectContinue, Sources: tt.spoil(t, s, p.end)}) // offline it ends all the same
			r.want(tt.claim, map[string]string{"0 LLEN n": "1"})
		})
	}
}

// The batch with the value breaks before it is committed, or its answer is lost.
func TestACopyInABatchThatBreaks(t *testing.T) {
	for claim, act := range map[string]func(args [][]byte) (redistest.Action, bool){
		"before its commands": func(args [][]byte) (redistest.Action, bool) {
			return redistest.Close(), isWord(args, "SET") && string(args[1]) == "n"
		},
		"before EXEC":            func(args [][]byte) (redistest.Action, bool) { return redistest.Close(), isWord(args, "EXEC") },
		"and its answer is lost": func(args [][]byte) (redistest.Action, bool) { return redistest.DropReply(), isWord(args, "EXEC") },
		"by OOM that clears soon": func(args [][]byte) (redistest.Action, bool) {
			return redistest.Reject("OOM command not allowed"), isWord(args, "SET") && string(args[1]) == "n"
		},
	} {
		t.Run(claim, func(t *testing.T) {
			r, p, s := rejecting(t)
			s.values.Do(t, "SET", "n", "10")
			p.write("INCR n")
			s.offset.Store(int64(p.end))
			var broken atomic.Int64
			proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
				if a, ok := act(args); ok && s.dumps.Load() > 0 && broken.Add(1) == 1 {
					return a
				}
				return redistest.Pass()
			})
			a := r.start(Options{Addr: proxy.Addr, OnReject: RejectContinue, Sources: s.source()})
			a.healed(t, 1)
			if broken.Load() == 0 {
				t.Error("nothing was broken")
			}
			p.write("INCR n")
			a.reaches(t, p.end)
			r.want(claim, map[string]string{"0 GET n": "11"})
			if err := a.stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A target that fails over to a replica without the last batch has lost the
// value, and its mark tells so although its offset is the same.
func TestACopyThatTheTargetLosesIsDoubtfulAgain(t *testing.T) {
	r, p, s := rejecting(t)
	s.values.Do(t, "SET", "n", "10")
	p.write("INCR n")
	r.applyAll(Options{OnReject: RejectContinue})
	before := r.mark(1)
	s.offset.Store(int64(p.end))
	job := r.applyAll(Options{OnReject: RejectContinue, Sources: s.source()})
	if st := job.Status()[0]; st.Healed != 1 || st.Doubtful != 0 {
		t.Fatalf("status: got %d healed, %d doubtful, want 1, 0", st.Healed, st.Doubtful)
	}
	r.want("copied at the end of the spool", map[string]string{"0 GET n": "10"})
	if m := r.mark(1); m.Offset != before.Offset {
		t.Fatalf("mark: got offset %s, want %s", m.Offset, before.Offset)
	}
	r.applyAll(Options{}) // what is healed stays so
	r.target.Do(t, "DEL", "n")
	r.target.Do(t, "RPUSH", "n", "x")
	r.setMark(func(m *Mark) { *m = before })
	job = r.applyAll(Options{OnReject: RejectContinue})
	if st := job.Status()[0]; st.Healed != 0 || st.Doubtful != 1 || st.Rejects != 1 {
		t.Errorf("status: got %d healed, %d doubtful, %d rejects, want 0, 1, 1", st.Healed, st.Doubtful, st.Rejects)
	}
	job = r.applyAll(Options{OnReject: RejectContinue, Sources: s.source()})
	if st := job.Status()[0]; st.Healed != 1 || st.Doubtful != 0 {
		t.Errorf("asked again: got %d healed, %d doubtful, want 1, 0", st.Healed, st.Doubtful)
	}
	r.want("copied again", map[string]string{"0 GET n": "10"})
}

// Many keys take many questions, in any order of databases, sizes and names.
func TestManyDoubtfulKeys(t *testing.T) {
	r := newRig(t, 1)
	s, dst := r.sources[0], r.target
	r.capture()
	a := r.start(Options{OnReject: RejectContinue, Sources: r.sourcesOf(), copyBytes: 5000})
	const n = 150
	for db := range 2 {
		for i := range n {
			dst.DoIn(t, db, "RPUSH", "k"+strconv.Itoa(i), "x")
		}
	}
	begun := time.Now()
	for db := range 2 {
		for i := range n {
			s.DoIn(t, db, "APPEND", "k"+strconv.Itoa(i), strings.Repeat(strconv.Itoa(i), 10*(i%40)))
		}
	}
	a.healed(t, 2*n)
	t.Logf("%d keys in %s", 2*n, time.Since(begun))
	r.caughtUp(a)
	sameKeys(t, "copied again", dst, s)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
}

// An entry of the RDB that the target refuses, in both ways, is asked for once the stream is
// reached, and its value may be one that the target takes.
func TestAnEntryOfTheRDBThatWasRefusedIsCopiedAgain(t *testing.T) {
	r := newRig(t, 1)
	s := r.sources[0]
	s.Do(t, "RPUSH", "refused", "a")
	s.Do(t, "RPUSH", "refused-again", "a")
	s.Do(t, "RPUSH", "taken", "a")
	r.capture()
	s.Do(t, "SET", "other", "v")
	var refusals atomic.Int64
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if !isWord(args, "RESTORE") && !isWord(args, "RPUSH") {
			return redistest.Pass()
		}
		switch name := string(args[1]); {
		case name == "refused-again", name == "refused" && refusals.Add(1) <= 2:
			return redistest.Reject("ERR Bad data format")
		}
		return redistest.Pass()
	})
	a := r.start(Options{Addr: proxy.Addr, OnReject: RejectContinue, Sources: r.sourcesOf()})
	redistest.Eventually(t, "one to be healed, the other held", func() bool {
		st := a.job.Status()[0]
		return st.Healed == 1 && st.Doubtful == 1 && st.Held == 1 && st.Rejects == 1
	})
	r.want("in the end", map[string]string{"0 LRANGE refused 0 -1": "[a]", "0 EXISTS refused-again": "0", "0 LRANGE taken 0 -1": "[a]", "0 GET other": "v"})
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
}

// A failover of the source while an answer waits for its place makes that the
// place of another history.
func TestAnAnswerOfAnotherHistoryIsDropped(t *testing.T) {
	r, p, s := rejecting(t)
	s.values.Do(t, "SET", "n", "666")
	a := r.start(Options{OnReject: RejectContinue, Sources: s.source()})
	p.write("INCR n")
	line := "SET other v"
	next := repl.Offset(len("*3\r\n$3\r\nSET\r\n$5\r\nother\r\n$1\r\nv\r\n"))
	s.offset.Store(int64(p.end + next)) // ahead, in the old history
	redistest.Eventually(t, "an answer", func() bool { return s.dumps.Load() > 0 })
	// The question after this one comes only when the answer was dropped.
	asked := s.dumps.Load()
	p.check(p.w.SetReplID(repl.ReplID(strings.Repeat("cd", 20))))
	p.write(line)
	redistest.Eventually(t, "the next question", func() bool { return s.dumps.Load() > asked })
	a.reaches(t, p.end)
	r.want("by an answer of another history", map[string]string{"0 TYPE n": "list", "0 GET other": "v"})
	if st := a.job.Status()[0]; st.Healed != 0 || st.Doubtful != 1 {
		t.Errorf("status: got %d healed, %d doubtful, want 0, 1", st.Healed, st.Doubtful)
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
}

// A source that is ahead while nothing of that comes in is not waited for.
func TestAPlaceThatTheStreamDoesNotReachIsGivenUp(t *testing.T) {
	r, p, s := rejecting(t)
	p.write("INCR n")
	s.values.Do(t, "SET", "n", "10")
	s.offset.Store(int64(p.end) + 1000)
	var ahead atomic.Int64 // of the clock
	a := r.start(Options{OnReject: RejectContinue, Sources: s.source(), Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	redistest.Eventually(t, "the source to be given up", func() bool {
		ahead.Add(int64(stillTime))
		st := a.job.Status()[0]
		return st.Doubtful == 1 && !st.Healing && strings.Contains(st.Recopy, "the stream stays at offset "+p.end.String())
	})
	s.offset.Store(int64(p.end))
	redistest.Eventually(t, "the key to be healed", func() bool {
		ahead.Add(int64(stillTime))
		st := a.job.Status()[0]
		return st.Healed == 1 && st.Doubtful == 0 && st.Recopy == ""
	})
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
}
