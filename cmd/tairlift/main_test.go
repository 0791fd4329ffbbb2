package main

import (
	"flag"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the golden parts of testdata/script")

// TestMain makes this test binary the tairlift that the scripts run, so that
// -race and coverage reach it.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tairlift": main})
}

// TestScripts pins what a person or a script sees. If a golden text differs on
// purpose: go test ./cmd/tairlift -update
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			b := &bench{t: t}
			testscript.Run(t, testscript.Params{
				Files:               []string{file},
				UpdateScripts:       *update,
				RequireExplicitExec: true,
				RequireUniqueNames:  true,
				Setup:               b.setup,
				Cmds:                b.commands(),
				Condition:           b.condition,
			})
		})
	}
}

func TestNearest(t *testing.T) {
	tests := []struct {
		claim, typed string
		names        []string
		want         string
	}{
		{"one letter wrong", "sink", []string{"sync", "spool"}, "sync"},
		{"two letters swapped", "dri", []string{"target", "dir"}, "dir"},
		{"a letter too many", "captures", []string{"capture"}, "capture"},
		{"too far is nothing", "frobnicate", []string{"sync", "status"}, ""},
		{"a short name is not everything's neighbour", "x", []string{"v", "ls"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			if got := nearest(tt.typed, tt.names); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCommandLineCanBePasted(t *testing.T) {
	got := commandLine([]string{"tairlift", "sync", "--dir", "/my data/it's", "--only", "1,4-9", "--target", ""})
	if want := `tairlift sync --dir '/my data/it'\''s' --only 1,4-9 --target ''`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
