package spool

import (
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"time"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// fsync makes the file durable. A failed one is never repeated: the kernel may
// have dropped the pages and would report success.
func (w *Writer) fsync() error {
	start := w.o.Now()
	if err := w.f.Sync(); err != nil {
		return w.fail(fmt.Errorf("sync segment %s: %w", w.path, err))
	}
	if took := w.o.Now().Sub(start); took > slowSync {
		w.o.Log.Warn("slow fsync", "path", w.path, "took", took, "expected", slowSync)
	}
	return nil
}

// fail breaks the writer for good.
func (w *Writer) fail(err error) error {
	w.err = errors.Join(ErrBroken, err)
	return w.err
}

// open starts the next segment unless one is open. The header is durable
// before any frame is written, so a segment with a bad header holds nothing.
func (w *Writer) open() error {
	if w.f != nil {
		return nil
	}
	w.hdr = segmentHeader{
		Identity: w.id, Stream: w.rdbDone, Seq: w.seq + 1, First: w.first, Offset: w.offset,
		RDBBytes: w.rdbBytes, RDBSize: w.rdbSize, Created: w.o.Now().UnixMilli(),
	}
	// Appended bytes that wait for their frame come after the header.
	if w.rdbDone {
		w.hdr.Offset -= int64(len(w.pend))
	} else {
		w.hdr.RDBBytes -= int64(len(w.pend))
	}
	w.path = filepath.Join(w.dir, w.hdr.Seq.File())
	f, err := w.o.FS.Create(w.path)
	if err != nil {
		return w.fail(fmt.Errorf("create segment: %w", err))
	}
	w.f = f
	head := w.hdr.appendTo(nil)
	if err := w.write(head); err != nil {
		return err
	}
	if err := w.fsync(); err != nil {
		return err
	}
	if err := w.o.FS.SyncDir(w.dir); err != nil {
		return w.fail(fmt.Errorf("sync epoch folder: %w", err))
	}
	w.seq = w.hdr.Seq
	w.tally = newTally(&w.hdr, head)
	w.fresh = false
	return w.carryClock(w.clock)
}

// sync writes what is pending, makes it durable and says so in the file.
func (w *Writer) sync() error {
	if err := w.flush(); err != nil {
		return err
	}
	if w.f == nil || !w.fresh {
		return nil
	}
	if err := w.fsync(); err != nil {
		return err
	}
	durable := w.tally.pos
	if err := w.writeFrame(kindSync, 0, w.tally.at, w.o.Now(), nil); err != nil {
		return err
	}
	w.fresh = false
	// Only up to the sync frame, which is itself not durable yet.
	w.publish(durable, false)
	return nil
}

// sealSegment syncs, ends the open segment with footer and trailer, and
// leaves the writer between two segments.
func (w *Writer) sealSegment() error {
	if err := w.sync(); err != nil {
		return err
	}
	if w.f == nil {
		return nil
	}
	// The footer vouches for every byte before it, the sync frame among them: a
	// power cut must not keep the one and lose the other.
	if err := w.fsync(); err != nil {
		return err
	}
	size, err := sealFile(w.f, w.tally, w.o.Now())
	if err != nil {
		return w.fail(fmt.Errorf("seal segment %s: %w", w.path, err))
	}
	if err := w.fsync(); err != nil {
		return err
	}
	if err := w.o.FS.SyncDir(w.dir); err != nil {
		return w.fail(fmt.Errorf("sync epoch folder: %w", err))
	}
	f := w.f
	w.f, w.clock = nil, w.tally.pending()
	if err := f.Close(); err != nil {
		return w.fail(fmt.Errorf("close segment: %w", err))
	}
	w.publish(size, true)
	return nil
}

// sealFile writes footer and trailer behind the frames of t, in one write,
// and returns the file's size then.
func sealFile(f fsx.File, t *tally, now time.Time) (int64, error) {
	foot := t.footer()
	b := foot.appendTo(make([]byte, frameHeaderSize))
	payload := b[frameHeaderSize:]
	h := frameHeader{
		Kind: kindFooter, RawLen: uint32(len(payload)), StoredLen: uint32(len(payload)),
		Offset: t.at, Recv: now.UnixMilli(), PayloadCRC: crc32.Checksum(payload, castagnoli),
	}
	h.put(b, t.hdr.CRC, t.pos)
	b = appendTrailer(b, t.hdr.CRC, t.pos, len(b))
	_, err := f.Write(b)
	return t.pos + int64(len(b)), err
}

// publish tells what is durable now: bytes of the current segment.
func (w *Writer) publish(bytes int64, sealed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.durable = Durable{
		Epoch: w.id.Epoch, ReplID: w.id.ReplID, Seq: w.seq, Bytes: bytes,
		RDBBytes: w.rdbBytes, RDBDone: w.rdbDone, Offset: repl.Offset(w.offset), Sealed: sealed,
	}
	close(w.changed)
	w.changed = make(chan struct{})
}
