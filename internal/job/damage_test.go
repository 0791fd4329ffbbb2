package job

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"tairlift/spool"
)

// The bytes of a small spool, each with a bit flipped, and the lengths of its
// files, some of each: spool check says 12, and status shows what there is. The
// spool itself is tested for all of them.
func TestTheBytesOfASpoolAreChecked(t *testing.T) {
	dir := t.TempDir()
	writeJob(t, dir, jobText(jobA, `{"id": 1, "addr": "a:1"}`))
	captured(t, dir, jobA, 1)
	names, err := filepath.Glob(filepath.Join(dir, "spool", "group-0001", "epoch-0001", "*.seg"))
	if err != nil || len(names) < 2 {
		t.Fatalf("segments: got %v, %v", names, err)
	}
	last := names[len(names)-1]
	info, err := os.Stat(last)
	if err != nil {
		t.Fatal(err)
	}
	c := streaming(15, 15)
	c.Durable = spool.Durable{Epoch: 1, ReplID: "a", Seq: spool.Seq(len(names)), Bytes: info.Size(), RDBBytes: 4, RDBDone: true, Offset: 15, Sealed: true}
	f, err := openFolder(dir)
	if err == nil {
		p := ended(process(t, UntilStopped), howInterrupted, Interrupted)
		p.Job = jobA
		err = writeStatus(f.captureStatus(), &CaptureFile{Process: p, Groups: []CaptureGroup{c}})
	}
	if err != nil {
		t.Fatal(err)
	}
	check := func(want Code, what string, at int, name string) {
		t.Helper()
		if got := CodeOf(SpoolCheck(t.Context(), SpoolOptions{Dir: dir, Out: io.Discard})); got != want {
			t.Fatalf("%s at %d of %s: spool check: got exit %d, want %d", what, at, filepath.Base(name), got, want)
		}
		if _, err := readView(dir, "", "", Only{}); err != nil && CodeOf(err) != Corrupt {
			t.Fatalf("%s at %d of %s: status: got %v", what, at, filepath.Base(name), err)
		}
	}
	check(OK, "nothing", 0, last)
	rnd := rand.New(rand.NewPCG(1, 5))
	for _, name := range names {
		whole, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(whole); at += 1 + rnd.IntN(5) {
			b := bytes.Clone(whole)
			b[at] ^= 1 << rnd.IntN(8)
			for what, b := range map[string][]byte{"a bit flipped": b, "cut": whole[:at]} {
				if err := os.WriteFile(name, b, 0o644); err != nil {
					t.Fatal(err)
				}
				check(Corrupt, what, at, name)
			}
		}
		if err := os.WriteFile(name, whole, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	check(OK, "nothing", 0, last)
}
