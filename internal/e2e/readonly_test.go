package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/redistest"
)

// nobody is a user who may write to nothing but what is made his. Root may
// write to every folder, so a test that runs as root runs the program as him.
const nobody = 65534

// unprivileged is who may not write to a read-only folder: nobody, or the
// user of the test. He can reach what lies in the test's folders.
func unprivileged(t *testing.T, dirs ...string) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	for _, dir := range append([]string{filepath.Dir(binary)}, dirs...) {
		for at := dir; at != filepath.Dir(at) && at != filepath.Clean(os.TempDir()); at = filepath.Dir(at) {
			info, err := os.Stat(at)
			if err == nil && info.Mode().Perm()&0o055 != 0o055 {
				err = os.Chmod(at, info.Mode().Perm()|0o055)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return &syscall.Credential{Uid: nobody, Gid: nobody}
}

// readOnly takes the right to write away from a folder and all in it, until
// the test ends.
func readOnly(t *testing.T, dir string) {
	t.Helper()
	mode := func(folder, file fs.FileMode) error {
		return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if e.IsDir() {
				return os.Chmod(path, folder)
			}
			return os.Chmod(path, file)
		})
	}
	if err := mode(0o555, 0o444); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mode(0o755, 0o644) })
}

// owned makes a folder in which the user may write.
func owned(t *testing.T, user *syscall.Credential) string {
	t.Helper()
	dir := t.TempDir()
	if user != nil {
		unprivileged(t, dir)
		if err := os.Chown(dir, int(user.Uid), int(user.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tree is all that can be seen of a folder: names, kinds, rights, times of
// writing, contents.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		content := ""
		if e.Type().IsRegular() {
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = string(raw)
		}
		out[path] = fmt.Sprint(info.Mode(), info.ModTime().UnixNano(), content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A spool on a medium that cannot be written to, applied to two targets, each
// by its own process with its own --state.
func TestReadOnlySpool(t *testing.T) {
	r := newRig(t, 2)
	r.fill(300)
	r.write()
	p := start(t, r.captureArgs()...)
	p.untilStatus("the full syncs to be captured", r.dir, func(s status) bool {
		return reached(s, make([]int64, 2), func(g groupStatus) *int64 { return g.Captured })
	})
	writers := r.writers
	redistest.Eventually(t, "a stream", func() bool { return writers[0].Bursts() > 100 })
	r.rest()
	offsets := r.offsets() // an old source counts on when nobody listens
	p.captured(r.dir, offsets)
	p.interrupt()

	dir := filepath.Join(t.TempDir(), "medium")
	copyJob(t, r.dir, dir)
	if err := os.Remove(filepath.Join(dir, "job.json")); err != nil { // the segments tell job and groups
		t.Fatal(err)
	}
	user := unprivileged(t, dir)
	readOnly(t, dir)
	before := tree(t, dir)
	unchanged := func(what string) {
		t.Helper()
		if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
			t.Errorf("the read-only folder has changed by %s (-before +after):\n%s", what, diff)
		}
	}

	p = startAs(t, user, r.applyArgs(dir, "--until", "end")...)
	p.wait(exitFailed)
	if got := tail(p.err.String(), 4); !strings.Contains(got, "tairlift: --dir "+dir+" cannot be written to: ") || !strings.Contains(got, "\nhint: apply keeps its own state in --dir: add --state FOLDER") {
		t.Errorf("apply without --state: got %q, want one line that says why and a hint that names --state", got)
	}
	unchanged("apply without --state")

	targets := []*redistest.Server{r.target, redistest.Target(t)}
	states := []string{filepath.Join(owned(t, user), "state"), filepath.Join(owned(t, user), "state")}
	flags := func(i int) []string { return []string{"--dir", dir, "--state", states[i]} }
	var applies []*process
	for i, target := range targets {
		args := append([]string{"apply", "--target", target.Addr}, flags(i)...)
		applies = append(applies, startAs(t, user, args...))
	}
	for i, p := range applies {
		p.applied(dir, offsets, "--state", states[i])
		p.kill()
	}
	unchanged("two applies")
	for i, target := range targets {
		p = startAs(t, user, append([]string{"apply", "--until", "end"}, flags(i)...)...) // the state knows the target
		p.wait(exitOK)
		s := statusOf(t, dir, "--state", states[i])
		if !s.CaughtUp || s.Target != target.Addr || !reached(s, offsets, func(g groupStatus) *int64 { return g.Captured }) {
			t.Errorf("status with --state %d: got %+v, want target %s caught up, and what was captured", i, s, target.Addr)
		}
		r.tallied(writers, target)
		r.identicalBy(append(flags(i), r.groups()...)...)
	}
	unchanged("apply, status and verify")

	// The resume line brings --state along.
	p = startAs(t, user, append([]string{"apply"}, flags(0)...)...)
	p.untilStatus("apply to be at the end", dir, func(s status) bool { return s.has("end-of-spool") }, "--state", states[0])
	p.interrupt()
	if want := "apply --dir " + dir + " --state " + states[0]; !strings.Contains(p.err.String(), want) {
		t.Errorf("resume line: got %q, want %q in it", tail(p.err.String(), 3), want)
	}

	// Another job's spool under the same state.
	other := filepath.Join(t.TempDir(), "other")
	run(t, exitOK, append([]string{"capture", "--dir", other, "--until", "full"}, r.groups()...)...)
	p = run(t, exitRefused, "apply", "--dir", other, "--state", states[0])
	if got := tail(p.err.String(), 3); !strings.Contains(got, "\nhint: give each job a --state of its own") {
		t.Errorf("another job's spool: got %q, want it refused with a hint", got)
	}
	unchanged("all of it")
}
