package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"tairlift/internal/fsx"
)

// segFile is one segment open for reading. Only frames below limit are
// durable and may be handed out; in a sealed one that is all of them.
type segFile struct {
	fs   fsx.FS
	path string
	f    fsx.File
	info fs.FileInfo // when it was last looked at
	hdr  segmentHeader

	sealed  bool
	foot    footer
	footPos int64

	limit   int64 // frames before it are durable
	end     int64 // RDB or stream offset at limit
	rdbDone bool  // an rdb-end frame stands before limit, or the phase is later

	scanPos  int64 // the header walk of an unsealed tail has come so far
	scanEnd  int64 // offset there
	scanDone bool
	badSize  int64 // size at which a damaged header at scanPos was last looked into

	win window
}

// errNotYet is returned for a file too short for a header, or not there: what
// a crash, a writer just starting or a copy under way leave.
var errNotYet = errors.New("segment is not there yet")

// openSeg opens a segment and reads its header. It returns errNotYet when
// there is none.
func openSeg(fsys fsx.FS, path string, want Identity, seq Seq) (*segFile, error) {
	f, err := fsys.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNotYet
	}
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	s := &segFile{fs: fsys, path: path, f: f}
	if err := s.readHeader(want, seq); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func (s *segFile) readHeader(want Identity, seq Seq) error {
	info, err := s.f.Stat()
	if err != nil {
		return fmt.Errorf("stat segment: %w", err)
	}
	var b [segHeaderSize]byte
	if _, err := s.f.ReadAt(b[:], 0); errors.Is(err, io.EOF) {
		return errNotYet
	} else if err != nil {
		return fmt.Errorf("read segment: %w", err)
	}
	if b == [segHeaderSize]byte{} {
		return errNotYet // space that nothing was written to
	}
	h, err := parseSegmentHeader(s.path, b[:])
	var bad *CorruptError
	if errors.As(err, &bad) && s.unwritten(0, segHeaderSize) {
		return errNotYet
	}
	if err != nil {
		return err
	}
	if err := h.belongs(s.path, want, seq); err != nil {
		return err
	}
	s.info, s.hdr = info, h
	s.limit, s.end, s.rdbDone = segHeaderSize, h.begin(), h.Stream
	s.scanPos, s.scanEnd, s.scanDone = segHeaderSize, s.end, h.Stream
	s.win = window{f: s.f}
	return nil
}

func (s *segFile) close() {
	if s != nil && s.f != nil {
		s.f.Close()
		s.f = nil
	}
}

func (s *segFile) size() int64 { return s.info.Size() }

// load finds out how far the segment goes: to its footer, or to the last sync
// frame of a tail, or as far as d vouches for it.
func (s *segFile) load(d Durable) error {
	if s.sealed {
		return nil
	}
	sealed, err := s.readFooter()
	if err != nil || sealed {
		return err
	}
	if err := s.scan(); err != nil {
		return err
	}
	return s.vouch(d)
}

// readFooter reads trailer and footer, if the file ends in them.
func (s *segFile) readFooter() (bool, error) {
	size := s.size()
	if size < segHeaderSize+frameHeaderSize+footerFixed+trailerSize {
		return false, nil
	}
	var b [trailerSize]byte
	if _, err := s.f.ReadAt(b[:], size-trailerSize); err != nil {
		if errors.Is(err, io.EOF) {
			return false, nil // it shrank since: a copy that starts again
		}
		return false, fmt.Errorf("read segment: %w", err)
	}
	pos, ok := parseTrailer(b[:], s.hdr.CRC, size)
	if !ok {
		return false, nil
	}
	frame := make([]byte, size-trailerSize-pos)
	if len(frame) > frameHeaderSize+maxRaw {
		return false, corrupt(s.path, size-trailerSize, "footer has %d bytes, expected at most %d", len(frame), frameHeaderSize+maxRaw)
	}
	if _, err := s.f.ReadAt(frame, pos); err != nil {
		if errors.Is(err, io.EOF) {
			return false, nil // as above
		}
		return false, fmt.Errorf("read segment: %w", err)
	}
	foot, err := openFooter(frame, s.hdr.CRC, pos)
	if err != nil && hasHole(frame, pos) {
		return false, nil // a power cut in the seal: the tail says how far it goes
	}
	if err != nil {
		return false, s.bad(pos, pos, pos+int64(len(frame)), err)
	}
	s.sealed, s.foot, s.footPos, s.limit = true, foot, pos, pos
	s.end, s.rdbDone = foot.RDBEnd, foot.RDBDone
	if s.hdr.Stream {
		s.end = foot.StreamEnd
	}
	return true, nil
}

// hasHole tells whether a footer's frame at pos has a block of zero bytes where
// it has none when it is whole: one that was never written.
func hasHole(frame []byte, pos int64) bool {
	const block = 512
	for at := int64(0); at < int64(len(frame)); {
		end := min((pos+at)/block*block+block-pos, int64(len(frame)))
		part := frame[at:end]
		// The first bytes are the kind, the last ones may be few.
		if (at == 0 || len(part) == block) && bytes.Count(part, []byte{0}) == len(part) {
			return true
		}
		at = end
	}
	return false
}

// openFooter decodes a footer frame.
func openFooter(frame []byte, salt uint32, pos int64) (footer, error) {
	if len(frame) < frameHeaderSize {
		return footer{}, fmt.Errorf("footer frame has %d bytes, expected %d or more", len(frame), frameHeaderSize)
	}
	h, err := parseFrameHeader(frame, salt, pos)
	if err != nil {
		return footer{}, err
	}
	if h.Kind != kindFooter || h.size() != int64(len(frame)) {
		return footer{}, fmt.Errorf("trailer names a %s frame of %d bytes, expected a footer of %d", h.Kind, h.size(), len(frame))
	}
	var buf []byte
	raw, err := h.open(frame[frameHeaderSize:], &buf)
	if err != nil {
		return footer{}, err
	}
	return parseFooter(raw)
}

// scan walks over the frame headers of a tail for sync frames. A header is
// covered by its own CRC, so no payload is read.
func (s *segFile) scan() error {
	size := s.size()
	win := window{f: s.f}
	for s.scanPos+frameHeaderSize <= size {
		b, err := win.at(s.scanPos, frameHeaderSize, min(size, s.scanPos+4<<10))
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read segment: %w", err)
		}
		h, err := parseFrameHeader(b, s.hdr.CRC, s.scanPos)
		if err != nil {
			return s.lookInto(err)
		}
		if s.scanPos+h.size() > size {
			return nil
		}
		if h.Kind == kindSync || h.Kind == kindFooter {
			// A footer is written behind an fsync, as a sync frame is.
			s.limit, s.end, s.rdbDone = s.scanPos, s.scanEnd, s.scanDone
		}
		if h.Kind == kindFooter {
			return nil // its trailer is still to come
		}
		if h.isData() {
			s.scanEnd = h.end()
		}
		s.scanDone = s.scanDone || h.Kind == kindRDBEnd
		s.scanPos += h.size()
	}
	return nil
}

// lookInto decides about a damaged header in the tail: torn, or a write just
// under way, unless a later sync frame vouches for it.
func (s *segFile) lookInto(cause error) error {
	size := s.size()
	if size <= s.badSize {
		return nil
	}
	from := max(s.scanPos, s.badSize-frameHeaderSize)
	pos, err := findSync(s.f, s.hdr.CRC, from, size)
	if err != nil {
		return fmt.Errorf("read segment: %w", err)
	}
	if pos < 0 {
		s.badSize = size
		return nil
	}
	// The header may have been half written when it was read, and whole by
	// the time the sync frame was.
	var b [frameHeaderSize]byte
	if _, err := s.f.ReadAt(b[:], s.scanPos); err == nil {
		if _, err := parseFrameHeader(b[:], s.hdr.CRC, s.scanPos); err == nil {
			return s.scan()
		}
	}
	return s.bad(s.scanPos, s.scanPos, s.scanPos+frameHeaderSize, fmt.Errorf("%w, and a sync frame at %d vouches for it", cause, pos))
}

// syncPattern opens every sync frame: kind, no flags, no lengths.
var syncPattern = []byte{byte(kindSync), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// findSync returns the position of the first valid sync frame in [from, to),
// -1 when there is none.
func findSync(f io.ReaderAt, salt uint32, from, to int64) (int64, error) {
	buf := make([]byte, max(0, min(readAhead, to-from)))
	for from+frameHeaderSize <= to {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), to-from)], from)
		if n < frameHeaderSize {
			if err != nil && !errors.Is(err, io.EOF) {
				return -1, err
			}
			return -1, nil
		}
		for at := 0; at+frameHeaderSize <= n; at++ {
			i := bytes.Index(buf[at:n], syncPattern)
			if i < 0 || at+i+frameHeaderSize > n {
				break
			}
			at += i
			if _, err := parseFrameHeader(buf[at:], salt, from+int64(at)); err == nil {
				return from + int64(at), nil
			}
		}
		from += int64(n - frameHeaderSize + 1)
	}
	return -1, nil
}

// vouch raises the limit to what d says is durable. It returns a MissingError
// when the file holds less.
func (s *segFile) vouch(d Durable) error {
	whole, want := d.covers(s.hdr.Seq)
	switch {
	case d.Seq == s.hdr.Seq && s.size() < want:
		return &MissingError{Path: s.path, Have: s.size(), Want: want}
	case d.Seq == s.hdr.Seq && d.Sealed && !s.sealed:
		// Its footer may be what is not valid: look from where the frames end.
		from := min(max(s.scanPos, want-trailerSize-frameHeaderSize-maxRaw), want-trailerSize)
		return s.bad(want-trailerSize, from, want, errors.New("seal is not valid, and it is vouched for"))
	case whole && !s.sealed:
		return &MissingError{Path: s.path, Have: s.size()}
	case want > s.limit && !whole:
		s.limit, s.end = want, int64(d.Offset)
		if !s.hdr.Stream {
			s.end, s.rdbDone = d.RDBBytes, d.RDBDone
		}
	}
	return nil
}

// extend looks at the file again, by its name: it may have grown, have been
// sealed, or have been replaced by a newer copy. It tells whether more is
// durable than before.
func (s *segFile) extend(d Durable) (bool, error) {
	info, err := s.fs.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, &MissingError{Path: s.path, Want: s.limit}
	}
	if err != nil {
		return false, fmt.Errorf("stat segment: %w", err)
	}
	if info.Size() < s.limit {
		return false, &MissingError{Path: s.path, Have: info.Size(), Want: s.limit}
	}
	before := s.limit
	if !s.fs.SameFile(info, s.info) {
		if err := s.reopen(); err != nil {
			return false, err
		}
	} else if info.Size() == s.size() && s.scanPos+frameHeaderSize > s.size() {
		return false, s.vouch(d) // walked to its end, and nothing new
	} else {
		s.info = info
	}
	err = s.load(d)
	return s.sealed || s.limit > before, err
}

// reopen takes up the file that has the segment's name now.
func (s *segFile) reopen() error {
	n, err := openSeg(s.fs, s.path, s.hdr.Identity, s.hdr.Seq)
	if err == errNotYet {
		return &MissingError{Path: s.path, Want: s.limit}
	}
	if err != nil {
		return err
	}
	if n.hdr.CRC != s.hdr.CRC {
		n.close()
		return corrupt(s.path, 0, "header changed while the segment was read: crc is %08x, expected %08x", n.hdr.CRC, s.hdr.CRC)
	}
	if n.size() < s.limit {
		n.close()
		return &MissingError{Path: s.path, Have: n.size(), Want: s.limit}
	}
	s.close()
	s.f, s.info, s.win, s.badSize = n.f, n.info, window{f: n.f, buf: s.win.buf[:0]}, 0
	if s.sealed {
		s.sealed = false
		return s.load(Durable{})
	}
	return nil
}

// head returns the header of the frame at pos, which must lie below limit.
func (s *segFile) head(pos int64) (frameHeader, error) {
	b, err := s.read(pos, frameHeaderSize)
	if err != nil {
		return frameHeader{}, err
	}
	h, err := parseFrameHeader(b, s.hdr.CRC, pos)
	if err == nil && pos+h.size() > s.limit {
		err = fmt.Errorf("%s frame ends at %d, expected at most %d", h.Kind, pos+h.size(), s.limit)
	}
	if err != nil {
		return h, s.bad(pos, pos, pos+frameHeaderSize, err)
	}
	return h, nil
}

// payload returns the payload of the frame at pos, checked and decompressed;
// it is valid until the next read.
func (s *segFile) payload(pos int64, h *frameHeader, buf *[]byte) ([]byte, error) {
	stored, err := s.read(pos+frameHeaderSize, int(h.StoredLen))
	if err != nil {
		return nil, err
	}
	raw, err := h.open(stored, buf)
	if err != nil {
		return nil, s.bad(pos, pos+frameHeaderSize, pos+h.size(), err)
	}
	return raw, nil
}

func (s *segFile) read(pos int64, n int) ([]byte, error) {
	if pos+int64(n) > s.limit {
		return nil, corrupt(s.path, pos, "frame ends at %d, expected at most %d", pos+int64(n), s.limit)
	}
	b, err := s.win.at(pos, n, s.limit)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		s.win.forget()
		missing := &MissingError{Path: s.path, Want: s.limit}
		if info, err := s.f.Stat(); err == nil {
			missing.Have = info.Size()
		}
		return nil, missing
	}
	if err != nil {
		return nil, fmt.Errorf("read segment %s: %w", s.path, err)
	}
	return b, nil
}
