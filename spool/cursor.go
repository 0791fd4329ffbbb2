package spool

import (
	"cmp"
	"errors"
	"fmt"

	"tairlift/internal/repl"
)

// cursor walks over the durable frames of an epoch, from segment to segment.
type cursor struct {
	g      *Group
	epoch  repl.Epoch
	stream bool     // which of the epoch's two phases is read
	seq    Seq      // of seg, or the one to open next
	seg    *segFile // nil between two segments
	pos    int64    // of the next frame
	at     int64    // RDB or stream offset of the next byte
	skip   int64    // data frames that end at or before it are passed by

	raw    []byte // reused for payloads
	lost   bool   // the last call missed bytes: look at the file anew
	idle   int    // calls that found nothing since the last frame
	failed error  // corrupt, or the end of the epoch: for good
}

// lookEvery is how many fruitless calls lie between two looks at the folders,
// which tell a tail from a hole. The first call always looks.
const lookEvery = 16

func (c *cursor) close() error {
	c.seg.close()
	c.seg = nil
	c.failed = ErrClosed
	return nil
}

// next returns the next frame that is not behind it, and its payload, which
// is valid until the next call.
func (c *cursor) next() (frameHeader, []byte, error) {
	if c.failed != nil {
		return frameHeader{}, nil, c.failed
	}
	h, raw, err := c.step()
	var missing *MissingError
	if errors.As(err, &missing) {
		err = c.g.lost(c.epoch, c.seq, err)
	}
	switch {
	case err == nil:
		c.idle = 0
	case errors.As(err, &missing):
		c.lost = true
	case err == ErrEnd:
	default:
		c.failed = err
	}
	return h, raw, err
}

func (c *cursor) step() (frameHeader, []byte, error) {
	for {
		if c.seg == nil {
			if err := c.open(); err != nil {
				return frameHeader{}, nil, err
			}
		}
		if c.lost {
			if err := c.seg.reopen(); err != nil {
				return frameHeader{}, nil, err
			}
			c.lost = false
		}
		if c.pos < c.seg.limit {
			h, raw, err := c.frame()
			if err != nil || raw != nil {
				return h, raw, err
			}
			continue
		}
		if c.seg.sealed {
			if c.at != c.seg.end {
				return frameHeader{}, nil, corrupt(c.seg.path, c.seg.footPos, "footer ends at offset %d, expected %d", c.seg.end, c.at)
			}
			c.seg.close()
			c.seg = nil
			c.seq++
			c.idle = 0
			continue
		}
		if err := c.extend(); err != nil {
			return frameHeader{}, nil, err
		}
	}
}

// frame reads the frame at pos. A nil payload without error is one to pass
// by.
func (c *cursor) frame() (frameHeader, []byte, error) {
	s, pos := c.seg, c.pos
	h, err := s.head(pos)
	if err != nil {
		return h, nil, err
	}
	if h.Offset != c.at {
		return h, nil, corrupt(s.path, pos, "%s frame has offset %d, expected %d", h.Kind, h.Offset, c.at)
	}
	if inStream := h.Kind == kindStream; h.Kind != kindClock && h.Kind != kindSync && inStream != c.stream {
		return h, nil, corrupt(s.path, pos, "%s frame stands out of order", h.Kind)
	}
	if h.Kind == kindSync || h.isData() && h.end() <= c.skip {
		c.pass(&h)
		return h, nil, nil
	}
	raw, err := s.payload(pos, &h, &c.raw)
	if err != nil {
		return h, nil, err
	}
	c.pass(&h)
	if raw == nil {
		raw = []byte{}
	}
	return h, raw, nil
}

func (c *cursor) pass(h *frameHeader) {
	c.pos += h.size()
	if h.isData() {
		c.at = h.end()
	}
}

// extend waits at the end of a tail: it returns nil when more became durable.
func (c *cursor) extend() error {
	d, live := c.g.durable()
	if live && d.Seq == c.seq && !d.Sealed && d.Bytes <= c.seg.limit {
		return ErrEnd
	}
	grew, err := c.seg.extend(d)
	if grew {
		c.idle = 0
		return nil // what else there is to say shows behind it
	}
	if err != nil {
		return err
	}
	end, err := c.look(c.seq+1, d)
	if err != nil {
		return err
	}
	if end == ErrEnd {
		return ErrEnd
	}
	// Something follows, so this one must be sealed: perhaps since we looked.
	if grew, err = c.seg.extend(d); grew || err != nil {
		return err
	}
	return &MissingError{Path: c.seg.path, Have: c.seg.size()}
}

// open opens the segment seq.
func (c *cursor) open() error {
	d, live := c.g.durable()
	if live && d.Seq < c.seq {
		return ErrEnd
	}
	s, err := c.g.open(c.epoch, c.seq)
	if err == errNotYet {
		var end error
		if end, err = c.look(c.seq, d); err != nil {
			return err
		}
		if end == ErrEnd && d.Seq >= c.seq {
			end = &MissingError{Path: c.g.path(c.epoch, c.seq)}
		}
		if end == ErrEnd {
			return end
		}
		// It may have come between the two looks.
		if s, err = c.g.open(c.epoch, c.seq); err == errNotYet {
			if _, lost := end.(*MissingError); lost {
				return c.g.gone(c.epoch, c.seq)
			}
			return end
		}
	}
	if err != nil {
		return err
	}
	// What is missing behind the part that is here shows when that is read.
	var missing *MissingError
	if err := s.load(d); err != nil && !errors.As(err, &missing) {
		s.close()
		return err
	}
	if from := s.hdr.begin(); s.hdr.Stream != c.stream || from != c.at {
		defer s.close()
		return corrupt(s.path, 112, "segment starts at %s, expected %s", phaseOffset(s.hdr.Stream, from), phaseOffset(c.stream, c.at))
	}
	c.enter(s, segHeaderSize, c.at)
	return nil
}

func phaseOffset(stream bool, at int64) string {
	if stream {
		return fmt.Sprintf("stream offset %d", at)
	}
	return fmt.Sprintf("rdb offset %d", at)
}

// enter goes on in s from pos, where the offset is at.
func (c *cursor) enter(s *segFile, pos, at int64) {
	c.seg.close()
	c.seg, c.seq, c.pos, c.at, c.lost = s, s.hdr.Seq, pos, at, false
}

// look finds out what stands behind a reader that found nothing: ErrEnd when
// segment seq is simply not written yet, ErrEpochEnd when the epoch ended
// before it, and a MissingError when a later one shows that it must exist.
func (c *cursor) look(seq Seq, d Durable) (end, err error) {
	c.idle++
	if c.idle%lookEvery != 1 && d.Epoch <= c.epoch {
		return ErrEnd, nil
	}
	seqs, err := c.g.listSeqs(c.epoch)
	if err != nil {
		return nil, err
	}
	if n := len(seqs); n > 0 && seqs[n-1] > seq {
		return &MissingError{Path: c.g.path(c.epoch, seq)}, nil
	}
	if n := len(seqs); n > 0 && seqs[n-1] == seq {
		switch s, err := c.g.open(c.epoch, seq); {
		case err == errNotYet: // a file without a header, just begun
		case err != nil:
			return nil, err
		default:
			s.close()
			return &MissingError{Path: s.path}, nil
		}
	}
	epochs, err := c.g.listEpochs()
	if err != nil {
		return nil, err
	}
	for _, e := range epochs {
		if e <= c.epoch {
			continue
		}
		first, err := c.firstOf(e)
		if err == errNotYet {
			continue
		}
		if err != nil {
			return nil, err
		}
		if first > seq {
			return &MissingError{Path: c.g.path(c.epoch, seq)}, nil
		}
		return ErrEpochEnd, nil
	}
	return ErrEnd, nil
}

// firstOf returns the number of an epoch's first segment, which any of its
// segments tells, pruned or not.
func (c *cursor) firstOf(e repl.Epoch) (Seq, error) {
	seqs, err := c.g.listSeqs(e)
	if err != nil {
		return 0, err
	}
	for _, seq := range seqs {
		s, err := c.g.open(e, seq)
		if err == errNotYet {
			continue
		}
		if err != nil {
			return 0, err
		}
		defer s.close()
		return s.hdr.First, nil
	}
	pruned, err := c.g.listKeySeqs(e)
	if err != nil || len(pruned) == 0 {
		return 0, cmp.Or(err, errNotYet)
	}
	k, err := c.g.openKeys(e, pruned[0])
	if err != nil {
		return 0, err
	}
	defer k.close()
	return k.head.hdr.First, nil
}
