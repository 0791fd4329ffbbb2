package checkpoint

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"tairlift/internal/repl"
)

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func shaOf(body string) string {
	sum := sha1.Sum([]byte(body))
	return hex.EncodeToString(sum[:])
}

func TestCaptureRecordsSurviveReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "capture", "capture.db")
	c := must[*Capture](t)(OpenCapture(path))
	if _, ok, err := c.Group(1); ok || err != nil {
		t.Fatalf("group of an empty store: got %v, %v, want none", ok, err)
	}
	want := CaptureRecord{
		Addr: "127.0.0.1:6379", Epoch: 2, ReplID: repl.ReplID(strings.Repeat("ab", 20)), Offset: 1 << 40,
		Seq: 7, Bytes: 4096, RDBBytes: 100, RDBDone: true,
		Segments: []SegmentRecord{{Epoch: 2, Seq: 6, Bytes: 10, End: 5}},
	}
	var wg sync.WaitGroup
	for g := repl.GroupID(1); g <= 40; g++ {
		wg.Go(func() {
			if err := c.PutGroup(g, want); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = must[*Capture](t)(OpenCapture(path))
	defer c.Close()
	for g := repl.GroupID(1); g <= 40; g++ {
		got, ok, err := c.Group(g)
		if diff := cmp.Diff(want, got); !ok || err != nil || diff != "" {
			t.Errorf("group %s: got %v, %v, (-want +got)\n%s", g, ok, err, diff)
		}
	}
}

func TestASecondOwnerIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "apply.db")
	a := must[*Apply](t)(OpenApply(path))
	defer a.Close()
	if _, err := OpenApply(path); !errors.Is(err, ErrInUse) {
		t.Errorf("second open: got %v, want %v", err, ErrInUse)
	}
}

func TestAStoreOfAnotherKindIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	if err := must[*Apply](t)(OpenApply(path)).Close(); err != nil {
		t.Fatal(err)
	}
	var format *FormatError
	if _, err := OpenCapture(path); !errors.As(err, &format) || format.Found != "apply 2" {
		t.Errorf("open as capture: got %v, want a FormatError naming what it is", err)
	}
}

func TestRejectsAndDoubtsAreKeptPerGroup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "apply.db")
	a := must[*Apply](t)(OpenApply(path))
	long := []byte(strings.Repeat("k", 40000))
	r := Reject{Group: 1, Epoch: 1, Offset: 10, DB: 3, Keys: [][]byte{[]byte("k\x00")}, Command: []byte("x"), Error: "WRONGTYPE", Applied: true}
	doubts := []Doubt{
		{Group: 1, DB: 3, Key: []byte("k\x00"), Why: "reject", Offset: 10},
		{Group: 1, DB: 3, Key: long, Why: "unread", Offset: 11},
		{Group: 2, DB: 0, Key: nil, Why: "unread", Offset: 12},
	}
	if err := a.AddRejects([]Reject{r}, doubts); err != nil {
		t.Fatal(err)
	}
	// A key that is doubtful already keeps its first reason.
	if err := a.AddDoubts([]Doubt{{Group: 1, DB: 3, Key: []byte("k\x00"), Why: "unread", Offset: 99}}); err != nil {
		t.Fatal(err)
	}
	if err := a.PutScript(shaOf("return 1"), []byte("return 1")); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a = must[*Apply](t)(OpenApply(path))
	defer a.Close()
	var rejects []Reject
	if err := a.Rejects(1, func(r Reject) error { rejects = append(rejects, r); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Reject{r}, rejects); diff != "" {
		t.Errorf("rejects (-want +got)\n%s", diff)
	}
	count := func(g repl.GroupID) (n int, whys []string) {
		if err := a.Doubts(g, func(d Doubt) error { n++; whys = append(whys, d.Why); return nil }); err != nil {
			t.Fatal(err)
		}
		return n, whys
	}
	if n, whys := count(1); n != 2 || whys[0] != "reject" {
		t.Errorf("doubts of group 1: got %d %v, want 2, the first by reject", n, whys)
	}
	if got := must[map[string][]byte](t)(a.Scripts()); string(got[shaOf("return 1")]) != "return 1" {
		t.Errorf("scripts: got %v", got)
	}
	if err := a.ClearDoubts(); err != nil {
		t.Fatal(err)
	}
	if n, _ := count(2); n != 0 {
		t.Errorf("doubts after clearing: got %d, want 0", n)
	}
}

// A store has its name only once it is whole, and is made once.
func TestOfSeveralThatMakeAStoreOneOwnsIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "apply")
	path := filepath.Join(dir, "apply.db")
	var wg sync.WaitGroup
	var owners, gone atomic.Int32
	done := make(chan struct{}) // the owner keeps it until the others have given up
	for range 4 {
		wg.Go(func() {
			a, err := OpenApply(path)
			if err == nil {
				owners.Add(1)
				<-done
				err = a.Close()
			} else if gone.Add(1) == 3 {
				close(done)
			}
			if err != nil && !errors.Is(err, ErrInUse) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if owners.Load() != 1 {
		t.Errorf("got %d owners, want 1", owners.Load())
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("folder: got %v, %v, want the store alone", entries, err)
	}
}

// A store of version 1 has records without checksums.
func TestAnOlderStoreIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "capture.db")
	db := must[*bbolt.DB](t)(bbolt.Open(path, 0o644, nil))
	err := db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucket(bucketMeta)
		if err != nil {
			return err
		}
		groups, err := tx.CreateBucket(bucketGroups)
		if err != nil {
			return err
		}
		return errors.Join(meta.Put(keyVersion, []byte("capture 1")), groups.Put(groupKey(3), []byte(`{"epoch":2,"offset":77}`)))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c := must[*Capture](t)(OpenCapture(path))
		rec, ok, err := c.Group(3)
		if !ok || err != nil || rec.Epoch != 2 || rec.Offset != 77 {
			t.Errorf("record: got %+v, %v, %v, want epoch 2 at offset 77", rec, ok, err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var format *FormatError
	if _, err := OpenApply(path); !errors.As(err, &format) || format.Found != "capture 2" {
		t.Errorf("open as apply: got %v, want it to be a store of capture, version 2", err)
	}
}
