package spool

import (
	"fmt"
	"hash/crc32"
	"slices"

	"tairlift/internal/repl"
)

// indexEvery is the distance in the file between two index entries: a seek
// walks over at most so many bytes.
const indexEvery = 1 << 20

// tally follows a segment frame by frame and knows what its footer must say.
// The writer fills one as it writes, recovery and check as they read, so all
// three agree by construction. It depends on the frames alone.
type tally struct {
	hdr   *segmentHeader
	pos   int64         // behind the last frame
	at    int64         // RDB or stream offset reached
	foot  footer        // but for Clock
	clock []ClockSample // pending: see trimClock

	begun, done bool // rdb-begin and rdb-end were seen, here or earlier
	end         rdbEnd
	indexed     int64 // pos of the last index entry
	lax         bool  // frames were lost: the clock samples are not all known
}

// newTally starts behind the header, whose bytes are encoded.
func newTally(h *segmentHeader, encoded []byte) *tally {
	return &tally{
		hdr: h, pos: segHeaderSize, at: h.begin(), indexed: segHeaderSize,
		begun: h.Stream || h.RDBBytes > 0 || h.Seq > h.First, done: h.Stream,
		foot: footer{
			StreamEnd: h.Offset, RDBEnd: h.RDBBytes, RDBSize: h.RDBSize, RDBDone: h.Stream,
			FileCRC: crc32.Checksum(encoded, castagnoli),
		},
	}
}

// fits checks that a frame may stand where it does.
func (t *tally) fits(h *frameHeader) error {
	if h.Offset != t.at {
		return fmt.Errorf("%s frame has offset %d, expected %d", h.Kind, h.Offset, t.at)
	}
	ok := true
	switch h.Kind {
	case kindStream:
		ok = t.hdr.Stream
	case kindRDBBegin:
		ok = !t.begun
	case kindRDB, kindRDBEnd:
		ok = t.begun && !t.done
	}
	if !ok {
		return fmt.Errorf("%s frame stands out of order", h.Kind)
	}
	return nil
}

// add takes a frame that fits: its encoded header, stored and raw payload.
// raw is looked at only in frames that are not data.
func (t *tally) add(h *frameHeader, head, stored, raw []byte) error {
	f := &t.foot
	switch h.Kind {
	case kindRDBBegin:
		size, err := parseRDBBegin(raw)
		if err != nil {
			return err
		}
		f.RDBSize, t.begun = size, true
	case kindRDBEnd:
		end, err := parseRDBEnd(raw)
		if err != nil {
			return err
		}
		t.end, t.done, f.RDBDone = end, true, true
	case kindClock:
		if err := t.addClock(h, raw); err != nil {
			return err
		}
	}
	if (h.isData() || h.Flags&frameCarried != 0) && t.pos-t.indexed >= indexEvery && len(f.Index) < maxIndex {
		f.Index = append(f.Index, indexEntry{Offset: h.Offset, Pos: t.pos})
		t.indexed = t.pos
	}
	if h.isData() {
		t.at = h.end()
		if h.Kind == kindRDB {
			f.RDBEnd = t.at
		} else {
			f.StreamEnd = t.at
		}
		f.RawBytes += int64(h.RawLen)
		f.StoredBytes += int64(h.StoredLen)
		if f.FirstRecv == 0 {
			f.FirstRecv = h.Recv
		}
		f.LastRecv = h.Recv
	}
	f.Frames++
	f.FileCRC = crc32.Update(crc32.Update(f.FileCRC, castagnoli, head), castagnoli, stored)
	t.pos += h.size()
	return nil
}

func (t *tally) addClock(h *frameHeader, raw []byte) error {
	if h.Flags&frameCarried != 0 {
		samples, err := parseClock(nil, raw)
		if err == nil && t.pos > segHeaderSize && !t.lax && !slices.Equal(samples, t.pending()) {
			err = fmt.Errorf("clock frame carries %d samples that differ from the %d before it", len(samples), len(t.clock))
		}
		t.clock = samples
		return err
	}
	samples, err := parseClock(t.clock, raw)
	if err != nil {
		return err
	}
	if len(samples) > maxPending {
		samples = thinClock(trimClock(samples, repl.Offset(t.foot.StreamEnd)))
	}
	t.clock = samples
	return nil
}

// pending returns the samples needed to date bytes from here on.
func (t *tally) pending() []ClockSample {
	t.clock = trimClock(t.clock, repl.Offset(t.foot.StreamEnd))
	return t.clock
}

// footer returns what the segment's footer says if it is sealed here.
func (t *tally) footer() footer {
	f := t.foot
	f.Clock = t.pending()
	return f
}

// trimClock drops samples that date only bytes at or before the offset at:
// it keeps the last one that is not behind at, and all later ones.
func trimClock(samples []ClockSample, at repl.Offset) []ClockSample {
	for i := len(samples) - 1; i > 0; i-- {
		if samples[i].Offset <= at {
			return slices.Delete(samples, 0, i)
		}
	}
	return samples
}

// thinClock drops every second sample when there are too many: a source that
// buffers for hours is then dated by coarser intervals, not wrongly.
func thinClock(samples []ClockSample) []ClockSample {
	if len(samples) <= maxPending {
		return samples
	}
	keep := samples[:0]
	for i, s := range samples {
		if i%2 == 0 || i == len(samples)-1 {
			keep = append(keep, s)
		}
	}
	return keep
}
