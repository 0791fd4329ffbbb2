// Package internal_test keeps the import rules of this module.
package internal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "tairlift"

// layers, from the top down: a package may import what is below it.
//
//	cmd -> internal/job -> capture | apply | verify -> spool, checkpoint -> internal leaves
var layers = []struct {
	name  string
	units []string // with everything below them; "internal" holds what no other layer does
}{
	{"cmd", []string{"cmd"}},
	{"internal/job", []string{"internal/job"}},
	{"capture, apply, verify", []string{"capture", "apply", "verify"}},
	{"spool, checkpoint", []string{"spool", "checkpoint"}},
	{"internal leaves", []string{"internal"}},
}

// betweenLeaves says which leaf may import which other ones. Every leaf may import
// internal/repl, which holds words and no work.
var betweenLeaves = map[string][]string{
	"internal/psync":     {"internal/resp"},
	"internal/command":   {"internal/held"},
	"internal/native":    {"internal/resp", "internal/rdb"},
	"internal/client":    {"internal/resp"}, // the three forms of AUTH are one piece of code
	"internal/redistest": {"internal/resp", "internal/psync", "internal/slot", "internal/rdb", "internal/command", "internal/held"},
}

// libraries says who may depend on what, through other packages too.
var libraries = []struct {
	path   string
	owners []string // they import it
	above  bool     // whoever depends on an owner may depend on it too
	reason string
}{
	{"github.com/redis/go-redis/v9", []string{"internal/client", "apply", "verify", "internal/job", "cmd"}, false, "capture and the spool must not carry a second client with retries of its own"},
	{"go.etcd.io/bbolt", []string{"checkpoint"}, true, "progress is stored in one place, which decides what is one transaction"},
	{"github.com/klauspost/compress", []string{"spool"}, true, "compression is part of the segment format"},
	{"github.com/urfave/cli/v2", []string{"cmd"}, false, "flags are the face's; below it there are Options"},
	{"github.com/schollz/progressbar/v3", []string{"internal/meter"}, true, "it writes to stdout unless told otherwise, and stdout is the result"},
}

// testsOnly is what only tests may import.
const testsOnly = "internal/redistest"

// listed is a package as go list tells it, without what its tests import.
type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string // through others too
}

// unit is the package's path within the module, or "" of another module's package.
func unit(path string) string {
	rest, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return ""
	}
	return rest
}

// within tells whether the package at path is root or lies below it.
func within(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

// layer is the index of the lowest layer that fits the package, and the root in it.
func layer(path string) (index int, root string, ok bool) {
	for i, l := range layers {
		for _, u := range l.units {
			if within(path, u) {
				if u == "internal" {
					parts := strings.SplitN(path, "/", 3)
					root = strings.Join(parts[:min(2, len(parts))], "/")
				} else {
					root = u
				}
				return i, root, true
			}
		}
	}
	return 0, "", false
}

// violations are the sentences to say about packages that break a rule.
func violations(packages []listed) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, p := range packages {
		path := unit(p.ImportPath)
		from, fromRoot, ok := layer(path)
		if !ok {
			say("%s belongs to no layer: give it one in layers_test.go and in the design", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			to := unit(imp)
			if to == "" {
				continue
			}
			if within(to, testsOnly) && !within(path, testsOnly) {
				say("%s imports %s: it starts servers, and is for tests only", path, to)
				continue
			}
			rank, toRoot, ok := layer(to)
			switch {
			case !ok || fromRoot == toRoot || rank > from:
			case rank < from:
				say("%s imports %s, which is above it (%s above %s): what is below must work without it", path, to, layers[rank].name, layers[from].name)
			case layers[from].name == "internal leaves":
				if to != "internal/repl" && !slices.Contains(betweenLeaves[fromRoot], toRoot) {
					say("%s imports %s: leaves stand alone (see betweenLeaves)", path, to)
				}
			default:
				say("%s imports %s, which is beside it (%s): they meet in what is below them", path, to, layers[from].name)
			}
		}
		for _, lib := range libraries {
			i := slices.IndexFunc(p.Deps, func(d string) bool { return within(d, lib.path) })
			if i < 0 {
				continue
			}
			owns := func(path string) bool {
				return slices.ContainsFunc(lib.owners, func(o string) bool { return path != "" && within(path, o) })
			}
			if owns(path) {
				continue
			}
			if slices.ContainsFunc(p.Imports, func(imp string) bool { return within(imp, lib.path) }) {
				say("%s imports %s, which only %s may: %s", path, lib.path, strings.Join(lib.owners, ", "), lib.reason)
			} else if !lib.above || !slices.ContainsFunc(p.Deps, func(d string) bool { return owns(unit(d)) }) {
				say("%s depends on %s, which only %s may: %s", path, lib.path, strings.Join(lib.owners, ", "), lib.reason)
			}
		}
	}
	return out
}

func TestImportsGoDownwards(t *testing.T) {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,Deps", "./...") // -e: what does not compile has rules too
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var packages []listed
	for dec := json.NewDecoder(bytes.NewReader(text)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) < 3 {
		t.Fatalf("go list tells of %d packages, want at least 3", len(packages))
	}
	for _, v := range violations(packages) {
		t.Error(v)
	}
}

func TestImportRules(t *testing.T) {
	const (
		redis    = "github.com/redis/go-redis/v9"
		bolt     = "go.etcd.io/bbolt"
		compress = "github.com/klauspost/compress/zstd"
	)
	tests := []struct {
		claim   string
		path    string
		imports string
		deps    string // besides imports
		want    string // the start of the one violation, or none
	}{
		{"cmd may import the job", "tairlift/cmd/tairlift", "tairlift/internal/job github.com/urfave/cli/v2", "", ""},
		{"a layer may be skipped downwards", "tairlift/cmd/tairlift", "tairlift/spool", "", ""},
		{"the job joins the parts", "tairlift/internal/job", "tairlift/capture tairlift/apply tairlift/verify tairlift/spool", redis, ""},
		{"capture may import spool", "tairlift/capture", "tairlift/spool", compress, ""},
		{"capture may not import apply", "tairlift/capture", "tairlift/apply", "", "capture imports apply, which is beside it"},
		{"spool may not import checkpoint", "tairlift/spool", "tairlift/checkpoint", "", "spool imports checkpoint, which is beside it"},
		{"spool may not import capture", "tairlift/spool", "tairlift/capture", "", "spool imports capture, which is above it"},
		{"capture may not import the job", "tairlift/capture", "tairlift/internal/job", "", "capture imports internal/job, which is above it"},
		{"a leaf may not import the spool", "tairlift/internal/rdb", "tairlift/spool", "", "internal/rdb imports spool, which is above it"},
		{"a leaf may import repl", "tairlift/internal/rdb", "tairlift/internal/repl", "", ""},
		{"psync may import resp", "tairlift/internal/psync", "tairlift/internal/resp", "", ""},
		{"resp may not import psync", "tairlift/internal/resp", "tairlift/internal/psync", "", "internal/resp imports internal/psync: leaves stand alone"},
		{"a package may import its own parts", "tairlift/internal/job/demo", "tairlift/internal/job", "", ""},
		{"a package outside the layers is told", "tairlift/extra", "", "", "tairlift/extra belongs to no layer"},
		{"a part of redistest may import it", "tairlift/internal/redistest/cmdtest", "tairlift/internal/redistest", "", ""},
		{"so is its part", "tairlift/internal/job", "tairlift/internal/redistest/cmdtest", "", "internal/job imports internal/redistest/cmdtest"},
		{"redistest is for tests", "tairlift/internal/job", "tairlift/internal/redistest", "", "internal/job imports internal/redistest"},
		{"the constructor may import go-redis", "tairlift/internal/client", redis, "", ""},
		{"capture may not depend on go-redis", "tairlift/capture", "tairlift/internal/client", redis, "capture depends on github.com/redis/go-redis/v9"},
		{"checkpoint may import bbolt", "tairlift/checkpoint", bolt, "", ""},
		{"above checkpoint bbolt may be depended on", "tairlift/capture", "tairlift/checkpoint", bolt, ""},
		{"above checkpoint bbolt may not be imported", "tairlift/capture", "tairlift/checkpoint " + bolt, "", "capture imports go.etcd.io/bbolt"},
		{"spool may not depend on bbolt by a third party", "tairlift/spool", "example.com/other", bolt, "spool depends on go.etcd.io/bbolt"},
		{"spool may import a part of klauspost/compress", "tairlift/spool", compress, "", ""},
		{"verify may not import klauspost/compress", "tairlift/verify", compress, "", "verify imports github.com/klauspost/compress"},
		{"the job may not import urfave/cli", "tairlift/internal/job", "github.com/urfave/cli/v2", "", "internal/job imports github.com/urfave/cli/v2"},
		{"meter may import progressbar", "tairlift/internal/meter", "github.com/schollz/progressbar/v3", "", ""},
		{"cmd may not import progressbar", "tairlift/cmd/tairlift", "github.com/schollz/progressbar/v3", "", "cmd/tairlift imports github.com/schollz/progressbar/v3"},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			p := listed{ImportPath: tt.path, Imports: strings.Fields(tt.imports)}
			p.Deps = append(strings.Fields(tt.deps), p.Imports...)
			got := violations([]listed{p})
			var want []string
			if tt.want != "" {
				want = []string{tt.want}
				if len(got) == 1 {
					got[0] = got[0][:min(len(got[0]), len(tt.want))]
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
