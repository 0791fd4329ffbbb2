package job

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/meter"
	"tairlift/internal/repl"
)

func TestProgress(t *testing.T) {
	c := NewConsole(nil, ConsoleOptions{})
	s := Status{Groups: []GroupStatus{
		{
			ID: 1, State: CatchingUp, Epoch: ptr(repl.Epoch(1)), Source: ptr(repl.Offset(500)), Captured: ptr(repl.Offset(450)), Applied: ptr(repl.Offset(400)), applied: true,
			LagBytes: ptr(int64(100)), LagSecs: ptr(2.0), RDB: RDBStatus{Done: 10, Total: ptr(int64(10))}, Commands: ptr(int64(5)),
		},
		{ID: 2, State: ApplyingRDB, Reason: "target-oom", Epoch: ptr(repl.Epoch(1)), RDB: RDBStatus{Done: 5, Total: ptr(int64(20))}, Commands: ptr(int64(0))},
	}}
	want := meter.View{Phase: "applying-rdb", Reason: "target-oom", Done: 15, Total: 130, Commands: 5, LagBytes: -1, LagSeconds: -1, Groups: []meter.GroupLine{
		{ID: 1, State: "catching-up", Done: 10, Total: 110, LagBytes: 100, LagSeconds: 2},
		{ID: 2, State: "applying-rdb", Reason: "target-oom", Done: 5, Total: 20, LagBytes: -1, LagSeconds: -1},
	}}
	if diff := cmp.Diff(want, c.progress(&s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s.Groups[0].Applied, s.Groups[1].RDB.Total = ptr(repl.Offset(430)), nil
	got := c.progress(&s)
	if got.Done != 45 || got.Total != 0 || got.Groups[0].Done != 40 || got.Groups[0].Total != 110 {
		t.Errorf("got %+v, want 30 bytes of the stream more, and no total while one is not known", got)
	}
}

func TestSlowestGroupNamesThePhase(t *testing.T) {
	c := NewConsole(nil, ConsoleOptions{})
	for i := 1; i < len(order); i++ {
		s := Status{Groups: []GroupStatus{{ID: 1, State: order[i]}, {ID: 2, State: order[i-1], Reason: "r"}}}
		if got := c.progress(&s); got.Phase != string(order[i-1]) || got.Reason != "r" {
			t.Errorf("%s beside %s: got phase %q", order[i], order[i-1], got.Phase)
		}
	}
}

func TestLogFormats(t *testing.T) {
	var b bytes.Buffer
	NewConsole(&b, ConsoleOptions{JSON: true}).Log.Info("hello", "group", "1")
	if !strings.Contains(b.String(), `"msg":"hello","group":"1"`) {
		t.Errorf("got %q, want JSON", b.String())
	}
	b.Reset()
	c := NewConsole(&b, ConsoleOptions{})
	c.Log.Debug("quiet")
	c.Log.Info("hello", "secret", Secret("hunter2"))
	if got := b.String(); strings.Contains(got, "quiet") || strings.Contains(got, "hunter2") || !strings.Contains(got, "secret=***") {
		t.Errorf("got %q, want no debug line and no secret", got)
	}
	b.Reset()
	NewConsole(&b, ConsoleOptions{Verbose: true}).Log.Debug("loud")
	if !strings.Contains(b.String(), "loud") {
		t.Errorf("got %q, want the debug line", b.String())
	}
}
