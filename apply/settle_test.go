package apply

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/spool"
)

func TestDamageIsBelievedWhenItsFileHasSettled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "00000001.seg")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written := time.Unix(1700000000, 0) // a copy may keep this, whatever it does
	keep := func() {
		t.Helper()
		if err := os.Chtimes(path, written, written); err != nil {
			t.Fatal(err)
		}
	}
	found := "crc is 1, expected 2"
	var s settle
	now := time.Unix(1800000000, 0)
	look := func(claim string, after time.Duration, want bool) {
		t.Helper()
		now = now.Add(after)
		if got := s.changing(path, found, now, 5*time.Second); got != want {
			t.Errorf("%s: changing: got %v, want %v", claim, got, want)
		}
	}
	write("one")
	keep()
	look("the first look, at an old file", 0, true)
	look("soon afterwards", 4*time.Second, true)
	look("the same for long", time.Second, false)
	write("two")
	look("written to", time.Hour, true)
	look("and left", 5*time.Second, false)
	keep()
	look("its time set back", time.Hour, true)
	write("three")
	keep()
	look("another size, the time kept", 4*time.Second, true)
	look("since then", 4*time.Second, true)
	found = "crc is 3, expected 2"
	look("other bytes, size and time kept", 0, true)
	look("since then", 4*time.Second, true)
	if err := os.WriteFile(path+".new", []byte("three"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	keep()
	look("another inode, all else kept", time.Hour, true)
	look("since then", 5*time.Second, false)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look("gone", 0, true)
	write("three")
	look("back", time.Hour, true)
	look("for long", 5*time.Second, false)
}

func TestDamageInACopyIsWaitedFor(t *testing.T) {
	for _, tt := range []struct {
		claim string
		seq   spool.Seq // of the damaged segment
	}{
		{"in the RDB", 1},
		{"in the stream", 2},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			r := bareRig(t, 1)
			p := r.craft(1, 1, "k value-of-k", "l value-of-l").write("INCR n", "INCR n", "INCR n")
			p.seal()
			path := spool.Path(r.dir+"/spool", 1, 1, tt.seq)
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			write := func(b []byte) {
				t.Helper()
				if err := os.WriteFile(path, b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			flipped := bytes.Clone(whole)
			flipped[300] ^= 1
			write(flipped)
			stop := r.stopped(Options{}, "spool-corrupt") // --until end does not wait
			var corrupt *spool.CorruptError
			if !errors.As(stop, &corrupt) {
				t.Errorf("stop: got %v, want a CorruptError within", stop.Err)
			}
			a := r.start(Options{settle: time.Hour})
			a.waitsFor(t, "spool-missing")
			write(whole)
			a.reaches(t, p.end)
			if err := a.stop(); err != nil {
				t.Fatal(err)
			}
			r.want("when it is whole", map[string]string{"0 GET n": "3", "0 GET k": "value-of-k"})
		})
	}
	t.Run("until it has settled", func(t *testing.T) {
		r := bareRig(t, 1)
		r.craft(1, 1, "k v").write("INCR n").seal()
		path := spool.Path(r.dir+"/spool", 1, 1, 2)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[300] ^= 1
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		a := r.start(Options{settle: time.Nanosecond})
		var stop *StopError
		if err := a.wait(); !errors.As(err, &stop) || stop.Reason != "spool-corrupt" {
			t.Errorf("run: got %v, want a stop with reason spool-corrupt", err)
		}
	})
}

// A copy that begins again holds less than what was applied: its marks are
// ahead of it, or in an epoch that is not there. What it brings in the end goes
// on where apply was, whether that kept running or begins then.
func TestACopyThatShrankIsWaitedFor(t *testing.T) {
	rig := bareRig(t, 1)
	const epoch = "spool/group-0001/epoch-0001"
	for _, tt := range []struct {
		claim  string
		shrink func(dir, tail string) error
	}{
		{"the tail is short", func(_, tail string) error { return os.Truncate(tail, 200) }},
		{"the tail is empty", func(_, tail string) error { return os.Truncate(tail, 0) }},
		{"the tail is not there", func(_, tail string) error { return os.Remove(tail) }},
		{"the epoch is not there", func(dir, _ string) error { return os.Rename(filepath.Join(dir, epoch), filepath.Join(dir, "hidden")) }},
		{"nothing is there", func(dir, _ string) error { return os.Rename(filepath.Join(dir, "spool"), filepath.Join(dir, "hidden")) }},
	} {
		for _, running := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, running %v", tt.claim, running), func(t *testing.T) {
				r := rig.again(t)
				check := func(err error) {
					t.Helper()
					if err != nil {
						t.Fatal(err)
					}
				}
				read := func(path string) []byte {
					t.Helper()
					b, err := os.ReadFile(path)
					check(err)
					return b
				}
				p := r.craft(1, 1, "k v").write("INCR n", "INCR n")
				rdb, tail := spool.Path(filepath.Join(r.dir, "spool"), 1, 1, 1), spool.Path(filepath.Join(r.dir, "spool"), 1, 1, 2)
				first, older, end := read(rdb), read(tail), p.end
				p.write("INCR n", "INCR n").seal()
				whole := read(tail)
				check(os.WriteFile(tail, older, 0o644))

				a := r.start(Options{})
				a.reaches(t, end)
				if !running {
					check(a.stop())
				}
				check(tt.shrink(r.dir, tail))
				if !running {
					a = r.start(Options{})
				}
				a.waitsFor(t, "spool-missing")
				check(os.MkdirAll(filepath.Dir(tail), 0o755))
				check(os.WriteFile(tail, whole, 0o644)) // and the older part comes last
				check(os.WriteFile(rdb, first, 0o644))
				a.reaches(t, p.end)
				check(a.stop())
				r.want(tt.claim, map[string]string{"0 GET n": "4"})
			})
		}
	}
}

func TestAHoleIsWaitedForInACopyOnly(t *testing.T) {
	rig := bareRig(t, 1)
	for _, live := range []bool{false, true} {
		r := rig.again(t)
		p := r.craft(1, 1, "k v").write("INCR n").write("INCR n")
		p.seal()
		path := spool.Path(r.dir+"/spool", 1, 1, 2)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b := bytes.Clone(whole)
		clear(b[200:])
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		r.vouched = func() (spool.Durable, bool) { return p.w.Durable(), true }
		if live {
			never := make(chan struct{})
			a := r.start(Options{Changed: func(repl.GroupID) <-chan struct{} { return never }})
			var stop *StopError
			if err := a.wait(); !errors.As(err, &stop) || stop.Reason != "spool-corrupt" {
				t.Errorf("where capture writes: got %v, want a stop with reason spool-corrupt", err)
			}
			continue
		}
		a := r.start(Options{settle: time.Nanosecond})
		a.waitsFor(t, "spool-missing")
		if err := os.WriteFile(path, whole, 0o644); err != nil {
			t.Fatal(err)
		}
		a.reaches(t, p.end)
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// What the source sent may hold zeros that are stored as they are. Damage beside
// them looks like a copy that has reserved space, so it is waited for, but not
// for ever; and a copy that is under way does change its file.
func TestDamageBesideZerosIsBelievedInTheEnd(t *testing.T) {
	rig := bareRig(t, 1)
	random := func(seed uint64, n int) string {
		b := make([]byte, n)
		rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
		return string(b)
	}
	value := random(1, 100<<10) + strings.Repeat("\x00", 500) + random(2, 100<<10)
	damaged := func(t *testing.T) (r *rigAt, whole []byte) {
		t.Helper()
		r = &rigAt{rig: rig.again(t)}
		p := r.craft(1, 1, "k v").command("SET", "zeros", value)
		p.seal()
		r.path, r.end = spool.Path(r.dir+"/spool", 1, 1, 2), p.end
		whole, err := os.ReadFile(r.path)
		if err != nil {
			t.Fatal(err)
		}
		b := bytes.Clone(whole)
		b[50<<10] ^= 1
		r.write(t, b)
		return r, whole
	}
	stops := func(t *testing.T, a *applying) {
		t.Helper()
		var stop *StopError
		if err := a.wait(); !errors.As(err, &stop) || stop.Reason != "spool-corrupt" {
			t.Errorf("run: got %v, want a stop with reason spool-corrupt", err)
		}
	}
	t.Run("the same for long", func(t *testing.T) {
		r, _ := damaged(t)
		var missing *spool.MissingError
		if stop := r.stopped(Options{}, "spool-missing"); !errors.As(stop, &missing) || !missing.Hole { // --until end does not wait
			t.Fatalf("stop: got %v, want a hole: this test is about those", stop.Err)
		}
		stops(t, r.start(Options{hole: time.Nanosecond}))
	})
	t.Run("filled in time", func(t *testing.T) {
		r, whole := damaged(t)
		a := r.start(Options{settle: time.Nanosecond, hole: time.Hour})
		a.waitsFor(t, "spool-missing")
		r.write(t, whole)
		a.reaches(t, r.end)
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
		r.want("when it is whole", map[string]string{"0 GET zeros": value})
	})
	t.Run("a minute after its last change", func(t *testing.T) {
		r, _ := damaged(t)
		var ahead atomic.Int64 // of the clock
		a := r.start(Options{Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
		for range 3 {
			a.waitsFor(t, "spool-missing")
			b, err := os.ReadFile(r.path)
			if err != nil {
				t.Fatal(err)
			}
			b[51<<10]++ // the copy makes progress
			r.write(t, b)
			ahead.Add(int64(holeTime / 2))
		}
		if st := a.job.Status()[0]; st.State == StateStopped {
			t.Errorf("half a minute after the last change: got a stop with %s, want none", st.Reason)
		}
		redistest.Eventually(t, "a stop", func() bool {
			ahead.Add(int64(holeTime)) // the last change may have been seen only now
			return a.job.Status()[0].State == StateStopped
		})
		stops(t, a)
	})
}

// rigAt is a rig with a damaged segment.
type rigAt struct {
	*rig
	path string
	end  repl.Offset
}

func (r *rigAt) write(t *testing.T, b []byte) {
	t.Helper()
	if err := os.WriteFile(r.path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
