package job

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/repl"
)

func TestATrailIsReadAsItWasWrittenUpToASecond(t *testing.T) {
	for _, c := range []struct {
		claim string
		text  string // written, or by an older version when point is not
		point TrailPoint
		want  TrailPoint
	}{
		{"in the stream", `{"at":"2026-01-02T12:00:00Z","epoch":2,"offset":7}`, at(0, 2, "stream", 7), at(0, 2, "stream", 7)},
		{"at the beginning of it", `{"at":"2026-01-02T12:00:00Z","epoch":2,"offset":0}`, at(0, 2, "stream", 0), at(0, 2, "stream", 0)},
		{"in the RDB", `{"at":"2026-01-02T12:00:00Z","epoch":2}`, at(0, 2, "rdb", 0), at(0, 2, "rdb", 0)},
		{
			"no earlier than it was", `{"at":"2026-01-02T12:00:01Z","epoch":2,"offset":7}`,
			TrailPoint{At: noon.Add(time.Nanosecond).In(time.FixedZone("x", 3600)), Epoch: 2, Phase: "stream", Offset: 7},
			TrailPoint{At: noon.Add(time.Second), Epoch: 2, Phase: "stream", Offset: 7},
		},
		{"an older RDB", `{"at":"2026-01-02T12:00:00Z","epoch":2,"phase":"rdb","offset":0}`, TrailPoint{}, at(0, 2, "rdb", 0)},
		{"an older stream", `{"at":"2026-01-02T12:00:00Z","epoch":2,"phase":"stream","offset":0}`, TrailPoint{}, at(0, 2, "stream", 0)},
	} {
		t.Run(c.claim, func(t *testing.T) {
			if c.point != (TrailPoint{}) {
				if got, err := json.Marshal(c.point); err != nil || string(got) != c.text {
					t.Errorf("written: got %s, %v, want %s", got, err, c.text)
				}
			}
			var got TrailPoint
			if err := json.Unmarshal([]byte(c.text), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("read (-want +got):\n%s", diff)
			}
		})
	}
}

// The bound is for files of others: ours must be far from it.
func TestAStatusFileOfAllGroupsIsRead(t *testing.T) {
	long := strings.Repeat("x", 1000)
	most := repl.Offset(math.MaxInt64)
	now := noon.Add(123456789)
	g := ApplyGroup{
		ID: repl.MaxGroupID, State: "waiting", Reason: "target-mark-contended", What: long, Hint: long, Since: &now,
		Epoch: 9999, Phase: "stream", Applied: &most, AppliedMS: math.MaxInt64, Marked: &most, RDBDone: math.MaxInt64,
		Keys: math.MaxInt64, Commands: math.MaxInt64, Ignored: math.MaxInt64, WidthMS: math.MaxInt64,
		DoubtWhy: map[string]int{"reject": math.MaxInt, "unread": math.MaxInt, "renewed": math.MaxInt, "nondeterministic": math.MaxInt},
	}
	for range trailMax {
		g.Trail = append(g.Trail, TrailPoint{At: now, Epoch: 9999, Phase: "stream", Offset: most})
	}
	raw, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(raw) * int(repl.MaxGroupID); got > maxSmall {
		t.Errorf("got up to %d bytes, want no more than maxSmall, %d", got, maxSmall)
	}
}

func TestStatusFilesAreCompact(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status", "apply-t.json")
	if err := writeStatus(path, ApplyFile{Groups: []ApplyGroup{{ID: 1}}}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(raw), "\n"); n != 1 || !strings.HasSuffix(string(raw), "}\n") {
		t.Errorf("got %d lines, want 1: %s", n, raw)
	}
}
