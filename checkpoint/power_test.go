package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tairlift/internal/repl"
)

// A commit of bbolt (tx.go, Commit) grows the file and syncs it, writes its
// pages, none of which the state before uses, calls fdatasync, writes one of
// the two meta pages, and calls fdatasync again; TestBboltWritesInTheOrder
// holds it to that. So a power cut leaves
//
//   - any part of the pages, and the meta pages as they were; or
//   - all of the pages, and of the meta page any part.
//
// Parts are sectors of 512 bytes, and the meta page, which has a checksum, is
// torn at any byte.

const sector = 512

// cut is what a power cut between two images may leave.
func cut(rnd *rand.Rand, before, after []byte) []byte {
	metas := 2 * os.Getpagesize()
	out := bytes.Clone(before)
	if grown := len(after) - len(before); grown > 0 && rnd.IntN(4) > 0 {
		out = append(out, make([]byte, grown)...)
	}
	if len(out) < len(after) {
		return out // it had not grown yet: nothing else was written
	}
	pages := rnd.IntN(2) == 0 // were all synced
	for at := metas; at < len(after); at += sector {
		if pages || rnd.IntN(2) == 0 {
			copy(out[at:at+sector], after[at:])
		}
	}
	if !pages {
		return out
	}
	from, to := 0, metas
	if rnd.IntN(4) > 0 {
		from, to = rnd.IntN(metas), rnd.IntN(metas)
		if rnd.IntN(2) == 0 { // near where they differ
			page := rnd.IntN(2) * os.Getpagesize()
			from, to = page+rnd.IntN(100), page+rnd.IntN(100)
		}
	}
	if from < to {
		copy(out[from:to], after[from:])
	}
	return out
}

// known is what an apply store must tell.
type known struct {
	Groups  map[repl.GroupID]ApplyRecord
	Scripts map[string][]byte
	Rejects []Reject
	Doubts  map[string]Doubt
	Target  string
}

func (k known) clone() known {
	c := known{Groups: map[repl.GroupID]ApplyRecord{}, Scripts: map[string][]byte{}, Rejects: slices.Clone(k.Rejects), Doubts: map[string]Doubt{}, Target: k.Target}
	for g, r := range k.Groups {
		c.Groups[g] = r
	}
	for s, b := range k.Scripts {
		c.Scripts[s] = b
	}
	for s, d := range k.Doubts {
		c.Doubts[s] = d
	}
	return c
}

func (k known) doubt(ds []Doubt) {
	for _, d := range ds {
		old, ok := k.Doubts[string(doubtKey(d))]
		if ok && old.Healed == nil {
			old.Offset = max(old.Offset, d.Offset)
			d = old
		}
		k.Doubts[string(doubtKey(d))] = d
	}
}

// change is fn on the doubts of ds.
func (k known) change(ds []Doubt, fn func(*Doubt)) {
	for _, d := range ds {
		if old, ok := k.Doubts[string(doubtKey(d))]; ok {
			fn(&old)
			k.Doubts[string(doubtKey(d))] = old
		}
	}
}

// told is what the store tells.
func told(t rapid.TB, a *Apply) known {
	t.Helper()
	k := known{Groups: map[repl.GroupID]ApplyRecord{}, Doubts: map[string]Doubt{}}
	check := func(err error) {
		if err != nil {
			t.Fatalf("read the store: %v", err)
		}
	}
	ids, err := a.Groups()
	check(err)
	for _, g := range ids {
		rec, _, err := a.Group(g)
		check(err)
		k.Groups[g] = rec
	}
	k.Scripts, err = a.Scripts()
	check(err)
	for g := repl.GroupID(1); g <= 2; g++ {
		check(a.Rejects(g, func(r Reject) error { k.Rejects = append(k.Rejects, r); return nil }))
		keep := func(d Doubt) error { k.Doubts[string(doubtKey(d))] = d; return nil }
		check(errors.Join(a.Doubts(g, keep), a.Healed(g, keep)))
	}
	k.Target, err = a.Target()
	check(err)
	return k
}

// Whether a reject is healed is told by the doubts.
var sameKnown = cmp.Options{cmpopts.EquateEmpty(), cmpopts.IgnoreFields(Reject{}, "Healed"), cmpopts.SortSlices(func(a, b Reject) bool { return a.Offset < b.Offset })}

func TestApplySurvivesPowerCuts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "apply.db")
	if err := must[*Apply](t)(OpenApply(path)).Close(); err != nil {
		t.Fatal(err)
	}
	fresh := file(t, path)
	cuts, news := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		if err := os.WriteFile(path, fresh, 0o644); err != nil {
			t.Fatal(err)
		}
		open := func() *Apply {
			a, err := OpenApply(path)
			if err != nil {
				t.Fatalf("open after a power cut: %v", err)
			}
			return quick(a)
		}
		a := open()
		defer func() { a.Close() }()
		model := known{}.clone()
		offset := repl.Offset(0)
		for range rapid.IntRange(1, 10).Draw(t, "commits") {
			before, old := file(t, path), model
			model = model.clone()
			g := repl.GroupID(rapid.IntRange(1, 2).Draw(t, "group"))
			offset++
			key := []byte(strings.Repeat("k", rapid.SampledFrom([]int{1, 2, 300, 3000}).Draw(t, "key")))
			doubts := []Doubt{{Group: g, DB: 1, Key: key, Why: "unread", Offset: offset}}
			var err error
			switch rapid.IntRange(0, 8).Draw(t, "what") {
			case 0:
				rec := ApplyRecord{Epoch: 1, Phase: PhaseStream, Offset: offset, Forgotten: offset%3 == 0}
				model.Groups[g], err = rec, a.PutGroup(g, rec)
			case 1:
				body := fmt.Sprintf("return %d --%s", offset, key)
				model.Scripts[shaOf(body)] = []byte(body)
				err = a.PutScript(shaOf(body), []byte(body))
			case 2:
				rejects := []Reject{{Group: g, Offset: offset, Keys: [][]byte{key}, Error: "WRONGTYPE"}, {Group: g, Offset: offset, Error: "OOM"}}
				model.Rejects = append(model.Rejects, rejects...)
				model.doubt(doubts)
				err = a.AddRejects(rejects, doubts)
			case 3:
				model.doubt(doubts)
				err = a.AddDoubts(doubts)
			case 4:
				clear(model.Doubts)
				for g, rec := range model.Groups {
					rec.Forgotten = false
					model.Groups[g] = rec
				}
				err = a.ClearDoubts()
			case 5:
				model.Target = fmt.Sprint(offset)
				err = a.PutTarget(model.Target)
			case 6:
				at := Heal{Offset: repl.Offset(rapid.Int64Range(0, int64(offset)).Draw(t, "at")), Commands: int64(offset)}
				model.change(doubts, func(d *Doubt) {
					if d.Healed == nil && d.Offset <= at.Offset {
						d.Healed, d.Held = &at, ""
					}
				})
				err = a.HealDoubts(doubts, at)
			case 7:
				doubts[0].Held = "too-large"
				model.change(doubts, func(d *Doubt) {
					if d.Healed == nil {
						d.Held = "too-large"
					}
				})
				err = a.HoldDoubts(doubts)
			case 8:
				commands := rapid.Int64Range(0, int64(offset)).Draw(t, "mark")
				for k, d := range model.Doubts {
					if d.Group == g && d.Healed != nil && d.Healed.Commands > commands {
						d.Healed = nil
						model.Doubts[k] = d
					}
				}
				_, err = a.ReviveDoubts(g, 0, commands)
			}
			if err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 2).Draw(t, "power") > 0 {
				continue
			}
			after := file(t, path)
			a.Close()
			rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "cut"), 3))
			if err := os.WriteFile(path, cut(rnd, before, after), 0o644); err != nil {
				t.Fatal(err)
			}
			a = open()
			cuts++
			got := told(t, a)
			switch {
			case cmp.Equal(got, model, sameKnown):
				news++
			case cmp.Equal(got, old, sameKnown):
				model = old
			default:
				t.Fatalf("after a power cut: neither what was before nor what was written\nbefore (-want +got):\n%s\nwritten (-want +got):\n%s",
					cmp.Diff(old, got, sameKnown), cmp.Diff(model, got, sameKnown))
			}
		}
		if diff := cmp.Diff(model, told(t, a), sameKnown); diff != "" {
			t.Fatalf("at the end (-want +got):\n%s", diff)
		}
	})
	t.Logf("%d power cuts, %d kept what was being written", cuts, news)
}

func TestCaptureSurvivesPowerCuts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "capture.db")
	kept := 0
	const rounds = 150
	for seed := range uint64(rounds) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		c := must[*Capture](t)(OpenCapture(path))
		c.db.NoSync, c.db.MaxBatchDelay = true, 0
		old, had, err := c.Group(1)
		if err != nil {
			t.Fatal(err)
		}
		before := file(t, path)
		rec := CaptureRecord{Epoch: 1, Offset: repl.Offset(seed + 1), Segments: make([]SegmentRecord, rnd.IntN(60))}
		if err := c.PutGroup(1, rec); err != nil {
			t.Fatal(err)
		}
		after := file(t, path)
		c.Close()
		if err := os.WriteFile(path, cut(rnd, before, after), 0o644); err != nil {
			t.Fatal(err)
		}
		c, err = OpenCapture(path)
		if err != nil {
			t.Fatalf("seed %d: open after a power cut: %v", seed, err)
		}
		got, has, err := c.Group(1)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		switch {
		case has && cmp.Equal(got, rec, cmpopts.EquateEmpty()):
			kept++
		case has != had || !cmp.Equal(got, old):
			t.Fatalf("seed %d: got %+v, want what was before or what was written", seed, got)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if kept == 0 || kept == rounds {
		t.Errorf("%d of %d kept what was being written, want some", kept, rounds)
	}
}

func file(t rapid.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
