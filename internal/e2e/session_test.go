package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/command"
	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

// laterIssue tells which commands this version stops at, with the reason.
func laterIssue(name []byte) (reason string, stops bool) {
	switch command.Lookup(name).Class {
	case command.Flush:
		return "flush-in-stream", true
	case command.Slots:
		return "slots-moving", true
	case command.Unsupported:
		return "unsupported-command", true
	}
	return "", false
}

// The recording's RDB, and its stream up to the first command that this version
// does not follow, give what the same commands give in a plain server.
func TestRecordedSession(t *testing.T) {
	session := redistest.RecordedSession(t)
	master := redistest.FakeMaster(t, redistest.Script{Session: session, NewlinesPre: 2, NewlinesRDB: 3})
	target := redistest.Target(t)
	dir := filepath.Join(t.TempDir(), "job")

	// What the plain server is given: the RDB as its own, the commands as sent.
	plainDir := t.TempDir()
	if err := os.WriteFile(filepath.Join(plainDir, "dump.rdb"), session.RDB, 0o644); err != nil {
		t.Fatal(err)
	}
	plain := redistest.Target(t, redistest.Dir(plainDir))
	conn := plain.Dial(t)
	reason, commands, end := "", 0, int64(0)
	for p := resp.NewParser(session.Offset); ; {
		if commands == 0 {
			p.Feed(session.Stream)
		}
		c, ok, err := p.Next()
		if err != nil || !ok {
			t.Fatalf("no command of a later issue in %d commands: %v", commands, err)
		}
		if r, stops := laterIssue(c.Args[0]); stops {
			reason = r
			break
		}
		commands, end = commands+1, int64(c.End)
		var args []string
		for _, a := range c.Args {
			args = append(args, string(a))
		}
		if _, err := conn.Do(t.Context(), args...); err != nil {
			t.Fatalf("%q at a plain server: %v", args, err)
		}
	}
	if commands < 100 {
		t.Fatalf("commands before the first of a later issue: got %d, want at least 100", commands)
	}

	args := []string{"sync", "--dir", dir, "--group", "1=" + master.Addr, "--target", target.Addr}
	first := start(t, args...)
	stopped := first.untilStatus("the group to stop, and capture to go on to the end", dir, func(s status) bool {
		if len(s.Groups) == 0 {
			return false
		}
		g := s.Groups[0]
		return g.State == "stopped" && g.Captured != nil && *g.Captured == int64(session.End())
	})
	if g := stopped.Groups[0]; g.Reason != reason || g.Applied == nil || *g.Applied != end {
		t.Errorf("status: got reason %s and applied offset %v, want %s and %d", g.Reason, g.Applied, reason, end)
	}
	first.interrupt()
	again := run(t, exitStopped, append(args, "--until", "caught-up")...)
	if !strings.Contains(again.err.String(), "hint: ") {
		t.Errorf("stderr has no hint: %s", again.err.String())
	}
	if diff := cmp.Diff(keyspace(t, plain), keyspace(t, target), deadlinesLoosely); diff != "" {
		t.Errorf("keyspace (-plain server +target):\n%s", diff)
	}
	t.Logf("%d commands, stopped by %s behind offset %d", commands, reason, end)
}

// deadlineSlack is how far deadlines of the same command may be apart when it is
// replayed twice.
const deadlineSlack = time.Minute

var deadlinesLoosely = within(deadlineSlack)
