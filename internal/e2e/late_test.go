package e2e

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"tairlift/internal/held"
	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

const (
	// late is how long the spool lies before it is applied: longer than the
	// tolerance, so that a TTL counted from then would show.
	late      = 4 * time.Second
	tolerance = 2 * time.Second
)

// shortMS is a TTL that has passed when the spool is applied.
var shortMS = strconv.FormatInt(late.Milliseconds(), 10)

// expiring are the ways to give a key a time to live; the keys "short:" have
// died before the spool is applied.
func expiring() [][]string {
	in := strconv.FormatInt(time.Now().Add(500*time.Second).Unix(), 10)
	return [][]string{
		{"SET", "set", "v", "EX", "300"},
		{"SET", "setpx", "v", "PX", "300500"},
		{"SETEX", "setex", "400", "v"},
		{"PSETEX", "psetex", "400500", "v"},
		{"RPUSH", "expire", "a", "b"},
		{"EXPIRE", "expire", "500"},
		{"HSET", "pexpire", "f", "v"},
		{"PEXPIRE", "pexpire", "500500"},
		{"SET", "expireat", "v"},
		{"EXPIREAT", "expireat", in},
		{"MULTI"},
		{"SET", "multi", "v"},
		{"EXPIRE", "multi", "600"},
		{"EXEC"},
		{"SET", "short:set", "v", "PX", shortMS},
		{"SET", "short:expire", "v"},
		{"PEXPIRE", "short:expire", shortMS},
		{"SETEX", "persisted", "300", "v"},
		{"PERSIST", "persisted"},
	}
}

var expiringKeys = []string{
	"rdb", "set", "setpx", "setex", "psetex", "expire", "pexpire", "expireat", "multi", "short:set", "short:expire", "persisted",
}

// deadlines are when keys expire, in ms since 1970 by the server's clock: 0 for
// never, -1 for a key that is not there.
func deadlines(t *testing.T, s *redistest.Server, keys []string) map[string]int64 {
	t.Helper()
	c := s.Dial(t)
	do := func(args ...string) resp.Reply {
		t.Helper()
		rep, err := c.Do(t.Context(), args...)
		if err != nil {
			t.Fatal(err)
		}
		return rep
	}
	do("MULTI")
	do("TIME")
	for _, k := range keys {
		do("PTTL", k)
	}
	rep := do("EXEC")
	sec, _ := strconv.ParseInt(rep.Elems[0].Elems[0].String(), 10, 64)
	usec, _ := strconv.ParseInt(rep.Elems[0].Elems[1].String(), 10, 64)
	out := map[string]int64{}
	for i, k := range keys {
		switch ttl := rep.Elems[i+1].Int; ttl {
		case -1:
			out[k] = 0
		case -2:
			out[k] = -1
		default:
			out[k] = sec*1000 + usec/1000 + ttl
		}
	}
	return out
}

// sameDeadlines compares the target with what is wanted.
func sameDeadlines(t *testing.T, target *redistest.Server, want map[string]int64) {
	t.Helper()
	got := deadlines(t, target, expiringKeys)
	for _, k := range expiringKeys {
		off := time.Duration(held.Off(got[k], want[k])) * time.Millisecond
		if (got[k] <= 0 || want[k] <= 0) && got[k] != want[k] || off.Abs() > tolerance {
			t.Errorf("deadline of %q: got %d, want %d (0: none, -1: no such key), %s off", k, got[k], want[k], off)
		}
	}
}

// applyElsewhere applies a copy of a folder whose sources are gone.
func applyElsewhere(t *testing.T, dir string) *redistest.Server {
	t.Helper()
	elsewhere := filepath.Join(t.TempDir(), "job")
	copyJob(t, dir, elsewhere)
	target := redistest.Target(t)
	run(t, exitOK, "spool", "check", "--dir", elsewhere)
	run(t, exitOK, "apply", "--dir", elsewhere, "--target", target.Addr, "--until", "end")
	return target
}

func TestLateApply(t *testing.T) {
	t.Run("of a real source", func(t *testing.T) {
		t.Parallel()
		source := redistest.Source(t, backlog)
		source.Do(t, "SETEX", "rdb", "300", "v")
		dir := filepath.Join(t.TempDir(), "job")
		p := start(t, "capture", "--dir", dir, "--group", "1="+source.Addr)
		p.untilStatus("the full sync to be captured", dir, func(s status) bool {
			return len(s.Groups) == 1 && s.Groups[0].Captured != nil
		})
		for _, args := range expiring() {
			source.Do(t, args...)
		}
		end, err := strconv.ParseInt(source.Info(t, "replication")["master_repl_offset"], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		p.captured(dir, []int64{end})
		p.interrupt()
		redistest.Eventually(t, "the short keys to die at the source", func() bool {
			return source.Do(t, "EXISTS", "short:set").Int+source.Do(t, "EXISTS", "short:expire").Int == 0
		})
		want := deadlines(t, source, expiringKeys)
		source.Stop()
		sameDeadlines(t, applyElsewhere(t, dir), want)
	})

	// Redis 3.2 sends TTLs as they came, counted from when it executed them,
	// which only the offset clock can tell.
	t.Run("of a source with relative TTLs", func(t *testing.T) {
		t.Parallel()
		session := redistest.RecordedSession(t)
		session.Stream = nil
		master := redistest.FakeMaster(t, redistest.Script{Session: session})
		dir := filepath.Join(t.TempDir(), "job")
		p := start(t, "capture", "--dir", dir, "--group", "1="+master.Addr)
		p.untilStatus("the full sync to be captured", dir, func(s status) bool {
			return len(s.Groups) == 1 && s.Groups[0].Captured != nil
		})
		now := time.Now()
		stream := resp.AppendCommandStrings(nil, "SELECT", "0")
		stream = resp.AppendCommandStrings(stream, "SETEX", "rdb", "300", "v")
		for _, args := range expiring() {
			stream = resp.AppendCommandStrings(stream, args...)
		}
		master.Append(stream)
		p.until("acknowledgment of the stream", func() bool { return master.LastAck() >= master.Position().Offset })
		p.interrupt()
		master.Close()
		want := map[string]int64{"persisted": 0, "short:set": -1, "short:expire": -1}
		for k, seconds := range map[string]float64{
			"rdb": 300, "set": 300, "setpx": 300.5, "setex": 400, "psetex": 400.5, "expire": 500, "pexpire": 500.5, "expireat": 500, "multi": 600,
		} {
			want[k] = now.Add(time.Duration(seconds * float64(time.Second))).UnixMilli()
		}
		redistest.Eventually(t, "the short keys to be dead", func() bool { return time.Since(now) > late+tolerance })
		sameDeadlines(t, applyElsewhere(t, dir), want)
	})
}
