package job

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/selection"
)

func TestState(t *testing.T) {
	const one = `{"id": 1, "addr": "a:1"}`
	tests := []struct {
		claim string
		make  func(t *testing.T, dir, state string)
		want  []Group // groups afterwards
		code  Code
		err   string // DIR, STATE, JOBA and JOBB stand for themselves
	}{
		{"a folder that is not there is a fresh one", func(t *testing.T, dir, state string) {
			writeJob(t, dir, jobText(jobA, one))
			os.Remove(state)
		}, []Group{{1, "a:1"}}, 0, ""},
		{"so is what a first use that failed has left", func(t *testing.T, dir, state string) {
			writeJob(t, dir, jobText(jobA, one))
			write(t, filepath.Join(state, "apply", "t_1", "apply.db"), "")
		}, []Group{{1, "a:1"}}, 0, ""},
		{"a spool without its job file is remembered", func(t *testing.T, dir, _ string) { captured(t, dir, jobA, 3) }, []Group{{3, ""}}, 0, ""},
		{"groups seen before stay known while a copy has not brought them", func(t *testing.T, dir, state string) {
			captured(t, dir, jobA, 3)
			write(t, filepath.Join(state, stateFile), jobText(jobA, one))
		}, []Group{{1, "a:1"}, {3, ""}}, 0, ""},
		{"so does the job while there is nothing", func(t *testing.T, _, state string) {
			write(t, filepath.Join(state, stateFile), jobText(jobA, one))
		}, []Group{{1, "a:1"}}, 0, ""},
		{"that of another job is refused", func(t *testing.T, dir, state string) {
			writeJob(t, dir, jobText(jobA, one))
			write(t, filepath.Join(state, stateFile), jobText(jobB, one))
		}, nil, Refused, "--state STATE is of job JOBB, and --dir DIR holds job JOBA"},
		{"also by the segments alone", func(t *testing.T, dir, state string) {
			captured(t, dir, jobA, 1)
			write(t, filepath.Join(state, stateFile), jobText(jobB, one))
		}, nil, Refused, "--state STATE is of job JOBB, and --dir DIR holds job JOBA"},
		{"somebody else's folder is refused", func(t *testing.T, dir, state string) {
			writeJob(t, dir, jobText(jobA, one))
			write(t, filepath.Join(state, "thesis.tex"), "x")
		}, nil, Refused, "--state STATE is not empty and not an apply's: it holds thesis.tex and no state.json"},
		{"a job's folder is refused", func(t *testing.T, dir, state string) {
			writeJob(t, dir, jobText(jobA, one))
			writeJob(t, state, jobText(jobA, one))
		}, nil, Refused, "--state STATE is the folder of a job"},
		{"a file that is none is refused", func(t *testing.T, dir, state string) {
			writeJob(t, dir, jobText(jobA, one))
			write(t, filepath.Join(state, stateFile), "hello")
		}, nil, Refused, "STATE/state.json is not a state file"},
		{"one of another version is refused", func(t *testing.T, dir, state string) {
			writeJob(t, dir, jobText(jobA, one))
			write(t, filepath.Join(state, stateFile), strings.Replace(jobText(jobA, one), `"version": 1`, `"version": 7`, 1))
		}, nil, Refused, "STATE/state.json has version 7, this tairlift reads version 1"},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			dir, state := t.TempDir(), t.TempDir()
			tt.make(t, dir, state)
			before := tree(t, dir)
			f, err := openJob(dir, state)
			if err == nil {
				err = f.save(nil, slog.New(slog.DiscardHandler))
			}
			if err == nil {
				err = f.rememberTarget("t:1", selection.Spec{})
			}
			names := strings.NewReplacer("DIR", dir, "STATE", state, "JOBA", jobA.String(), "JOBB", jobB.String())
			checkError(t, err, tt.code, names.Replace(tt.err))
			if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
				t.Errorf("DIR has changed (-before +after):\n%s", diff)
			}
			if err != nil {
				return
			}
			again, err := openJob(dir, state)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, again.rec.Groups); diff != "" {
				t.Errorf("groups (-want +got):\n%s", diff)
			}
			if again.rec.Job != jobA {
				t.Errorf("job: got %s, want %s", again.rec.Job, jobA)
			}
			if got, err := again.target(""); err != nil || got != "t:1" {
				t.Errorf("target: got %q, %v, want the one remembered", got, err)
			}
			_, err = openFolder(state)
			checkError(t, err, Refused, "folder "+state+" is what --state names, not a job's")
		})
	}
}

func TestStateLiesOutsideOfDir(t *testing.T) {
	dir := t.TempDir()
	writeJob(t, dir, jobText(jobA, `{"id": 1, "addr": "a:1"}`))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{dir, filepath.Join(dir, "new"), filepath.Join(dir, "status", "deep", "new"), link, filepath.Join(link, "new")} {
		_, err := openJob(dir, state)
		checkError(t, err, Usage, "--state "+state+" lies within --dir "+dir)
	}
}

// tree is all that lies in a folder: paths, kinds, contents.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			out[path] = "folder"
			return err
		}
		raw, err := os.ReadFile(path)
		out[path] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
