package spool

import (
	"errors"
	"fmt"
	"path/filepath"
	"sort"
	"time"

	"tairlift/internal/repl"
)

// Frame is a piece of the stream, or the clock samples that stand there.
type Frame struct {
	After    repl.Offset // the first byte of Data has the number After+1
	Data     []byte      // nil for clock samples; valid until the next call
	Received time.Time   // of the last byte
	Clock    []ClockSample
}

// End is the offset behind the frame's bytes.
func (f Frame) End() repl.Offset { return f.After + repl.Offset(len(f.Data)) }

// StreamReader reads the durable stream of one epoch, from segment to segment
// and along with the writer. It is used by one goroutine.
type StreamReader struct {
	c       cursor
	after   int64 // where reading was asked to start
	started bool  // a frame was seen: carried samples are known from here on
	clock   []ClockSample
	history repl.ReplID // of the frame returned last
}

// OpenStream opens the stream of epoch e behind the offset after: the first
// byte handed out has the number after+1. The clock samples needed to date it
// come first. It returns a GapError when after lies outside of what is held
// and durable, ErrRDBIncomplete when no stream can be there yet, and
// ErrNoEpoch.
func (g *Group) OpenStream(e repl.Epoch, after repl.Offset) (*StreamReader, error) {
	segs, err := g.segments(e)
	if err != nil {
		return nil, err
	}
	r := &StreamReader{after: int64(after)}
	r.c = cursor{g: g, epoch: e, stream: true, skip: int64(after)}
	i, err := segs.search(func(h *segmentHeader) bool { return h.Stream && h.Offset > int64(after) })
	if err != nil {
		return nil, err
	}
	d, _ := g.durable()
	if i == 0 {
		return nil, segs.before(0, after, d)
	}
	s, err := segs.load(i-1, d)
	if err != nil {
		return nil, err
	}
	if !s.hdr.Stream || int64(after) > s.end {
		defer s.close()
		switch {
		case !s.hdr.Stream && i < segs.len():
			return nil, segs.before(i, after, d)
		case !s.hdr.Stream && !s.rdbDone:
			return nil, fmt.Errorf("open stream of epoch %d: %w", e, ErrRDBIncomplete)
		case !s.hdr.Stream && after == s.hdr.Start:
			// The RDB is all there is. Its end is where the stream will start.
			r.c.seq, r.c.at = s.hdr.Seq+1, int64(after)
			return r, nil
		case i < segs.len() || d.Epoch == e && d.Offset >= after:
			return nil, g.lost(e, s.hdr.Seq, &MissingError{Path: s.path, Have: s.size()}) // what it lacks is known to exist
		}
		return nil, segs.gap(after, d)
	}
	pos, at := int64(segHeaderSize), s.hdr.begin()
	if s.sealed {
		pos, at = s.foot.find(&s.hdr, int64(after))
	}
	r.c.enter(s, pos, at)
	return r, nil
}

// Next returns the next frame. ErrEnd says that nothing more is durable now:
// call again later, which is cheap. ErrEpochEnd says that this epoch is over
// and read. After a MissingError it may be called again too, after a
// CorruptError it returns that for ever.
func (r *StreamReader) Next() (Frame, error) {
	for {
		h, raw, err := r.c.next()
		if err != nil {
			return Frame{}, err
		}
		first := !r.started
		r.started, r.history = true, r.c.seg.hdr.ReplID
		if h.Kind == kindStream {
			if drop := r.after - h.Offset; drop > 0 {
				h.Offset, raw = r.after, raw[drop:]
			}
			return Frame{After: repl.Offset(h.Offset), Data: raw, Received: time.UnixMilli(h.Recv)}, nil
		}
		if h.Flags&frameCarried != 0 && !first {
			continue // repeats what was handed out
		}
		if r.clock, err = parseClock(r.clock[:0], raw); err != nil {
			return Frame{}, &CorruptError{Path: r.c.seg.path, Offset: r.c.pos - h.size(), Err: err}
		}
		return Frame{After: max(repl.Offset(h.Offset), repl.Offset(r.after)), Clock: r.clock, Received: time.UnixMilli(h.Recv)}, nil
	}
}

// Offset is where the next byte will be read from.
func (r *StreamReader) Offset() repl.Offset { return repl.Offset(max(r.c.at, r.after)) }

// History is the replid under which the source sent what Next returned last;
// empty before that.
func (r *StreamReader) History() repl.ReplID { return r.history }

// Close ends the reader.
func (r *StreamReader) Close() error { return r.c.close() }

// segments are those of an epoch that have a header, oldest first.
type segments struct {
	g       *Group
	epoch   repl.Epoch
	seqs    []Seq
	headers map[int]*segmentHeader
}

func (g *Group) segments(e repl.Epoch) (*segments, error) {
	seqs, err := g.listSeqs(e)
	if err != nil {
		return nil, err
	}
	ss := &segments{g: g, epoch: e, seqs: seqs, headers: map[int]*segmentHeader{}}
	// The last one may have no header yet.
	if n := len(seqs); n > 0 {
		var missing *MissingError
		var pruned *PrunedError
		if _, err := ss.header(n - 1); errors.As(err, &missing) || errors.As(err, &pruned) {
			ss.seqs = seqs[:n-1]
		} else if err != nil {
			return nil, err
		}
	}
	if len(ss.seqs) == 0 {
		if pruned, err := listKeys(g.fs, filepath.Join(g.dir, g.id.Dir(), e.Dir())); err == nil && len(pruned) > 0 {
			return nil, g.gone(e, pruned[len(pruned)-1])
		}
		return nil, fmt.Errorf("open epoch %d in %s: %w", e, filepath.Join(g.dir, g.id.Dir()), ErrNoEpoch)
	}
	return ss, nil
}

func (ss *segments) len() int { return len(ss.seqs) }

func (ss *segments) header(i int) (*segmentHeader, error) {
	if h := ss.headers[i]; h != nil {
		return h, nil
	}
	s, err := ss.g.open(ss.epoch, ss.seqs[i])
	if err == errNotYet {
		return nil, ss.g.lost(ss.epoch, ss.seqs[i], &MissingError{Path: ss.g.path(ss.epoch, ss.seqs[i])})
	}
	if err != nil {
		return nil, err
	}
	defer s.close()
	ss.headers[i] = &s.hdr
	return &s.hdr, nil
}

// load opens segment i as far as it is there.
func (ss *segments) load(i int, d Durable) (*segFile, error) {
	s, err := ss.g.open(ss.epoch, ss.seqs[i])
	if err == errNotYet {
		return nil, ss.g.lost(ss.epoch, ss.seqs[i], &MissingError{Path: ss.g.path(ss.epoch, ss.seqs[i])})
	}
	if err != nil {
		return nil, err
	}
	var missing *MissingError
	if err := s.load(d); err != nil && !errors.As(err, &missing) {
		s.close()
		return nil, err
	}
	return s, nil
}

// search returns the first segment for whose header fn holds, as sort.Search.
func (ss *segments) search(fn func(*segmentHeader) bool) (int, error) {
	var failed error
	i := sort.Search(ss.len(), func(i int) bool {
		h, err := ss.header(i)
		if err != nil {
			failed = errors.Join(failed, err)
			return true
		}
		return fn(h)
	})
	return i, failed
}

// before is why the stream cannot be read from a position before segment i:
// segments that are not there may hold it, or nothing does.
func (ss *segments) before(i int, wanted repl.Offset, d Durable) error {
	h, err := ss.header(i)
	if err != nil {
		return err
	}
	next := h.First // of the epoch
	if i > 0 {
		next = ss.seqs[i-1] + 1
	}
	if next < h.Seq && wanted >= h.Start {
		err := ss.g.gone(ss.epoch, h.Seq-1)
		if _, pruned := err.(*PrunedError); !pruned {
			return err
		}
	}
	return ss.gap(wanted, d)
}

// gap tells from where to where the stream is held.
func (ss *segments) gap(wanted repl.Offset, d Durable) error {
	last, err := ss.load(ss.len()-1, d)
	if err != nil {
		return err
	}
	defer last.close()
	gap := &GapError{
		Path:   filepath.Join(ss.g.dir, ss.g.id.Dir(), ss.epoch.Dir()),
		Wanted: wanted, First: last.hdr.Start, Last: last.hdr.Start,
	}
	i, err := ss.search(func(h *segmentHeader) bool { return h.Stream })
	if err != nil || i == ss.len() {
		return errors.Join(err, gap)
	}
	first, err := ss.header(i)
	if err != nil {
		return err
	}
	gap.First, gap.Last = repl.Offset(first.Offset), repl.Offset(last.end)
	if gap.First <= wanted && wanted <= gap.Last {
		return &MissingError{Path: last.path, Have: last.size()} // it has come since it was looked for
	}
	return gap
}
