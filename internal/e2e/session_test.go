package e2e

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/redistest"
)

// The recorded session of a codis-server ends with the keyspace that the server
// had then, slot commands and FLUSHDB included, whether the target takes RESTORE
// or not.
func TestRecordedSession(t *testing.T) {
	session := redistest.RecordedSession(t)
	record := readRecord(t, redistest.Testdata(t, "sessions/session.json"))
	for _, path := range paths {
		t.Run("by "+path.name, func(t *testing.T) {
			begun := time.Now()
			source := redistest.FakeMaster(t, redistest.Script{Session: session, NewlinesPre: 2, NewlinesRDB: 3})
			target := redistest.Target(t, path.target...)
			run(t, exitOK, "sync", "--dir", filepath.Join(t.TempDir(), "job"), "--group", "1="+source.Addr,
				"--target", target.Addr, "--on-flush", "scoped", "--until", "caught-up")
			r := newReader(t, target)
			want, got := map[string]value{}, r.keyspace()
			for _, k := range record.Keys {
				name := place(k.DB, string(k.Key))
				v := value{Type: k.Type, Elements: recordedElements(t, r, k.Type, k.Value)}
				if k.PExpireAt != nil && !lost[name] {
					v.Deadline = time.UnixMilli(*k.PExpireAt)
					// A relative one counts from when the source is replayed.
					again := begun.Add(v.Deadline.Sub(time.UnixMilli(record.CapturedMS)))
					if got[name].Deadline.Sub(again).Abs() < deadlineSlack {
						v.Deadline = got[name].Deadline
					}
				}
				want[name] = v
			}
			if diff := cmp.Diff(want, got, within(dumpSlack)); diff != "" {
				t.Errorf("keyspace (-recorded +target):\n%s", diff)
			}
		})
	}
}

// lost are keys whose deadline no replica knows: Redis 3.2 propagates INCRBYFLOAT
// as a SET, which ends it.
var lost = map[string]bool{place(0, "n1"): true}

// deadlineSlack is how far deadlines of the same command may be apart when it is
// replayed twice.
const deadlineSlack = time.Minute

var deadlinesLoosely = within(deadlineSlack)
