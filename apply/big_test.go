package apply

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/internal/redistest"
)

// small bounds what is held so low that every value but the smallest is written
// in chunks.
func small(o Options) Options {
	o.heldBytes, o.valueChunk = 60, 200
	return o
}

// bigKinds gives a source a value of each kind that small sends in chunks, in
// both databases, some with a deadline.
func bigKinds(t *testing.T, s *redistest.Server) (keys []string) {
	t.Helper()
	elem := func(i int) string { return fmt.Sprintf("element-%04d-%s", i, strings.Repeat("x", i%7)) }
	for db := range 2 {
		for i := range 60 {
			n := strconv.Itoa(i)
			s.DoIn(t, db, "RPUSH", "list", elem(i))
			s.DoIn(t, db, "SADD", "set", elem(i))
			s.DoIn(t, db, "SADD", "intset", strconv.Itoa(i*70000))
			s.DoIn(t, db, "ZADD", "zset", strconv.FormatFloat(float64(i)/7, 'g', 17, 64), elem(i))
			s.DoIn(t, db, "HSET", "hash", elem(i), n)
			s.DoIn(t, db, "APPEND", "string", elem(i))
		}
		s.DoIn(t, db, "PEXPIREAT", "list", "1900000000000")
		s.DoIn(t, db, "PEXPIREAT", "string", "1900000000001")
		s.DoIn(t, db, "SET", "small", "v")
	}
	keys = []string{"list", "set", "intset", "zset", "hash", "string", "small"}
	if major, _ := s.Version(); major < 5 {
		return keys
	}
	for db := range 2 {
		for i := range 60 {
			s.DoIn(t, db, "XADD", "stream", fmt.Sprintf("%d-1", i+1), "field", elem(i))
		}
		s.DoIn(t, db, "XGROUP", "CREATE", "stream", "group", "0")
		s.DoIn(t, db, "XREADGROUP", "GROUP", "group", "consumer", "COUNT", "20", "STREAMS", "stream", ">")
		s.DoIn(t, db, "XDEL", "stream", "5-1") // is pending, and gone
	}
	return append(keys, "stream")
}

// halves looks at every command that apply sends whether a key of the source is
// there with a part of its elements only.
type halves struct {
	t    *testing.T
	r    *rig
	full map[string]string
	seen atomic.Int64 // commands on the temporary key
	bad  atomic.Pointer[string]
}

func watchHalves(r *rig, keys []string) *halves {
	h := &halves{t: r.t, r: r, full: map[string]string{}}
	for db := range 2 {
		for _, k := range keys {
			h.full[fmt.Sprint(db, k)] = sizeOf(r.t, r.sources[0], db, k)
		}
	}
	return h
}

func sizeOf(t *testing.T, s *redistest.Server, db int, key string) string {
	t.Helper()
	return s.DoIn(t, db, "EVAL", `
local t = redis.call('TYPE', KEYS[1]).ok
local size = {string = 'STRLEN', list = 'LLEN', set = 'SCARD', zset = 'ZCARD', hash = 'HLEN', stream = 'XLEN', none = 'EXISTS'}
return redis.call(size[t], KEYS[1])`, "1", key).String()
}

// look is for the goroutines of a proxy.
func (h *halves) look(args [][]byte) {
	if len(args) < 2 || !strings.HasPrefix(string(args[1]), "tairlift:tmp:") {
		return
	}
	h.seen.Add(1)
	for db := range 2 {
		for k, want := range h.full {
			if k[:1] != strconv.Itoa(db) {
				continue
			}
			if got := sizeOf(h.t, h.r.target, db, k[1:]); got != "0" && got != want {
				text := fmt.Sprintf("%s of database %d at %s: got %s elements, want none or %s", k[1:], db, args[0], got, want)
				h.bad.CompareAndSwap(nil, &text)
			}
		}
	}
}

func (h *halves) check(minimum int64) {
	h.t.Helper()
	if bad := h.bad.Load(); bad != nil {
		h.t.Errorf("a reader saw a half: %s", *bad)
	}
	if n := h.seen.Load(); n < minimum {
		h.t.Errorf("commands on the temporary key: got %d, want %d and more", n, minimum)
	}
}

// noTemp wants nothing of ours on the target beside the marks.
func (r *rig) noTemp(claim string) {
	r.t.Helper()
	for db := range 2 {
		for _, prefix := range []string{"tairlift:tmp:*", "tairlift:probe:*"} {
			if left := r.target.DoIn(r.t, db, "KEYS", prefix).Strings(); len(left) > 0 {
				r.t.Errorf("%s: left in database %d: %q", claim, db, left)
			}
		}
	}
}

func TestBigValuesAreSeenWholeOrNotAtAll(t *testing.T) {
	r := newRig(t, 1)
	s := r.sources[0]
	h := watchHalves(r, bigKinds(t, s))
	r.capture()
	s.Do(t, "RPUSH", "list", "from the stream")
	r.stopCapture()
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		h.look(args)
		return redistest.Pass()
	})
	job := r.applyAll(small(Options{Addr: proxy.Addr}))
	h.check(100)
	sameKeys(t, "in chunks", r.target, s)
	r.noTemp("in chunks")
	n := int64(len(h.full))
	if st := job.Status()[0]; st.Native != n-2 || st.Writing != nil || st.Keys != n || st.RDBDone != st.RDBTotal {
		t.Errorf("status: got %d written by commands, writing %v, %d keys, %d of %d bytes, want %d, nothing, %d, all", st.Native, st.Writing, st.Keys, st.RDBDone, st.RDBTotal, n-2, n)
	}
}

// TestAFaultInABigValueRestartsThatKeyOnly lets each of the commands that write
// big values meet a fault once.
func TestAFaultInABigValueRestartsThatKeyOnly(t *testing.T) {
	for _, fault := range []struct {
		claim  string
		action func() redistest.Action
	}{
		{"connection closed", redistest.Close},
		{"reply lost", redistest.DropReply},
		{"out of memory", func() redistest.Action {
			return redistest.Reject("OOM command not allowed when used memory > 'maxmemory'.")
		}},
		{"hangs, and its bytes come late", redistest.Hang},
		{"answers hang", redistest.HangReplies},
	} {
		t.Run(fault.claim, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1)
			s := r.sources[0]
			keys := bigKinds(t, s)
			r.capture()
			s.Do(t, "SADD", "set", "from the stream")
			s.Do(t, "DEL", "hash")
			r.stopCapture()
			for n := int64(1); ; n += 41 {
				r.afresh()
				h := watchHalves(r, keys)
				h.full["0set"], h.full["0hash"] = "60", "60"
				var seen, boundary atomic.Int64
				proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
					big := len(args) > 1 && strings.HasPrefix(string(args[1]), "tairlift:tmp:") && !isWord(args, "EXISTS")
					if big && seen.Add(1) == n {
						h.look(args)
						return fault.action()
					}
					if isWord(args, "RPUSH") && string(args[1]) == "list" {
						boundary.Add(1)
					}
					return redistest.Pass()
				})
				job := r.applyAll(small(Options{Addr: proxy.Addr, Timeout: 2 * time.Second, markEntries: 1, chunkEntries: 1}))
				proxy.Release()
				proxy.Close()
				h.check(0)
				claim := fmt.Sprintf("fault at command %d", n)
				sameKeys(t, claim, r.target, s)
				r.noTemp(claim)
				if st := job.Status()[0]; st.Rejects != 0 {
					t.Errorf("%s: got %d rejects, want none", claim, st.Rejects)
				}
				if seen.Load() < n {
					if n < 50 {
						t.Errorf("faults tried: got %d", n)
					}
					return
				}
				if fault.claim[0] == 'h' || fault.claim[0] == 'a' {
					n += 120 // each waits for the timeout
				}
			}
		})
	}
}

func TestABigValueThatIsCutIsRemovedByWhoeverComesNext(t *testing.T) {
	for _, next := range []struct {
		claim string
		do    func(r *rig)
	}{
		{"a session that writes no big value", func(r *rig) { r.applyAll(Options{}) }},
		{"a finish", func(r *rig) {
			c, err := OpenClosing(r.t.Context(), ClosingOptions{Addr: r.target.Addr, Job: r.job})
			if err != nil {
				r.t.Fatal(err)
			}
			defer c.Close()
			traces, err := c.Traces(r.t.Context())
			if err == nil {
				_, err = c.TakeOver(r.t.Context(), traces.Marks)
			}
			if err != nil {
				r.t.Fatal(err)
			}
		}},
	} {
		t.Run(next.claim, func(t *testing.T) {
			r := newRig(t, 1)
			s := r.sources[0]
			bigKinds(t, s)
			r.capture()
			r.stopCapture()
			held := make(chan struct{}, 1)
			var pushes atomic.Int64
			proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
				if isWord(args, "RPUSH") && pushes.Add(1) == 5 {
					held <- struct{}{}
					return redistest.Hang()
				}
				return redistest.Pass()
			})
			a := r.start(small(Options{Addr: proxy.Addr, Timeout: time.Hour}))
			<-held
			left := func() (n int) {
				for db := range 2 {
					n += len(r.target.DoIn(t, db, "KEYS", "tairlift:tmp:*").Elems)
				}
				return n
			}
			redistest.Eventually(t, "a value half written", func() bool { return left() == 1 })
			redistest.Eventually(t, "status to say so", func() bool {
				w := a.job.Status()[0].Writing
				return w != nil && w.Key == "list" && w.Kind == "list" && w.Bytes > 0
			})
			if err := a.stop(); err != nil {
				t.Fatal(err)
			}
			if left() != 1 {
				t.Fatal("what is left of the value: got nothing")
			}
			next.do(r)
			r.noTemp(next.claim)
			proxy.Release()
			proxy.Close()
			r.applyAll(small(Options{}))
			sameKeys(t, "again", r.target, s)
			r.noTemp("again")
		})
	}
}

// A RENAME that a hung connection holds is never executed behind the session that
// took its place, whose stream has removed the key since.
func TestALateRenameIsNotExecuted(t *testing.T) {
	r := newRig(t, 1)
	s := r.sources[0]
	bigKinds(t, s)
	r.capture()
	for db := range 2 {
		s.DoIn(t, db, "DEL", "hash", "list", "set", "zset", "string")
	}
	r.stopCapture()
	held := make(chan struct{}, 1)
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if isWord(args, "RENAME") && strings.HasPrefix(string(args[1]), "tairlift:tmp:") {
			held <- struct{}{}
			return redistest.Hang()
		}
		return redistest.Pass()
	})
	a := r.start(small(Options{Addr: proxy.Addr, Timeout: time.Hour}))
	<-held
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	r.applyAll(small(Options{}))
	proxy.Release()
	proxy.Close()
	sameKeys(t, "behind a late RENAME", r.target, s)
	r.noTemp("behind a late RENAME")
}

// What an evicting target takes away in the middle would leave a value without
// its beginning.
func TestABigValueThatTheTargetEvictsIsAReject(t *testing.T) {
	r := newRig(t, 1)
	s := r.sources[0]
	bigKinds(t, s)
	r.capture()
	r.stopCapture()
	var pushes atomic.Int64
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if isWord(args, "RPUSH") && pushes.Add(1)%8 == 3 {
			for db := range 2 {
				r.target.DoIn(t, db, "DEL", string(args[1]))
			}
		}
		return redistest.Pass()
	})
	if stop := r.stopped(small(Options{Addr: proxy.Addr}), "reject"); !strings.Contains(stop.What, `"list"`) || !strings.Contains(stop.What, "evicted") {
		t.Errorf("stop: got %q, want the key and the cause named", stop.What)
	}
	pushes.Store(0)
	job := r.applyAll(small(Options{Addr: proxy.Addr, OnReject: RejectContinue}))
	if st := job.Status()[0]; st.Rejects != 2 || st.Doubtful != 2 {
		t.Errorf("status: got %d rejects, %d doubtful, want 2, 2", st.Rejects, st.Doubtful)
	}
	r.want("of what was cut short", map[string]string{"0 EXISTS list": "0", "1 EXISTS list": "0", "0 GET small": "v"})
	r.noTemp("of what was cut short")
}

// Where a command is missing, or is not for the account, values are written all
// the same.
func TestValuesWithoutRestoreOrRename(t *testing.T) {
	for _, tt := range []struct {
		claim string
		arg   []string
		o     Options
		want  string // in the log
	}{
		{"no RESTORE", []string{"RESTORE"}, Options{}, ""},
		{"no RESTORE, in chunks", []string{"RESTORE"}, small(Options{}), ""},
		{"no RENAME, in chunks", []string{"RENAME"}, small(Options{}), ""},
		{"neither, nor UNLINK", []string{"RESTORE", "RENAME", "UNLINK"}, small(Options{}), ""},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1)
			var renamed []string
			for _, name := range tt.arg {
				renamed = append(renamed, "--rename-command", name, "")
			}
			r.target = redistest.Target(t, redistest.Arg(renamed...))
			s := r.sources[0]
			bigKinds(t, s)
			r.capture()
			s.Do(t, "DEL", "hash")
			r.stopCapture()
			job := r.applyAll(tt.o)
			sameKeys(t, tt.claim, r.target, s)
			r.noTemp(tt.claim)
			if st := job.Status()[0]; st.Native < 10 || st.Rejects != 0 {
				t.Errorf("status: got %d written by commands, %d rejects, want 10 or more, none", st.Native, st.Rejects)
			}
		})
	}
}

// A RESTORE that is refused, against what the probe said, is no reject.
func TestAPayloadThatIsRefusedIsWrittenByCommands(t *testing.T) {
	r := newRig(t, 1)
	s := r.sources[0]
	keys := bigKinds(t, s)
	r.capture()
	r.stopCapture()
	for _, why := range []string{"ERR Bad data format", "ERR DUMP payload version or checksum are wrong", "ERR this key is too large"} {
		r.afresh()
		proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
			if isWord(args, "RESTORE") && slices.Contains(keys, string(args[1])) {
				return redistest.ReplyError(why)
			}
			return redistest.Pass()
		})
		job := r.applyAll(Options{Addr: proxy.Addr})
		sameKeys(t, why, r.target, s)
		if st := job.Status()[0]; st.Native < 10 || st.Rejects != 0 || st.Doubtful != 0 {
			t.Errorf("%s: got %d written by commands, %d rejects, %d doubtful, want 10 or more, none, none", why, st.Native, st.Rejects, st.Doubtful)
		}
		proxy.Close()
	}
}
