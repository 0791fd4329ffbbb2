package spool

import (
	"errors"
	"fmt"
	"slices"
)

// segmentWalk checks the frames of one segment.
type segmentWalk struct {
	c       *checker
	s       *segFile
	sealed  bool
	limit   int64   // frames end there: at the footer, or the file's end
	vouched Durable // zero unless it ends in this segment

	tally   *tally
	win     window
	raw     []byte
	synced  int64 // position of the last sync frame
	damaged bool
	matched bool // the vouched position was met between two frames
}

func (w *segmentWalk) problem(at int64, format string, args ...any) {
	w.damaged = true
	w.c.problem(w.s.path, at, format, args...)
}

// run reads all frames. prev is the segment before, for the clock samples
// carried over, nil when it is not known.
func (w *segmentWalk) run(prev *tally) error {
	w.win = window{f: w.s.f}
	head, err := w.win.at(0, segHeaderSize, w.limit)
	if err != nil {
		return fmt.Errorf("read segment %s: %w", w.s.path, err)
	}
	w.tally, w.synced = newTally(&w.s.hdr, head), segHeaderSize
	t := w.tally
	for t.pos < w.limit {
		w.meet()
		pos := t.pos
		h, err := t.read(&w.win, w.limit, &w.raw)
		if err == nil && h.isData() && h.Flags&frameZstd != 0 {
			err = w.inflate(pos, &h)
		}
		if errors.Is(err, errRead) {
			return fmt.Errorf("%s: %w", w.s.path, err)
		}
		if err != nil {
			again, err := w.broken(pos, h, err)
			if err != nil || !again {
				return err
			}
			continue
		}
		w.c.rep.Frames++
		if h.Kind == kindSync {
			w.synced = pos
		}
		if pos == segHeaderSize && prev != nil && !prev.lax && prev.hdr.Epoch == t.hdr.Epoch {
			var carried []ClockSample
			if h.Flags&frameCarried != 0 {
				carried = t.clock
			}
			if want := prev.pending(); !slices.Equal(carried, want) {
				w.problem(pos, "segment carries %d clock samples that differ from the %d before it", len(carried), len(want))
			}
		}
	}
	w.meet()
	return w.finish()
}

// inflate decompresses a data frame, which the tally has passed.
func (w *segmentWalk) inflate(pos int64, h *frameHeader) error {
	b, err := w.win.at(pos, int(h.size()), w.limit)
	if err != nil {
		return fmt.Errorf("%w: %w", errRead, err)
	}
	if _, err := h.open(b[frameHeaderSize:], &w.raw); err != nil {
		w.problem(pos, "%v", err)
	}
	return nil
}

// meet compares the vouched position when the walk stands on it.
func (w *segmentWalk) meet() {
	t, v := w.tally, w.vouched
	if v.IsZero() || v.Sealed || t.pos != v.Bytes {
		return
	}
	w.matched = true
	want := int64(v.Offset)
	if !t.hdr.Stream {
		want = v.RDBBytes
	}
	if t.at != want && !t.lax {
		w.problem(t.pos, "offset is %d, and %d is vouched for", t.at, want)
	}
}

// broken handles a frame at pos that cannot be taken. Torn bytes of a tail
// end the walk quietly; behind damage it goes on where it can, so that one
// bad block does not hide another.
func (w *segmentWalk) broken(pos int64, h frameHeader, cause error) (again bool, err error) {
	size := w.limit
	later, err := findSync(w.s.f, w.s.hdr.CRC, pos+1, size)
	if err != nil {
		return false, fmt.Errorf("read segment %s: %w", w.s.path, err)
	}
	if !w.sealed && h.Kind == kindFooter {
		return false, w.unfinished(pos, h, cause)
	}
	if !w.sealed && later < 0 && pos >= w.vouched.Bytes && w.c.last && !w.vouched.Sealed {
		w.c.note(w.s.path, pos, "torn tail of %s: %v", count(size-pos, "byte"), cause)
		return false, w.finish()
	}
	w.problem(pos, "%v", cause)
	t := w.tally
	t.lax = true
	switch {
	case h.Kind != 0 && pos+h.size() <= size && t.pos == pos:
		// The header is whole, so the next frame is where it says.
		t.pos = pos + h.size()
		t.at = h.Offset
		if h.isData() {
			t.at = h.end()
		}
		t.done = t.done || h.Kind == kindRDBEnd
		t.begun = t.begun || h.Kind == kindRDBBegin
		return true, nil
	case later >= 0:
		b, err := w.win.at(later, frameHeaderSize, size)
		if err != nil {
			return false, fmt.Errorf("read segment %s: %w", w.s.path, err)
		}
		sync, err := parseFrameHeader(b, w.s.hdr.CRC, later)
		if err != nil {
			return false, &CorruptError{Path: w.s.path, Offset: later, Err: err} // it was whole a moment ago
		}
		t.pos, t.at, t.begun = later, sync.Offset, true
		return true, nil
	}
	return false, nil // nothing behind it can be read
}

// unfinished handles a footer that no trailer follows: a seal that a crash
// cut short, or a trailer that was damaged.
func (w *segmentWalk) unfinished(pos int64, h frameHeader, cause error) error {
	rest := w.limit - pos - h.size()
	switch whole, _ := w.c.vouched.covers(w.s.hdr.Seq); {
	case rest >= trailerSize && (whole || !w.c.last || !w.unwritten(w.limit-1)):
		w.problem(pos+h.size(), "trailer is not valid")
	case whole || !w.c.last:
		w.problem(pos+h.size(), "trailer has %d bytes, expected %d", max(rest, 0), trailerSize)
	default:
		w.c.note(w.s.path, pos, "torn seal: %v", cause)
	}
	return nil
}

// unwritten tells whether the byte at pos is 0, where a trailer has its magic: a
// power cut kept the file's size and lost the block.
func (w *segmentWalk) unwritten(pos int64) bool {
	var b [1]byte
	_, err := w.s.f.ReadAt(b[:], pos)
	return err == nil && b[0] == 0
}

// finish compares the end of the segment with its footer, or with what is
// vouched for.
func (w *segmentWalk) finish() error {
	t, s := w.tally, w.s
	whole, _ := w.c.vouched.covers(s.hdr.Seq)
	switch {
	case w.sealed && t.pos != s.footPos:
		w.problem(t.pos, "frames end here, expected the footer at %d", s.footPos)
	case w.sealed && !w.damaged:
		w.footer()
	case w.sealed:
	case w.vouched.Sealed && s.size() < w.vouched.Bytes, !w.vouched.IsZero() && s.size() < w.vouched.Bytes:
		w.problem(s.size(), "file ends, and %d bytes are vouched for", w.vouched.Bytes)
	case whole:
		w.problem(s.size(), "is not sealed, and its seal is vouched for")
	case !w.c.last:
		w.problem(s.size(), "is not sealed, and a later segment follows")
	case t.pos > w.synced+frameHeaderSize && t.pos > max(w.vouched.Bytes, segHeaderSize):
		w.c.note(s.path, w.synced, "%s at the end are not synced yet", count(t.pos-w.synced, "byte"))
	}
	if v := w.vouched; w.sealed && v.Sealed && s.size() != v.Bytes {
		w.problem(-1, "file has %d bytes, and %d are vouched for", s.size(), v.Bytes)
	}
	if v := w.vouched; !v.IsZero() && !v.Sealed && !w.matched && !w.damaged {
		w.problem(v.Bytes, "vouched position is not between two frames")
	}
	return nil
}

// footer compares what the footer says with what was read.
func (w *segmentWalk) footer() {
	s := w.s
	found, read := s.foot, w.tally.footer()
	differ := func(at int64, what string, found, expected any) {
		w.problem(s.footPos+frameHeaderSize+at, "footer's %s is %v, expected %v", what, found, expected)
	}
	switch {
	case found.StreamEnd != read.StreamEnd:
		differ(0, "stream end", found.StreamEnd, read.StreamEnd)
	case found.RDBEnd != read.RDBEnd:
		differ(8, "rdb end", found.RDBEnd, read.RDBEnd)
	case found.RDBSize != read.RDBSize:
		differ(16, "rdb size", found.RDBSize, read.RDBSize)
	case found.RDBDone != read.RDBDone:
		differ(24, "rdb-complete flag", found.RDBDone, read.RDBDone)
	case found.Frames != read.Frames:
		differ(28, "frame count", found.Frames, read.Frames)
	case found.RawBytes != read.RawBytes:
		differ(32, "raw bytes", found.RawBytes, read.RawBytes)
	case found.StoredBytes != read.StoredBytes:
		differ(40, "stored bytes", found.StoredBytes, read.StoredBytes)
	case found.FirstRecv != read.FirstRecv || found.LastRecv != read.LastRecv:
		differ(48, "receive times", []int64{found.FirstRecv, found.LastRecv}, []int64{read.FirstRecv, read.LastRecv})
	case found.FileCRC != read.FileCRC:
		differ(64, "file crc", fmt.Sprintf("%08x", found.FileCRC), fmt.Sprintf("%08x", read.FileCRC))
	case !slices.Equal(found.Index, read.Index):
		differ(footerFixed, "index", fmt.Sprintf("of %d entries", len(found.Index)), fmt.Sprintf("%d others", len(read.Index)))
	case !slices.Equal(found.Clock, read.Clock):
		differ(footerFixed, "clock", fmt.Sprintf("of %d samples", len(found.Clock)), fmt.Sprintf("%d others", len(read.Clock)))
	}
}
