package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"tairlift/internal/rdb"
	"tairlift/internal/repl"
)

// names reads the keys that one sealed segment has written. An entry of the
// RDB, or a command, belongs to the segment that its first byte is in, however
// many it crosses; where the next one begins is told by the segment before.
type names struct {
	g    *Group
	s    *segFile
	end  int64 // of the segment: RDB or stream offset
	from place
	// swaps are those up to there.
	swaps Swaps
}

// startNames finds out where the segment's first own entry begins. It returns
// nil for one of an RDB that never arrived whole.
func (g *Group) startNames(s *segFile) (*names, error) {
	h := &s.hdr
	n := &names{g: g, s: s, end: s.end, swaps: Swaps{Turns: EverySwap}}
	first := h.Seq == h.First
	if !first {
		before, err := g.openKeys(h.Epoch, h.Seq-1)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("key file of the segment before it is missing: %w", &MissingError{Path: KeysPath(g.dir, g.id, h.Epoch, h.Seq-1)})
		}
		if err != nil {
			return nil, err
		}
		defer before.close()
		n.from, n.swaps = before.end.Next, before.end.Swaps
		first = h.Stream && !before.head.hdr.Stream
	}
	if first && h.Stream {
		n.from = place{Offset: int64(h.Start)} // a source selects a database first
	}
	if h.Stream {
		return n, nil
	}
	in, _, err := g.openRDB(h.Epoch)
	if errors.Is(err, ErrRDBIncomplete) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return n, in.Close()
}

// read calls add for each key and returns where the next segment's first own
// entry begins.
func (n *names) read(add func(Fingerprint) error) (keysEnd, error) {
	if n.from.Offset >= n.end { // one entry fills the segment
		return keysEnd{Next: n.from, Swaps: n.swaps}, nil
	}
	if n.s.hdr.Stream {
		return n.stream(add)
	}
	return n.rdb(add)
}

func (n *names) rdb(add func(Fingerprint) error) (keysEnd, error) {
	end := keysEnd{}
	in, _, err := n.g.openRDB(n.s.hdr.Epoch)
	if err != nil {
		return end, err
	}
	defer in.Close()
	if err := in.SeekTo(n.from.Offset); err != nil {
		return end, err
	}
	at := rdb.Boundary{Offset: n.from.Offset, DB: int(n.from.DB), Version: int(n.from.Version)}
	dec := rdb.Resume(in, at, rdb.Options{Hold: -1})
	for {
		if at := dec.Boundary(); at.Offset >= n.end {
			end.Next = place{Offset: at.Offset, DB: uint32(at.DB), Version: uint32(at.Version)}
			return end, nil
		}
		e, err := dec.Next()
		if err == io.EOF {
			end.Next = place{Offset: dec.Offset(), Version: uint32(dec.Version())}
			return end, nil
		}
		if err != nil {
			return end, err
		}
		if err := add(FingerprintOf(e.DB, e.Key)); err != nil {
			return end, err
		}
		if err := dec.Skip(); err != nil {
			return end, err
		}
	}
}

func (n *names) stream(add func(Fingerprint) error) (keysEnd, error) {
	end := keysEnd{}
	in, err := n.g.OpenCommands(n.s.hdr.Epoch, repl.Offset(n.from.Offset), repl.Offset(n.end))
	if err != nil {
		return end, err
	}
	defer in.Close()
	uses := keyUses{db: int(n.from.DB), swaps: &n.swaps}
	for {
		c, err := in.Next()
		if err == io.EOF || err == ErrEpochEnd { // a command cut short was never executed
			end.Next = place{Offset: max(int64(in.Offset()), n.end), DB: uint32(uses.db)}
			end.Opaque, end.Swaps = uses.opaque, n.swaps
			return end, nil
		}
		if err == nil {
			err = uses.of(c, func(fp Fingerprint, _ bool) error { return add(fp) })
		}
		if err != nil {
			return end, err
		}
	}
}
