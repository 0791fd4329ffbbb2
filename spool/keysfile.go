package spool

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// Fingerprint stands for one key of one database: the first 16 bytes of the
// SHA-256 over the database's number, as an unsigned 32-bit little-endian
// integer, and the key.
type Fingerprint [16]byte

// FingerprintOf is the fingerprint of a key of database db.
func FingerprintOf(db int, key []byte) Fingerprint {
	var small [256]byte
	b := binary.LittleEndian.AppendUint32(small[:0], uint32(db))
	sum := sha256.Sum256(append(b, key...))
	return Fingerprint(sum[:16])
}

// KeysVersion is the newest version of key files that this package reads. It is
// written behind a SWAPDB only: until then files are of version 1.
const KeysVersion = 2

const (
	keysMagic      = "tairkeys"
	keysExt        = ".keys"
	keysHeaderSize = 272
	keysBlock      = 512 // fingerprints in a block at most
	keysBlockHead  = 8
	keysEndSize    = 32
	// keysIncomplete: the epoch's RDB never arrived whole, so that nothing of
	// the segment was ever applied and its keys were not looked at.
	keysIncomplete = 1 << 0
)

// keysName is the name of the file that stands in for a segment.
func keysName(seq Seq) string { return strings.TrimSuffix(seq.File(), ".seg") + keysExt }

func parseKeysName(name string) (Seq, error) {
	num, ok := strings.CutSuffix(name, keysExt)
	if !ok {
		return 0, fmt.Errorf("%q is not a key file's name", name)
	}
	return ParseSeqFile(num + ".seg")
}

// KeysPath is where the key file of the segment seq lies once it is pruned.
func KeysPath(dir string, g repl.GroupID, e repl.Epoch, seq Seq) string {
	return filepath.Join(dir, g.Dir(), e.Dir(), keysName(seq))
}

// place is where the first entry or command begins that does not begin in a
// segment, and what reading from there needs to know.
type place struct {
	Offset  int64 // of the phase
	DB      uint32
	Version uint32 // of the RDB; 0 in the stream phase, and before the RDB's header
}

// keysHeader opens a key file: what the segment said of itself, so that the
// chain of segments can be followed through it.
type keysHeader struct {
	hdr        segmentHeader
	foot       footer // without index and clock samples
	size       int64  // of the segment's file
	incomplete bool
	pruned     int64 // unix ms
	swapped    int   // databases that the end mark tells of
	crc        uint32
}

func (k *keysHeader) version() uint32 {
	if k.swapped > 0 {
		return KeysVersion
	}
	return 1
}

// endSize is that of the end mark's payload.
func (k *keysHeader) endSize() int64 {
	if k.swapped > 0 {
		return keysEndSize + swapsSize + int64(k.swapped)*swapSize
	}
	return keysEndSize
}

// keysEnd ends a key file.
type keysEnd struct {
	Keys   uint64 // fingerprints
	Opaque uint64 // commands that may have written keys which they do not name
	Next   place
	Swaps  Swaps // up to there
}

func (e *keysEnd) appendTo(b []byte) []byte {
	b = le.AppendUint64(b, e.Keys)
	b = le.AppendUint64(b, e.Opaque)
	b = le.AppendUint64(b, uint64(e.Next.Offset))
	b = le.AppendUint32(b, e.Next.DB)
	b = le.AppendUint32(b, e.Next.Version)
	return e.Swaps.appendTo(b)
}

func parseKeysEnd(b []byte) keysEnd {
	return keysEnd{
		Keys: le.Uint64(b), Opaque: le.Uint64(b[8:]),
		Next:  place{Offset: int64(le.Uint64(b[16:])), DB: le.Uint32(b[24:]), Version: le.Uint32(b[28:])},
		Swaps: parseSwaps(b[keysEndSize:]),
	}
}

func (k *keysHeader) appendTo(b []byte) []byte {
	at := len(b)
	var flags uint32
	if k.incomplete {
		flags |= keysIncomplete
	}
	b = append(b, keysMagic...)
	b = le.AppendUint32(b, k.version())
	b = le.AppendUint32(b, keysHeaderSize)
	b = le.AppendUint32(b, flags)
	b = le.AppendUint32(b, uint32(k.swapped))
	b = k.hdr.appendTo(b)
	foot := k.foot
	foot.Index, foot.Clock = nil, nil
	b = foot.appendTo(b)
	b = le.AppendUint64(b, uint64(k.size))
	b = le.AppendUint64(b, uint64(k.pruned))
	k.crc = crc32.Checksum(b[at:], castagnoli)
	return le.AppendUint32(b, k.crc)
}

// parseKeysHeader decodes the first keysHeaderSize bytes of a key file.
func parseKeysHeader(path string, b []byte) (keysHeader, error) {
	var k keysHeader
	if string(b[:8]) != keysMagic {
		return k, corrupt(path, 0, "magic is %q, expected %q", b[:8], keysMagic)
	}
	version := le.Uint32(b[8:])
	if version == 0 || version > KeysVersion {
		return k, &VersionError{Path: path, Found: version, Supported: KeysVersion}
	}
	if n := le.Uint32(b[12:]); n != keysHeaderSize {
		return k, corrupt(path, 12, "header length is %d, expected %d", n, keysHeaderSize)
	}
	k.crc = crc32.Checksum(b[:keysHeaderSize-4], castagnoli)
	if found := le.Uint32(b[keysHeaderSize-4:]); found != k.crc {
		return k, corrupt(path, keysHeaderSize-4, "header crc is %08x, expected %08x", found, k.crc)
	}
	flags := le.Uint32(b[16:])
	if unknown := flags &^ keysIncomplete; unknown != 0 {
		return k, corrupt(path, 16, "header has unknown flags %#x", unknown)
	}
	swapped := le.Uint32(b[20:])
	if k.swapped = int(swapped); swapped > maxSwapped || k.version() != version {
		return k, corrupt(path, 20, "number of swapped databases is %d, which a file of version %d does not have", swapped, version)
	}
	var err error
	if k.hdr, err = parseSegmentHeader(path, b[24:24+segHeaderSize]); err != nil {
		return k, err
	}
	if k.foot, err = parseFooter(b[172 : 172+footerFixed]); err != nil {
		return k, &CorruptError{Path: path, Offset: 172, Err: err}
	}
	k.incomplete = flags&keysIncomplete != 0
	k.size, k.pruned = int64(le.Uint64(b[252:])), int64(le.Uint64(b[260:]))
	switch {
	case k.size < segHeaderSize:
		return k, corrupt(path, 252, "segment's size is %d, expected %d or more", k.size, segHeaderSize)
	case k.end() < k.hdr.begin():
		return k, corrupt(path, 172, "segment ends at %d, before its start %d", k.end(), k.hdr.begin())
	}
	return k, nil
}

// end is the RDB or stream offset at the segment's end.
func (k *keysHeader) end() int64 {
	if k.hdr.Stream {
		return k.foot.StreamEnd
	}
	return k.foot.RDBEnd
}

// tally is what a walk over the segment would have left, but for its clock
// samples.
func (k *keysHeader) tally() *tally {
	t := newTally(&k.hdr, nil)
	t.foot, t.pos, t.begun, t.done, t.lax = k.foot, k.size, true, k.foot.RDBDone, true
	t.at = k.end()
	return t
}

// keysWriter writes a key file from fingerprints in ascending order.
type keysWriter struct {
	f     fsx.File
	salt  uint32
	pos   int64
	n     int    // fingerprints in out
	out   []byte // the block under way
	total uint64
}

func newKeysWriter(f fsx.File, k *keysHeader) (*keysWriter, error) {
	b := k.appendTo(nil)
	if _, err := f.Write(b); err != nil {
		return nil, err
	}
	return &keysWriter{f: f, salt: k.crc, pos: int64(len(b))}, nil
}

func (w *keysWriter) add(fp Fingerprint) error {
	w.out = append(w.out, fp[:]...)
	if w.n++; w.n < keysBlock {
		return nil
	}
	return w.flush()
}

func (w *keysWriter) flush() error {
	if w.n == 0 {
		return nil
	}
	err := w.block(w.n, w.out)
	w.total += uint64(w.n)
	w.n, w.out = 0, w.out[:0]
	return err
}

// finish writes the end mark, with the number of fingerprints filled in.
func (w *keysWriter) finish(end *keysEnd) error {
	if err := w.flush(); err != nil {
		return err
	}
	end.Keys = w.total
	return w.block(0, end.appendTo(nil))
}

func (w *keysWriter) block(n int, payload []byte) error {
	b := le.AppendUint32(nil, uint32(n))
	b = le.AppendUint32(b, keysCRC(w.salt, w.pos, uint32(n), payload))
	b = append(b, payload...)
	w.pos += int64(len(b))
	_, err := w.f.Write(b)
	return err
}

// keysCRC covers the header's CRC and the block's position before the block
// itself, as frameCRC does for frames.
func keysCRC(salt uint32, pos int64, n uint32, payload []byte) uint32 {
	var s [16]byte
	le.PutUint32(s[:], salt)
	le.PutUint64(s[4:], uint64(pos))
	le.PutUint32(s[12:], n)
	return crc32.Update(crc32.Checksum(s[:], castagnoli), castagnoli, payload)
}

// keysFile is a key file open for reading.
type keysFile struct {
	path string
	f    fsx.File
	size int64
	head keysHeader
	end  keysEnd
}

// openKeys opens the key file of a pruned segment and reads its header and its
// end. It returns an error that is fs.ErrNotExist when there is none.
func openKeys(fsys fsx.FS, path string, want Identity, seq Seq) (*keysFile, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	k := &keysFile{path: path, f: f}
	if err := k.readEnds(want, seq); err != nil {
		f.Close()
		return nil, err
	}
	return k, nil
}

func (k *keysFile) readEnds(want Identity, seq Seq) error {
	info, err := k.f.Stat()
	if err != nil {
		return fmt.Errorf("stat key file: %w", err)
	}
	k.size = info.Size()
	var b [keysHeaderSize]byte
	if _, err := k.f.ReadAt(b[:], 0); errors.Is(err, io.EOF) {
		return corrupt(k.path, k.size, "file ends inside its header")
	} else if err != nil {
		return fmt.Errorf("read key file: %w", err)
	}
	if k.head, err = parseKeysHeader(k.path, b[:]); err != nil {
		return err
	}
	if err := k.head.hdr.belongs(k.path, want, seq); err != nil {
		return err
	}
	pos := k.size - keysBlockHead - k.head.endSize()
	if pos < keysHeaderSize {
		return corrupt(k.path, k.size, "file ends before its end mark")
	}
	end := make([]byte, keysBlockHead+k.head.endSize())
	if _, err := k.f.ReadAt(end, pos); err != nil {
		return fmt.Errorf("read key file: %w", err)
	}
	payload := end[keysBlockHead:]
	n, crc := le.Uint32(end), le.Uint32(end[4:])
	if want := keysCRC(k.head.crc, pos, 0, payload); n != 0 || crc != want {
		return corrupt(k.path, pos, "end mark is not valid: crc is %08x, expected %08x", crc, want)
	}
	k.end = parseKeysEnd(payload)
	if h := &k.head; k.end.Next.Offset < h.end() && !h.incomplete {
		return corrupt(k.path, pos, "next entry is at %d, expected %d or more", k.end.Next.Offset, h.end())
	}
	return nil
}

func (k *keysFile) close() { k.f.Close() }

// blocks reads the fingerprints block by block, and checks the whole file: the
// last call says io.EOF.
func (k *keysFile) blocks() func([]byte) ([]byte, error) {
	win := window{f: k.f}
	limit := k.size - keysBlockHead - k.head.endSize()
	pos, total := int64(keysHeaderSize), uint64(0)
	var last Fingerprint
	bad := func(format string, args ...any) error { return corrupt(k.path, pos, format, args...) }
	return func([]byte) ([]byte, error) {
		if pos == limit {
			if k.end.Keys != total {
				return nil, bad("end mark says there are %d fingerprints, %d are", k.end.Keys, total)
			}
			return nil, io.EOF
		}
		b, err := win.at(pos, keysBlockHead, limit)
		if err != nil {
			return nil, keysRead(err, k.path, pos)
		}
		n, crc := le.Uint32(b), le.Uint32(b[4:])
		end := pos + keysBlockHead + int64(n)*int64(len(last))
		if n == 0 || n > keysBlock || end > limit {
			return nil, bad("block has %d fingerprints, expected 1 to %d before the end mark at %d", n, keysBlock, limit)
		}
		if b, err = win.at(pos+keysBlockHead, int(end-pos-keysBlockHead), limit); err != nil {
			return nil, keysRead(err, k.path, pos)
		}
		if want := keysCRC(k.head.crc, pos, n, b); crc != want {
			return nil, bad("block crc is %08x, expected %08x", crc, want)
		}
		for i := range int(n) {
			fp := Fingerprint(b[i*len(last):][:len(last)])
			if (i > 0 || total > 0) && compareKeys(last, fp) >= 0 {
				return nil, bad("fingerprint %d of the block is not behind the one before", i)
			}
			last = fp
		}
		total += uint64(n)
		pos = end
		return b, nil
	}
}

// each calls fn for every fingerprint and checks the whole file.
func (k *keysFile) each(fn func(Fingerprint) error) error {
	c := keyCursor{next: k.blocks()}
	for {
		if err := c.step(); err != nil || c.done {
			return err
		}
		if err := fn(c.fp); err != nil {
			return err
		}
	}
}

func keysRead(err error, path string, pos int64) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt(path, pos, "file ends inside a block")
	}
	return fmt.Errorf("read key file %s: %w", path, err)
}

// PrunedSegment is what is known of a segment that was pruned.
type PrunedSegment struct {
	Path       string     `json:"path"` // of its key file
	Epoch      repl.Epoch `json:"epoch"`
	Seq        Seq        `json:"seq"`
	Stream     bool       `json:"stream"`
	From       int64      `json:"from"`
	To         int64      `json:"to"`
	Bytes      int64      `json:"bytes"`      // that its file had
	KeyBytes   int64      `json:"key_bytes"`  // that its key file has
	Keys       uint64     `json:"keys"`       // fingerprints: keys that no earlier key file of the epoch has
	Opaque     uint64     `json:"opaque"`     // commands that may have written keys which they do not name
	Incomplete bool       `json:"incomplete"` // of an RDB that never arrived whole: nothing of it was applied
	Pruned     time.Time  `json:"pruned"`
}

func (k *keysFile) info() PrunedSegment {
	h := &k.head
	return PrunedSegment{
		Path: k.path, Epoch: h.hdr.Epoch, Seq: h.hdr.Seq, Stream: h.hdr.Stream, From: h.hdr.begin(), To: h.end(),
		Bytes: h.size, KeyBytes: k.size, Keys: k.end.Keys, Opaque: k.end.Opaque, Incomplete: h.incomplete, Pruned: time.UnixMilli(h.pruned),
	}
}

// ReadKeys calls fn for each fingerprint that the key file of a pruned segment
// holds, in ascending order. It checks the whole file: fn may have been
// called before a CorruptError is returned. An error of fn is returned as it
// is. It returns an error that is fs.ErrNotExist when the segment has none.
func (g *Group) ReadKeys(e repl.Epoch, seq Seq, fn func(Fingerprint) error) (PrunedSegment, error) {
	k, err := g.openKeys(e, seq)
	if err != nil {
		return PrunedSegment{}, err
	}
	defer k.close()
	err = k.each(fn)
	return k.info(), err
}

func (g *Group) openKeys(e repl.Epoch, seq Seq) (*keysFile, error) {
	return openKeys(g.fs, KeysPath(g.dir, g.id, e, seq), Identity{Job: g.job, Group: g.id, Epoch: e}, seq)
}

// listKeySeqs lists the segments of an epoch that have a key file.
func (g *Group) listKeySeqs(e repl.Epoch) ([]Seq, error) {
	return listKeys(g.fs, filepath.Join(g.dir, g.id.Dir(), e.Dir()))
}

// listKeys lists the segments of an epoch that have a key file.
func listKeys(fsys fsx.FS, dir string) ([]Seq, error) {
	seqs, err := listDir(fsys, dir, parseKeysName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return seqs, err
}
