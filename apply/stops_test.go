package apply

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/internal/rdb"
	"tairlift/internal/redistest"
	"tairlift/internal/resp"
	"tairlift/spool"
)

func TestWhatMustNotBeAppliedStopsTheGroupBehindAllBeforeIt(t *testing.T) {
	r := bareRig(t, 1)
	for line, reason := range map[string]string{
		"FLUSHALL": "flush-in-stream", "FLUSHDB ASYNC": "flush-in-stream", "SWAPDB 0 1": "flush-in-stream",
		"MIGRATE h 1 k 0 5": "unsupported-command", "XDELEX k DELREF IDS 1 1-1": "unsupported-command",
		"EVALSHA 0123456789012345678901234567890123456789 0": "script-unknown", "EVALSHA": "script-unknown",
		"SELECT x": "stream-corrupt", "SETEX k never v": "stream-corrupt",
		"RENAME k tairlift:x": "unsupported-command",
	} {
		t.Run(line, func(t *testing.T) {
			r := r.again(t)
			p := r.craft(1, 1, "from-rdb v")
			p.write("SELECT 0", "INCR n", "SELECT 2", "INCR n", "PING")
			before := p.end
			p.write("MULTI", "INCR n", line, "EXEC", "INCR n")
			for range 2 { // also when it is started again
				r.stopped(Options{batch: 2}, reason)
				r.want("before it", map[string]string{"0 GET n": "1", "2 GET n": "1", "0 GET from-rdb": "v"})
				if m := r.mark(1); m.Offset != before || m.DB != 2 {
					t.Errorf("mark: got offset %s, database %d, want %s, 2", m.Offset, m.DB, before)
				}
			}
		})
	}
}

// again is a rig with the same target, emptied.
func (r *rig) again(t *testing.T) *rig {
	t.Helper()
	n := *r
	n.t, n.dir, n.job = t, t.TempDir(), spool.NewJobID()
	n.target.Do(t, "FLUSHALL")
	return &n
}

func TestWhatIsNotDataMovesThePositionOnly(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1)
	p.write("INCR n", "PING", "PUBLISH c m", "SELECT 15", "PUBLISH c m", "SCRIPT FLUSH", "REPLCONF GETACK *", "TOUCH n",
		"SET DTS_REDIS_TIMESTAMP_HEARTBEAT 1", "SET tairlift:x 1", "SELECT 0").
		command("SCRIPT", "LOAD", "return 1").
		write("DEL tairlift:x n DTS_REDIS_TIMESTAMP_HEARTBEAT", "INCR n", "PING")
	a := r.start(Options{})
	a.reaches(t, p.end)
	p.write("PING", "PING")
	a.reaches(t, p.end)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	r.want("after it", map[string]string{"0 GET n": "1", "0 DBSIZE": "3"})
	st := a.job.Status()[0]
	if st.Commands != 3 || st.Ignored != 12 || st.Reason != "" || st.State != StateStreaming {
		t.Errorf("status: got %d commands, %d ignored, %s %s, want 3, 12, streaming", st.Commands, st.Ignored, st.State, st.Reason)
	}
	if m := r.mark(1); m.Offset != p.end {
		t.Errorf("mark after a clean stop: got %s, want %s", m.Offset, p.end)
	}
}

func TestScriptsAreRemembered(t *testing.T) {
	const body = "return redis.call('RPUSH', KEYS[1], ARGV[1])" // sha1 below
	r := bareRig(t, 1)
	p := r.craft(1, 1).command("SCRIPT", "LOAD", body)
	sha := r.target.Do(t, "SCRIPT", "LOAD", body).String()
	r.target.Do(t, "SCRIPT", "FLUSH")
	p.write("EVALSHA " + sha + " 1 list a")
	r.applyAll(Options{}) // and then another process
	p.write("EVALSHA "+strings.ToUpper(sha)+" 1 list b", "MULTI", "EVALSHA "+sha+" 1 list c", "EXEC")
	p.command("EVAL", "return redis.call('PEXPIRE', KEYS[1], 100000)", "1", "list")
	job := r.applyAll(Options{})
	r.want("scripts by their SHA1", map[string]string{"0 LRANGE list 0 -1": "[a b c]"})
	if st := job.Status()[0]; st.Doubtful != 1 || st.Commands != 4 {
		t.Errorf("status: got %d doubtful, %d commands, want 1 (a time to live hides in a script), 4", st.Doubtful, st.Commands)
	}
	sha = r.target.Do(t, "SCRIPT", "LOAD", "return redis.call('SPOP', KEYS[1])").String()
	p.command("SCRIPT", "LOAD", "return redis.call('SPOP', KEYS[1])").write("EVALSHA "+sha+" 1 set", "EVALSHA "+sha+" 1 set", "SPOP set 2", "SPOP list2 2")
	job = r.applyAll(Options{})
	if st := job.Status()[0]; st.Doubtful != 3 {
		t.Errorf("status: got %d doubtful, want list, set and list2, each once", st.Doubtful)
	}
}

func TestASourceTransactionIsNeverSplit(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1)
	a := r.start(Options{batch: 2})
	p.write("INCR before", "MULTI", "INCR n", "INCR n", "INCR n")
	begun := p.end
	p.write("SELECT 3", "INCR n")
	redistest.Eventually(t, "what is before the transaction", func() bool { return r.target.Do(t, "GET", "before").String() == "1" })
	if m := r.mark(1); m.Offset >= begun {
		t.Errorf("mark within an open transaction: got %s", m.Offset)
	}
	r.want("of an open transaction", map[string]string{"0 EXISTS n": "0", "3 EXISTS n": "0"})
	whole := resp.AppendCommandStrings(nil, "EXEC")
	p.bytes(whole[:5])
	p.bytes(whole[5:])
	a.reaches(t, p.end)
	r.want("of a whole transaction", map[string]string{"0 GET n": "3", "3 GET n": "1"})
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	p.write("INCR n") // the source has not selected again
	r.applyAll(Options{batch: 2})
	r.want("after a restart", map[string]string{"0 GET n": "3", "3 GET n": "2"})
	p.write("SELECT 2", "PING") // a mark behind a SELECT alone
	r.applyAll(Options{})
	p.write("INCR n")
	r.applyAll(Options{})
	r.want("after a SELECT and a restart", map[string]string{"2 GET n": "1"})
}

func TestARejectWithinABatchStopsAndIsRemembered(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1)
	p.write("SET n 1")
	r.applyAll(Options{})
	r.target.Do(t, "DEL", "n")
	r.target.Do(t, "RPUSH", "n", "not a number")
	at := p.write("INCR a", "INCR n").end
	p.write("MULTI", "INCR b", "INCR n", "INCR b", "EXEC")
	stop := r.stopped(Options{}, "reject")
	want := fmt.Sprintf(`group 1: the target rejected a command: epoch 1, ending at offset %d, database 0, key "n", "INCR" "n": WRONGTYPE `, at)
	if !strings.HasPrefix(stop.What, want) || !strings.Contains(stop.Hint, "--on-reject continue") {
		t.Errorf("stop: got %q, %q, want %q..., and the way out", stop.What, stop.Hint, want)
	}
	r.want("beside the reject", map[string]string{"0 GET a": "1", "0 GET b": "2"})
	r.stopped(Options{}, "reject") // a restart alone does not go past it
	p.write("INCR a")
	job := r.applyAll(Options{OnReject: RejectContinue})
	r.want("beyond the reject", map[string]string{"0 GET a": "2", "0 GET b": "2"})
	if st := job.Status()[0]; st.Rejects != 2 || st.Doubtful != 1 || st.Commands != 7 {
		t.Errorf("status: got %d rejects, %d doubtful, %d commands, want 2, 1 (one key), 7", st.Rejects, st.Doubtful, st.Commands)
	}
}

func TestARejectIsShownWithoutItsValues(t *testing.T) {
	secret := strings.Repeat("secret", 1000)
	for _, tt := range []struct {
		command []byte
		want    string
	}{
		{resp.AppendCommandStrings(nil, "INCR", "n"), `"INCR" "n"`},
		{resp.AppendCommandStrings(nil, "SET", "n", secret), `"SET" "n" ... (3 arguments)`},
		{resp.AppendCommandStrings(nil, "SET", "n", secret)[:4096], `"SET" "n" ... (3 arguments)`},
		{resp.AppendCommandStrings(nil, "EVAL", secret, "0")[:4096], `"EVAL" "` + secret[:64] + `"... ... (3 arguments)`},
		{resp.AppendCommandStrings(nil, "SET", "n")[:13], `"SET"`},
		{[]byte("*3\r"), ""},
		{[]byte("*-1\r\n"), ""},
		{nil, ""},
	} {
		if got := ShowCommand(tt.command); got != tt.want {
			t.Errorf("%.40q: got %s, want %s", tt.command, got, tt.want)
		}
	}
	if got := CommandName(resp.AppendCommandStrings(nil, "incr", "n")); got != "INCR" {
		t.Errorf("name: got %s, want INCR", got)
	}
}

// bugLog is a log that has a bug.
type bugLog struct {
	slog.Handler
	bug func()
}

func (l bugLog) WithAttrs(a []slog.Attr) slog.Handler { return bugLog{l.Handler.WithAttrs(a), l.bug} }

func (l bugLog) Handle(ctx context.Context, r slog.Record) error {
	l.bug()
	return l.Handler.Handle(ctx, r)
}

// A bug of ours, here in a clock or in a log, ends its group with the place, and no other.
func TestAPanicStopsItsGroupWithThePlace(t *testing.T) {
	for claim, tt := range map[string]struct {
		frame, where string
	}{
		"in the translator": {"(*translator).data", "epoch 1, behind offset "},
		"in the RDB phase":  {"(*snapshot).follow", "epoch 1, behind byte 0 of the RDB"},
		"in the decoder":    {"(*snapshot).decode", "epoch 1, behind byte 0 of the RDB"}, // a goroutine beside the group's
	} {
		t.Run(claim, func(t *testing.T) {
			r := bareRig(t, 2)
			deadline := []byte("\xfc\xff\xff\xff\xff\xff\xff\x00\x00\x00\x01d\x01v") // of the key d
			body := handRDB("k v")
			body = append(body[:len(body)-9:len(body)-9], deadline...)
			body = append(body, rdb.TypeList, 1, 'l', 1, 1, 'x') // for which the target is probed
			body = append(body, 0xFF)
			body = binary.LittleEndian.AppendUint64(body, rdb.CRC64(0, body))
			p := r.craftBegin(1, 1, spool.WriterOptions{})
			p.rdb(body)
			p.write("INCR n", "INCR n")
			before := p.end
			var met atomic.Bool
			bug := func() {
				if bytes.Contains(debug.Stack(), []byte(tt.frame)) && met.CompareAndSwap(false, true) {
					panic("an injected bug")
				}
			}
			r.log = slog.New(bugLog{r.log.Handler(), bug})
			a := r.start(Options{Now: func() time.Time { bug(); return time.Now() }})
			if tt.frame == "(*translator).data" {
				a.reaches(t, before)
				tt.where += before.String()
			}
			p.write("SETEX k 1000 v", "INCR n")
			redistest.Eventually(t, "group 1 to stop", func() bool { return a.job.Status()[0].State == StateStopped })
			st := a.job.Status()[0]
			if st.Reason != "internal-error" || !strings.Contains(st.What, tt.where+")") || !strings.Contains(st.What, "an injected bug") || st.Hint == "" {
				t.Errorf("status: got %s %q, want internal-error at %s", st.Reason, st.What, tt.where)
			}
			other := r.craft(2, 1, "other v") // begins only now
			other.write("INCR m")
			redistest.Eventually(t, "group 2 to go on", func() bool { return a.job.Status()[1].Applied >= other.end })
			if err := a.stop(); err == nil || !strings.Contains(err.Error(), "an injected bug") {
				t.Errorf("run: got %v, want the bug", err)
			}
			r.want("of the other group", map[string]string{"0 GET m": "1", "0 GET other": "v"})
			p.seal()
			other.seal()
			r.applyAll(Options{}) // without the bug
			r.want("begun again", map[string]string{"0 GET n": "3", "0 GET k": "v", "0 GET m": "1", "0 EXISTS d l": "2"})
		})
	}
}

func TestACommandThatIsNeverAcceptedIsLeftOut(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1)
	p.write("INCR n", "NO-SUCH-COMMAND k 1", "INCR n", "MULTI", "INCR n", "NO-SUCH-COMMAND k 2", "EXEC", "INCR n")
	for range 2 {
		r.stopped(Options{}, "reject")
		r.want("of its batch", map[string]string{"0 EXISTS n": "0"})
	}
	job := r.applyAll(Options{OnReject: RejectContinue})
	r.want("but for it", map[string]string{"0 GET n": "4", "0 EXISTS k": "0"})
	if st := job.Status()[0]; st.Rejects != 2 || st.Doubtful != 1 {
		t.Errorf("status: got %d rejects, %d doubtful, want 2, 1", st.Rejects, st.Doubtful)
	}
}

func TestAnEpochGivenUpBeforeAnythingWasAppliedIsSkipped(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craftBegin(1, 1, spool.WriterOptions{})
	body := handRDB("old v")
	p.check(p.w.BeginRDB(int64(len(body))))
	p.check(p.w.AppendRDB(body[:12], time.Now()))
	_, err := p.w.Sync()
	p.check(err)
	r.stopped(Options{}, "rdb-incomplete")
	r.want("of an RDB cut short", map[string]string{"0 DBSIZE": "2"}) // the mark and the set of jobs
	p.seal()
	r.craft(1, 2, "new v").write("INCR n").seal()
	a := r.start(Options{UntilEnd: true})
	if err := a.wait(); err != nil {
		t.Fatal(err)
	}
	r.want("of the next epoch", map[string]string{"0 GET new": "v", "0 GET n": "1", "0 EXISTS old": "0"})
}

func TestDamagedSpools(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "k v").write("INCR n")
	r.applyAll(Options{})
	p.write("INCR n", "INCR n")
	p.seal()
	path := spool.Path(r.dir+"/spool", 1, 1, 2)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte) {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r.vouched = func() (spool.Durable, bool) { return p.w.Durable(), true }

	flipped := append([]byte(nil), whole...)
	flipped[len(whole)*2/3] ^= 1
	write(flipped)
	stop := r.stopped(Options{}, "spool-corrupt")
	var corrupt *spool.CorruptError
	if !errors.As(stop, &corrupt) {
		t.Errorf("stop: got %v, want a CorruptError within", stop.Err)
	}
	for _, n := range []int{len(whole) - 30, len(whole) / 2, 20, 0} {
		write(whole[:n])
		stop = r.stopped(Options{}, "spool-missing")
		var missing *spool.MissingError
		if !errors.As(stop, &missing) {
			t.Errorf("cut at %d: got %v, want a MissingError within", n, stop.Err)
		}
	}
	a := r.start(Options{MaxWait: 1}) // nanosecond
	var bounded *StopError
	if err := a.wait(); !errors.As(err, &bounded) || bounded.Reason != "spool-missing" || !strings.Contains(bounded.What, "--wait") {
		t.Errorf("bounded wait: got %v", err)
	}
	a = r.start(Options{}) // waits for the copy
	a.waitsFor(t, "spool-missing")
	write(whole)
	a.reaches(t, p.end)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	r.want("after all", map[string]string{"0 GET n": "3"})
}

// A SELECT is apply's own: refused, it is no command of the source's that could be
// left out, and with it the command behind it.
func TestARefusedSelectLosesNothing(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "k v").write("INCR n")
	r.applyAll(Options{})
	p.write("SELECT 3", "INCR n", "SELECT 0", "INCR n")
	var seen atomic.Int64
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if isWord(args, "SELECT") && string(args[1]) == "3" && seen.Add(1) == 2 { // behind the one that proves it
			return redistest.Reject("NOPERM this user has no permissions to run the 'select' command")
		}
		return redistest.Pass()
	})
	for _, policy := range []RejectPolicy{RejectStop, RejectContinue} {
		seen.Store(0)
		r.stopped(Options{Addr: proxy.Addr, OnReject: policy}, "target-refuses")
	}
	r.applyAll(Options{})
	r.want("in the end", map[string]string{"0 GET n": "2", "3 GET n": "1"})
}
