package spool

import (
	"bufio"
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
	// files of their own, for the time of it.
	sortKeys = 1 << 16
	// sortRuns is how many files of one size are merged into one, so that keys
	// which are named again and again take neither disk nor memory for each time.
	sortRuns = 32
	// subtractFiles bounds the earlier key files whose fingerprints are left out:
	// each takes a file descriptor and a block of memory.
	subtractFiles = 64
)

// keySorter puts fingerprints in order, each once, whatever their number, in
// bounded memory.
type keySorter struct {
	fs   fsx.FS
	path string // begins the names of the files for what does not fit into memory
	size int    // fingerprints in memory; 0 = sortKeys
	many int    // files that are merged into one; 0 = sortRuns
	// runs are files in ascending order: runs[0] came from memory, runs[i] are
	// each of many of runs[i-1].
	runs [][]string
	made int // files
	set  []Fingerprint
}

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

// spill makes a file of what is in memory, and one of many where there are so
// many.
func (s *keySorter) spill() error {
	err := s.run(0, func(add func(Fingerprint) error) error {
		for _, fp := range s.set {
			if err := add(fp); err != nil {
				return err
			}
		}
		return nil
	})
	s.set = s.set[:0]
	for i := 0; err == nil && i < len(s.runs) && len(s.runs[i]) >= cmp.Or(s.many, sortRuns); i++ {
		full := s.runs[i]
		if err = s.run(i+1, func(add func(Fingerprint) error) error { return s.merge(full, add) }); err == nil {
			s.runs[i] = nil
			err = s.remove(full)
		}
	}
	return err
}

// run writes one file.
func (s *keySorter) run(level int, write func(add func(Fingerprint) error) error) error {
	path := fmt.Sprintf("%s.%d", s.path, s.made)
	if err := s.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := s.fs.Create(path)
	if err != nil {
		return err
	}
	s.made++
	for len(s.runs) <= level {
		s.runs = append(s.runs, nil)
	}
	s.runs[level] = append(s.runs[level], path)
	out := bufio.NewWriterSize(f, keysBlock*len(Fingerprint{}))
	err = write(func(fp Fingerprint) error {
		_, err := out.Write(fp[:])
		return err
	})
	return errors.Join(err, out.Flush(), f.Close())
}

// merge calls fn for every fingerprint of the files, in ascending order, each
// once.
func (s *keySorter) merge(paths []string, fn func(Fingerprint) error) (err error) {
	var rows []*keyCursor
	for _, path := range paths {
		f, err := s.fs.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		row := &keyCursor{next: runReader(f, info.Size())}
		if err := row.step(); err != nil {
			return err
		}
		rows = append(rows, row)
	}
	return mergeKeys(rows, fn)
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
	return s.merge(slices.Concat(s.runs...), fn)
}

func (s *keySorter) remove(paths []string) error {
	var err error
	for _, path := range paths {
		err = errors.Join(err, s.fs.Remove(path))
	}
	return err
}

// close removes the files. It may be called again.
func (s *keySorter) close() error {
	err := s.remove(slices.Concat(s.runs...))
	s.runs = nil
	return err
}

// runReader reads the first size bytes of a file piece by piece.
func runReader(f io.ReaderAt, size int64) func([]byte) ([]byte, error) {
	at := int64(0)
	return func(buf []byte) ([]byte, error) {
		n := min(int64(keysBlock*len(Fingerprint{})), size-at)
		if n == 0 {
			return nil, io.EOF
		}
		buf = slices.Grow(buf[:0], int(n))[:n]
		if _, err := f.ReadAt(buf, at); err != nil {
			return nil, fmt.Errorf("read sorted keys: %w", err)
		}
		at += n
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
