package checkpoint

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"tairlift/internal/repl"
)

// ErrInUse says that another process holds the store.
var ErrInUse = errors.New("checkpoint: in use by another process")

// formatVersion is the version of both stores, kept in their meta bucket.
const formatVersion = "1"

const lockWait = time.Second

var (
	bucketMeta   = []byte("meta")
	bucketGroups = []byte("groups")
	keyVersion   = []byte("version")
)

// store is what both files share.
type store struct {
	db *bbolt.DB
}

func open(path, kind string, buckets ...[]byte) (store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return store{}, fmt.Errorf("open %s: %w", path, err)
	}
	db, err := bbolt.Open(path, 0o644, &bbolt.Options{Timeout: lockWait})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return store{}, fmt.Errorf("open %s: %w", path, ErrInUse)
	case err != nil:
		return store{}, fmt.Errorf("open %s: %w", path, err)
	}
	// Up to 40 groups record at the same moment: let them share one fsync
	// without adding much to the time an ACK waits.
	db.MaxBatchDelay = 5 * time.Millisecond
	want := kind + " " + formatVersion
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range append([][]byte{bucketMeta, bucketGroups}, buckets...) {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		switch got := meta.Get(keyVersion); {
		case got == nil:
			return meta.Put(keyVersion, []byte(want))
		case string(got) != want:
			return fmt.Errorf("store has format %q, expected %q", got, want)
		}
		return nil
	})
	if err != nil {
		return store{}, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	return store{db: db}, nil
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
		return json.Unmarshal(raw, v)
	})
	if err != nil {
		return false, fmt.Errorf("read %s of %s: %w", bucket, s.db.Path(), err)
	}
	return found, nil
}

func (s store) put(bucket, key []byte, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s of %s: %w", bucket, s.db.Path(), err)
	}
	err = s.db.Batch(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put(key, raw) })
	if err != nil {
		return fmt.Errorf("write %s of %s: %w", bucket, s.db.Path(), err)
	}
	return nil
}
