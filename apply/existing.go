package apply

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/zeebo/xxh3"

	"tairlift/checkpoint"
	"tairlift/internal/fsx"
	"tairlift/internal/repl"
	"tairlift/internal/selection"
	"tairlift/spool"
)

// existing knows the keys that the target held before the job (--on-existing
// replace). The first command of the stream on such a key must not meet the
// old value: a DEL goes before it, in the same EXEC. Keys that no source ever
// names stay as they are.
//
// The keys are 64-bit fingerprints, 8 bytes each, in existing.fp, written
// before anything is written to the target. A key that the RDB replaced or a
// DEL removed is handled; that is logged in existing.log, with the position
// that its mark must have reached for it to be true, and the log is synced
// before that mark is written, and before an entry of the RDB is sent. Where a session begins again before that
// position, this is taken back, in the log too: the command may be left out the
// second time (--on-reject continue). An epoch that is left in its RDB keeps all of
// that RDB's: they may be on the target, and its sweep is to remove them. Two keys with one fingerprint do no harm: a DEL
// too many meets a key that is not there yet.
//
// Known are the keys that commands name: not those that only a script's text
// names, nor what MOVE and COPY ... DB find in the other database.
//
// A nil *existing is one without keys.
type existing struct {
	mu      sync.Mutex // guards all below
	fps     []uint64   // sorted; of databases as the target numbers them
	handled []uint64   // a bit for each of fps
	pending map[repl.GroupID][]handledKey
	log     *os.File
	buf     *bufio.Writer
	dirty   bool
	broken  error // the first sync that failed, for all groups
	dir     string
	job     spool.JobID
}

// handledKey is a record of the log.
type handledKey struct {
	fp    uint64
	epoch repl.Epoch
	rdb   bool // at is an offset in the RDB, else in the stream
	at    int64
}

const (
	existingMagic = "tlexist2"
	recordSize    = 32
)

// What a record of the log says of a key.
const (
	inStream  = 0 // handled by the command that ends at the position
	inRDB     = 1 // handled by the entry of the RDB that ends there
	takenBack = 2 // an earlier record does not count
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openExisting reads what an earlier run left; nil when there is nothing.
func openExisting(dir string, job spool.JobID) (*existing, error) {
	x := &existing{dir: dir, job: job, pending: map[repl.GroupID][]handledKey{}}
	raw, err := os.ReadFile(x.file())
	if errors.Is(err, fs.ErrNotExist) {
		return x, nil
	}
	if err != nil {
		return nil, err
	}
	const head = 8 + 16 + 8
	if len(raw) < head+4 || string(raw[:8]) != existingMagic || !bytes.Equal(raw[8:24], job[:]) ||
		binary.LittleEndian.Uint64(raw[24:]) != uint64(len(raw)-head-4)/8 || (len(raw)-head-4)%8 != 0 ||
		crc32.Checksum(raw[:len(raw)-4], castagnoli) != binary.LittleEndian.Uint32(raw[len(raw)-4:]) {
		return nil, fmt.Errorf("read %s: damaged, or of another job", x.file())
	}
	for p := raw[head : len(raw)-4]; len(p) > 0; p = p[8:] {
		x.fps = append(x.fps, binary.LittleEndian.Uint64(p))
	}
	x.handled = make([]uint64, len(x.fps)/64+1)
	return x, x.openLog()
}

// none tells whether the target held nothing before the job.
func (x *existing) none() bool { return x == nil || len(x.fps) == 0 }

func (x *existing) file() string    { return filepath.Join(x.dir, "existing.fp") }
func (x *existing) logFile() string { return filepath.Join(x.dir, "existing.log") }

// openLog reads the log. Every key in it counts as handled until rewind has
// compared its group's records with the mark.
func (x *existing) openLog() error {
	f, err := os.OpenFile(x.logFile(), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	type name struct {
		group repl.GroupID
		fp    uint64
	}
	gone := map[name]int{} // records of the group's before this one do not count
	r := bufio.NewReader(f)
	var rec [recordSize]byte
	good := int64(0)
	for {
		if _, err := io.ReadFull(r, rec[:]); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				break
			}
			return errors.Join(err, f.Close())
		}
		if crc32.Checksum(rec[:28], castagnoli) != binary.LittleEndian.Uint32(rec[28:]) {
			break // torn: it was not synced, so no mark relies on it
		}
		good += recordSize
		n := name{repl.GroupID(binary.LittleEndian.Uint32(rec[8:])), binary.LittleEndian.Uint64(rec[0:])}
		if rec[24] == takenBack {
			gone[n] = len(x.pending[n.group])
			continue
		}
		x.pending[n.group] = append(x.pending[n.group], handledKey{
			fp: n.fp, epoch: repl.Epoch(binary.LittleEndian.Uint32(rec[12:])), at: int64(binary.LittleEndian.Uint64(rec[16:])), rdb: rec[24] == inRDB,
		})
	}
	for g, all := range x.pending {
		kept := all[:0]
		for i, h := range all {
			if i < gone[name{g, h.fp}] {
				continue
			}
			kept = append(kept, h)
			if word, mask, ok := x.bit(h.fp); ok {
				*word |= mask
			}
		}
		x.pending[g] = kept
	}
	if err := errors.Join(f.Truncate(good), seekTo(f, good)); err != nil {
		return errors.Join(err, f.Close())
	}
	x.log, x.buf = f, bufio.NewWriter(f)
	return nil
}

func seekTo(f *os.File, at int64) error {
	_, err := f.Seek(at, io.SeekStart)
	return err
}

// Close releases the log.
func (x *existing) Close() error {
	if x == nil || x.log == nil {
		return nil
	}
	return errors.Join(x.sync(), x.log.Close())
}

// fingerprint spreads db over the whole seed: a short key and a small seed are
// simply added, by which "k0" in database 1 would be "k1" in database 0.
func fingerprint(db int, key []byte) uint64 { return xxh3.HashSeed(key, uint64(db)*0x9e3779b97f4a7c15) }

// scan fingerprints every key of the target that the job may replace, and returns
// once that is on disk.
func (x *existing) scan(ctx context.Context, c doer, t target, s *selection.Selection) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.clear(); err != nil {
		return err
	}
	var fps []uint64
	for _, db := range slices.Sorted(maps.Keys(t.keyspace)) {
		if s.From(db) == selection.None {
			continue
		}
		err := scanKeys(ctx, c, db, func(key []byte) error {
			if !isOurs(key) && s.Key(key) {
				fps = append(fps, fingerprint(db, key))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	slices.Sort(fps)
	fps = slices.Compact(fps)
	out := append([]byte(existingMagic), x.job[:]...)
	out = binary.LittleEndian.AppendUint64(out, uint64(len(fps)))
	for _, fp := range fps {
		out = binary.LittleEndian.AppendUint64(out, fp)
	}
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
	if err := fsx.WriteFileAtomic(x.file(), out); err != nil {
		return err
	}
	x.fps, x.handled = fps, make([]uint64, len(fps)/64+1)
	return x.openLog()
}

// clear forgets an earlier scan, whose marks are gone: the log first, because
// its records must not be read beside another scan's keys. The folder is synced
// with the new keys.
func (x *existing) clear() error {
	if x.log != nil {
		x.log.Close()
		x.log, x.dirty = nil, false
	}
	x.fps, x.handled, x.pending = nil, nil, map[repl.GroupID][]handledKey{}
	f, err := os.OpenFile(x.logFile(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (x *existing) bit(fp uint64) (word *uint64, mask uint64, ok bool) {
	i, ok := slices.BinarySearch(x.fps, fp)
	if !ok {
		return nil, 0, false
	}
	return &x.handled[i/64], 1 << (i % 64), true
}

// take tells whether key is one of the target's own that nothing has replaced
// yet; from then on it is handled, once g's mark reaches at in epoch e.
func (x *existing) take(g repl.GroupID, e repl.Epoch, db int, key []byte, at repl.Offset) bool {
	return x.handle(g, db, key, handledKey{epoch: e, at: int64(at)})
}

// replaced says that an entry of e's RDB, ending at offset at, replaces key.
func (x *existing) replaced(g repl.GroupID, e repl.Epoch, db int, key []byte, at int64) {
	x.handle(g, db, key, handledKey{epoch: e, at: at, rdb: true})
}

func (x *existing) handle(g repl.GroupID, db int, key []byte, h handledKey) bool {
	if x == nil || len(x.fps) == 0 {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	h.fp = fingerprint(db, key)
	word, mask, ok := x.bit(h.fp)
	if !ok || *word&mask != 0 {
		return false
	}
	*word |= mask
	kind := byte(inStream)
	if h.rdb {
		kind = inRDB
	}
	x.pending[g] = append(x.pending[g], h)
	x.write(g, h, kind)
	return true
}

// untouched tells whether key was on the target before the job, and is still
// what it was.
func (x *existing) untouched(db int, key []byte) bool {
	if x == nil || len(x.fps) == 0 {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	word, mask, ok := x.bit(fingerprint(db, key))
	return ok && *word&mask == 0
}

func (x *existing) write(g repl.GroupID, h handledKey, kind byte) {
	var rec [recordSize]byte
	binary.LittleEndian.PutUint64(rec[0:], h.fp)
	binary.LittleEndian.PutUint32(rec[8:], uint32(g))
	binary.LittleEndian.PutUint32(rec[12:], uint32(h.epoch))
	binary.LittleEndian.PutUint64(rec[16:], uint64(h.at))
	rec[24] = kind
	binary.LittleEndian.PutUint32(rec[28:], crc32.Checksum(rec[:28], castagnoli))
	_, _ = x.buf.Write(rec[:]) // its error stays and is returned by sync
	x.dirty = true
}

// sync makes what was handled durable. It must return before a mark that
// relies on it is sent.
func (x *existing) sync() error {
	if x == nil {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.dirty || x.broken != nil {
		return x.broken
	}
	err := x.buf.Flush()
	if err == nil {
		err = x.log.Sync()
	}
	if err != nil {
		// Not tried again, not for another group either: the kernel may have
		// dropped the pages and would report success.
		x.broken = fmt.Errorf("write existing.log: %w", err)
		return x.broken
	}
	x.dirty = false
	return nil
}

// reached tells whether the mark vouches for what was done. Of an epoch before
// the mark's it does: what had not been committed was taken back when the mark
// went on to another.
func (h handledKey) reached(m Mark) bool {
	if h.epoch != m.Epoch {
		return h.epoch < m.Epoch
	}
	switch m.Phase {
	case checkpoint.PhaseStream:
		return h.rdb || h.at <= int64(m.Offset)
	case checkpoint.PhaseSweep:
		return h.rdb
	case checkpoint.PhaseRDB:
		return h.rdb && h.at <= m.RDB
	}
	return false
}

// rewind takes back what g handled beyond its mark: it was not committed, or
// is to be done again. It returns x, or nil when there are no keys.
func (x *existing) rewind(g repl.GroupID, m Mark) *existing {
	if x == nil || len(x.fps) == 0 {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	kept := x.pending[g][:0]
	for _, h := range x.pending[g] {
		word, mask, ok := x.bit(h.fp)
		if !ok {
			continue
		}
		if h.reached(m) {
			*word |= mask
			kept = append(kept, h)
		} else {
			*word &^= mask
			x.write(g, h, takenBack)
		}
	}
	x.pending[g] = kept
	return x
}
