package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"tairlift/internal/job/workload"
	"tairlift/internal/redistest"
)

// backlog keeps a source's stream long enough for any pause of a test: a full
// sync in the middle is another test's matter.
var backlog = redistest.Arg("--repl-backlog-size", "256mb")

// rig is a migration: sources with writers, a target, and the job's folder.
type rig struct {
	t       *testing.T
	dir     string
	sources []*redistest.Server
	target  *redistest.Server
	writers []*workload.Writer
}

func newRig(t *testing.T, groups int, target ...redistest.Option) *rig {
	t.Helper()
	r := &rig{t: t, dir: filepath.Join(t.TempDir(), "job"), target: redistest.Target(t, target...)}
	for range groups {
		r.sources = append(r.sources, redistest.Source(t, backlog))
	}
	return r
}

// fill gives DB0 and DB1 of every source the number of keys.
func (r *rig) fill(keys int) {
	r.t.Helper()
	for g, s := range r.sources {
		for db := range 2 {
			if err := workload.Fill(context.Background(), s.Addr, s.Secret, g+1, db, keys); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

// write starts a writer on DB0 and one on DB1 of every source.
func (r *rig) write() {
	r.t.Helper()
	r.t.Cleanup(r.rest)
	for g, s := range r.sources {
		for db := range 2 {
			w, err := workload.Start(s.Addr, s.Secret, g+1, db)
			if err != nil {
				r.t.Fatal(err)
			}
			r.writers = append(r.writers, w)
		}
	}
	redistest.Eventually(r.t, "the first writes", func() bool {
		for _, w := range r.writers {
			if w.Bursts() == 0 {
				return false
			}
		}
		return true
	})
}

// rest stops the writers, whose tallies stand from then on.
func (r *rig) rest() {
	r.t.Helper()
	for _, w := range r.writers {
		if err := w.Stop(); err != nil {
			r.t.Error(err)
		}
	}
	r.writers = nil
}

// groups are the flags that name the sources.
func (r *rig) groups() []string {
	var flags []string
	for g, s := range r.sources {
		flags = append(flags, "--group", fmt.Sprintf("%d=%s", g+1, s.Addr))
	}
	return flags
}

func (r *rig) syncArgs(more ...string) []string {
	args := append([]string{"sync", "--dir", r.dir}, r.groups()...)
	return append(append(args, "--target", r.target.Addr), more...)
}

func (r *rig) captureArgs(more ...string) []string {
	return append(append([]string{"capture", "--dir", r.dir}, r.groups()...), more...)
}

func (r *rig) applyArgs(dir string, more ...string) []string {
	return append([]string{"apply", "--dir", dir, "--target", r.target.Addr}, more...)
}

// exact stops the writers and, once finish has brought everything to the
// target, compares it with their tallies and with the sources. Verify is given
// the flags, beside the folder.
func (r *rig) exact(finish func(), flags ...string) {
	r.t.Helper()
	writers := r.writers
	r.rest()
	finish()
	r.tallied(writers, r.target)
	r.identicalBy(append([]string{"--dir", r.dir}, flags...)...)
}

// tallied compares a target, and the sources, with what the writers wrote.
func (r *rig) tallied(writers []*workload.Writer, target *redistest.Server) {
	r.t.Helper()
	commands := int64(0)
	for _, w := range writers {
		commands += w.Commands()
		// The source too: a tally that is wrong would prove nothing.
		for _, s := range []*redistest.Server{r.sources[w.Group-1], target} {
			entries, err := w.Check(context.Background(), s.Addr, s.Secret)
			if err != nil {
				r.t.Fatal(err)
			}
			for _, e := range entries {
				if !e.Equal() {
					r.t.Errorf("%s on %s in DB%d, at the %s: got %s, want %s", e.Name, e.Key, w.DB, r.role(s), e.Got, e.Want)
				}
			}
		}
	}
	r.t.Logf("%d commands were written", commands)
}

func (r *rig) role(s *redistest.Server) string {
	if slices.Contains(r.sources, s) {
		return "source"
	}
	return "target"
}

// identical verifies every key, by what the folder remembers.
func (r *rig) identical() {
	r.t.Helper()
	r.identicalBy("--dir", r.dir)
}

// identicalBy is identical with the endpoints that the flags name.
func (r *rig) identicalBy(flags ...string) {
	r.t.Helper()
	var report struct {
		Verdict  string `json:"verdict"`
		Compared int64  `json:"compared"`
		Equal    int64  `json:"equal"`
	}
	p := start(r.t, append([]string{"verify", "--level", "full", "--json"}, flags...)...)
	p.wait(exitOK)
	p.lastLine(&report)
	if report.Verdict != "identical" || report.Compared == 0 || report.Equal != report.Compared {
		r.t.Errorf("verify --level full: got %s, want identical", p.out.String())
	}
}

// offsets are where the sources' streams end now.
func (r *rig) offsets() []int64 {
	r.t.Helper()
	var out []int64
	for _, s := range r.sources {
		n, err := strconv.ParseInt(s.Info(r.t, "replication")["master_repl_offset"], 10, 64)
		if err != nil {
			r.t.Fatal(err)
		}
		out = append(out, n)
	}
	return out
}

// keys is the number of keys in DB0 and DB1 of a server.
func keys(t testing.TB, s *redistest.Server) int {
	t.Helper()
	return int(s.DoIn(t, 0, "DBSIZE").Int + s.DoIn(t, 1, "DBSIZE").Int)
}

// counted is the number of a writer's bursts that have reached the target.
func (r *rig) counted(w *workload.Writer) int64 {
	r.t.Helper()
	n, _ := strconv.ParseInt(r.target.DoIn(r.t, w.DB, "GET", w.Counter()).String(), 10, 64)
	return n / 4
}

// spooled is the size of the spool in bytes.
func (r *rig) spooled() int64 {
	size := int64(0)
	// Files may come and go; the next look sees them.
	_ = filepath.WalkDir(filepath.Join(r.dir, "spool"), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				size += info.Size()
			}
		}
		return nil
	})
	return size
}

// copyJob copies what travels of a job's folder while its processes may run:
// what is published first, so that the spool holds all that it speaks of.
func copyJob(t testing.TB, from, to string) {
	t.Helper()
	for _, name := range []string{"status", "job.json", "spool"} {
		err := filepath.WalkDir(filepath.Join(from, name), func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // replaced in the meantime
			}
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(from, path)
			if err != nil {
				return err
			}
			if e.IsDir() {
				return os.MkdirAll(filepath.Join(to, rel), 0o755)
			}
			b, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(to, rel), b, 0o644)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
