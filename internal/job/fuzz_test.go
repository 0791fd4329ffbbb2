package job

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// explained fails the test unless an error is one for people: a code, one line
// of what and one of a hint.
func explained(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	e := explain(err)
	var b bytes.Buffer
	e.Print(&b)
	if CodeOf(err) == OK || e.What == "" || e.Hint == "" || strings.Count(b.String(), "\n") != 2 {
		t.Fatalf("got %q, want a code, one line of what and one of a hint", b.String())
	}
}

// FuzzJobFile puts any bytes in the place of job.json: a folder that is not a
// job's is refused with a hint, and one that is says the same again.
func FuzzJobFile(f *testing.F) {
	f.Add([]byte(jobText(jobA, `{"id": 1, "addr": "a:1"}, {"id": 9999}`)))
	f.Add([]byte(jobText(jobA, `{"id": 1}, {"id": 1}`)))
	f.Add([]byte(jobText(jobA, `{"id": -1}`)))
	f.Add([]byte(jobText(jobA, "") + "trailing"))
	f.Add([]byte(`{"version": 2}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(filepath.Join(dir, jobFile), raw, 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := openFolder(dir)
		explained(t, err)
		if err != nil {
			if CodeOf(err) != Refused {
				t.Fatalf("got %v with code %d, want %d", err, CodeOf(err), Refused)
			}
			return
		}
		if got.rec.Job.IsZero() || got.fresh || !got.exist {
			t.Fatalf("got %+v, want a job", got)
		}
		again := &folder{dir: dir}
		if text, err := json.Marshal(got.rec); err != nil || again.read(text) != nil {
			t.Fatalf("the record as written again: %s, %v", text, err)
		}
		_, err = readView(dir, "", "", Only{})
		explained(t, err)
	})
}

// FuzzStatusFiles puts any bytes in the place of what is published: status
// shows what it can, and the spool's verdict has a hint.
func FuzzStatusFiles(f *testing.F) {
	const process = `"version": 1, "job": "0a000000000000000000000000000000", "verb": "sync", "until": "caught-up", "pid": 1, "host": "h", ` +
		`"started": "2026-01-02T03:04:05Z", "updated": "2026-01-02T03:04:05Z", "ended": "2026-01-02T03:04:05Z", "how": "finished"`
	const captured = `{` + process + `, "groups": [{"id": 1, "addr": "a:1", "state": "streaming", "epoch": 1, "source_offset": 20, "rdb_total": 4, ` +
		`"durable": {"epoch": 1, "replid": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "seq": 2, "bytes": 300, "rdb_bytes": 4, "rdb_done": true, "offset": 15, "sealed": true}}]}`
	const applied = `{` + process + `, "target": "t:1", "groups": [{"id": 1, "state": "streaming", "epoch": 1, "phase": "stream", "applied_offset": 15, "applied_ms": 1, ` +
		`"rejects": 1, "doubtful": 2, "doubtful_by_reason": {"unread": 2}, "forgotten": true}]}`
	f.Add([]byte(captured), []byte(applied), []byte(`{"addr": "t:1"}`))
	f.Add([]byte(captured), []byte(`{`+process+`}`), []byte{})
	f.Add([]byte(`{`+process+`, "groups": null}`), []byte(applied), []byte(`{"addr": "../../etc:1"}`))
	f.Add([]byte(`[]`), []byte(`null`), []byte(`{}`))
	dir := f.TempDir()
	(&fuzzDir{f, dir}).capture()
	f.Fuzz(func(t *testing.T, capture, apply, target []byte) {
		for name, raw := range map[string][]byte{
			"status/capture.json": capture, "status/apply-t_1.json": apply, "apply/t_1/target.json": target,
		} {
			path := filepath.Join(dir, name)
			if len(raw) == 0 {
				os.Remove(path)
			} else if err := os.WriteFile(path, raw, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		s, err := readView(dir, "", "", Only{})
		explained(t, err)
		if err == nil {
			var text bytes.Buffer
			if err := s.Text(&text); err != nil || text.Len() == 0 {
				t.Fatalf("text: got %q, %v", text.String(), err)
			}
			if _, err := json.Marshal(s); err != nil {
				t.Fatalf("json: %v", err)
			}
			if len(s.Groups) != 1 || s.Groups[0].ID != 1 {
				t.Fatalf("status: got %+v, want the job's group", s)
			}
		}
		var out bytes.Buffer
		err = SpoolCheck(t.Context(), SpoolOptions{Dir: dir, Out: &out})
		explained(t, err)
		if err != nil && CodeOf(err) != Corrupt {
			t.Fatalf("spool check: got %v with code %d, want 0 or %d", err, CodeOf(err), Corrupt)
		}
	})
}

// fuzzDir is a folder with a captured group and room for what is published.
type fuzzDir struct {
	f   *testing.F
	dir string
}

func (d *fuzzDir) capture() {
	d.f.Helper()
	for _, name := range []string{"status", "apply/t_1"} {
		if err := os.MkdirAll(filepath.Join(d.dir, name), 0o755); err != nil {
			d.f.Fatal(err)
		}
	}
	captured(d.f, d.dir, jobA, 1)
	if err := os.WriteFile(filepath.Join(d.dir, jobFile), []byte(jobText(jobA, `{"id": 1, "addr": "a:1"}`)), 0o644); err != nil {
		d.f.Fatal(err)
	}
}

// A file of gigabytes under a name of ours is not read into memory.
func TestHugeFilesAreRefusedUnread(t *testing.T) {
	for _, name := range []string{jobFile, "status/capture.json", "status/apply-t_1.json", "apply/t_1/target.json"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeJob(t, dir, jobText(jobA, `{"id": 1}`))
			path := filepath.Join(dir, name)
			write(t, path, "{")
			if err := os.Truncate(path, 4<<30); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			s, err := readView(dir, "", "", Only{})
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
				t.Errorf("%d bytes were allocated, want few", n)
			}
			explained(t, err)
			var e *Error
			if err == nil && len(s.Notes) != 1 || err != nil && (!errors.As(err, &e) || e.Code != Refused) {
				t.Errorf("status: got %v and notes %v, want it refused or noted", err, s.Notes)
			}
		})
	}
}
