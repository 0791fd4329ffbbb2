package job

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/repl"
	"tairlift/internal/selection"
	"tairlift/spool"
)

var (
	jobA = spool.JobID{0xa}
	jobB = spool.JobID{0xb}
)

// captured puts a sealed segment of a job's group into dir.
func captured(t testing.TB, dir string, job spool.JobID, g repl.GroupID) {
	t.Helper()
	id := spool.Identity{Job: job, Group: g, Epoch: 1, ReplID: repl.ReplID(strings.Repeat("a", repl.ReplIDLen)), Start: 10}
	w, err := spool.Create(filepath.Join(dir, "spool"), id, spool.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{w.BeginRDB(4), w.AppendRDB([]byte("data"), time.UnixMilli(1)), w.EndRDB(0, false), w.AppendStream([]byte("12345"), time.UnixMilli(2)), w.Seal()} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func writeJob(t *testing.T, dir, text string) {
	t.Helper()
	write(t, filepath.Join(dir, jobFile), text)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func jobText(job spool.JobID, groups string) string {
	return fmt.Sprintf(`{"version": 1, "job": %q, "created": "2026-01-02T03:04:05Z", "groups": [%s]}`, job, groups)
}

func TestIdentity(t *testing.T) {
	const one = `{"id": 1, "addr": "a:1"}`
	tests := []struct {
		claim string
		make  func(t *testing.T, dir string)
		with  []Group
		want  []Group // groups afterwards
		code  Code
		err   string // DIR and JOBA stand for themselves
	}{
		{"a folder that is not there is a fresh one", func(t *testing.T, dir string) { os.Remove(dir) }, []Group{{1, "a:1"}}, []Group{{1, "a:1"}}, 0, ""},
		{"so is an empty one", func(*testing.T, string) {}, []Group{{1, "a:1"}}, []Group{{1, "a:1"}}, 0, ""},
		{"so is a new file system", func(t *testing.T, dir string) { os.Mkdir(filepath.Join(dir, "lost+found"), 0o700) }, []Group{{1, "a:1"}}, []Group{{1, "a:1"}}, 0, ""},
		{"so is what a first use that failed has left", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "capture", "capture.db"), "") }, []Group{{1, "a:1"}}, []Group{{1, "a:1"}}, 0, ""},
		{
			"somebody else's folder is refused", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "thesis.tex"), "x") },
			[]Group{{1, "a:1"}},
			nil, Refused,
			"folder DIR is not empty and not a job's: it holds thesis.tex and no job.json",
		},
		{"a job's folder may hold other files", func(t *testing.T, dir string) {
			writeJob(t, dir, jobText(jobA, one))
			write(t, filepath.Join(dir, "notes.txt"), "x")
		}, nil, []Group{{1, "a:1"}}, 0, ""},
		{"what DIR knows may be left out", func(t *testing.T, dir string) { writeJob(t, dir, jobText(jobA, one)) }, nil, []Group{{1, "a:1"}}, 0, ""},
		{"a group that it does not know is added", func(t *testing.T, dir string) { writeJob(t, dir, jobText(jobA, one)) }, []Group{{2, "b:1"}}, []Group{{1, "a:1"}, {2, "b:1"}}, 0, ""},
		{"an address may change", func(t *testing.T, dir string) { writeJob(t, dir, jobText(jobA, one)) }, []Group{{1, "c:1"}}, []Group{{1, "c:1"}}, 0, ""},
		{
			"an address may not move to another group", func(t *testing.T, dir string) { writeJob(t, dir, jobText(jobA, one)) },
			[]Group{{2, "a:1"}},
			nil, Refused,
			"address a:1 is given as group 2, but it is that of group 1",
		},
		{"two addresses may not be swapped", func(t *testing.T, dir string) {
			writeJob(t, dir, jobText(jobA, one+`,{"id": 2, "addr": "b:1"}`))
		}, []Group{{1, "b:1"}, {2, "a:1"}}, nil, Refused, "address b:1 is given as group 1, but it is that of group 2"},
		{
			"one address may not be two groups", func(*testing.T, string) {},
			[]Group{{1, "a:1"}, {2, "a:1"}},
			nil, Refused,
			"address a:1 is given as group 1, but it is that of group 2",
		},
		{
			"a job file that is none is refused", func(t *testing.T, dir string) { writeJob(t, dir, "hello") }, nil, nil, Refused,
			"DIR/job.json is not a job file: invalid character 'h' looking for beginning of value",
		},
		{"a job file without a job is refused", func(t *testing.T, dir string) { writeJob(t, dir, `{"version": 1}`) }, nil, nil, Refused, "DIR/job.json names no job"},
		{
			"a job file of another version is refused", func(t *testing.T, dir string) { writeJob(t, dir, `{"version": 7}`) }, nil, nil, Refused,
			"DIR/job.json has version 7, this tairlift reads version 1",
		},
		{"a spool of the same job is fine", func(t *testing.T, dir string) {
			writeJob(t, dir, jobText(jobA, one))
			captured(t, dir, jobA, 1)
		}, nil, []Group{{1, "a:1"}}, 0, ""},
		{"a spool of another job is refused", func(t *testing.T, dir string) {
			writeJob(t, dir, jobText(jobA, one))
			captured(t, dir, jobB, 1)
		}, nil, nil, Refused, "folder DIR mixes two jobs: segment DIR/spool/group-0001/epoch-0001/00000001.seg is of job JOBB, not JOBA"},
		{"a spool alone tells its groups", func(t *testing.T, dir string) {
			captured(t, dir, jobA, 1)
			captured(t, dir, jobA, 3)
		}, nil, []Group{{1, ""}, {3, ""}}, 0, ""},
		{"a spool of two jobs is refused", func(t *testing.T, dir string) {
			captured(t, dir, jobA, 1)
			captured(t, dir, jobB, 2)
		}, nil, nil, Refused, "folder DIR mixes two jobs: segment DIR/spool/group-0002/epoch-0001/00000001.seg is of job JOBB, not JOBA"},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			dir := t.TempDir()
			tt.make(t, dir)
			silent := slog.New(slog.DiscardHandler)
			f, err := openFolder(dir)
			if err == nil {
				err = f.merge(tt.with, silent)
			}
			if err == nil {
				err = f.save(tt.with, silent)
			}
			checkError(t, err, tt.code, strings.NewReplacer("DIR/", dir+"/", "DIR ", dir+" ", "JOBA", jobA.String(), "JOBB", jobB.String()).Replace(tt.err))
			if err != nil {
				return
			}
			again, err := openFolder(dir)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, again.rec.Groups); diff != "" {
				t.Errorf("groups (-want +got):\n%s", diff)
			}
			if again.rec.Job.IsZero() || again.rec.Version != 1 || again.rec.Created.IsZero() {
				t.Errorf("job file is not complete: %+v", again.rec)
			}
		})
	}
}

func TestNewAddressIsTold(t *testing.T) {
	dir := t.TempDir()
	writeJob(t, dir, jobText(jobA, `{"id": 1, "addr": "a:1"}`))
	f, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if err := f.merge([]Group{{1, "b:1"}}, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	if want := `msg="group has a new address" group=1 was=a:1 addr=b:1`; !strings.Contains(log.String(), want) {
		t.Errorf("log is %q, want %q in it", log.String(), want)
	}
}

// Two processes that use a fresh DIR at the same moment must agree on the job.
func TestFirstUseByTwoAtOnceMakesOneJob(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	var fs [8]*folder
	for i := range fs {
		wg.Go(func() {
			f, err := openFolder(dir)
			if err == nil {
				err = f.save([]Group{{repl.GroupID(i + 1), fmt.Sprintf("h:%d", i+1)}}, slog.New(slog.DiscardHandler))
			}
			if err != nil {
				t.Error(err)
			}
			fs[i] = f
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for _, f := range fs {
		if f.rec.Job != fs[0].rec.Job {
			t.Errorf("got jobs %s and %s, want one", f.rec.Job, fs[0].rec.Job)
		}
	}
	f, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(f.rec.Groups); got != len(fs) {
		t.Errorf("got %d groups, want %d", got, len(fs))
	}
}

func TestTargetIsRemembered(t *testing.T) {
	dir := t.TempDir()
	f := &folder{dir: dir}
	_, err := f.target("")
	checkError(t, err, Usage, "no target is given, and "+dir+" knows none")
	if err := f.rememberTarget("10.0.0.1:6379", selection.Spec{}); err != nil {
		t.Fatal(err)
	}
	if got, err := f.target(""); err != nil || got != "10.0.0.1:6379" {
		t.Errorf("got %q, %v, want the only one known", got, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "apply", "10.0.0.1_6379", "target.json")); err != nil {
		t.Error(err)
	}
	if err := f.rememberTarget("[::1]:7", selection.Spec{}); err != nil {
		t.Fatal(err)
	}
	_, err = f.target("")
	checkError(t, err, Usage, "no target is given, and "+dir+" knows several: 10.0.0.1:6379, [::1]:7")
	if got, err := f.target("b:1"); err != nil || got != "b:1" {
		t.Errorf("got %q, %v, want the one that is given", got, err)
	}
	_, err = f.target("b")
	checkError(t, err, Usage, `--target: "b" is not HOST:PORT`)
}

func TestInUseNamesWhoHasIt(t *testing.T) {
	p := newProcess(jobA, "capture", UntilStopped)
	p.PID = 4711
	got := inUse("DIR/capture", &p, nil)
	if got.Code != InUse || !strings.HasPrefix(got.What, "DIR/capture is in use by `tairlift capture` (pid 4711, since ") {
		t.Errorf("got %d %q", got.Code, got.What)
	}
	now := time.Now()
	p.Ended = &now // somebody else than the one who wrote the file
	if got := inUse("DIR/capture", &p, nil); got.What != "DIR/capture is in use by another process" {
		t.Errorf("got %q", got.What)
	}
}

func TestRecordIsReadableByPeople(t *testing.T) {
	dir := t.TempDir()
	f, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.save([]Group{{2, "b:1"}, {1, "a:1"}}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, jobFile))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"version", "job", "created", "groups"} {
		if m[field] == nil {
			t.Errorf("job.json has no %q: %s", field, raw)
		}
	}
}
