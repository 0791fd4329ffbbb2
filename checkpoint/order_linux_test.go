package checkpoint

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
	"unsafe"

	"go.etcd.io/bbolt"
)

// bolt reaches into a store's bbolt: what the file is written by, and the file.
func bolt(t *testing.T, s store) (writeAt *func([]byte, int64) (int, error), f *os.File) {
	t.Helper()
	db := reflect.ValueOf(s.db).Elem()
	w, file := db.FieldByName("ops").FieldByName("writeAt"), db.FieldByName("file")
	if w.Type() != reflect.TypeFor[func([]byte, int64) (int, error)]() || file.Type() != reflect.TypeFor[*os.File]() {
		t.Fatal("bbolt has changed: look again at what a power cut can leave of it")
	}
	return (*func([]byte, int64) (int, error))(unsafe.Pointer(w.UnsafeAddr())), *(**os.File)(unsafe.Pointer(file.UnsafeAddr()))
}

// syncFails makes every fsync of the file fail; what was written before stays.
func syncFails(t *testing.T, f *os.File) (mend func()) {
	t.Helper()
	saved, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe() // which has no fsync
	if err == nil {
		err = syscall.Dup3(int(w.Fd()), int(f.Fd()), syscall.O_CLOEXEC)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	w.Close()
	return func() {
		t.Helper()
		if err := errors.Join(syscall.Dup3(saved, int(f.Fd()), syscall.O_CLOEXEC), syscall.Close(saved)); err != nil {
			t.Fatal(err)
		}
	}
}

// What the simulated power cuts rest upon: pages first, none of them a meta
// page nor one that is in use; then fdatasync, whose failure ends it; then one
// meta page, and fdatasync again.
func TestBboltWritesInTheOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "apply.db")
	a := must[*Apply](t)(OpenApply(path))
	defer a.Close()
	a.db.MaxBatchDelay = 0
	fill(t, a, 5)
	writeAt, f := bolt(t, a.store)
	write := *writeAt
	var pages []int64 // written, by their number
	record := func(b []byte, off int64) (int, error) {
		for at := int64(0); at < int64(len(b)); at += int64(os.Getpagesize()) {
			pages = append(pages, (off+at)/int64(os.Getpagesize()))
		}
		return write(b, off)
	}
	*writeAt = record
	for range 20 {
		pages = nil
		inUse := usedPages(t, path)
		fill(t, a, 1)
		for len(pages) > 0 { // several commits
			n := 0
			for n < len(pages) && pages[n] > 1 {
				if inUse[pages[n]] {
					t.Fatalf("page %d is written while it is in use", pages[n])
				}
				n++
			}
			if n == 0 || n == len(pages) {
				t.Fatalf("pages written: got %v, want some and then a meta page", pages)
			}
			pages, inUse = pages[n+1:], map[int64]bool{} // of the next commit it is not known
		}
	}

	// Without the first sync there is no meta page; nor is anything tried again.
	before, pages := file(t, path), pages[:0]
	var mend func()
	second := must[*os.File](t)(os.OpenFile(path, os.O_RDWR, 0))
	defer second.Close()
	*writeAt = func(b []byte, off int64) (int, error) {
		pages = append(pages, off/int64(os.Getpagesize()))
		if mend == nil {
			mend = syncFails(t, f)
		}
		return second.WriteAt(b, off)
	}
	err := a.PutGroup(1, ApplyRecord{Epoch: 77})
	if err == nil || errors.Is(err, ErrBroken) {
		t.Errorf("put while fsync fails: got %v, want its error", err)
	}
	for _, p := range pages {
		if p < 2 {
			t.Error("a meta page was written behind pages that could not be synced")
		}
	}
	mend()
	*writeAt = record
	pages = nil
	if err := a.PutGroup(1, ApplyRecord{Epoch: 78}); !errors.Is(err, ErrBroken) || !errors.Is(err, syscall.EINVAL) {
		t.Errorf("put after fsync has failed: got %v, want ErrBroken with the first error", err)
	}
	if err := a.AddDoubts([]Doubt{{Group: 1, Key: []byte("k")}}); !errors.Is(err, ErrBroken) || len(pages) != 0 {
		t.Errorf("put after fsync has failed: got %v and pages %v, want ErrBroken and none", err, pages)
	}
	if now := must[contents](t)(walk(file(t, path))); now["groups/\x00\x00\x00\x01"] != read(t, before)["groups/\x00\x00\x00\x01"] {
		t.Error("the record differs from the one before")
	}
}

// A meta page that was written and could not be synced is in the cache and
// perhaps not on the disk: bbolt itself would go on from it.
func TestAStoreWhoseMetaPageWasNotSyncedIsBroken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "capture.db")
	c := must[*Capture](t)(OpenCapture(path))
	defer c.Close()
	if err := c.PutGroup(1, CaptureRecord{Offset: 1}); err != nil {
		t.Fatal(err)
	}
	writeAt, f := bolt(t, c.store)
	write := *writeAt
	var mend func()
	*writeAt = func(b []byte, off int64) (int, error) {
		n, err := write(b, off)
		if off < int64(2*os.Getpagesize()) {
			mend = syncFails(t, f)
		}
		return n, err
	}
	if err := c.PutGroup(1, CaptureRecord{Offset: 2}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("put while fsync fails: got %v, want its error", err)
	}
	mend()
	*writeAt = write
	if err := c.PutGroup(1, CaptureRecord{Offset: 3}); !errors.Is(err, ErrBroken) {
		t.Errorf("the next put: got %v, want ErrBroken", err)
	}
}

// usedPages are those that the newest state is made of.
func usedPages(t *testing.T, path string) map[int64]bool {
	t.Helper()
	raw := file(t, path)
	db := must[*bbolt.DB](t)(bbolt.Open(copyOf(t, raw), 0o644, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true}))
	defer db.Close()
	used := map[int64]bool{}
	err := db.View(func(tx *bbolt.Tx) error {
		for id := 2; ; id++ {
			info, err := tx.Page(id)
			if err != nil || info == nil {
				return err
			}
			if info.Type != "free" {
				used[int64(id)] = true
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return used
}

func copyOf(t *testing.T, raw []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
