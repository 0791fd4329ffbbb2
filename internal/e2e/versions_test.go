package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"tairlift/internal/redistest"
)

// special is what some sources have and some targets cannot hold: there the
// group must stop and name it, whether it comes in the RDB or in the stream.
type special struct {
	what  string     // in the table
	named string     // what the message must hold, in either case
	make  [][]string // on the source; a target that can do the same holds it
}

var specials = []special{
	{what: "streams", named: "only:stream", make: [][]string{words("XADD only:stream 1-1 f v")}},
	{what: "functions", named: "function", make: [][]string{{"FUNCTION", "LOAD", "REPLACE", library}}},
	{
		what: "deadlines of hash fields", named: "only:fields",
		make: [][]string{words("HSET only:fields f v"), words("HPEXPIREAT only:fields " + farMS + " FIELDS 1 f")},
	},
}

// TestVersions migrates from each of the servers in SOURCE_SERVERS to each of
// those in TARGET_SERVERS, which are paths parted by commas; by default, from
// the source of the other tests to their target. Its log ends with a table of
// what came of it.
func TestVersions(t *testing.T) {
	sources := releases(t, "SOURCE_SERVERS", "SOURCE_SERVER")
	targets := releases(t, "TARGET_SERVERS", "TARGET_SERVER")
	cells := map[[2]string]string{}
	for _, source := range sources {
		for _, target := range targets {
			pair := [2]string{source.name, target.name}
			cells[pair] = "**no**"
			t.Run(source.name+" to "+target.name, func(t *testing.T) {
				migrate(t, source.path, target.path)
				var stops []string
				for _, s := range specials {
					if s.stops(t, source.path, target.path) {
						stops = append(stops, s.what)
					}
				}
				if !t.Failed() {
					cells[pair] = strings.Join(append([]string{"yes"}, stops...), ", ")
				}
			})
		}
	}
	t.Logf("sources down, targets across\n%s", compatibility(sources, targets, cells))
}

// release is a server of one version.
type release struct{ name, path string }

// releases are the servers that a variable lists, or else the one that another
// names.
func releases(t *testing.T, list, single string) (out []release) {
	t.Helper()
	for path := range strings.SplitSeq(cmp.Or(os.Getenv(list), os.Getenv(single), "redis-server"), ",") {
		s := redistest.Start(t, path)
		fields := s.Info(t, "server")
		name := "Redis " + fields["redis_version"]
		if s.IsCodis() {
			name = "Codis " + fields["redis_version"]
		}
		if v := fields["valkey_version"]; v != "" {
			name = "Valkey " + v
		}
		s.Kill()
		out = append(out, release{name, path})
	}
	return out
}

// compatibility is the table of cells, in Markdown. What follows "yes" in a cell
// becomes a note.
func compatibility(sources, targets []release, cells map[[2]string]string) string {
	notes := map[string]int{}
	for _, cell := range slices.Sorted(maps.Values(cells)) {
		if _, stops, ok := strings.Cut(cell, ", "); ok && notes[stops] == 0 {
			notes[stops] = len(notes) + 1
		}
	}
	var b strings.Builder
	row := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	head, line := []string{""}, []string{"---"}
	for _, target := range targets {
		head, line = append(head, target.name), append(line, "---")
	}
	row(head...)
	row(line...)
	for _, source := range sources {
		out := []string{source.name}
		for _, target := range targets {
			cell := cells[[2]string{source.name, target.name}]
			if yes, stops, ok := strings.Cut(cell, ", "); ok {
				cell = fmt.Sprintf("%s (%d)", yes, notes[stops])
			}
			out = append(out, cell)
		}
		row(out...)
	}
	for _, stops := range slices.SortedFunc(maps.Keys(notes), func(a, b string) int { return notes[a] - notes[b] }) {
		fmt.Fprintf(&b, "\n(%d) stops by name at: %s", notes[stops], stops)
	}
	return b.String()
}

// versionSlack is how far a deadline may be from the source's.
const versionSlack = 2 * time.Second

// migrate brings everything that both servers know from one to the other while it
// is written, with a kill on the way.
func migrate(t *testing.T, sourcePath, targetPath string) {
	t.Helper()
	source, target := redistest.Start(t, sourcePath, backlog), redistest.Start(t, targetPath)
	load := []string{"FUNCTION", "LOAD", library}
	functions := can(t, target, load) && can(t, source, load)
	if functions {
		target.Do(t, "FUNCTION", "FLUSH")
	}
	m := mixer{conn: source.Dial(t)}
	for kind, w := range writes {
		if can(t, source, parse(w.do, kind, 5)...) && can(t, target, parse(cmp.Or(w.sent, w.do), kind, 5)...) {
			m.kinds = append(m.kinds, kind)
		}
	}
	kinds := slices.DeleteFunc(slices.Clone(keptKeys), func(k kept) bool {
		return !can(t, source, k.commands()...) || !can(t, target, k.commands()...)
	})
	for _, db := range []int{0, 15} {
		for _, k := range kinds {
			for _, args := range k.commands() {
				source.DoIn(t, db, args...)
			}
		}
	}

	r := &rig{t: t, dir: filepath.Join(t.TempDir(), "job"), sources: []*redistest.Server{source}, target: target}
	r.fill(500)
	r.write()
	m.start(t)
	for range 2 { // the first is killed in the stream
		p := start(t, r.syncArgs()...)
		applied := func(what string, done func(status) bool) {
			t.Helper()
			p.untilStatus(what, r.dir, func(s status) bool {
				t.Helper()
				if why := s.stopped(); why != "" {
					t.Fatalf("the group has stopped: %s", why)
				}
				return done(s)
			})
		}
		applied("the stream phase", func(s status) bool { return len(s.Groups) > 0 && s.Groups[0].Applied != nil })
		counted, mixed := r.counted(r.writers[0]), m.rounds.Load()
		applied("writes on the target", func(status) bool {
			return m.rounds.Load() >= mixed+5 && r.counted(r.writers[0]) >= counted+50
		})
		p.kill()
	}
	m.rest(t, source)
	r.exact(func() { run(t, exitOK, r.syncArgs("--until", "caught-up")...) })
	want, got := keyspaces(t, source, target)
	if diff := gocmp.Diff(want, got, within(versionSlack)); diff != "" {
		t.Errorf("keyspace (-source +target):\n%s", diff)
	}
	if functions {
		if diff := gocmp.Diff([]string{"matrix"}, libraries(t, target)); diff != "" {
			t.Errorf("function libraries (-want +target):\n%s", diff)
		}
	}
	t.Logf("%d keys, of %d kinds and by %d kinds of writes in %d rounds", len(got), len(kinds), len(m.kinds), m.rounds.Load())
}

// stops tells whether the source has what the target is not given, and fails the
// test if such a group does not stop by name.
func (s special) stops(t *testing.T, sourcePath, targetPath string) bool {
	t.Helper()
	source, target := redistest.Start(t, sourcePath, backlog), redistest.Start(t, targetPath)
	if !can(t, source, s.make...) || can(t, target, s.make...) {
		return false
	}
	if s.what == "functions" {
		source.Do(t, "FUNCTION", "FLUSH")
	}
	sync := func(want int, dir string, target *redistest.Server) *process {
		t.Helper()
		return run(t, want, "sync", "--dir", dir, "--group", "1="+source.Addr, "--target", target.Addr, "--until", "caught-up")
	}
	stopped := func(phase string, p *process) {
		t.Helper()
		if text := strings.ToLower(p.err.String()); !strings.Contains(text, s.named) || !strings.Contains(text, "hint: ") {
			t.Errorf("a target without %s, in the %s: got no %q and a hint in\n%s", s.what, phase, s.named, text)
		}
	}
	dir := filepath.Join(t.TempDir(), "job")
	sync(exitOK, dir, target)
	for _, args := range s.make {
		source.Do(t, args...)
	}
	stopped("stream", sync(exitStopped, dir, target))
	stopped("RDB", sync(exitStopped, filepath.Join(t.TempDir(), "job"), redistest.Start(t, targetPath)))
	return true
}
