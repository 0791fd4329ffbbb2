package redistest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// patience is generous because no test may fail for a slow machine.
const patience = 60 * time.Second

var errPatience = errors.New("not within " + patience.String())

// Eventually polls cond until it holds, and fails the test, naming what was
// awaited, after a minute.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	if err := poll(func() (bool, error) { return cond(), nil }); err != nil {
		t.Fatalf("wait for %s: %v", what, err)
	}
}

// poll calls cond every few milliseconds until it is true or an error.
func poll(cond func() (bool, error)) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := cond(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return errPatience
		}
	}
}

// Testdata is the path of a file in the project's testdata folder, from
// whichever package the test runs in.
func Testdata(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "testdata", filepath.FromSlash(name))
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = up
	}
}
