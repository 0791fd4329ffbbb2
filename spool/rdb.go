package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"tairlift/internal/repl"
)

// RDBReader reads the RDB of one epoch. It is used by one goroutine.
type RDBReader struct {
	c    cursor
	segs *segments
	size int64
	buf  []byte // of the frame at hand, not read yet
	off  int64  // of buf's first byte
	end  *rdbEnd
}

// OpenRDB opens the RDB of epoch e. It returns ErrRDBIncomplete unless all of
// it is durable, a MissingError when it is known to be but is not here, a
// PrunedError when it is no longer, and ErrNoEpoch.
func (g *Group) OpenRDB(e repl.Epoch) (*RDBReader, error) {
	r, first, err := g.openRDB(e)
	if err != nil {
		return nil, err
	}
	if first.Seq != first.First {
		return nil, g.gone(e, first.First)
	}
	r.c.seq = first.First
	return r, nil
}

// openRDB opens an RDB whose first segments may be gone, for SeekTo. It
// returns the header of the first one that is there.
func (g *Group) openRDB(e repl.Epoch) (*RDBReader, *segmentHeader, error) {
	segs, err := g.segments(e)
	if err != nil {
		return nil, nil, err
	}
	r := &RDBReader{segs: segs}
	r.c = cursor{g: g, epoch: e}
	n, err := segs.search(func(h *segmentHeader) bool { return h.Stream })
	if err != nil {
		return nil, nil, err
	}
	first, err := segs.header(0)
	if err != nil {
		return nil, nil, err
	}
	if n < segs.len() {
		h, err := segs.header(n)
		if err != nil {
			return nil, nil, err
		}
		r.size = h.RDBBytes
		return r, first, nil
	}
	d, _ := g.durable()
	s, err := segs.load(n-1, d)
	if err != nil {
		return nil, nil, err
	}
	defer s.close()
	if !s.rdbDone {
		if d.Epoch == e && d.RDBDone {
			err = &MissingError{Path: s.path, Have: s.size()}
		} else {
			err = fmt.Errorf("open rdb of epoch %d: %w", e, ErrRDBIncomplete)
		}
		return nil, nil, g.lost(e, s.hdr.Seq, err)
	}
	r.size = s.end
	return r, first, nil
}

// gone says what became of a segment that must have been: it was pruned, or it
// is missing.
func (g *Group) gone(e repl.Epoch, seq Seq) error {
	k, err := g.openKeys(e, seq)
	if errors.Is(err, fs.ErrNotExist) {
		return &MissingError{Path: g.path(e, seq)}
	}
	if err != nil {
		return err
	}
	defer k.close()
	return &PrunedError{Path: g.path(e, seq), Pruned: time.UnixMilli(k.head.pruned)}
}

// lost is what to say of a segment of which bytes are missing: that it was
// pruned, if its key file is here. Half of it may be all that a copy has when
// its source prunes it, and the rest will not come. A key file that is still
// being copied says nothing yet.
func (g *Group) lost(e repl.Epoch, seq Seq, missing error) error {
	if pruned, ok := g.gone(e, seq).(*PrunedError); ok {
		return pruned
	}
	return missing
}

// Size is the RDB's length in bytes.
func (r *RDBReader) Size() int64 { return r.size }

// CRC64 is the RDB's checksum as capture computed it. ok tells that the RDB's
// own footer agreed; it is false too before Read has returned io.EOF.
func (r *RDBReader) CRC64() (crc uint64, ok bool) {
	if r.end == nil {
		return 0, false
	}
	return r.end.CRC64, r.end.Checked
}

// SeekTo makes the next Read start at byte off of the RDB, by the sparse
// index: at most about a megabyte is passed by.
func (r *RDBReader) SeekTo(off int64) error {
	if off < 0 || off > r.size {
		return fmt.Errorf("seek in rdb: offset is %d, expected 0 to %d", off, r.size)
	}
	i, err := r.segs.search(func(h *segmentHeader) bool { return h.Stream || h.RDBBytes > off })
	if err != nil {
		return err
	}
	if i == 0 {
		return &MissingError{Path: r.segs.g.path(r.c.epoch, r.segs.seqs[0])}
	}
	d, _ := r.c.g.durable()
	s, err := r.segs.load(i-1, d)
	if err != nil {
		return err
	}
	pos, at := int64(segHeaderSize), s.hdr.begin()
	if s.sealed {
		pos, at = s.foot.find(&s.hdr, off)
	}
	r.c.enter(s, pos, at)
	r.c.skip, r.c.failed = off, nil
	r.buf, r.off, r.end = nil, off, nil
	return nil
}

// Read returns bytes of the RDB, and io.EOF exactly at its end. After a
// MissingError it may be called again.
func (r *RDBReader) Read(p []byte) (int, error) {
	for len(r.buf) == 0 {
		if r.end != nil {
			return 0, io.EOF
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.buf)
	r.buf = r.buf[n:]
	r.off += int64(n)
	return n, nil
}

// fill takes the next frame.
func (r *RDBReader) fill() error {
	h, raw, err := r.c.next()
	if err == ErrEnd || err == ErrEpochEnd {
		// OpenRDB has seen the end, so what lies before it went away since.
		return r.c.g.lost(r.c.epoch, r.c.seq, &MissingError{Path: r.c.g.path(r.c.epoch, r.c.seq)})
	}
	if err != nil {
		return err
	}
	switch h.Kind {
	case kindRDB:
		if drop := r.off - h.Offset; drop > 0 {
			raw = raw[drop:]
		}
		r.buf = raw
	case kindRDBEnd:
		end, err := parseRDBEnd(raw)
		if err == nil && h.Offset != r.size {
			err = fmt.Errorf("rdb ends at %d, expected %d", h.Offset, r.size)
		}
		if err != nil {
			return &CorruptError{Path: r.c.seg.path, Offset: r.c.pos - h.size(), Err: err}
		}
		r.end = &end
	}
	return nil
}

// Close ends the reader.
func (r *RDBReader) Close() error { return r.c.close() }
