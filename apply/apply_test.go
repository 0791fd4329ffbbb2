package apply

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"tairlift/internal/held"
	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

// fill writes every type into databases 0 and 1, names prefixed.
func fill(t *testing.T, s *redistest.Server, prefix string, n int) {
	t.Helper()
	for db := range 2 {
		s.Do(t, "SELECT", strconv.Itoa(db))
		for i := range n {
			k := prefix + strconv.Itoa(db) + ":" + strconv.Itoa(i)
			s.Do(t, "SET", k+":s", "v"+strconv.Itoa(i))
			s.Do(t, "RPUSH", k+":l", "a", "b", "c")
			s.Do(t, "HMSET", k+":h", "f", "v", "g", strconv.Itoa(i))
			s.Do(t, "SADD", k+":z", "1", "2", "x")
			s.Do(t, "ZADD", k+":zz", "1.5", "a", "-inf", "b")
		}
	}
	s.Do(t, "SELECT", "0")
}

func dump(t *testing.T, s *redistest.Server, args ...string) string {
	t.Helper()
	return s.Do(t, args...).String()
}

func TestTwoGroupsEndInOneTarget(t *testing.T) {
	r := newRig(t, 2)
	for i, s := range r.sources {
		fill(t, s, "g"+strconv.Itoa(i)+":", 20)
		s.Do(t, "SET", "DTS_REDIS_TIMESTAMP_HEARTBEAT", "1")
	}
	r.capture()
	a := r.start(Options{})
	for i, s := range r.sources {
		p := "n" + strconv.Itoa(i) + ":"
		for range 100 {
			s.Do(t, "INCR", p+"counter")
			s.Do(t, "RPUSH", p+"list", "x")
		}
		s.Do(t, "MULTI")
		s.Do(t, "SELECT", "1")
		s.Do(t, "SET", p+"in-tx", "1")
		s.Do(t, "SELECT", "0")
		s.Do(t, "INCRBY", p+"counter", "1000")
		s.Do(t, "EXEC")
		s.Do(t, "EVAL", "return redis.call('APPEND', KEYS[1], ARGV[1])", "1", p+"script", "abc")
		s.Do(t, "PUBLISH", "channel", "message")
		s.Do(t, "SET", "DTS_REDIS_TIMESTAMP_HEARTBEAT", "2")
	}
	r.caughtUp(a)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	dst := r.target
	for i, s := range r.sources {
		p := "n" + strconv.Itoa(i) + ":"
		for _, args := range [][]string{
			{"GET", p + "counter"},
			{"LLEN", p + "list"},
			{"GET", p + "script"},
			{"HGETALL", "g" + strconv.Itoa(i) + ":0:7:h"},
			{"LRANGE", "g" + strconv.Itoa(i) + ":0:7:l", "0", "-1"},
			{"ZRANGE", "g" + strconv.Itoa(i) + ":0:7:zz", "0", "-1", "WITHSCORES"},
		} {
			if got, want := dump(t, dst, args...), dump(t, s, args...); got != want {
				t.Errorf("%v: got %s, want %s", args, got, want)
			}
		}
	}
	if got := dst.Do(t, "EXISTS", "DTS_REDIS_TIMESTAMP_HEARTBEAT").Int; got != 0 {
		t.Errorf("heartbeat keys copied: got %d, want 0", got)
	}
	for db, want := range map[string]int64{"0": 2*(100+3) + 3, "1": 2 * (100 + 1)} { // 2 marks and the set of jobs
		dst.Do(t, "SELECT", db)
		if got := dst.Do(t, "DBSIZE").Int; got != want {
			t.Errorf("keys in database %s: got %d, want %d", db, got, want)
		}
	}
	for _, st := range a.job.Status() {
		if st.Commands != 203 || st.Rejects != 0 || st.Doubtful != 0 {
			t.Errorf("group %s: got %d commands, %d rejects, %d doubtful, want 203, 0, 0", st.Group, st.Commands, st.Rejects, st.Doubtful)
		}
	}
}

func TestLateApplyKeepsDeadlines(t *testing.T) {
	r := newRig(t, 1)
	s, dst := r.sources[0], r.target
	s.Do(t, "SET", "before", "v", "EX", "1000")
	s.Do(t, "RPUSH", "list", "a")
	s.Do(t, "PEXPIRE", "list", "2000000")
	s.Do(t, "SET", "dead", "v", "PX", "1")
	r.capture()
	s.Do(t, "SETEX", "setex", "500", "v")
	s.Do(t, "SET", "px", "v", "PX", "600000")
	s.Do(t, "SET", "plain", "v")
	s.Do(t, "EXPIRE", "plain", "700")
	payload := string(s.Do(t, "DUMP", "plain").Str)
	s.Do(t, "RESTORE", "restored", "800000", payload)
	s.Do(t, "SET", "short", "v", "PX", "40")
	r.stopCapture()
	redistest.Eventually(t, "short has expired", func() bool { return s.Do(t, "EXISTS", "short").Int == 0 })
	wait := time.Now().Add(1500 * time.Millisecond) // apply comes late
	redistest.Eventually(t, "lateness", func() bool { return time.Now().After(wait) })
	job := r.applyAll(Options{})
	for _, k := range []string{"before", "list", "setex", "px", "plain", "restored"} {
		want, got := s.Do(t, "PTTL", k).Int, dst.Do(t, "PTTL", k).Int
		if d := held.Off(got, want); got < 0 || d < -500 || d > 500 {
			t.Errorf("PTTL %s: got %d, want %d", k, got, want)
		}
	}
	for _, k := range []string{"short", "dead"} {
		if got := dst.Do(t, "EXISTS", k).Int; got != 0 {
			t.Errorf("EXISTS %s: got %d, want 0: its deadline has passed", k, got)
		}
	}
	if st := job.Status()[0]; st.Expired == 0 || st.State != StateFinished {
		t.Errorf("status: got %d expired, state %s, want some, finished", st.Expired, st.State)
	}
}

func TestATargetWithForeignKeysIsRefused(t *testing.T) {
	r := newRig(t, 1)
	r.capture()
	r.target.Do(t, "SELECT", "3")
	r.target.Do(t, "SET", "somebody's", "1")
	o := r.options(Options{})
	defer o.Store.Close()
	_, err := Open(t.Context(), o)
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.What, `db3:"somebody's"`) || !strings.Contains(refused.Hint, "--on-existing replace") {
		t.Fatalf("open: got %v, want a refusal that names the key and the way out", err)
	}
	if got := r.target.Do(t, "DBSIZE").Int; got != 1 {
		t.Errorf("keys after the refusal: got %d, want 1: nothing is written", got)
	}
}

func TestReplaceNeverMixesWithOldValues(t *testing.T) {
	r := newRig(t, 1)
	s, dst := r.sources[0], r.target
	for _, k := range []string{"in-rdb", "in-stream", "counter", "untouched"} {
		dst.Do(t, "RPUSH", k, "old")
	}
	s.Do(t, "RPUSH", "in-rdb", "new")
	r.capture()
	s.Do(t, "RPUSH", "in-stream", "new")
	s.Do(t, "RPUSH", "in-stream", "newer")
	s.Do(t, "INCR", "counter")
	s.Do(t, "RPUSH", "in-rdb", "newer")
	r.stopCapture()
	r.applyAll(Options{OnExisting: ExistingReplace})
	for args, want := range map[string]string{
		"LRANGE in-rdb 0 -1": "[new newer]", "LRANGE in-stream 0 -1": "[new newer]", "GET counter": "1", "LRANGE untouched 0 -1": "[old]",
	} {
		r := dst.Do(t, strings.Fields(args)...)
		if got := show1(r); got != want {
			t.Errorf("%s: got %s, want %s", args, got, want)
		}
	}
	// A second run from the mark deletes nothing.
	r.applyAll(Options{OnExisting: ExistingReplace})
	if got := show1(dst.Do(t, "LRANGE", "in-stream", "0", "-1")); got != "[new newer]" {
		t.Errorf("after a second run: got %s", got)
	}
}

func show1(r resp.Reply) string {
	if r.Type != '*' {
		return string(r.Str)
	}
	return "[" + strings.Join(r.Strings(), " ") + "]"
}
