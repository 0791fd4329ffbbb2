package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sort"

	"tairlift/internal/fsx"
)

// KeySet is a set of fingerprints in a file. It takes 16 bytes a fingerprint
// there and an 1/16 of a byte in memory. It is used by one goroutine.
type KeySet struct {
	fs    fsx.FS
	path  string
	f     fsx.File
	n     int
	index []Fingerprint // the first one of each block
	block []byte        // read last
	at    int           // its number
}

// setBlock is the number of fingerprints that one read brings.
const setBlock = 256

// KeySetWriter collects the fingerprints of a KeySet, in any order and with
// repetitions, in bounded memory: 1 MiB, and less while files are merged.
type KeySetWriter struct {
	sort keySorter
	path string
}

// NewKeySet begins the set that will lie at path, a file of the caller's own
// for the time of the set: one that is there is replaced.
func NewKeySet(path string) *KeySetWriter {
	return &KeySetWriter{path: path, sort: keySorter{fs: fsx.OS, path: path + ".sort.tmp"}}
}

// Add takes a fingerprint.
func (w *KeySetWriter) Add(fp Fingerprint) error { return w.sort.add(fp) }

// Close gives up, if Finish was not called; it always removes what Add needed.
func (w *KeySetWriter) Close() error { return w.sort.close() }

// Finish makes the set of what was added, without what is in minus, unless that
// is nil.
func (w *KeySetWriter) Finish(minus *KeySet) (_ *KeySet, err error) {
	fsys := w.sort.fs
	if err := fsys.Remove(w.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := fsys.Create(w.path)
	if err != nil {
		return nil, err
	}
	s := &KeySet{fs: fsys, path: w.path, f: f, at: -1}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	var without keyCursor
	if minus != nil {
		without.next = minus.row()
		if err := without.step(); err != nil {
			return nil, err
		}
	} else {
		without.done = true
	}
	var out []byte
	flush := func() error {
		_, err := f.Write(out)
		out = out[:0]
		return err
	}
	err = w.sort.each(func(fp Fingerprint) error {
		for !without.done && compareKeys(without.fp, fp) < 0 {
			if err := without.step(); err != nil {
				return err
			}
		}
		if !without.done && without.fp == fp {
			return nil
		}
		if s.n%setBlock == 0 {
			s.index = append(s.index, fp)
		}
		s.n++
		out = append(out, fp[:]...)
		if len(out) < setBlock*len(fp) {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err == nil {
		err = w.Close()
	}
	return s, err
}

// row reads the whole set in ascending order.
func (s *KeySet) row() func([]byte) ([]byte, error) {
	return runReader(s.f, int64(s.n)*int64(len(Fingerprint{})))
}

// Len is the number of fingerprints.
func (s *KeySet) Len() int { return s.n }

// Find returns the place of fp in the ascending row of all; ok is false when it
// is not there.
func (s *KeySet) Find(fp Fingerprint) (i int, ok bool, err error) {
	const size = len(Fingerprint{})
	b := sort.Search(len(s.index), func(i int) bool { return compareKeys(s.index[i], fp) > 0 }) - 1
	if b < 0 {
		return 0, false, nil
	}
	if s.at != b {
		n := min(setBlock, s.n-b*setBlock) * size
		s.block, s.at = slices.Grow(s.block[:0], n)[:n], -1
		if _, err := s.f.ReadAt(s.block, int64(b)*setBlock*int64(size)); err != nil && err != io.EOF {
			return 0, false, fmt.Errorf("read a set of keys: %w", err)
		}
		s.at = b
	}
	n := len(s.block) / size
	i = sort.Search(n, func(i int) bool { return slices.Compare(s.block[i*size:(i+1)*size], fp[:]) >= 0 })
	if i == n || Fingerprint(s.block[i*size:]) != fp {
		return 0, false, nil
	}
	return b*setBlock + i, true, nil
}

// Close removes the file.
func (s *KeySet) Close() error {
	return errors.Join(s.f.Close(), s.fs.Remove(s.path))
}
