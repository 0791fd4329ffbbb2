package job

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"tairlift/capture"
	"tairlift/internal/repl"
	"tairlift/spool"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func at(minutes int, epoch repl.Epoch, phase string, offset repl.Offset) TrailPoint {
	return TrailPoint{At: noon.Add(time.Duration(minutes) * time.Minute), Epoch: epoch, Phase: phase, Offset: offset}
}

func TestWhatIsSettledIsWhereTheMarkStoodAMarginAgoOrLaterIfItWentBack(t *testing.T) {
	stream := func(o repl.Offset) spool.Floor { return spool.Floor{Epoch: 2, Stream: true, Offset: o} }
	for _, c := range []struct {
		name   string
		trail  trail
		marked repl.Offset
		phase  string
		ago    time.Duration // that the mark was seen
		want   spool.Floor
		ok     bool
	}{
		{name: "nothing yet", phase: ""},
		{name: "began just now", trail: trail{at(-5, 2, "stream", 10)}, marked: 50, phase: "stream"},
		{name: "the newest point that is old enough", trail: trail{at(-30, 2, "stream", 10), at(-12, 2, "stream", 20), at(-9, 2, "stream", 30)}, marked: 50, phase: "stream", want: stream(20), ok: true},
		{name: "a mark that went back", trail: trail{at(-30, 2, "stream", 10), at(-12, 2, "stream", 20), at(-9, 2, "stream", 15)}, marked: 50, phase: "stream", want: stream(15), ok: true},
		{name: "a mark that is behind now", trail: trail{at(-30, 2, "stream", 10), at(-12, 2, "stream", 20)}, marked: 5, phase: "stream", want: stream(5), ok: true},
		{name: "the RDB begins again", trail: trail{at(-30, 2, "stream", 10)}, phase: "rdb", want: spool.Floor{Epoch: 2}, ok: true},
		{name: "nobody has seen the mark for long", trail: trail{at(-45, 2, "stream", 10), at(-21, 2, "stream", 30)}, marked: 50, phase: "stream", ago: 20 * time.Minute, want: stream(10), ok: true},
		{name: "it stands still, and was seen just now", trail: trail{at(-45, 2, "stream", 10), at(-21, 2, "stream", 50)}, marked: 50, phase: "stream", want: stream(50), ok: true},
		{name: "an epoch ago", trail: trail{at(-45, 1, "stream", 1000)}, marked: 50, phase: "stream", want: spool.Floor{Epoch: 1, Stream: true, Offset: 1000}, ok: true},
	} {
		g := ApplyGroup{ID: 1, Phase: c.phase, Trail: c.trail}
		if c.phase != "" {
			g.Epoch = 2
		}
		if c.phase == "stream" {
			g.Marked = &c.marked
		}
		if c.phase != "" {
			g.MarkSeen = ptr(noon.Add(-c.ago))
		}
		if got, ok := g.settled(noon, 10*time.Minute); got != c.want || ok != c.ok {
			t.Errorf("%s: got %+v, %v, want %+v, %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

func TestATrailGrowsSparseAndKeepsItsPromise(t *testing.T) {
	var tr trail
	now := noon
	for i := range 3 * 3600 {
		now = now.Add(time.Second)
		tr = tr.add(TrailPoint{At: now, Epoch: 1, Phase: "stream", Offset: repl.Offset(i)})
	}
	if len(tr) > trailMax {
		t.Errorf("got %d points, want %d at most", len(tr), trailMax)
	}
	if !slices.IsSortedFunc(tr, func(a, b TrailPoint) int { return a.At.Compare(b.At) }) {
		t.Error("points are out of order")
	}
	for _, margin := range []time.Duration{0, 10 * time.Second, time.Minute, 10 * time.Minute, time.Hour} {
		g := ApplyGroup{ID: 1, Epoch: 1, Phase: "stream", Trail: tr, Marked: ptr(repl.Offset(3*3600 - 1)), MarkSeen: &now}
		f, ok := g.settled(now, margin)
		age := time.Duration(3*3600-1-int64(f.Offset)) * time.Second
		if !ok || age < margin || age > margin+margin/4+2*time.Second {
			t.Errorf("margin %s: got a place of %s ago, %v", margin, age, ok)
		}
	}
	n := len(tr)
	if tr = tr.add(TrailPoint{At: now.Add(time.Hour), Epoch: 1, Phase: "stream", Offset: 3*3600 - 1}); len(tr) != n {
		t.Error("a mark that stands still was noted")
	}
}

func testRoom(quota int64) (*room, *int64, *int64, *time.Time) {
	free, used, now := int64(10<<30), int64(0), noon
	r := newRoom("/spool", quota, slog.New(slog.DiscardHandler))
	r.now = func() time.Time { return now }
	r.space = func(string) (int64, int64, error) { return free, 20 << 30, nil }
	r.usage = func(string) (int64, int64, error) { return used, 1 << 30, nil }
	return r, &free, &used, &now
}

func TestRoomIsRefusedAtTheQuotaAndWhenTheDiskIsNearlyFull(t *testing.T) {
	r, free, used, now := testRoom(10 << 20)
	grants := func(n int64, reason string) {
		t.Helper()
		*now = now.Add(time.Second)
		no := r.Take(n)
		switch {
		case reason == "" && no != nil:
			t.Errorf("take %d: got %v, want room", n, no)
		case reason != "" && (no == nil || no.Reason != reason):
			t.Errorf("take %d: got %v, want %s", n, no, reason)
		}
	}
	grants(6<<20, "")
	*used = 2 << 20 // compressed
	grants(5<<20, "")
	if no := r.Take(5 << 20); no == nil || !strings.Contains(no.What, "--max-spool is 10 MiB") {
		t.Errorf("what was granted since the last look does not count: got %v", no)
	}
	*used = 10 << 20
	grants(1, capture.ReasonQuota)
	grants(0, capture.ReasonQuota)
	*used = 1 << 20 // pruned
	grants(0, "")
	*free = reserveBytes + 1000
	grants(2000, capture.ReasonDiskFull)
	no := r.Take(0)
	if no == nil || !strings.Contains(no.What, "at least 255 KiB more are needed") {
		t.Errorf("got %v, want how much is needed", no)
	}
	*free = 1 << 30
	grants(2000, "")
	r.space = func(string) (int64, int64, error) { return 0, 0, errors.New("no such call") }
	grants(2000, "") // then the write itself must tell
}

func TestWithoutAQuotaNothingIsCounted(t *testing.T) {
	r, _, _, _ := testRoom(0)
	r.usage = func(string) (int64, int64, error) { t.Error("the spool was walked through"); return 0, 0, nil }
	r.walked = noon
	for range 100 {
		if no := r.Take(1 << 20); no != nil {
			t.Fatal(no)
		}
	}
}
