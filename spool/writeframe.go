package spool

import (
	"fmt"
	"hash/crc32"
	"time"
)

// appendData collects p into frames. A large p is framed without a copy.
func (w *Writer) appendData(k kind, p []byte, recv time.Time) error {
	if len(w.pend) > 0 && recv.Sub(w.pendFrom) > frameSpan {
		if err := w.flush(); err != nil {
			return err
		}
	}
	for len(p) > 0 {
		if len(w.pend) == 0 && len(p) >= frameTarget {
			if err := w.writeData(k, p[:frameTarget], recv); err != nil {
				return err
			}
			w.advance(k, frameTarget)
			p = p[frameTarget:]
			continue
		}
		if len(w.pend) == 0 {
			w.pendFrom = recv
		}
		n := min(len(p), frameTarget-len(w.pend))
		w.pend = append(w.pend, p[:n]...)
		w.pendTo = recv
		w.advance(k, n)
		p = p[n:]
		if len(w.pend) == frameTarget {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *Writer) advance(k kind, n int) {
	if k == kindRDB {
		w.rdbBytes += int64(n)
	} else {
		w.offset += int64(n)
	}
}

// flush writes the frame being collected. It dates it by its last byte: a
// TTL counted from there never ends too early.
func (w *Writer) flush() error {
	if len(w.pend) == 0 {
		return nil
	}
	k := kindStream
	if !w.rdbDone {
		k = kindRDB
	}
	err := w.writeData(k, w.pend, w.pendTo)
	w.pend = w.pend[:0]
	return err
}

// writeData writes one frame of source bytes. At an index point of the stream
// the pending clock samples come first, so that reading can start there.
func (w *Writer) writeData(k kind, p []byte, recv time.Time) error {
	if err := w.open(); err != nil {
		return err
	}
	t := w.tally
	if k == kindStream && t.pos-t.indexed >= indexEvery {
		if err := w.carryClock(t.pending()); err != nil {
			return err
		}
	}
	return w.writeFrame(k, 0, t.at, recv, p)
}

func (w *Writer) carryClock(samples []ClockSample) error {
	if len(samples) == 0 {
		return nil
	}
	return w.writeFrame(kindClock, frameCarried, w.tally.at, w.o.Now(), appendClock(nil, samples))
}

// writeFrame appends one frame to the file.
func (w *Writer) writeFrame(k kind, flags uint8, offset int64, recv time.Time, p []byte) error {
	h := frameHeader{Kind: k, Flags: flags, RawLen: uint32(len(p)), Offset: offset, Recv: recv.UnixMilli()}
	w.out = append(w.out[:0], make([]byte, frameHeaderSize)...)
	out, ok := compress(w.out, p)
	if ok {
		w.out, h.Flags = out, h.Flags|frameZstd
	} else {
		w.out = append(out[:frameHeaderSize], p...)
	}
	stored := w.out[frameHeaderSize:]
	h.StoredLen, h.PayloadCRC = uint32(len(stored)), crc32.Checksum(stored, castagnoli)
	head := w.out[:frameHeaderSize]
	h.put(head, w.hdr.CRC, w.tally.pos)
	if err := w.write(w.out); err != nil {
		return err
	}
	w.fresh = true
	if err := w.tally.add(&h, head, stored, p); err != nil {
		panic("spool: writer made a bad frame: " + err.Error())
	}
	return nil
}

func (w *Writer) write(b []byte) error {
	if _, err := w.f.Write(b); err != nil {
		return w.fail(fmt.Errorf("write segment: %w", err))
	}
	return nil
}
