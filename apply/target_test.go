package apply

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

func TestADatabaseThatTheTargetLacksStopsBeforeItsData(t *testing.T) {
	r := bareRig(t, 1, redistest.Arg("--databases", "2"))
	p := r.craft(1, 1).write("SELECT 1", "INCR n", "SELECT 9", "PUBLISH c m", "SELECT 0", "INCR n")
	r.applyAll(Options{}) // nothing of database 9 is data
	p.write("INCR n", "SELECT 2", "PING")
	before := p.end
	p.write("INCR n")
	stop := r.stopped(Options{}, "target-database")
	if !strings.Contains(stop.What, "database 2") {
		t.Errorf("stop: got %q, want the database named", stop.What)
	}
	r.want("before it", map[string]string{"0 GET n": "2", "1 GET n": "1"})
	if m := r.mark(1); m.Offset != before || m.DB != 2 {
		t.Errorf("mark: got %s in database %d, want %s, 2", m.Offset, m.DB, before)
	}

	r = r.again(t)
	r.craft(1, 1, "0:a v", "3:b v")
	r.stopped(Options{}, "target-database")
	r.want("of the RDB", map[string]string{"0 EXISTS b": "0", "1 EXISTS b": "0"})
}

func TestATargetNeverReached(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	go func() { // a server of another kind
		for {
			c, err := silent.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			c.Close()
		}
	}()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	r := bareRig(t, 1, redistest.Password("right"))
	r.craft(1, 1)
	for _, tt := range []struct {
		claim string
		addr  string
		pass  resp.Secret
		check func(error) bool
	}{
		{"nobody there", closed.Addr().String(), "", func(err error) bool { var d *resp.DialError; return errors.As(err, &d) }},
		{"not a Redis", silent.Addr().String(), "", func(err error) bool { return errors.Is(err, resp.ErrProtocol) }},
		{"a wrong password", r.target.Addr, "wrong", func(err error) bool { var a *resp.AuthError; return errors.As(err, &a) }},
		{"no password", r.target.Addr, "", resp.IsNoAuth},
	} {
		o := r.options(Options{Addr: tt.addr, Secret: tt.pass})
		_, err := Open(t.Context(), o)
		o.Store.Close()
		if !errors.Is(err, ErrNeverReached) || !tt.check(err) || strings.Contains(err.Error(), "wrong") {
			t.Errorf("%s: got %v, want ErrNeverReached around its cause, without the password", tt.claim, err)
		}
	}
}

// TestWhatPassesIsWaitedFor lets the target refuse in every way that passes,
// at the take-over and in the middle of the stream.
func TestWhatPassesIsWaitedFor(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "k v").write("INCR n")
	var refuse atomic.Pointer[string]
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		text := refuse.Load()
		switch {
		case text == nil:
		case *text == "close":
			return redistest.Close()
		case strings.HasPrefix(*text, "EXEC "):
			if bytes.EqualFold(args[0], []byte("EXEC")) {
				return redistest.AbortExec((*text)[5:])
			}
		case !bytes.EqualFold(args[0], []byte("INFO")):
			return redistest.ReplyError(*text)
		}
		return redistest.Pass()
	})
	a := r.start(Options{Addr: proxy.Addr})
	a.reaches(t, p.end)
	for text, reason := range map[string]string{
		"OOM command not allowed when used memory > 'maxmemory'.":                          "target-oom",
		"LOADING Redis is loading the dataset in memory":                                   "target-loading",
		"READONLY You can't write against a read only replica.":                            "target-readonly",
		"MISCONF Redis is configured to save RDB snapshots":                                "target-misconf",
		"BUSY Redis is busy running a script.":                                             "target-busy-script",
		"MASTERDOWN Link with MASTER is down":                                              "target-master-down",
		"NOREPLICAS Not enough good replicas to write.":                                    "target-no-replicas",
		"NOAUTH Authentication required.":                                                  "target-auth",
		"WRONGPASS invalid username-password pair or user is disabled.":                    "target-auth",
		"CLUSTERDOWN The cluster is down":                                                  "target-cluster-down",
		"TRYAGAIN Multiple keys request during rehashing of slot":                          "target-try-again",
		"UNBLOCKED force unblock from blocking operation, instance state changed":          "target-failover",
		"ERR max number of clients reached":                                                "target-clients",
		"close":                                                                            "target-unreachable",
		"EXEC EXECABORT Transaction discarded because of: OOM command not allowed":         "target-oom",
		"EXEC EXECABORT Transaction discarded because of previous errors.":                 "target-exec-refused",
		"EXEC ERR Transaction contains write commands but instance is now a read-only one": "target-exec-refused",
	} {
		refuse.Store(&text)
		p.write("INCR n", "RPUSH l x")
		a.waitsFor(t, reason)
		if st := a.job.Status()[0]; st.What == "" || st.Hint == "" {
			t.Errorf("%s: got %q, hint %q, want both", reason, st.What, st.Hint)
		}
		refuse.Store(nil)
		a.reaches(t, p.end)
		redistest.Eventually(t, "no reason", func() bool { return a.job.Status()[0].Reason == "" })
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	r.want("after all of them", map[string]string{"0 GET n": "18", "0 LLEN l": "17"})
}

func TestATargetThatRefusesForGoodStops(t *testing.T) {
	if major, _ := redistest.Target(t).Version(); major < 6 {
		t.Skip("no ACL before 6.0")
	}
	r := bareRig(t, 1)
	p := r.craft(1, 1, "k v").write("INCR n")
	r.target.Do(t, "ACL", "SETUSER", "u", "on", ">pw", "~*", "+@all", "-incr")
	o := Options{Secret: "u:pw"}
	stop := r.stopped(o, "reject")
	if !strings.Contains(stop.What, "NOPERM") {
		t.Errorf("stop: got %q, want NOPERM told", stop.What)
	}
	if !strings.Contains(stop.Hint, "rights") {
		t.Errorf("hint: got %q, want it to speak of rights", stop.Hint)
	}
	r.target.Do(t, "ACL", "SETUSER", "u", "+incr", "-watch")
	r.stopped(o, "target-refuses")
	r.target.Do(t, "ACL", "SETUSER", "u", "+watch", "resetkeys", "~n")
	stop = r.refusedOpen(o)
	if !strings.Contains(stop.Hint, "rights") {
		t.Errorf("hint: got %q, want it to speak of rights", stop.Hint)
	}
	r.target.Do(t, "ACL", "SETUSER", "u", "~*")
	r.applyAll(o)
	p.write("INCR n")
	r.applyAll(o)
	r.want("with all rights", map[string]string{"0 GET n": "2"})
}

// TestAMarkRefusedWithinEXEC takes the right to SET away between the queueing
// of a batch and its EXEC: the data is there, its mark is not.
func TestAMarkRefusedWithinEXEC(t *testing.T) {
	r := bareRig(t, 1)
	if major, _ := r.target.Version(); major < 7 {
		t.Skip("EXEC asks the ACL again from 7.0 on")
	}
	r.target.Do(t, "ACL", "SETUSER", "u", "on", ">pw", "~*", "+@all")
	p := r.craft(1, 1, "k v")
	r.applyAll(Options{Secret: "u:pw"})
	p.write("INCR n", "RPUSH l x")
	var execs atomic.Int64
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if isWord(args, "EXEC") && execs.Add(1) == 2 {
			if _, err := r.target.DoErr("ACL", "SETUSER", "u", "-set"); err != nil {
				t.Error(err)
			}
		}
		return redistest.Pass()
	})
	r.stopped(Options{Addr: proxy.Addr, Secret: "u:pw"}, "mark-refused")
	r.want("the batch", map[string]string{"0 GET n": "1"})
	r.target.Do(t, "ACL", "SETUSER", "u", "+set")
	// With the right back it must not go on by itself, under no policy.
	r.stopped(Options{Secret: "u:pw"}, "mark-refused")
	a := r.start(Options{Secret: "u:pw", OnReject: RejectContinue})
	if err := a.wait(); err == nil {
		t.Error("restart: got nil, want it to stay stopped")
	}
	r.want("still", map[string]string{"0 GET n": "1"})
	if st := a.job.Status()[0]; st.Doubtful != 2 || st.Rejects != 1 {
		t.Errorf("status: got %d doubtful, %d rejects, want n and l, 1", st.Doubtful, st.Rejects)
	}
	// A new epoch is a way out: it removes what ran without its mark.
	p.seal()
	r.craft(1, 2, "k v").seal()
	r.applyAll(Options{Secret: "u:pw"})
	r.want("in a new epoch", map[string]string{"0 EXISTS n l": "0", "0 GET k": "v"})
}

func (r *rig) refusedOpen(o Options) *StopError {
	r.t.Helper()
	o = r.options(o)
	defer o.Store.Close()
	_, err := Open(r.t.Context(), o)
	var stop *StopError
	if !errors.As(err, &stop) {
		r.t.Fatalf("open: got %v, want a StopError", err)
	}
	return stop
}

func TestARealTargetThatIsFullOrReadOnly(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "k v").write("INCR n")
	a := r.start(Options{})
	a.reaches(t, p.end)
	r.target.Do(t, "CONFIG", "SET", "maxmemory", "1")
	p.write("INCR n", "DEL x", "INCR n")
	a.waitsFor(t, "target-oom")
	r.target.Do(t, "CONFIG", "SET", "maxmemory", "0")
	a.reaches(t, p.end)
	r.target.Do(t, "SLAVEOF", "127.0.0.1", "1")
	p.write("INCR n", "INCR n")
	a.waitsFor(t, "target-readonly")
	r.target.Do(t, "SLAVEOF", "NO", "ONE")
	a.reaches(t, p.end)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	r.want("after both", map[string]string{"0 GET n": "5"})
	if st := a.job.Status()[0]; st.Commands != 6 || st.Doubtful != 0 || st.Rejects != 0 {
		t.Errorf("status: got %d commands, %d doubtful, %d rejects, want 6, 0, 0", st.Commands, st.Doubtful, st.Rejects)
	}
}

func TestARestartedTarget(t *testing.T) {
	r := bareRig(t, 1, redistest.Arg("--appendonly", "yes", "--appendfsync", "always"))
	p := r.craft(1, 1, "k v").write("INCR n")
	a := r.start(Options{batch: 3})
	a.reaches(t, p.end)
	for range 5 {
		for range 20 {
			p.write("INCR n", "SELECT 1", "RPUSH l x", "SELECT 0")
		}
		r.target.Restart(t) // kill -9, wherever apply is
	}
	a.reaches(t, p.end)
	r.want("with its data", map[string]string{"0 GET n": "101", "1 LLEN l": "100"})
	r.target.Do(t, "CONFIG", "SET", "appendonly", "no")
	r.target.Do(t, "FLUSHALL")
	p.write("INCR n")
	var stop *StopError
	if err := a.wait(); !errors.As(err, &stop) || stop.Reason != "mark-missing" {
		t.Fatalf("without its data: got %v, want mark-missing", err)
	}
	r.want("without its data", map[string]string{"0 EXISTS n": "0"})
}

func TestWaitsAreBounded(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "k v").write("INCR n")
	proxy := redistest.NewProxy(t, r.target.Addr, nil)
	a := r.start(Options{Addr: proxy.Addr, MaxWait: time.Millisecond, Timeout: time.Second})
	a.reaches(t, p.end)
	proxy.SetHook(func(int, int, [][]byte) redistest.Action { return redistest.Hang() })
	p.write("INCR n")
	var stop *StopError
	if err := a.wait(); !errors.As(err, &stop) || stop.Reason != "target-silent" || !strings.Contains(stop.What, "--wait") {
		t.Fatalf("run: got %v, want the wait to have ended it", err)
	}
}

// TestACleanStopDuringAHangIsQuick has the target hang at one command after the
// other, without any timeout but the stop's own.
func TestACleanStopDuringAHangIsQuick(t *testing.T) {
	for claim, at := range map[string]func(conn, n int, args [][]byte) bool{
		"while it is dialled":      func(conn, n int, _ [][]byte) bool { return conn == 2 && n == 1 },
		"at the take-over":         func(conn, _ int, args [][]byte) bool { return conn == 2 && isWord(args, "EXEC") },
		"in the RDB phase":         func(_, _ int, args [][]byte) bool { return isWord(args, "SET") && string(args[1]) == "k" },
		"at the name of a restore": func(_, _ int, args [][]byte) bool { return isWord(args, "CLIENT") },
		"at a batch":               func(_, _ int, args [][]byte) bool { return isWord(args, "INCR") },
		"when a database is asked": func(_, _ int, args [][]byte) bool { return isWord(args, "SELECT") && string(args[1]) == "3" },
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			r := bareRig(t, 1)
			r.craft(1, 1, "k v").write("INCR n", "INCR n", "SELECT 3", "INCR n")
			proxy := redistest.NewProxy(t, r.target.Addr, func(conn, n int, args [][]byte) redistest.Action {
				if at(conn, n, args) {
					return redistest.Hang()
				}
				return redistest.Pass()
			})
			a := r.start(Options{Addr: proxy.Addr, Timeout: time.Hour, batch: 1})
			redistest.Eventually(t, "a hang", func() bool { return proxy.Hung() > 0 })
			a.cancel()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // 2 are expected
			defer cancel()
			select {
			case err := <-a.done:
				a.done <- err
				if err != nil {
					t.Errorf("run: got %v, want a clean stop", err)
				}
			case <-ctx.Done():
				t.Error("apply hangs with its target")
				proxy.CloseAll()
			}
		})
	}
}

func isWord(args [][]byte, word string) bool { return bytes.EqualFold(args[0], []byte(word)) }

func TestATargetOfAnotherJobIsRefused(t *testing.T) {
	r := bareRig(t, 1)
	r.craft(1, 1, "k v")
	r.target.Do(t, "SADD", jobsKey, strings.Repeat("0", 32))
	o := r.options(Options{})
	_, err := Open(t.Context(), o)
	o.Store.Close()
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.What, "another job") {
		t.Errorf("open: got %v, want a refusal for another job's marks", err)
	}
}
