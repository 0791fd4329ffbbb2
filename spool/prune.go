package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"tairlift/internal/repl"
)

// Floor is the oldest place of a group that must stay readable: of an epoch
// its RDB and all that follows, or the stream from an offset on.
type Floor struct {
	Epoch  repl.Epoch  `json:"epoch"`
	Stream bool        `json:"stream"` // the epoch's RDB is not needed any more
	Offset repl.Offset `json:"offset"` // with Stream: bytes behind it are
}

// Before tells whether f keeps more than o.
func (f Floor) Before(o Floor) bool {
	switch {
	case f.Epoch != o.Epoch:
		return f.Epoch < o.Epoch
	case f.Stream != o.Stream:
		return !f.Stream
	}
	return f.Offset < o.Offset
}

// above tells whether all of a sealed segment lies before the floor.
func (f Floor) above(h *segmentHeader, foot *footer) bool {
	if h.Epoch != f.Epoch {
		return h.Epoch < f.Epoch
	}
	return f.Stream && (!h.Stream || foot.StreamEnd <= int64(f.Offset))
}

// PruneOptions tune Prune. The zero value works.
type PruneOptions struct {
	DryRun bool // only tell what would be removed
	// GivenUp removes, wherever they stand, the segments of epochs whose RDB was
	// cut short and that are not the newest: nothing of them was ever applied.
	GivenUp bool
	Now     func() time.Time // nil = time.Now
	Log     *slog.Logger     // nil = none
}

// Prune removes the segments that lie before the floor, oldest first, and
// leaves for each a key file with the fingerprints of the keys that it wrote.
// It never removes a group's newest segment, nor one that is not sealed. A
// segment is removed only after its key file is durable, so that a crash
// leaves one of the two, or both; it may be repeated. ctx ends it between two
// segments. What was removed is returned also with an error. A segment that
// cannot be read whole is a CorruptError and stays, with all behind it.
//
// Who prunes holds a lock elsewhere; a Writer and readers may be at work.
func (g *Group) Prune(ctx context.Context, f Floor, o PruneOptions) ([]PrunedSegment, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	epochs, err := g.listEpochs()
	if err != nil {
		return nil, err
	}
	var done []PrunedSegment
	last, err := g.lastWithHeader(epochs)
	if err != nil {
		return nil, err
	}
oldest:
	for _, e := range epochs {
		seqs, err := g.listSeqs(e)
		if err != nil {
			return done, err
		}
		end, err := g.lastWithHeader([]repl.Epoch{e})
		if err != nil {
			return done, err
		}
		for _, seq := range seqs {
			if e > f.Epoch || e == f.Epoch && seq >= end || seq >= last || ctx.Err() != nil {
				break oldest
			}
			p, ok, err := g.pruneSegment(e, seq, f, o)
			if err != nil {
				return done, fmt.Errorf("prune segment %s of group %s: %w", seq, g.id, err)
			}
			if !ok {
				break oldest
			}
			done = append(done, p)
		}
	}
	if o.GivenUp && ctx.Err() == nil {
		more, err := g.pruneGivenUp(ctx, epochs, last, o)
		return append(done, more...), err
	}
	return done, ctx.Err()
}

// pruneGivenUp removes what is left of epochs whose RDB was cut short.
func (g *Group) pruneGivenUp(ctx context.Context, epochs []repl.Epoch, last Seq, o PruneOptions) (done []PrunedSegment, err error) {
	for _, e := range epochs {
		if _, _, err := g.openRDB(e); !errors.Is(err, ErrRDBIncomplete) {
			continue // whole, or gone; what is damaged is told by who reads it
		}
		seqs, err := g.listSeqs(e)
		if err != nil {
			return done, err
		}
		if n := len(seqs); n == 0 || seqs[n-1] >= last {
			continue // perhaps still coming in
		}
		for _, seq := range seqs {
			p, ok, err := g.pruneSegment(e, seq, Floor{Epoch: e + 1}, o)
			if err != nil || !ok || ctx.Err() != nil {
				return done, errors.Join(err, ctx.Err())
			}
			done = append(done, p)
		}
	}
	return done, nil
}

// pruneSegment prunes one segment if it lies before the floor.
func (g *Group) pruneSegment(e repl.Epoch, seq Seq, f Floor, o PruneOptions) (PrunedSegment, bool, error) {
	s, err := g.open(e, seq)
	if err == errNotYet {
		return PrunedSegment{}, false, nil
	}
	if err != nil {
		return PrunedSegment{}, false, err
	}
	defer s.close()
	sealed, err := s.readFooter()
	if err != nil || !sealed || !f.above(&s.hdr, &s.foot) {
		return PrunedSegment{}, false, err
	}
	k := &keysFile{path: KeysPath(g.dir, g.id, e, seq), head: keysHeader{hdr: s.hdr, foot: s.foot, size: s.size()}}
	if o.DryRun {
		return k.info(), true, nil
	}
	// A prune before this one may have been cut short behind its key file.
	old, err := g.openKeys(e, seq)
	switch {
	case err == nil:
		err = old.each(func(Fingerprint) error { return nil })
		old.close()
		k = old
	case errors.Is(err, fs.ErrNotExist):
		err = g.writeKeys(k, s, o)
	}
	if err != nil {
		return PrunedSegment{}, false, err
	}
	if err := g.fs.Remove(s.path); err != nil {
		return PrunedSegment{}, false, err
	}
	if err := g.fs.SyncDir(filepath.Dir(s.path)); err != nil {
		return PrunedSegment{}, false, err
	}
	p := k.info()
	o.Log.Info("segment pruned", "group", g.id.String(), "epoch", p.Epoch, "seq", p.Seq, "bytes", p.Bytes, "keys", p.Keys)
	return p, true, nil
}

// writeKeys makes the key file of a segment durable under its name.
func (g *Group) writeKeys(k *keysFile, s *segFile, o PruneOptions) error {
	k.head.pruned = o.Now().UnixMilli()
	names, err := g.startNames(s)
	if err != nil {
		return err
	}
	k.head.incomplete = names == nil
	temp := k.path + ".tmp"
	if err := g.fs.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := g.fs.Create(temp)
	if err != nil {
		return err
	}
	err = func() (err error) {
		sorted := keySorter{fs: g.fs, path: k.path + ".sort.tmp"}
		defer func() { err = errors.Join(err, sorted.close()) }()
		if names != nil {
			if k.end, err = names.read(sorted.add); err != nil {
				return err
			}
		}
		k.head.swapped = len(k.end.Swaps.origin)
		w, err := newKeysWriter(f, &k.head)
		if err != nil {
			return err
		}
		if err := g.newKeys(k, &sorted, w.add); err != nil {
			return err
		}
		if err := w.finish(&k.end); err != nil {
			return err
		}
		k.size = w.pos
		return f.Sync()
	}()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = g.fs.Rename(temp, k.path)
	}
	if err != nil {
		_ = g.fs.Remove(temp)
		return err
	}
	return g.fs.SyncDir(filepath.Dir(k.path))
}

// newKeys calls add, in ascending order, for those of a segment's keys that no
// earlier key file of the epoch has: together they are never larger than 16 bytes
// for each key that the epoch ever named.
func (g *Group) newKeys(k *keysFile, s *keySorter, add func(Fingerprint) error) error {
	h := &k.head.hdr
	before, err := g.earlier(h.Epoch, h.Seq)
	if err != nil {
		return err
	}
	defer before.close()
	return s.each(func(fp Fingerprint) error {
		known, err := before.has(fp)
		if err != nil || known {
			return err
		}
		return add(fp)
	})
}

// lastWithHeader is the newest segment of the epochs that has a header, 0 when
// none has. A folder or file that a crash or a full disk left behind it holds
// nothing, and Recover removes it.
func (g *Group) lastWithHeader(epochs []repl.Epoch) (Seq, error) {
	for _, e := range slices.Backward(epochs) {
		seqs, err := g.listSeqs(e)
		if err != nil {
			return 0, err
		}
		for _, seq := range slices.Backward(seqs) {
			s, err := g.open(e, seq)
			if err == errNotYet {
				continue
			}
			if err != nil {
				return 0, err
			}
			s.close()
			return seq, nil
		}
	}
	return 0, nil
}
