package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// ErrInUse says that another process holds the store.
var ErrInUse = errors.New("checkpoint: in use by another process")

// ErrBroken says that a write of this store has failed before. What the disk
// holds is unknown then, and bbolt, which reads its own pages from the cache,
// could build on what never reached it: nothing more is written. A full disk is
// no exception, though bbolt rolls a failed write back: the error of a write may
// be that of an earlier one, whose pages a network file system has dropped. A
// store that is opened again has all its pages checked first.
var ErrBroken = errors.New("checkpoint: store is broken")

// DamagedError says that the file is not what was written. It is refused as a
// whole; nothing of it was changed.
type DamagedError struct {
	Path string
	Err  error
}

func (e *DamagedError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.Path, e.Err) }
func (e *DamagedError) Unwrap() error { return e.Err }

// FormatError says that the file is another store, or of another version.
type FormatError struct {
	Path            string
	Found, Expected string // kind and version
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s is a store of format %q, expected %q", e.Path, e.Found, e.Expected)
}

// formatVersion is the version of both stores, kept in their meta bucket. A
// store of version 1, whose records have no checksum, becomes one of this.
const (
	formatVersion = "2"
	oldVersion    = "1"
)

const lockWait = time.Second

var (
	bucketMeta   = []byte("meta")
	bucketGroups = []byte("groups")
	keyVersion   = []byte("version")
)

// store is what both files share.
type store struct {
	db     *bbolt.DB
	broken *atomic.Pointer[error] // the first write that failed
}

// write runs fn in a transaction, which may be shared with others, and returns
// once it is on disk. It fails for good.
func (s store) write(what string, fn func(*bbolt.Tx) error) error {
	if first := s.broken.Load(); first != nil {
		return fmt.Errorf("write %s of %s: %w", what, s.db.Path(), errors.Join(ErrBroken, *first))
	}
	if err := s.db.Batch(fn); err != nil {
		s.broken.CompareAndSwap(nil, &err)
		return fmt.Errorf("write %s of %s: %w", what, s.db.Path(), err)
	}
	return nil
}

// open opens the store at path. A file is made whole before it gets its name,
// so one that is there and empty, or cut short, has lost something.
func open(path, kind string, buckets ...[]byte) (s store, err error) {
	buckets = append([][]byte{bucketMeta, bucketGroups}, buckets...)
	// bbolt panics on pages that it does not understand, and a disk that cannot
	// be read is a fault where a file is mapped. A walk over all pages has gone
	// before, so that is the last resort.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			s, err = store{}, &DamagedError{Path: path, Err: fmt.Errorf("%v", p)}
		}
	}()
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = create(path, kind, buckets)
	case err == nil && info.Size() == 0:
		err = &DamagedError{Path: path, Err: errors.New("it is empty")}
	case err == nil:
		err = check(path)
	}
	if err != nil {
		return store{}, err
	}
	s.broken = &atomic.Pointer[error]{}
	if s.db, err = openBolt(path, false); err != nil {
		return store{}, err
	}
	// Up to 40 groups record at the same moment: let them share one fsync
	// without adding much to the time an ACK waits.
	s.db.MaxBatchDelay = 5 * time.Millisecond
	if err := s.prepare(kind, buckets); err != nil {
		return store{}, errors.Join(err, s.db.Close())
	}
	return s, nil
}

func openBolt(path string, readOnly bool) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o644, &bbolt.Options{Timeout: lockWait, ReadOnly: readOnly})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("open %s: %w", path, ErrInUse)
	case err == nil:
		return db, nil
	}
	var errno syscall.Errno
	if errors.As(err, &errno) { // the file system's, and not the bytes'
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return nil, &DamagedError{Path: path, Err: err}
}

// check walks the file while nobody writes to it.
func check(path string) error {
	db, err := openBolt(path, true)
	if err != nil {
		return err
	}
	defer db.Close()
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := checkPages(f, info.Size(), int64(db.Info().PageSize), checkRecord); err != nil {
		return &DamagedError{Path: path, Err: err}
	}
	return nil
}

// create makes a new store under another name first: a crash leaves none, or
// a whole one. Of two processes that do so at once, the second finds the
// first one's.
func create(path, kind string, buckets [][]byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	temp := f.Name()
	defer func() { _ = os.Remove(temp) }() // it has its name, or is of no use
	if err := f.Close(); err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	db, err := openBolt(temp, false)
	if err != nil {
		return err
	}
	if err := errors.Join(store{db: db}.prepare(kind, buckets), db.Close()); err != nil {
		return err
	}
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		// A file system without links.
		if err := os.Rename(temp, path); err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
	}
	// The folder too may be new.
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := fsx.OS.SyncDir(d); err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
	}
	return nil
}

// prepare makes the buckets, and refuses a store of another kind or version.
func (s store) prepare(kind string, buckets [][]byte) error {
	want := kind + " " + formatVersion
	ready := false
	err := s.db.View(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		if meta == nil {
			return nil
		}
		got := string(meta.Get(keyVersion))
		if got != want && got != kind+" "+oldVersion {
			return &FormatError{Path: s.db.Path(), Found: got, Expected: want}
		}
		ready = got == want && !slices.ContainsFunc(buckets, func(b []byte) bool { return tx.Bucket(b) == nil })
		return nil
	})
	if err != nil || ready {
		return err
	}
	err = s.db.Update(func(tx *bbolt.Tx) error {
		for _, b := range buckets {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta).Put(keyVersion, []byte(want))
	})
	if err != nil {
		err = fmt.Errorf("open %s: %w", s.db.Path(), err)
	}
	return err
}

// Close releases the file and its lock.
func (s store) Close() error { return s.db.Close() }

func groupKey(g repl.GroupID) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(g))
}

func (s store) get(bucket, key []byte, v any) (bool, error) {
	var found bool
	err := s.db.View(func(tx *bbolt.Tx) error {
		raw := tx.Bucket(bucket).Get(key)
		if raw == nil {
			return nil
		}
		found = true
		return decode(bucket, key, raw, v)
	})
	if err != nil {
		return false, &DamagedError{Path: s.db.Path(), Err: err}
	}
	return found, nil
}

func (s store) put(bucket, key []byte, v any) error {
	raw, err := encode(bucket, key, v)
	if err != nil {
		return fmt.Errorf("write %s of %s: %w", bucket, s.db.Path(), err)
	}
	return s.write(string(bucket), func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put(key, raw) })
}
