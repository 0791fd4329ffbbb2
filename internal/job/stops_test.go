package job

import (
	"encoding/binary"
	"errors"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/internal/rdb"
	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

// An end is what a person gets of a run: the exit code, the reason in status,
// one line of what and one of what to do.
type end struct {
	code               Code
	reason, what, hint string // what and hint in part
}

func (e end) check(t *testing.T, o Options, err error) {
	t.Helper()
	got, ok := err.(*Error)
	if !ok {
		t.Fatalf("got %v, want exit %d", err, e.code)
	}
	if got.Code != e.code || !strings.Contains(got.What, e.what) || !strings.Contains(got.Hint, e.hint) {
		t.Errorf("got exit %d, %q, hint %q, want %d, %q, %q", got.Code, got.What, got.Hint, e.code, e.what, e.hint)
	}
	s, err := readView(o.Dir, "", "", Only{})
	if err != nil {
		t.Fatal(err)
	}
	if g := s.Groups[0]; g.State != StateStop || g.Reason != e.reason || g.Hint == "" {
		t.Errorf("status: got %s %s with hint %q, want it stopped for %s", g.State, g.Reason, g.Hint, e.reason)
	}
}

// rdbOf is an RDB of these bytes between header and end.
func rdbOf(body string) []byte {
	b := append([]byte("REDIS0007"+body), 0xFF)
	return binary.LittleEndian.AppendUint64(b, rdb.CRC64(0, b))
}

func crafted() redistest.Session {
	return redistest.Session{
		ReplID: "abababababababababababababababababababab", Offset: 1000,
		RDB: rdbOf("\xfe\x00\x00\x01k\x01v"), Stream: commandsOf("SELECT 0", "INCR n"),
	}
}

func commandsOf(lines ...string) (b []byte) {
	for _, l := range lines {
		b = resp.AppendCommandStrings(b, strings.Fields(l)...)
	}
	return b
}

// TestWhatStopsAGroup ends runs by what a stream, an RDB, a mark or a target may
// hold.
func TestWhatStopsAGroup(t *testing.T) {
	target := redistest.Target(t)
	// mark rewrites a field of the mark.
	mark := func(field, text string) func(*testing.T, string) {
		return func(t *testing.T, key string) {
			old := target.Do(t, "GET", key).String()
			target.Do(t, "SET", key, regexp.MustCompile(` `+field+`=\S+`).ReplaceAllLiteralString(old, " "+field+"="+text))
		}
	}
	do := func(args ...string) func(*testing.T, string) {
		return func(t *testing.T, key string) {
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "MARK", key)
			}
			target.Do(t, args...)
		}
	}
	const newEpoch = "--new-epoch"
	for _, tt := range []struct {
		claim  string
		spoil  func(t *testing.T, mark string) // between the first run and the second
		stream []string                        // that the second gets
		want   end
	}{
		{"FLUSHALL", nil, []string{"FLUSHALL"}, end{Stopped, "flush-in-stream", "would empty keys of other groups", newEpoch}},
		{"FLUSHDB", nil, []string{"FLUSHDB"}, end{Stopped, "flush-in-stream", `command "FLUSHDB" in database 0`, newEpoch}},
		{"SWAPDB", nil, []string{"SWAPDB 0 1"}, end{Stopped, "flush-in-stream", `command "SWAPDB"`, newEpoch}},
		{"a slot that moves", nil, []string{"SLOTSMGRTONE h 1 0 k"}, end{Stopped, "slots-moving", "moves keys between Codis groups", newEpoch}},
		{"what cannot be replayed", nil, []string{"MIGRATE h 1 k 0 5"}, end{Stopped, "unsupported-command", "is not supported", newEpoch}},
		{"what the target is too old for", nil, []string{"XDELEX k DELREF IDS 1 1-1"}, end{Stopped, "unsupported-command", "cannot be replayed on a target of version", "use a target of version 8.2"}},
		{"a key of ours beside others", nil, []string{"RENAME k tairlift:x"}, end{Stopped, "unsupported-command", "names keys that are never copied beside others", newEpoch}},
		{"a script that nobody knows", nil, []string{"EVALSHA 0123456789012345678901234567890123456789 0"}, end{Stopped, "script-unknown", `command "EVALSHA"`, newEpoch}},
		{"a SELECT of nothing", nil, []string{"SELECT x"}, end{Stopped, "stream-corrupt", "is not a SELECT of a database", "report this"}},
		{"a deadline that is none", nil, []string{"SETEX k never v"}, end{Stopped, "stream-corrupt", "cannot be read", "report this"}},
		{"a database that the target lacks", nil, []string{"SELECT 99", "INCR n"}, end{Stopped, "target-database", "database 99, which the target does not have", "databases"}},
		{"a command that the target rejects", do("LPUSH", "list", "x"), []string{"INCR list"}, end{Stopped, "reject", `key "list", "INCR" "list": WRONGTYPE`, "--on-reject continue"}},
		{"a command that the target does not know", nil, []string{"NO-SUCH-COMMAND k 1"}, end{Stopped, "reject", "unknown command", "--on-reject continue"}},
		{"a mark that is gone", do("DEL", "MARK"), []string{"INCR n"}, end{Stopped, "mark-missing", "the target has lost the mark", "--reseed"}},
		{"a mark that is none", do("SET", "MARK", "hello"), []string{"INCR n"}, end{Stopped, "mark-unreadable", "cannot be read", "--reseed"}},
		{"a mark ahead of the spool", mark("offset", "999999"), []string{"INCR n"}, end{Stopped, "mark-ahead", "is at offset 999999, ahead of the spool", "--reseed"}},
		{"a mark of an epoch that is not here", mark("epoch", "7"), []string{"INCR n"}, end{Stopped, "mark-unknown-epoch", "is in epoch 7", "--reseed"}},
		{"a mark that is no string", func(t *testing.T, key string) {
			target.Do(t, "DEL", key)
			target.Do(t, "RPUSH", key, "x")
		}, []string{"INCR n"}, end{Stopped, "mark-unreadable", "on the target cannot be read: ", "--reseed"}},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			target.Do(t, "FLUSHALL")
			m := redistest.FakeMaster(t, redistest.Script{Session: crafted()})
			o := Options{Dir: filepath.Join(t.TempDir(), "job"), Groups: []Group{{1, m.Addr}}, Target: target.Addr, Until: UntilCaughtUp}
			if err := RunSync(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			if tt.spoil != nil {
				tt.spoil(t, target.Do(t, "KEYS", "tairlift:mark:*").Strings()[0])
			}
			m.Append(commandsOf(tt.stream...))
			tt.want.check(t, o, RunSync(t.Context(), o))
			if got := target.Do(t, "GET", "n").String(); got != "1" {
				t.Errorf("n on the target: got %s, want 1: nothing behind it is applied", got)
			}
		})
	}
}

// TestWhatStopsAGroupAtTheFirstRun ends runs by what comes first: the answer of
// a source, the RDB, the server that the target is.
func TestWhatStopsAGroupAtTheFirstRun(t *testing.T) {
	target := redistest.Target(t)
	info := func(lines string) func(conn, n int, args [][]byte) redistest.Action {
		text := "redis_version:6.2.0\r\nrun_id:" + strings.Repeat("a", 40) + "\r\nrole:master\r\n" + lines
		return func(_, _ int, args [][]byte) redistest.Action {
			if strings.EqualFold(string(args[0]), "INFO") {
				return redistest.Reply("$" + strconv.Itoa(len(text)) + "\r\n" + text + "\r\n")
			}
			return redistest.Pass()
		}
	}
	damaged := crafted().RDB
	damaged[12] ^= 1
	for _, tt := range []struct {
		claim string
		rdb   []byte
		link  redistest.Fault
		hook  func(conn, n int, args [][]byte) redistest.Action // of the target
		want  end
	}{
		{"a proxy as the source", nil, redistest.Fault{Reply: "-ERR unknown command 'PSYNC'"}, nil, end{NeverReached, "source-refused", "refused PSYNC: ERR unknown command", "not of a proxy"}},
		{"a source that is no Redis server", nil, redistest.Fault{Reply: "HTTP/1.1 400 Bad Request"}, nil, end{NeverReached, "source-protocol", "HTTP/1.1 400", "group's own server"}},
		{"an RDB with a wrong CRC64", damaged, redistest.Fault{}, nil, end{Stopped, "full-sync-damaged", "CRC64 over", "damages data"}},
		{"an RDB of a negative length", nil, redistest.Fault{Announce: "$-1"}, nil, end{Stopped, "full-sync-damaged", `announced by "$-1"`, "damages data"}},
		{"an RDB that is longer than announced", nil, redistest.Fault{Announce: "$12"}, nil, end{Stopped, "full-sync-damaged", "gave no stream for 300ms", "damages data"}},
		{"an RDB that is cut", nil, redistest.Fault{CutAt: 80}, nil, end{Stopped, "full-sync-cut", "gave no stream for 300ms", "client-output-buffer-limit"}},
		{"an RDB with a type that nobody knows", rdbOf("\xfe\x00\x6b\x01k\x01v"), redistest.Fault{}, nil, end{Stopped, "rdb-unreadable", "the RDB of epoch 1 cannot be read", ""}},
		{"functions for a target that has none", rdbOf("\xf5\x05hello"), redistest.Fault{}, info(""), end{Stopped, "functions-unsupported", "the source has function libraries, which the target's version 6.2.0 does not know", "7.0"}},
		{"a target that is no Redis server", nil, redistest.Fault{}, func(_, _ int, _ [][]byte) redistest.Action {
			return redistest.Answer("HTTP/1.1 400 Bad Request\r\n\r\n")
		}, end{NeverReached, "never-reached", "HTTP/1.1 400", "is its address right"}},
		{"a node of a cluster as the target", nil, redistest.Fault{}, info("redis_mode:cluster\r\n"), end{Refused, "refused", "is a node of a cluster", "standalone target"}},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			t.Parallel()
			sess := crafted()
			if tt.rdb != nil {
				sess.RDB = tt.rdb
			}
			m := redistest.FakeMaster(t, redistest.Script{Session: sess, Link: func(int) redistest.Fault { return tt.link }})
			addr := redistest.NewProxy(t, target.Addr, tt.hook).Addr
			o := Options{
				Dir: filepath.Join(t.TempDir(), "job"), Groups: []Group{{1, m.Addr}}, Target: addr, Until: UntilCaughtUp,
				ReplaceExisting: true, Wait: 300 * time.Millisecond,
			}
			tt.want.check(t, o, RunSync(t.Context(), o))
		})
	}
}

// TestAMarkThatIsWrittenDuringAFinish lets another apply come further between
// two commands of a finish: nothing is removed.
func TestAMarkThatIsWrittenDuringAFinish(t *testing.T) {
	for claim, tt := range map[string]struct {
		multi int64 // of finish, at which the mark is written
		what  string
	}{
		"before it has the marks": {1, "another process has applied to target "},
		"behind that":             {2, "another apply of this job has taken over the target"},
	} {
		t.Run(claim, func(t *testing.T) {
			target := redistest.Target(t)
			m := redistest.FakeMaster(t, redistest.Script{Session: crafted()})
			proxy := redistest.NewProxy(t, target.Addr, nil)
			o := Options{Dir: filepath.Join(t.TempDir(), "job"), Groups: []Group{{1, m.Addr}}, Target: proxy.Addr, Until: UntilCaughtUp}
			if err := RunSync(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			key := target.Do(t, "KEYS", "tairlift:mark:*").Strings()[0]
			var seen atomic.Int64
			proxy.SetHook(func(_, _ int, args [][]byte) redistest.Action {
				if strings.EqualFold(string(args[0]), "MULTI") && seen.Add(1) == tt.multi {
					r, err := target.DoErr("GET", key)
					if err == nil {
						_, err = target.DoErr("SET", key, regexp.MustCompile(` offset=\d+`).ReplaceAllLiteralString(r.String(), " offset=99999"))
					}
					if err != nil {
						t.Error(err)
					}
				}
				return redistest.Pass()
			})
			err := RunFinish(t.Context(), FinishOptions{Dir: o.Dir, Out: io.Discard})
			var end *Error
			if !errors.As(err, &end) || end.Code != InUse || !strings.HasPrefix(end.What, tt.what) || end.Hint == "" {
				t.Errorf("got %v (exit %d), want %q, exit 11", err, CodeOf(err), tt.what)
			}
			if target.Do(t, "EXISTS", key, "tairlift:jobs").Int != 2 {
				t.Error("something was removed")
			}
		})
	}
}

// A proxy that has lost its own connection behind MULTI has the commands run at
// once: what must not be sent again ends the run for good.
func TestCommandsOutsideTheirTransactionEndTheRun(t *testing.T) {
	target := redistest.Target(t)
	m := redistest.FakeMaster(t, redistest.Script{Session: crafted()})
	proxy := redistest.NewProxy(t, target.Addr, nil)
	o := Options{Dir: filepath.Join(t.TempDir(), "job"), Groups: []Group{{1, m.Addr}}, Target: proxy.Addr, Until: UntilCaughtUp}
	if err := RunSync(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	m.Append(commandsOf("INCR n"))
	var seen atomic.Int64
	proxy.SetHook(func(_, _ int, args [][]byte) redistest.Action {
		if strings.EqualFold(string(args[0]), "MULTI") && seen.Add(1) == 2 { // behind the take-over's
			return redistest.Reply("+OK\r\n")
		}
		return redistest.Pass()
	})
	want := end{Stopped, "mark-refused", "outside its transaction", "--reseed"}
	want.check(t, o, RunSync(t.Context(), o))
	proxy.SetHook(nil)
	want.check(t, o, RunSync(t.Context(), o)) // a start alone does not run it again
	o.Reseed, o.MaxDeletes = true, 100
	if err := RunSync(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if got := target.Do(t, "GET", "n").String(); got != "2" {
		t.Errorf("n on the target: got %s, want 2", got)
	}
}
