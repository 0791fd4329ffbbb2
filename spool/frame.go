package spool

import (
	"fmt"
	"hash/crc32"
	"strconv"
)

// kind says what a frame's payload is. The zero kind is never written: a run
// of zero bytes is space that nothing was written to.
type kind uint8

const (
	kindRDBBegin kind = 1 // announced size of the RDB, i64, -1 unknown
	kindRDB      kind = 2 // bytes of the RDB
	kindRDBEnd   kind = 3 // CRC64 of the RDB and whether it was checked
	kindStream   kind = 4 // bytes of the replication stream
	kindClock    kind = 5 // clock samples
	kindSync     kind = 6 // everything before this frame is durable
	kindFooter   kind = 7 // the segment's totals and index
)

func (k kind) String() string {
	switch k {
	case kindRDBBegin:
		return "rdb-begin"
	case kindRDB:
		return "rdb"
	case kindRDBEnd:
		return "rdb-end"
	case kindStream:
		return "stream"
	case kindClock:
		return "clock"
	case kindSync:
		return "sync"
	case kindFooter:
		return "footer"
	}
	return "kind-" + strconv.Itoa(int(k))
}

// Flags of a frame.
const (
	frameZstd     = 1 << 0 // the payload is one zstd frame
	frameCarried  = 1 << 1 // a clock frame that repeats samples of earlier frames
	frameAllFlags = frameZstd | frameCarried
)

const (
	frameHeaderSize = 36
	// maxRaw bounds a frame's payload before compression. A payload that does
	// not shrink is stored raw, so it bounds the stored length too.
	maxRaw     = 1 << 20
	rdbEndSize = 16
)

// frameHeader stands before every payload.
type frameHeader struct {
	Kind       kind
	Flags      uint8
	RawLen     uint32
	StoredLen  uint32
	Offset     int64 // before the first payload byte: of the RDB or of the stream
	Recv       int64 // unix ms
	PayloadCRC uint32
}

// size is the frame's length in the file.
func (h *frameHeader) size() int64 { return frameHeaderSize + int64(h.StoredLen) }

// put encodes h into b[:frameHeaderSize] for the frame at pos of the segment
// whose header has the CRC salt.
func (h *frameHeader) put(b []byte, salt uint32, pos int64) {
	b[0], b[1], b[2], b[3] = byte(h.Kind), h.Flags, 0, 0
	le.PutUint32(b[4:], h.RawLen)
	le.PutUint32(b[8:], h.StoredLen)
	le.PutUint64(b[12:], uint64(h.Offset))
	le.PutUint64(b[20:], uint64(h.Recv))
	le.PutUint32(b[28:], h.PayloadCRC)
	le.PutUint32(b[32:], frameCRC(b, salt, pos))
}

// frameCRC covers the segment header's CRC and the frame's position before
// the header itself: a frame is valid in one place only, whatever a disk or a
// copy mixes up.
func frameCRC(b []byte, salt uint32, pos int64) uint32 {
	var s [12]byte
	le.PutUint32(s[:], salt)
	le.PutUint64(s[4:], uint64(pos))
	return crc32.Update(crc32.Checksum(s[:], castagnoli), castagnoli, b[:32])
}

// parseFrameHeader decodes b[:frameHeaderSize]. A header without error has
// lengths that can be trusted, because its CRC covers them.
func parseFrameHeader(b []byte, salt uint32, pos int64) (frameHeader, error) {
	var h frameHeader
	if found, want := le.Uint32(b[32:]), frameCRC(b, salt, pos); found != want {
		return h, fmt.Errorf("frame header crc is %08x, expected %08x", found, want)
	}
	h = frameHeader{
		Kind: kind(b[0]), Flags: b[1], RawLen: le.Uint32(b[4:]), StoredLen: le.Uint32(b[8:]),
		Offset: int64(le.Uint64(b[12:])), Recv: int64(le.Uint64(b[20:])), PayloadCRC: le.Uint32(b[28:]),
	}
	switch {
	case h.Kind < kindRDBBegin || h.Kind > kindFooter:
		return h, fmt.Errorf("frame has unknown kind %d", h.Kind)
	case h.Flags&^frameAllFlags != 0:
		return h, fmt.Errorf("frame has unknown flags %#x", h.Flags&^frameAllFlags)
	case b[2] != 0 || b[3] != 0:
		return h, fmt.Errorf("frame's reserved field is %#x%02x, expected 0", b[3], b[2])
	case h.RawLen > maxRaw:
		return h, fmt.Errorf("frame has %d raw bytes, expected at most %d", h.RawLen, maxRaw)
	case h.StoredLen > h.RawLen || h.Flags&frameZstd == 0 && h.StoredLen != h.RawLen:
		return h, fmt.Errorf("frame stores %d bytes for %d raw ones", h.StoredLen, h.RawLen)
	case h.Offset < 0:
		return h, fmt.Errorf("frame has offset %d, expected 0 or more", h.Offset)
	case h.Flags&frameCarried != 0 && h.Kind != kindClock:
		return h, fmt.Errorf("%s frame is marked as carried", h.Kind)
	}
	return h, nil
}

// check compares the stored payload with its CRC.
func (h *frameHeader) check(stored []byte) error {
	if crc := crc32.Checksum(stored, castagnoli); crc != h.PayloadCRC {
		return fmt.Errorf("%s payload crc is %08x, expected %08x", h.Kind, crc, h.PayloadCRC)
	}
	return nil
}

// open checks the stored payload and returns it decompressed: stored itself,
// or a slice of *buf, which grows as needed and is reused.
func (h *frameHeader) open(stored []byte, buf *[]byte) ([]byte, error) {
	if err := h.check(stored); err != nil {
		return nil, err
	}
	if h.Flags&frameZstd == 0 {
		return stored, nil
	}
	raw, err := decompress(stored, int(h.RawLen), buf)
	if err != nil {
		return nil, fmt.Errorf("decompress %s payload: %w", h.Kind, err)
	}
	return raw, nil
}

// end is the offset behind the payload, for frames that hold bytes.
func (h *frameHeader) end() int64 { return h.Offset + int64(h.RawLen) }

// isData tells whether the payload is bytes of the source.
func (h *frameHeader) isData() bool { return h.Kind == kindRDB || h.Kind == kindStream }

// rdbEnd is the payload of an RDB's last frame.
type rdbEnd struct {
	CRC64   uint64
	Checked bool // the footer's CRC64 was there and is right
}

func (e rdbEnd) appendTo(b []byte) []byte {
	b = le.AppendUint64(b, e.CRC64)
	var checked uint64
	if e.Checked {
		checked = 1
	}
	return le.AppendUint64(b, checked)
}

func parseRDBEnd(b []byte) (rdbEnd, error) {
	if len(b) != rdbEndSize {
		return rdbEnd{}, fmt.Errorf("rdb-end frame has %d bytes, expected %d", len(b), rdbEndSize)
	}
	flags := le.Uint64(b[8:])
	if flags > 1 {
		return rdbEnd{}, fmt.Errorf("rdb-end frame has unknown flags %#x", flags)
	}
	return rdbEnd{CRC64: le.Uint64(b), Checked: flags == 1}, nil
}

func parseRDBBegin(b []byte) (size int64, err error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("rdb-begin frame has %d bytes, expected 8", len(b))
	}
	if size = int64(le.Uint64(b)); size < -1 {
		return 0, fmt.Errorf("rdb-begin frame announces %d bytes, expected -1 or more", size)
	}
	return size, nil
}
