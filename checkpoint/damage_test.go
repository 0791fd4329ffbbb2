package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
)

// contents is everything in a store, by bucket and key.
type contents map[string]string

// quick has a store wait for nothing: what a sync does is simulated, or of no
// interest.
func quick(a *Apply) *Apply {
	a.db.NoSync, a.db.MaxBatchDelay = true, 0
	return a
}

func fill(t testing.TB, a *Apply, n int) {
	t.Helper()
	for i := range n {
		body := fmt.Sprintf("return %d --%s", i, strings.Repeat("x", i%7*300))
		err := errors.Join(
			a.PutGroup(1, ApplyRecord{Epoch: 1, Phase: PhaseStream, Offset: 100, Commands: int64(i)}),
			a.PutScript(shaOf(body), []byte(body)),
			a.AddRejects([]Reject{{Group: 1, DB: i, Error: "WRONGTYPE"}}, []Doubt{{Group: 1, DB: i, Key: []byte("k"), Why: "reject"}}),
		)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// image makes a store and returns its file, with what is in it and what was
// before the last commit: a damaged meta page falls back to that.
func image(t testing.TB) (raw []byte, now, before contents) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "apply.db")
	a := quick(must[*Apply](t)(OpenApply(path)))
	fill(t, a, 8)
	before = read(t, must[[]byte](t)(os.ReadFile(path)))
	if err := a.PutGroup(1, ApplyRecord{Epoch: 2}); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	raw = must[[]byte](t)(os.ReadFile(path))
	return raw, read(t, raw), before
}

// walk is what checkPages finds in a file.
func walk(raw []byte) (contents, error) {
	c := contents{}
	err := checkPages(bytes.NewReader(raw), int64(len(raw)), int64(os.Getpagesize()), func(bucket, key, value []byte) error {
		c[string(bucket)+"/"+string(key)] = string(value)
		return checkRecord(bucket, key, value)
	})
	return c, err
}

func read(t testing.TB, raw []byte) contents {
	t.Helper()
	return must[contents](t)(walk(raw))
}

// used is the part of a file that has pages.
func used(raw []byte) int {
	p := pages{f: bytes.NewReader(raw), size: int64(os.Getpagesize())}
	return int(order.Uint64(p.meta()[40:])) * os.Getpagesize()
}

// The walk of ours and bbolt agree on what is in a file.
func TestPagesAreReadAsBboltReadsThem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "apply.db")
	a := quick(must[*Apply](t)(OpenApply(path)))
	defer a.Close()
	for round := range 5 {
		fill(t, a, 4<<round)
		if err := a.ClearDoubts(); err != nil && round == 3 {
			t.Fatal(err)
		}
		want := contents{}
		err := a.db.View(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
				return b.ForEach(func(k, v []byte) error {
					want[string(name)+"/"+string(k)] = string(v)
					return nil
				})
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, read(t, must[[]byte](t)(os.ReadFile(path)))); diff != "" {
			t.Fatalf("round %d: (-bbolt +ours)\n%s", round, diff)
		}
	}
}

// A flipped bit is found, or it is where nothing is, or it is in the newest
// meta page, which leaves the state before.
func TestAFlippedBitOfAStoreIsFoundOrNothing(t *testing.T) {
	raw, now, before := image(t)
	found := 0
	rnd := rand.New(rand.NewPCG(1, 1))
	for at := 0; at < used(raw); at += 1 + rnd.IntN(6) {
		b := raw[at]
		raw[at] ^= 1 << rnd.IntN(8)
		got, err := walk(raw)
		switch {
		case err != nil:
			found++
		case got["meta/version"] != now["meta/version"]:
			found++ // refused by name
		case !maps.Equal(got, now) && !maps.Equal(got, before):
			t.Fatalf("flipped byte %d: got other records and no error", at)
		}
		raw[at] = b
	}
	t.Logf("%d bytes, %d flips found", used(raw), found)
}

func TestATruncatedStoreIsFound(t *testing.T) {
	raw, now, _ := image(t)
	for n := 0; n < len(raw); n += 61 {
		got, err := walk(raw[:n])
		if want := n < used(raw); (err != nil) != want || err == nil && !maps.Equal(got, now) {
			t.Fatalf("%d bytes: got %v, want an error: %v", n, err, want)
		}
	}
}

// What a person may find under the store's name.
func TestADamagedStoreIsRefusedByName(t *testing.T) {
	raw, _, _ := image(t)
	newer := filepath.Join(t.TempDir(), "newer.db")
	if err := must[*Apply](t)(OpenApply(newer)).Close(); err != nil {
		t.Fatal(err)
	}
	db := must[*bbolt.DB](t)(bbolt.Open(newer, 0o644, nil))
	err := db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyVersion, []byte("apply 3")) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other.db")
	if err := must[*Capture](t)(OpenCapture(other)).Close(); err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 40000)
	for i := range noise {
		noise[i] = byte(rand.IntN(256))
	}
	for _, tt := range []struct {
		claim   string
		raw     []byte
		damaged bool
	}{
		{"nothing", []byte{}, true},
		{"a few bytes", []byte("hello"), true},
		{"text", bytes.Repeat([]byte("hello\n"), 10000), true},
		{"noise", noise, true},
		{"zeros", make([]byte, 1<<16), true},
		{"half of it", raw[:len(raw)/2], true},
		{"a page and a piece", raw[:7000], true},
		{"less than a page", raw[:4000], true},
		{"its meta pages alone", raw[:2*os.Getpagesize()], true},
		{"zeros behind its meta pages", append(bytes.Clone(raw[:2*os.Getpagesize()]), make([]byte, len(raw))...), true},
		{"a newer version", must[[]byte](t)(os.ReadFile(newer)), false},
		{"another kind", must[[]byte](t)(os.ReadFile(other)), false},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "apply.db")
			if err := os.WriteFile(path, tt.raw, 0o644); err != nil {
				t.Fatal(err)
			}
			a, err := OpenApply(path)
			if err == nil {
				a.Close()
			}
			var damaged *DamagedError
			var format *FormatError
			if tt.damaged != errors.As(err, &damaged) || tt.damaged == errors.As(err, &format) || !strings.Contains(err.Error(), path) {
				t.Errorf("open: got %v, want an error that names the file, of damage: %v", err, tt.damaged)
			}
			if now := must[[]byte](t)(os.ReadFile(path)); !bytes.Equal(now, tt.raw) {
				t.Error("the file was changed")
			}
		})
	}
}

// Damage by seeds, through the front door: no panic, no fault, no wrong record.
func TestADamagedStoreNeverPanics(t *testing.T) {
	raw, _, _ := image(t)
	path := filepath.Join(t.TempDir(), "apply.db")
	opened := 0
	for seed := range uint64(150) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		b := bytes.Clone(raw)
		for range 1 + rnd.IntN(4) {
			page := rnd.IntN(len(b)/os.Getpagesize()) * os.Getpagesize()
			at := page + rnd.IntN(200)
			binary.LittleEndian.PutUint32(b[at:], uint32(rnd.Uint64())>>(rnd.IntN(4)*8))
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		a, err := OpenApply(path)
		var damaged *DamagedError
		var format *FormatError
		switch {
		case err == nil:
			opened++
			if _, err := a.Scripts(); err != nil {
				t.Errorf("seed %d: scripts: %v", seed, err)
			}
			if err := errors.Join(a.PutGroup(1, ApplyRecord{}), a.Close()); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		case !errors.As(err, &damaged) && !errors.As(err, &format):
			t.Errorf("seed %d: got %v, want a DamagedError", seed, err)
		}
	}
	t.Logf("%d of 150 were opened: their damage is where nothing is", opened)
}
