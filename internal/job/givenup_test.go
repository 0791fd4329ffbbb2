package job

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"tairlift/internal/redistest"
)

// Each full sync that is cut leaves what came of it: many of them would fill
// the disk.
func TestRDBsThatWereCutShortDoNotStayInTheSpool(t *testing.T) {
	sess := redistest.RecordedSession(t)
	m := redistest.FakeMaster(t, redistest.Script{Session: sess, Link: func(n int) redistest.Fault {
		if n == 1 {
			return redistest.Fault{CutAt: 200}
		}
		return redistest.Fault{}
	}})
	dir := filepath.Join(t.TempDir(), "job")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- RunCapture(ctx, Options{Dir: dir, Groups: []Group{{1, m.Addr}}}) }()
	segments := func(epoch string) int {
		names, err := filepath.Glob(filepath.Join(dir, "spool", "group-0001", "epoch-"+epoch, "*.seg"))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	redistest.Eventually(t, "the second epoch alone to be there", func() bool {
		return segments("0002") > 0 && segments("0001") == 0
	})
	redistest.Eventually(t, "the whole stream", func() bool { return m.LastAck() == sess.End() })
	stop()
	if err := <-ended; CodeOf(err) != Interrupted {
		t.Fatalf("got %v, want it to be interrupted", err)
	}
	var out bytes.Buffer
	if err := SpoolCheck(t.Context(), SpoolOptions{Dir: dir, Out: &out}); err != nil {
		t.Errorf("check spool: %v: %s", err, out.String())
	}
}
