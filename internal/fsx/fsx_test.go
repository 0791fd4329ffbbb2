package fsx

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWriteFileAtomicReplacesTheWholeContent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status.json")
	for _, want := range []string{"a longer first content", "second", ""} {
		if err := WriteFileAtomic(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("content: got %q, %v, want %q", got, err, want)
		}
	}
	if _, err := os.Stat(path + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("temporary file: got %v, want it gone", err)
	}
}

func TestWriteFileAtomicSurvivesACrashLeftover(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status.json")
	if err := os.WriteFile(path+".tmp", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteFileAtomic(path, []byte("whole")); err != nil {
		t.Fatal(err)
	}
}

// Power may go at any operation: the reader finds the old or the new content.
func TestWriteFileAtomicIsOldOrNewAfterAPowerCut(t *testing.T) {
	errGone := errors.New("power is gone")
	for stop := 0; ; stop++ {
		m := NewMem()
		if err := m.MkdirAll("/d"); err != nil {
			t.Fatal(err)
		}
		if err := m.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
		if err := WriteFileAtomicIn(m, "/d/f", []byte("old")); err != nil {
			t.Fatal(err)
		}
		from := m.Ops()
		m.SetFail(func(op Op) error {
			if op.N-from >= stop {
				return errGone
			}
			return nil
		})
		err := WriteFileAtomicIn(m, "/d/f", []byte("the new content"))
		for seed := range uint64(20) {
			c := m.Crash(rand.New(rand.NewPCG(seed, 1)))
			got := readAll(t, c, "/d/f")
			if got != "the new content" && (got != "old" || err == nil) {
				t.Fatalf("content after a cut at operation %d, seed %d: got %q, want old or new (%v)", stop, seed, got, err)
			}
		}
		if err == nil {
			return
		}
	}
}

func readAll(t *testing.T, fsys FS, name string) string {
	t.Helper()
	f, err := fsys.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil && len(b) > 0 {
		t.Fatal(err)
	}
	return string(b)
}

// Both file systems must agree on what the spool relies on.
func TestMemBehavesAsTheOS(t *testing.T) {
	for _, tc := range []struct {
		name string
		fs   FS
		dir  string
	}{{"os", OS, t.TempDir()}, {"mem", NewMem(), "/base"}} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(tc.dir, "a", "b")
			if err := tc.fs.MkdirAll(dir); err != nil {
				t.Fatal(err)
			}
			name := filepath.Join(dir, "f")
			if _, err := tc.fs.Open(name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("open a missing file: got %v, want ErrNotExist", err)
			}
			f, err := tc.fs.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := tc.fs.Create(name); !errors.Is(err, fs.ErrExist) {
				t.Errorf("create an existing file: got %v, want ErrExist", err)
			}
			f.Write([]byte("hello "))
			f.Write([]byte("world"))
			if _, err := f.WriteAt([]byte("J"), 0); err != nil {
				t.Error(err)
			}
			if err := f.Truncate(8); err != nil {
				t.Error(err)
			}
			if err := f.Sync(); err != nil {
				t.Error(err)
			}
			if got, want := readAll(t, tc.fs, name), "Jello wo"; got != want {
				t.Errorf("content: got %q, want %q", got, want)
			}
			b := make([]byte, 4)
			if n, err := f.ReadAt(b, 6); n != 2 || err == nil {
				t.Errorf("read over the end: got %d, %v, want 2 and io.EOF", n, err)
			}
			before, _ := tc.fs.Stat(name)
			if err := tc.fs.Rename(name, name+"2"); err != nil {
				t.Error(err)
			}
			after, err := tc.fs.Stat(name + "2")
			if err != nil || !tc.fs.SameFile(before, after) {
				t.Errorf("renamed file: got %v, want the same file", err)
			}
			if err := tc.fs.Remove(dir); err == nil {
				t.Error("remove a folder in use: got nil, want an error")
			}
			entries, err := tc.fs.ReadDir(dir)
			if err != nil || len(entries) != 1 || entries[0].Name() != "f2" {
				t.Errorf("folder: got %v, %v, want f2 alone", entries, err)
			}
			if err := tc.fs.Remove(name + "2"); err != nil {
				t.Error(err)
			}
			if err := tc.fs.SyncDir(dir); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMemFullDiskCutsAWriteShort(t *testing.T) {
	m := NewMem()
	f, err := m.Create("/f")
	if err != nil {
		t.Fatal(err)
	}
	m.SetSpace(3)
	n, err := f.Write([]byte("hello"))
	if n != 3 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write: got %d, %v, want 3 and ENOSPC", n, err)
	}
	if got := readAll(t, m, "/f"); got != "hel" {
		t.Errorf("content: got %q, want hel", got)
	}
}

func TestMemCrashKeepsWhatWasSynced(t *testing.T) {
	m := NewMem()
	f, err := m.Create("/f")
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("kept"))
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := m.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	f.Write([]byte(" or not"))
	lost := false
	for seed := range uint64(50) {
		got := readAll(t, m.Crash(rand.New(rand.NewPCG(seed, 2))), "/f")
		if len(got) < 4 || got[:4] != "kept" {
			t.Fatalf("content with seed %d: got %q, want it to start with kept", seed, got)
		}
		lost = lost || got != "kept or not"
	}
	if !lost {
		t.Error("unsynced bytes: all kept with every seed, want some lost")
	}
}

// An fsync that failed is final: it is not tried again, and what was there
// before stays.
func TestWriteFileAtomicGivesUpAtAFailedSync(t *testing.T) {
	for _, bad := range []string{"sync", "syncdir"} {
		m := NewMem()
		if err := WriteFileAtomicIn(m, "/f", []byte("old")); err != nil {
			t.Fatal(err)
		}
		var after []string // operations behind the one that failed
		failed := false
		broken := errors.New("input/output error")
		m.SetFail(func(op Op) error {
			if failed {
				after = append(after, op.Name)
			}
			if op.Name == bad {
				failed = true
				return broken
			}
			return nil
		})
		if err := WriteFileAtomicIn(m, "/f", []byte("new")); !errors.Is(err, broken) {
			t.Errorf("%s fails: got %v, want its error", bad, err)
		}
		for _, op := range after {
			if op != "remove" {
				t.Errorf("%s fails: then came %s, want no more than its temporary file removed", bad, op)
			}
		}
		want := "old"
		if bad == "syncdir" { // renamed already, and perhaps not for good
			want = "new"
		}
		if got := readAll(t, m, "/f"); got != want {
			t.Errorf("%s fails: got %q, want %q", bad, got, want)
		}
		if _, err := m.Stat("/f.tmp"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s fails: the temporary file stays: %v", bad, err)
		}
	}
}
