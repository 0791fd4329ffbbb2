package spool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"tairlift/internal/repl"
)

// Version is the format this package writes, and the newest it reads.
const Version = 1

const (
	segmentMagic  = "tairlift"
	trailerMagic  = "tairseal"
	segHeaderSize = 148
	trailerSize   = 24
)

// Flags of a segment header.
const (
	// headerStream: the epoch's RDB is complete in earlier segments, and this
	// one holds stream bytes.
	headerStream   = 1 << 0
	headerAllFlags = headerStream
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var le = binary.LittleEndian

// segmentHeader opens every segment file. It alone says where the file
// belongs, so that a copied spool needs no database.
type segmentHeader struct {
	Identity        // ReplID is the one valid at the segment's start
	Stream   bool   // headerStream
	Seq      Seq    // of this segment
	First    Seq    // of the epoch's first segment
	Offset   int64  // stream offset at the segment's start
	RDBBytes int64  // RDB bytes in earlier segments of the epoch
	RDBSize  int64  // announced by the source in an earlier segment, -1 unknown
	Created  int64  // unix ms
	CRC      uint32 // of the encoded header; salts the frames'
}

// appendTo appends the encoded header and sets h.CRC.
func (h *segmentHeader) appendTo(b []byte) []byte {
	at := len(b)
	var flags uint32
	if h.Stream {
		flags |= headerStream
	}
	b = append(b, segmentMagic...)
	b = le.AppendUint32(b, Version)
	b = le.AppendUint32(b, segHeaderSize)
	b = le.AppendUint32(b, flags)
	b = le.AppendUint32(b, uint32(h.Group))
	b = le.AppendUint32(b, uint32(h.Epoch))
	b = le.AppendUint32(b, 0)
	b = append(b, h.Job[:]...)
	b = le.AppendUint64(b, uint64(h.Seq))
	b = le.AppendUint64(b, uint64(h.First))
	b = append(b, h.ReplID...) // 40 bytes: Identity was validated
	b = le.AppendUint64(b, uint64(h.Start))
	b = le.AppendUint64(b, uint64(h.Offset))
	b = le.AppendUint64(b, uint64(h.RDBBytes))
	b = le.AppendUint64(b, uint64(h.RDBSize))
	b = le.AppendUint64(b, uint64(h.Created))
	h.CRC = crc32.Checksum(b[at:], castagnoli)
	return le.AppendUint32(b, h.CRC)
}

// parseSegmentHeader decodes the first segHeaderSize bytes of the file path.
// The version is looked at before anything else, so that a newer format is
// refused by its name and not called corrupt.
func parseSegmentHeader(path string, b []byte) (segmentHeader, error) {
	var h segmentHeader
	if string(b[:8]) != segmentMagic {
		return h, corrupt(path, 0, "magic is %q, expected %q", b[:8], segmentMagic)
	}
	switch v := le.Uint32(b[8:]); v {
	case Version:
	case 0: // never written by anybody
		return h, corrupt(path, 8, "version is 0, expected 1 to %d", Version)
	default:
		return h, &VersionError{Path: path, Found: v, Supported: Version}
	}
	if n := le.Uint32(b[12:]); n != segHeaderSize {
		return h, corrupt(path, 12, "header length is %d, expected %d", n, segHeaderSize)
	}
	h.CRC = crc32.Checksum(b[:144], castagnoli)
	if found := le.Uint32(b[144:]); found != h.CRC {
		return h, corrupt(path, 144, "header crc is %08x, expected %08x", found, h.CRC)
	}
	flags := le.Uint32(b[16:])
	if unknown := flags &^ headerAllFlags; unknown != 0 {
		return h, corrupt(path, 16, "header has unknown flags %#x", unknown)
	}
	if r := le.Uint32(b[28:]); r != 0 {
		return h, corrupt(path, 28, "reserved field is %d, expected 0", r)
	}
	h.Stream = flags&headerStream != 0
	h.Group = repl.GroupID(le.Uint32(b[20:]))
	h.Epoch = repl.Epoch(le.Uint32(b[24:]))
	copy(h.Job[:], b[32:48])
	h.Seq = Seq(le.Uint64(b[48:]))
	h.First = Seq(le.Uint64(b[56:]))
	h.ReplID = repl.ReplID(b[64:104])
	h.Start = repl.Offset(le.Uint64(b[104:]))
	h.Offset = int64(le.Uint64(b[112:]))
	h.RDBBytes = int64(le.Uint64(b[120:]))
	h.RDBSize = int64(le.Uint64(b[128:]))
	h.Created = int64(le.Uint64(b[136:]))
	if err := h.Identity.validate(); err != nil {
		return h, &CorruptError{Path: path, Offset: 16, Err: err}
	}
	switch {
	case h.First < 1 || h.Seq < h.First:
		return h, corrupt(path, 48, "sequence number is %d in an epoch that starts at %d", h.Seq, h.First)
	case h.Offset < int64(h.Start) || !h.Stream && h.Offset != int64(h.Start):
		return h, corrupt(path, 112, "stream offset is %d in an epoch that starts at %d", h.Offset, h.Start)
	case h.RDBBytes < 0:
		return h, corrupt(path, 120, "rdb offset is %d, expected 0 or more", h.RDBBytes)
	case h.RDBSize < -1:
		return h, corrupt(path, 128, "rdb size is %d, expected -1 or more", h.RDBSize)
	}
	return h, nil
}

// begin is the offset of the segment's first byte in its phase: of the RDB or
// of the stream.
func (h *segmentHeader) begin() int64 {
	if h.Stream {
		return h.Offset
	}
	return h.RDBBytes
}

func (h *segmentHeader) created() time.Time { return time.UnixMilli(h.Created) }

// belongs checks that the segment is the one its name says, of the job, and
// of the same epoch as the segments seen before. Fields of want that are zero
// are not compared.
func (h *segmentHeader) belongs(path string, want Identity, seq Seq) error {
	differ := func(field string, found, expected any) error {
		return &IdentityError{Path: path, Field: field, Found: fmt.Sprint(found), Expected: fmt.Sprint(expected)}
	}
	switch {
	case !want.Job.IsZero() && h.Job != want.Job:
		return differ("job", h.Job, want.Job)
	case h.Group != want.Group:
		return differ("group", h.Group, want.Group)
	case h.Epoch != want.Epoch:
		return differ("epoch", h.Epoch, want.Epoch)
	case h.Seq != seq:
		return differ("sequence number", h.Seq, seq)
	}
	return nil
}

// footer ends a sealed segment: what it holds, and where.
type footer struct {
	StreamEnd   int64
	RDBEnd      int64 // RDB bytes of the epoch up to the segment's end
	RDBSize     int64 // as announced by the source, -1 unknown
	RDBDone     bool
	Frames      uint32 // before the footer
	RawBytes    int64  // payload of RDB and stream frames, decompressed
	StoredBytes int64  // the same as stored
	FirstRecv   int64  // unix ms of RDB and stream frames, 0 when there are none
	LastRecv    int64
	FileCRC     uint32 // of every byte before the footer's frame
	Index       []indexEntry
	Clock       []ClockSample // still needed to date bytes behind the segment
}

// indexEntry is a place to start reading: the frame at Pos is a clock frame
// that repeats the samples still needed, or the first data frame at Offset.
type indexEntry struct {
	Offset int64 // RDB or stream offset
	Pos    int64
}

const (
	footerFixed   = 80
	footerRDBDone = 1 << 0
	clockSize     = 24
	indexSize     = 16
	// maxPending bounds the clock samples carried from segment to segment.
	maxPending = 4096
	maxIndex   = (maxRaw - footerFixed - maxPending*clockSize) / indexSize
)

func (f *footer) appendTo(b []byte) []byte {
	var flags uint32
	if f.RDBDone {
		flags |= footerRDBDone
	}
	b = le.AppendUint64(b, uint64(f.StreamEnd))
	b = le.AppendUint64(b, uint64(f.RDBEnd))
	b = le.AppendUint64(b, uint64(f.RDBSize))
	b = le.AppendUint32(b, flags)
	b = le.AppendUint32(b, f.Frames)
	b = le.AppendUint64(b, uint64(f.RawBytes))
	b = le.AppendUint64(b, uint64(f.StoredBytes))
	b = le.AppendUint64(b, uint64(f.FirstRecv))
	b = le.AppendUint64(b, uint64(f.LastRecv))
	b = le.AppendUint32(b, f.FileCRC)
	b = le.AppendUint32(b, uint32(len(f.Index)))
	b = le.AppendUint32(b, uint32(len(f.Clock)))
	b = le.AppendUint32(b, 0)
	for _, e := range f.Index {
		b = le.AppendUint64(b, uint64(e.Offset))
		b = le.AppendUint64(b, uint64(e.Pos))
	}
	return appendClock(b, f.Clock)
}

// parseFooter decodes the payload of a footer frame.
func parseFooter(b []byte) (footer, error) {
	var f footer
	if len(b) < footerFixed {
		return f, fmt.Errorf("footer has %d bytes, expected %d or more", len(b), footerFixed)
	}
	nIndex, nClock := int(le.Uint32(b[68:])), int(le.Uint32(b[72:]))
	if nIndex > maxIndex || nClock > maxPending || len(b) != footerFixed+nIndex*indexSize+nClock*clockSize {
		return f, fmt.Errorf("footer of %d bytes cannot hold %d index entries and %d clock samples", len(b), nIndex, nClock)
	}
	flags := le.Uint32(b[24:])
	if unknown := flags &^ footerRDBDone; unknown != 0 {
		return f, fmt.Errorf("footer has unknown flags %#x", unknown)
	}
	if r := le.Uint32(b[76:]); r != 0 {
		return f, fmt.Errorf("footer's reserved field is %d, expected 0", r)
	}
	f = footer{
		StreamEnd: int64(le.Uint64(b)), RDBEnd: int64(le.Uint64(b[8:])), RDBSize: int64(le.Uint64(b[16:])),
		RDBDone: flags&footerRDBDone != 0, Frames: le.Uint32(b[28:]),
		RawBytes: int64(le.Uint64(b[32:])), StoredBytes: int64(le.Uint64(b[40:])),
		FirstRecv: int64(le.Uint64(b[48:])), LastRecv: int64(le.Uint64(b[56:])),
		FileCRC: le.Uint32(b[64:]),
	}
	b = b[footerFixed:]
	for range nIndex {
		f.Index = append(f.Index, indexEntry{Offset: int64(le.Uint64(b)), Pos: int64(le.Uint64(b[8:]))})
		b = b[indexSize:]
	}
	f.Clock, _ = parseClock(nil, b)
	return f, nil
}

// find returns the last place to start reading from for offset, and the
// offset there.
func (f *footer) find(h *segmentHeader, offset int64) (pos, at int64) {
	pos, at = segHeaderSize, h.begin()
	for _, e := range f.Index {
		if e.Offset > offset {
			break
		}
		pos, at = e.Pos, e.Offset
	}
	return pos, at
}

func appendClock(b []byte, samples []ClockSample) []byte {
	for _, s := range samples {
		b = le.AppendUint64(b, uint64(s.SourceMicros))
		b = le.AppendUint64(b, uint64(s.Offset))
		b = le.AppendUint64(b, uint64(s.LocalMicros))
	}
	return b
}

// parseClock appends the samples in the payload b to dst.
func parseClock(dst []ClockSample, b []byte) ([]ClockSample, error) {
	if len(b)%clockSize != 0 || len(b) > maxPending*clockSize {
		return dst, fmt.Errorf("clock frame has %d bytes, expected a multiple of %d up to %d", len(b), clockSize, maxPending*clockSize)
	}
	for ; len(b) > 0; b = b[clockSize:] {
		dst = append(dst, ClockSample{
			SourceMicros: int64(le.Uint64(b)),
			Offset:       repl.Offset(le.Uint64(b[8:])),
			LocalMicros:  int64(le.Uint64(b[16:])),
		})
	}
	return dst, nil
}

// appendTrailer appends the last 24 bytes of a sealed file: they name the
// footer, so that it is found from the end.
func appendTrailer(b []byte, salt uint32, footerPos int64, footerLen int) []byte {
	at := len(b)
	b = le.AppendUint64(b, uint64(footerPos))
	b = le.AppendUint32(b, uint32(footerLen))
	b = le.AppendUint32(b, trailerCRC(salt, b[at:]))
	return append(b, trailerMagic...)
}

func trailerCRC(salt uint32, b []byte) uint32 {
	var s [4]byte
	le.PutUint32(s[:], salt)
	return crc32.Update(crc32.Checksum(s[:], castagnoli), castagnoli, b[:12])
}

// parseTrailer looks at the last bytes of a file of size bytes and returns
// where its footer stands; ok is false when the file is not sealed.
func parseTrailer(b []byte, salt uint32, size int64) (footerPos int64, ok bool) {
	if !bytes.Equal(b[16:24], []byte(trailerMagic)) || le.Uint32(b[12:]) != trailerCRC(salt, b) {
		return 0, false
	}
	footerPos = int64(le.Uint64(b))
	if footerPos < segHeaderSize || footerPos > size || footerPos+int64(le.Uint32(b[8:]))+trailerSize != size {
		return 0, false
	}
	return footerPos, true
}
