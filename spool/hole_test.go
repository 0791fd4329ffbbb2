package spool

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// copyBlocks gives a file its size at once and fills its blocks in any order,
// looking in between. What the file held stays at first.
func copyBlocks(t *testing.T, rnd *rand.Rand, m *fsx.Mem, path string, b []byte, block int, inPlace bool, look func()) {
	t.Helper()
	dst := make([]byte, len(b))
	if _, err := m.Stat(path); err == nil && inPlace {
		copy(dst, readFile(t, m, path))
	}
	put := replaceFile
	if inPlace {
		put = writeFile
	}
	put(t, m, path, dst)
	look()
	for _, i := range rnd.Perm((len(b) + block - 1) / block) {
		from, to := i*block, min(len(b), (i+1)*block)
		copy(dst[from:to], b[from:to])
		writeFile(t, m, path, dst)
		look()
	}
}

// The blocks of a copy come in any order into files that have their size at
// once. Whatever a follower meets is missing, never damaged, and it reads the
// bytes that were captured, whether it goes on or opens anew.
func TestFollowerOfACopyWhoseBlocksComeInAnyOrder(t *testing.T) {
	for seed, block := range []int{512, 777, 1024, 4096} {
		rnd := rand.New(rand.NewPCG(uint64(seed), 1))
		src, dst := fsx.NewMem(), fsx.NewMem()
		o := options(src)
		o.SegmentBytes = 12 << 10
		rdb := noise(99, 9000)
		w := inStream(t, o, string(rdb))
		path := func(seq Seq) string { return Path(testDir, 1, 1, seq) }
		ok(t, dst.MkdirAll(testDir+"/group-0001/epoch-0001"))
		writeFile(t, dst, path(1), readFile(t, src, path(1)))
		g := group(t, dst)
		var got, want []byte
		var r *StreamReader
		var missing *MissingError
		holes, looks := 0, 0
		follow := func() {
			t.Helper()
			var end error
			if r == nil || rnd.IntN(3) == 0 {
				if r != nil {
					ok(t, r.Close())
				}
				r, end = g.OpenStream(1, repl.Offset(1000+len(got)))
			}
			if end == nil {
				var more []byte
				more, _, end = drain(r)
				got = append(got, more...)
			} else {
				r = nil
			}
			var gap *GapError // it shrank behind what was read
			if end != ErrEnd && !errors.As(end, &missing) && !errors.As(end, &gap) {
				t.Fatalf("blocks of %d: got %v, want ErrEnd or a MissingError", block, end)
			}
			looks++
			if errors.As(end, &missing) && missing.Hole {
				holes++
			}
			if !bytes.HasPrefix(want, got) {
				t.Fatalf("blocks of %d: got bytes that were never captured, from %d on", block, firstDiff(got, want))
			}
		}
		bring := func(inPlace bool) {
			t.Helper()
			last := w.Durable().Seq
			for _, i := range rnd.Perm(int(last)) {
				seq := Seq(i + 1)
				b := readFile(t, src, path(seq))
				if _, err := dst.Stat(path(seq)); err == nil && slices.Equal(readFile(t, dst, path(seq)), b) {
					continue
				}
				copyBlocks(t, rnd, dst, path(seq), b, block, inPlace, follow)
			}
		}
		for i := range 60 {
			p := text(i*1000, 1+i*37%1500)
			if i%2 == 0 {
				p = noise(uint64(i), 1+i*91%3000)
			}
			want = append(want, p...)
			ok(t, w.AppendStream(p, testStart))
			d := must(w.Sync())(t)
			if i%2 == 0 {
				g.Vouch(d)
				follow()
			}
			if i%6 == 5 {
				bring(i%12 == 5)
			}
		}
		ok(t, w.Seal())
		g.Vouch(w.Durable())
		bring(false)
		follow()
		if !bytes.Equal(got, want) {
			t.Errorf("blocks of %d: got %d bytes of %d", block, len(got), len(want))
		}
		if holes == 0 {
			t.Errorf("blocks of %d: no hole was met in %d looks", block, looks)
		}
		wantRDB(t, g, 1, rdb)
		wantCheck(t, dst, CheckOptions{Vouched: map[repl.GroupID]Durable{1: w.Durable()}}, 0, 0)
	}
}

// A hole is not damage to a reader, which may be asked again, and is a problem
// to Check, which is asked for a verdict.
func TestAHoleIsMissing(t *testing.T) {
	m := fsx.NewMem()
	w := inStream(t, options(m), "R")
	want := noise(1, 5000)
	ok(t, w.AppendStream(want[:3000], testStart))
	must(w.Sync())(t)
	ok(t, w.AppendStream(want[3000:], testStart))
	ok(t, w.Seal())
	path := Path(testDir, 1, 1, 2)
	whole := readFile(t, m, path)
	size := len(whole)
	const second = segHeaderSize + frameHeaderSize + 3000 + frameHeaderSize // the header of the second data frame
	for _, tt := range []struct {
		claim    string
		from, to int
		read     int // bytes before the hole
	}{
		{"the header of a frame alone", second, second + frameHeaderSize, 3000},
		{"a part of a payload", 512, 1024, 0},
		{"from within a header on", second + 7, second + 600, 3000},
		{"up into a header", second - 600, second + 20, 0},
		{"all behind the segment's header", segHeaderSize, size, 0},
		{"the segment's header too", 0, size, 0},
		{"the second half of the segment's header", 70, 600, 0},
		{"the footer and what is before it", size - trailerSize - 200, size - trailerSize, 3000},
		{"the trailer", size - trailerSize, size, 5000},
		{"a part of the trailer", size - 12, size, 5000},
	} {
		b := bytes.Clone(whole)
		clear(b[tt.from:tt.to])
		writeFile(t, m, path, b)
		g := group(t, m)
		g.Vouch(w.Durable())
		var missing *MissingError
		var got []byte
		r, end := g.OpenStream(1, 1000)
		if end == nil {
			got, _, end = drain(r)
		}
		if !errors.As(end, &missing) || !bytes.Equal(got, want[:len(got)]) || len(got) != tt.read {
			t.Errorf("%s: got %d bytes and %v, want %d and a MissingError", tt.claim, len(got), end, tt.read)
		}
		rep := must(check(m, testDir, CheckOptions{Vouched: map[repl.GroupID]Durable{1: w.Durable()}}))(t)
		if rep.OK() {
			t.Errorf("%s: check says ok", tt.claim)
		}
		writeFile(t, m, path, whole)
		if r != nil {
			more, _, end := drain(r)
			if got = append(got, more...); !bytes.Equal(got, want) || end != ErrEnd {
				t.Errorf("%s: when it is filled: got %d bytes and %v, want all and ErrEnd", tt.claim, len(got), end)
			}
			ok(t, r.Close())
		}
	}
}

// What a copy brings, or takes away, while a reader is being opened is no
// error of its own.
func TestOpenStreamWhileTheFilesChange(t *testing.T) {
	m := fsx.NewMem()
	w := inStream(t, options(m), "R")
	ok(t, w.AppendStream([]byte("0123456789"), testStart))
	must(w.Sync())(t)
	path := Path(testDir, 1, 1, 2)
	whole := readFile(t, m, path)
	for _, tt := range []struct {
		claim         string
		before, after []byte // of the file, around the n-th opening of it
	}{
		{"the tail shrinks", whole, nil},
		{"the tail comes", whole[:segHeaderSize], whole},
	} {
		for n := 1; n < 6; n++ {
			writeFile(t, m, path, tt.before)
			g := group(t, m)
			g.fs = &changingFS{FS: m, name: path, left: n, change: func() { writeFile(t, m, path, tt.after) }}
			var missing *MissingError
			var gap *GapError // never of a position within what is held
			switch r, err := g.OpenStream(1, 1010); {
			case err == nil:
				ok(t, r.Close())
			case errors.As(err, &missing), errors.As(err, &gap) && gap.Wanted > gap.Last, n == 1 && errors.Is(err, ErrNoEpoch):
			default:
				t.Errorf("%s at opening %d: got %v, want it missing", tt.claim, n, err)
			}
		}
	}
}

// changingFS changes a file before it is opened for the n-th time.
type changingFS struct {
	fsx.FS
	name   string
	left   int
	change func()
}

func (c *changingFS) Open(name string) (fsx.File, error) {
	if name == c.name {
		if c.left--; c.left == 0 {
			c.change()
		}
	}
	return c.FS.Open(name)
}
