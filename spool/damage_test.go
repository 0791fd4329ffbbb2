package spool

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// small builds a spool of two segments with every kind of frame, and returns
// what it holds.
func small(t testing.TB, sealed bool) (m *fsx.Mem, rdb, stream []byte, d Durable) {
	t.Helper()
	m = fsx.NewMem()
	w := must(Create(testDir, testIdentity(), options(m)))(t)
	rdb, stream = []byte("REDIS0009"), text(0, 200)
	ok(t, w.AppendClock(ClockSample{SourceMicros: 1, Offset: 1000, LocalMicros: 2}))
	ok(t, w.BeginRDB(int64(len(rdb))))
	ok(t, w.AppendRDB(rdb, testStart))
	ok(t, w.EndRDB(0x0102030405060708, true))
	ok(t, w.AppendStream(stream[:50], testStart))
	must(w.Sync())(t)
	ok(t, w.AppendClock(ClockSample{SourceMicros: 3, Offset: 1050, LocalMicros: 4}))
	ok(t, w.AppendStream(stream[50:], testStart))
	d = must(w.Sync())(t)
	if sealed {
		ok(t, w.Seal())
		d = w.Durable()
	}
	return m, rdb, stream, d
}

// harmless reads all it can from a damaged spool: errors are fine, wrong
// bytes are not.
func harmless(t testing.TB, what string, m *fsx.Mem, vouched Durable, rdb, stream []byte) {
	t.Helper()
	g, err := openGroup(m, testDir, testJob, 1)
	if err != nil {
		return
	}
	g.Vouch(vouched)
	g.Epochs()
	if r, err := g.OpenRDB(1); err == nil {
		got, err := io.ReadAll(r)
		if !bytes.HasPrefix(rdb, got) || err == nil && len(got) != len(rdb) {
			t.Fatalf("%s: rdb: got %q, %v, want a prefix of %q or all of it", what, got, err, rdb)
		}
		r.Close()
	}
	for _, after := range []int{0, 60} {
		r, err := g.OpenStream(1, repl.Offset(1000+after))
		if err != nil {
			continue
		}
		got, clock, end := drain(r)
		if !bytes.HasPrefix(stream[after:], got) {
			t.Fatalf("%s: stream after %d: got %q, want a prefix of %q", what, after, got, stream[after:])
		}
		if end == ErrEnd && vouched.Seq == 2 && len(got) != len(stream)-after {
			t.Fatalf("%s: stream after %d: got ErrEnd at %d, and all is vouched for", what, after, len(got))
		}
		for _, s := range clock {
			if s != (ClockSample{1, 1000, 2}) && s != (ClockSample{3, 1050, 4}) {
				t.Fatalf("%s: got sample %v, which was never written", what, s)
			}
		}
		r.Close()
	}
	dump(m, io.Discard, testDir, DumpOptions{Data: true})
	c := m.Clone()
	w, rec, err := Recover(testDir, testJob, 1, vouched, options(c))
	if err != nil {
		var bad *CorruptError
		var version *VersionError
		if !errors.As(err, &bad) && !errors.As(err, &version) && !errors.Is(err, ErrNoEpoch) {
			t.Fatalf("%s: recover: got %v, want a CorruptError", what, err)
		}
		return
	}
	if rec.Durable.Seq >= vouched.Seq && rec.Durable.Offset < vouched.Offset {
		t.Fatalf("%s: recovered to %d, and %d is vouched for", what, rec.Durable.Offset, vouched.Offset)
	}
	ok(t, w.Seal())
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		m, rdb, stream, d := small(t, sealed)
		for seq := Seq(1); seq <= 2; seq++ {
			path := Path(testDir, 1, 1, seq)
			whole := readFile(t, m, path)
			// Behind the vouched position nothing proves what was written.
			provable := len(whole)
			if !sealed && seq == 2 {
				provable = int(d.Bytes)
			}
			for at := range whole {
				for bit := range 8 {
					b := bytes.Clone(whole)
					b[at] ^= 1 << bit
					writeFile(t, m, path, b)
					what := count(int64(at), "byte") + " into " + path
					for i, v := range []Durable{{}, d} {
						rep, err := check(m, testDir, CheckOptions{Vouched: map[repl.GroupID]Durable{1: v}})
						if err != nil {
							t.Fatalf("%s: check: %v", what, err)
						}
						if found := !rep.OK(); found != (at < provable) {
							t.Fatalf("%s, bit %d: check found damage: got %v, want %v (%+v)", what, bit, found, at < provable, rep)
						}
						if i == bit%2 { // either way is read, at half the time
							harmless(t, what, m, v, rdb, stream)
						}
					}
				}
			}
			writeFile(t, m, path, whole)
		}
		wantCheck(t, m, CheckOptions{}, 0, 0)
	}
}

func TestEveryTruncationIsFoundOrTorn(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		m, rdb, stream, d := small(t, sealed)
		for seq := Seq(1); seq <= 2; seq++ {
			path := Path(testDir, 1, 1, seq)
			whole := readFile(t, m, path)
			for n := range whole {
				writeFile(t, m, path, whole[:n])
				what := count(int64(n), "byte") + " of " + path
				for _, v := range []Durable{{}, d} {
					rep, err := check(m, testDir, CheckOptions{Vouched: map[repl.GroupID]Durable{1: v}})
					if err != nil {
						t.Fatalf("%s: check: %v", what, err)
					}
					// Without a vouched position the end of a tail is anyone's guess.
					want := seq == 1 || v.Seq == 2 && n < int(d.Bytes)
					if found := !rep.OK(); found != want {
						t.Fatalf("%s: check found damage: got %v, want %v (%+v)", what, found, want, rep)
					}
					harmless(t, what, m, v, rdb, stream)
				}
			}
			writeFile(t, m, path, whole)
		}
	}
}

// A block that a disk or a copy put in the wrong place is whole in itself.
func TestFramesAreValidInOnePlaceOnly(t *testing.T) {
	m := fsx.NewMem()
	w := inStream(t, options(m), "R")
	for range 4 {
		ok(t, w.AppendStream([]byte("same bytes"), testStart))
		must(w.Sync())(t)
	}
	ok(t, w.Seal())
	path := Path(testDir, 1, 1, 2)
	b := readFile(t, m, path)
	const pair = 2*frameHeaderSize + 10
	copy(b[segHeaderSize+pair:], b[segHeaderSize:][:pair])
	writeFile(t, m, path, b)
	wantCheck(t, m, CheckOptions{}, 1, 0)
	var bad *CorruptError
	r := must(group(t, m).OpenStream(1, 1000))(t)
	if got, _, end := drain(r); string(got) != "same bytes" || !errors.As(end, &bad) || bad.Offset != segHeaderSize+pair {
		t.Errorf("got %q, %v, want ten bytes and a CorruptError at %d", got, end, segHeaderSize+pair)
	}
}

func TestCheckGoesOnBehindDamage(t *testing.T) {
	m := fsx.NewMem()
	w := inStream(t, options(m), "R")
	for i := range 10 {
		ok(t, w.AppendStream(noise(uint64(i), 1000), testStart))
		must(w.Sync())(t)
	}
	ok(t, w.Seal())
	path := Path(testDir, 1, 1, 2)
	b := readFile(t, m, path)
	const pair = 2*frameHeaderSize + 1000
	b[segHeaderSize+2*pair+500] ^= 1 // a payload
	b[segHeaderSize+5*pair+5] ^= 1   // a header
	b[segHeaderSize+7*pair+999] ^= 1 // a payload
	writeFile(t, m, path, b)
	rep := wantCheck(t, m, CheckOptions{}, 3, 0)
	for i, frame := range []int64{2, 5, 7} {
		if got, want := rep.Problems[i].Offset, segHeaderSize+frame*pair; got != want {
			t.Errorf("problem %d: got offset %d, want %d", i, got, want)
		}
	}
}

// A length of gigabytes in a file of a kilobyte is refused before anything is
// allocated for it.
func TestLengthsAreCheckedBeforeAllocation(t *testing.T) {
	m, _, _, _ := small(t, false)
	path := Path(testDir, 1, 1, 2)
	b := readFile(t, m, path)
	s := must(openSeg(m, path, Identity{Job: testJob, Group: 1, Epoch: 1}, 2))(t)
	for _, h := range []frameHeader{
		{Kind: kindStream, RawLen: 1 << 31, StoredLen: 1 << 31, Offset: 1000},
		{Kind: kindStream, Flags: frameZstd, RawLen: maxRaw, StoredLen: maxRaw, Offset: 1000},
		{Kind: kindStream, RawLen: 10, StoredLen: 11, Offset: 1000},
	} {
		h.put(b[segHeaderSize:], s.hdr.CRC, segHeaderSize)
		writeFile(t, m, path, b)
		allocs := testing.AllocsPerRun(1, func() {
			g := group(t, m)
			g.Vouch(Durable{Epoch: 1, Seq: 2, Bytes: int64(len(b)), Offset: 1200})
			if r, err := g.OpenStream(1, 1000); err == nil {
				if _, err := r.Next(); err == nil {
					t.Errorf("frame %+v: got it, want an error", h)
				}
			}
		})
		if allocs > 200 {
			t.Errorf("frame %+v: got %.0f allocations, want few", h, allocs)
		}
	}
}
