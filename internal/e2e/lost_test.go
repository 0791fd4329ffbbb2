package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tairlift/spool"
)

// says fails the test unless stderr has a line of what, and one of a hint.
func (p *process) says(what, hint string) {
	p.t.Helper()
	re := regexp.MustCompile(`(?m)^tairlift: .*` + what + `.*\nhint: .*` + hint)
	if text := p.err.String(); !re.MatchString(text) {
		p.t.Errorf("stderr of `%s`: got\n%s\nwant it to match %s", p, text, re)
	}
}

func write(t *testing.T, path string, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// Capture's record is lost after a kill -9: the segments tell where to go on,
// and the published position how much of them there must be.
func TestALostCaptureStoreIsRebuilt(t *testing.T) {
	r := newRig(t, 1)
	r.fill(100)
	r.write()
	p := start(t, r.captureArgs()...)
	p.captured(r.dir, r.offsets())
	p.kill()
	db := filepath.Join(r.dir, "capture", "capture.db")

	// Damaged, it is refused, and the hint says what to do.
	write(t, db, strings.Repeat("garbage ", 5000))
	run(t, exitRefused, r.captureArgs()...).says(`capture/capture\.db is damaged: `, "move the file away .* nothing is lost")
	write(t, db, "")
	run(t, exitRefused, r.captureArgs()...).says(`capture/capture\.db is damaged: it is empty`, "move the file away")
	remove(t, filepath.Dir(db))

	// A tail that is shorter than published is not taken for the whole.
	short := filepath.Join(t.TempDir(), "short")
	copyJob(t, r.dir, short)
	d := published(t, r.dir).Groups[0].Durable
	if d.Sealed || d.Bytes < 300 {
		t.Fatalf("published: got %+v, want a position in an unsealed segment", d)
	}
	if err := os.Truncate(spool.Path(filepath.Join(short, "spool"), 1, d.Epoch, d.Seq), d.Bytes-50); err != nil {
		t.Fatal(err)
	}
	run(t, exitCorrupt, "capture", "--dir", short, "--until", "caught-up").says(d.Seq.File(), "spool check")

	r.exact(func() {
		run(t, exitOK, r.captureArgs("--until", "caught-up")...)
		run(t, exitOK, "spool", "check", "--dir", r.dir)
		if now := published(t, r.dir).Groups[0].Durable; now.Epoch != d.Epoch || now.Offset < d.Offset {
			t.Errorf("captured: got %+v, want epoch %s from offset %s on", now, d.Epoch, d.Offset)
		}
		run(t, exitOK, r.applyArgs(r.dir, "--until", "end")...)
	})
}

// Apply's record is lost: the mark tells where to go on. What was doubtful is
// not known any more, which only a full verify settles.
func TestALostApplyStoreIsATaint(t *testing.T) {
	r := newRig(t, 1)
	r.fill(100)
	r.write()
	p := start(t, r.syncArgs()...)
	p.streaming(r.dir)
	p.settled(r.dir, r.offsets())
	p.kill()
	folders, err := filepath.Glob(filepath.Join(r.dir, "apply", "*"))
	if err != nil || len(folders) != 1 {
		t.Fatalf("apply's folders: got %v, %v, want one", folders, err)
	}
	db := filepath.Join(folders[0], "apply.db")
	whole, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	write(t, db, string(whole[:len(whole)/2]))
	run(t, exitRefused, r.syncArgs()...).says(`apply\.db is damaged: `, "move the file away .* verify --level full")
	write(t, db, string(whole[:100]))
	run(t, exitRefused, r.applyArgs(r.dir)...).says(`apply\.db is damaged: `, "move the file away .* verify --level full")
	if capture, err := os.ReadFile(filepath.Join(r.dir, "capture", "capture.db")); err != nil {
		t.Fatal(err)
	} else {
		write(t, db, string(capture))
	}
	run(t, exitRefused, r.applyArgs(r.dir)...).says(`apply\.db is a store of format "capture \d+", expected "apply \d+"`, "use the tairlift that wrote it")
	remove(t, filepath.Join(r.dir, "apply"))

	p = start(t, r.syncArgs()...)
	p.settled(r.dir, r.offsets())
	s := statusOf(t, r.dir)
	// The kill may have left doubtful keys too: of scripts, of an old source.
	if !strings.Contains(strings.Join(s.Taints, "; "), "apply.db was lost") || s.has("in-sync") {
		t.Errorf("status: got %+v, want the loss as a taint", s)
	}
	p.interrupt()
	r.exact(func() { run(t, exitOK, r.syncArgs("--until", "caught-up")...) })
	if s := statusOf(t, r.dir); len(s.Taints) != 0 {
		t.Errorf("taints after a full verify: got %v, want none", s.Taints)
	}
}

// What capture and apply publish is for others to read: damaged, it stops
// nobody but who needs it for a verdict.
func TestDamagedStatusFilesAreTold(t *testing.T) {
	r := newRig(t, 1)
	r.fill(50)
	run(t, exitOK, r.syncArgs("--until", "caught-up")...)
	for _, name := range []string{"capture.json", "apply-*.json"} {
		files, err := filepath.Glob(filepath.Join(r.dir, "status", name))
		if err != nil || len(files) != 1 {
			t.Fatalf("status files: got %v, %v", files, err)
		}
		write(t, files[0], `{"version": 1, "job": `)
	}
	if out := run(t, exitOK, "status", "--dir", r.dir).out.String(); strings.Count(out, "is not a status file") != 2 || !strings.Contains(out, "hint: ") {
		t.Errorf("status: got\n%s\nwant a note for each file", out)
	}
	run(t, exitCorrupt, "spool", "check", "--dir", r.dir).says(`status/capture\.json is not a status file`, "copy the file again")
	run(t, exitCorrupt, r.applyArgs(r.dir, "--until", "end")...).says(`status/capture\.json is not a status file`, "copy the file again")
	r.sources[0].Do(t, "SET", "late", "1")
	run(t, exitOK, r.syncArgs("--until", "caught-up")...)
	run(t, exitOK, "spool", "check", "--dir", r.dir)
	r.identical()
	if s := statusOf(t, r.dir); !s.CaughtUp || len(s.Taints) != 0 {
		t.Errorf("status: got %+v, want it caught up", s)
	}
}
