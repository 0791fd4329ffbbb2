package spool

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

const (
	// sortKeys is how many fingerprints are sorted in memory; more are sorted in
	// a file of their own, for the time of it.
	sortKeys = 1 << 16
	// subtractFiles bounds the earlier key files whose fingerprints are left out:
	// each takes a file descriptor and a block of memory.
	subtractFiles = 64
)

// keySorter puts fingerprints in order, each once, whatever their number, in
// bounded memory.
type keySorter struct {
	fs   fsx.FS
	path string // of the file for what does not fit into memory
	size int    // fingerprints in memory; 0 = sortKeys
	f    fsx.File
	runs []keyRun // in f
	pos  int64
	set  []Fingerprint
	out  []byte
}

// keyRun is a part of the file, in ascending order.
type keyRun struct{ from, to int64 }

func compareKeys(a, b Fingerprint) int { return slices.Compare(a[:], b[:]) }

func (s *keySorter) add(fp Fingerprint) error {
	s.set = append(s.set, fp)
	size := cmp.Or(s.size, sortKeys)
	if len(s.set) < size {
		return nil
	}
	s.compact()
	if len(s.set) < size/2 { // few keys, written often
		return nil
	}
	return s.spill()
}

func (s *keySorter) compact() {
	slices.SortFunc(s.set, compareKeys)
	s.set = slices.Compact(s.set)
}

func (s *keySorter) spill() error {
	if s.f == nil {
		if err := s.fs.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		f, err := s.fs.Create(s.path)
		if err != nil {
			return err
		}
		s.f = f
	}
	s.out = s.out[:0]
	for _, fp := range s.set {
		s.out = append(s.out, fp[:]...)
	}
	if _, err := s.f.Write(s.out); err != nil {
		return err
	}
	s.runs = append(s.runs, keyRun{s.pos, s.pos + int64(len(s.out))})
	s.pos += int64(len(s.out))
	s.set = s.set[:0]
	return nil
}

// each calls fn for every fingerprint, in ascending order.
func (s *keySorter) each(fn func(Fingerprint) error) error {
	s.compact()
	if len(s.runs) == 0 {
		for _, fp := range s.set {
			if err := fn(fp); err != nil {
				return err
			}
		}
		return nil
	}
	if len(s.set) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	heads := make([]*keyCursor, len(s.runs))
	for i, r := range s.runs {
		heads[i] = &keyCursor{next: runReader(s.f, r)}
		if err := heads[i].step(); err != nil {
			return err
		}
	}
	return mergeKeys(heads, fn)
}

// close removes the file.
func (s *keySorter) close() error {
	if s.f == nil {
		return nil
	}
	err := s.f.Close()
	s.f = nil
	return errors.Join(err, s.fs.Remove(s.path))
}

// runReader reads a run piece by piece.
func runReader(f io.ReaderAt, r keyRun) func([]byte) ([]byte, error) {
	return func(buf []byte) ([]byte, error) {
		n := min(int64(keysBlock*len(Fingerprint{})), r.to-r.from)
		if n == 0 {
			return nil, io.EOF
		}
		buf = slices.Grow(buf[:0], int(n))[:n]
		if _, err := f.ReadAt(buf, r.from); err != nil {
			return nil, fmt.Errorf("read sorted keys: %w", err)
		}
		r.from += n
		return buf, nil
	}
}

// keyCursor stands on a fingerprint of an ascending row.
type keyCursor struct {
	next func(buf []byte) ([]byte, error) // more of the row, or io.EOF; buf may be used
	buf  []byte
	left []byte
	fp   Fingerprint
	done bool
}

func (c *keyCursor) step() error {
	if len(c.left) == 0 {
		b, err := c.next(c.buf)
		if err == io.EOF {
			c.done = true
			return nil
		}
		if err != nil {
			return err
		}
		c.buf, c.left = b, b
	}
	copy(c.fp[:], c.left)
	c.left = c.left[len(c.fp):]
	return nil
}

// keyHeap has the row with the least fingerprint first.
type keyHeap []*keyCursor

func (h keyHeap) Len() int           { return len(h) }
func (h keyHeap) Less(i, j int) bool { return compareKeys(h[i].fp, h[j].fp) < 0 }
func (h keyHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *keyHeap) Push(x any)        { *h = append(*h, x.(*keyCursor)) }

func (h *keyHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// mergeKeys calls fn for what the rows hold, in ascending order, each once. No
// row is at its end yet.
func mergeKeys(rows []*keyCursor, fn func(Fingerprint) error) error {
	h := keyHeap(rows)
	heap.Init(&h)
	var last Fingerprint
	for first := true; len(h) > 0; first = false {
		c := h[0]
		if fp := c.fp; first || fp != last {
			if err := fn(fp); err != nil {
				return err
			}
			last = fp
		}
		if err := c.step(); err != nil {
			return err
		}
		if c.done {
			heap.Pop(&h)
		} else {
			heap.Fix(&h, 0)
		}
	}
	return nil
}

// earlierKeys are the key files of an epoch before a segment.
type earlierKeys struct {
	files []*keysFile
	rows  []*keyCursor
}

// earlier opens the key files before a segment of the epoch: the largest ones
// when there are many.
func (g *Group) earlier(e repl.Epoch, seq Seq) (*earlierKeys, error) {
	seqs, err := g.listKeySeqs(e)
	if err != nil {
		return nil, err
	}
	x := &earlierKeys{}
	for _, s := range seqs {
		if s >= seq {
			break
		}
		k, err := g.openKeys(e, s)
		if err != nil {
			x.close()
			return nil, err
		}
		if k.end.Keys == 0 {
			k.close()
			continue
		}
		x.files = append(x.files, k)
		if len(x.files) > subtractFiles {
			i := 0
			for j := range x.files {
				if x.files[j].end.Keys < x.files[i].end.Keys {
					i = j
				}
			}
			x.files[i].close()
			x.files = slices.Delete(x.files, i, i+1)
		}
	}
	for _, k := range x.files {
		c := &keyCursor{next: k.blocks()}
		if err := c.step(); err != nil {
			x.close()
			return nil, err
		}
		x.rows = append(x.rows, c)
	}
	return x, nil
}

// has tells whether one of the files has fp. It is asked in ascending order.
func (x *earlierKeys) has(fp Fingerprint) (bool, error) {
	found := false
	for _, c := range x.rows {
		for !c.done && compareKeys(c.fp, fp) < 0 {
			if err := c.step(); err != nil {
				return false, err
			}
		}
		found = found || !c.done && c.fp == fp
	}
	return found, nil
}

func (x *earlierKeys) close() {
	for _, k := range x.files {
		k.close()
	}
}
