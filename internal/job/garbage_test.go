package job

import (
	"path/filepath"
	"strings"
	"testing"

	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

// What the source sends behind a full sync is taken as it comes: only apply
// finds out that it is no command, and a new full sync is the way out.
func TestGarbageInTheStreamStopsTheGroupUntilANewEpoch(t *testing.T) {
	sess := redistest.RecordedSession(t)
	sess.Stream = resp.AppendCommandStrings(nil, "SELECT", "0")
	m := redistest.FakeMaster(t, redistest.Script{Session: sess})
	target := redistest.Target(t)
	o := Options{
		Dir: filepath.Join(t.TempDir(), "job"), Groups: []Group{{1, m.Addr}}, Target: target.Addr,
		Until: UntilCaughtUp,
	}
	if err := RunSync(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	m.Append([]byte("*2\r\n$3\r\nGET\r\ngarbage\r\n"))
	err := RunSync(t.Context(), o)
	if CodeOf(err) != Stopped || !strings.Contains(err.Error(), "group 1 epoch 1") {
		t.Fatalf("got %v, want the group to be stopped", err)
	}
	s, err := readView(o.Dir, "", "", Only{})
	if err != nil || s.Groups[0].Reason != "stream-corrupt" || !strings.Contains(s.Groups[0].Hint, "--new-epoch") {
		t.Errorf("got %+v, %v, want stream-corrupt, and the way out", s.Groups, err)
	}

	// The source is another since, and the full sync is of what it has now.
	next := sess
	next.ReplID = "cccccccccccccccccccccccccccccccccccccccc"
	next.Stream = append(next.Stream[:len(next.Stream):len(next.Stream)], resp.AppendCommandStrings(nil, "SET", "behind", "it")...)
	m.SetSession(next)
	o.NewEpoch = true
	if err := RunSync(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if got := target.Do(t, "GET", "behind").String(); got != "it" {
		t.Errorf("behind it: got %q, want it", got)
	}
}
