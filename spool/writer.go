package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

const (
	defaultSegmentBytes = 256 << 20
	defaultSegmentAge   = time.Hour
	maxSegmentBytes     = 16 << 30 // keeps the index inside one footer frame

	// frameTarget is the raw size at which the writer closes a frame. The
	// format allows maxRaw; a quarter of it compresses as well and keeps forty
	// groups small.
	frameTarget = 256 << 10
	// frameSpan bounds the receive times inside one frame.
	frameSpan = 100 * time.Millisecond
	// slowSync is worth a line in the log: the source waits for our ACK.
	slowSync = time.Second
)

// WriterOptions tune a Writer. The zero value works.
type WriterOptions struct {
	SegmentBytes int64            // file size at which a segment is sealed; 0 = 256 MiB, at most 16 GiB
	SegmentAge   time.Duration    // age at which it is; 0 = one hour
	Now          func() time.Time // nil = time.Now
	FS           fsx.FS           // nil = fsx.OS
	Log          *slog.Logger     // nil = none
}

func (o *WriterOptions) fill() {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	o.SegmentBytes = min(o.SegmentBytes, maxSegmentBytes)
	if o.SegmentAge <= 0 {
		o.SegmentAge = defaultSegmentAge
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.FS == nil {
		o.FS = fsx.OS
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Writer appends one epoch of one group to the spool. Append buffers, Sync
// makes durable, Seal ends. Its methods are called from one goroutine, but
// for Identity, Durable and Changed, which any may call. After a failed write
// or fsync every call returns ErrBroken joined with that failure.
type Writer struct {
	o     WriterOptions
	dir   string // of the epoch
	id    Identity
	first Seq // of the epoch
	seq   Seq // of the open segment, or of the last one sealed
	err   error

	// The open segment; f is nil between a seal and the next append.
	f     fsx.File
	path  string
	hdr   segmentHeader
	tally *tally
	fresh bool // frames were written since the last fsync

	rdbBegun, rdbDone bool
	cut               bool // recovered inside the RDB
	rdbSize, rdbBytes int64
	offset            int64         // of the stream, with what is in pend
	clock             []ClockSample // carried into the next segment while f is nil

	pend     []byte // bytes of the frame being collected
	pendFrom time.Time
	pendTo   time.Time
	out      []byte // the frame being written

	mu      sync.Mutex // guards what follows
	durable Durable
	changed chan struct{}
}

// Create starts an epoch in the spool folder dir: its folder, which must not
// hold anything, and the first segment, whose sequence number follows that of
// the epoch before. That epoch must be sealed; Recover sees to it.
func Create(dir string, id Identity, o WriterOptions) (*Writer, error) {
	o.fill()
	if err := id.validate(); err != nil {
		return nil, fmt.Errorf("create epoch: %w", err)
	}
	first, err := nextSeq(o.FS, dir, id)
	if err != nil {
		return nil, fmt.Errorf("create epoch %d of group %d: %w", id.Epoch, id.Group, err)
	}
	w := newWriter(filepath.Join(dir, id.Group.Dir(), id.Epoch.Dir()), id, o)
	w.first, w.seq, w.rdbSize = first, first-1, -1
	if err := w.makeDir(dir); err != nil {
		return nil, fmt.Errorf("create epoch folder: %w", err)
	}
	if err := w.open(); err != nil {
		w.Close()
		return nil, err
	}
	w.publish(segHeaderSize, false)
	return w, nil
}

func newWriter(dir string, id Identity, o WriterOptions) *Writer {
	return &Writer{o: o, dir: dir, id: id, offset: int64(id.Start), changed: make(chan struct{})}
}

// nextSeq returns the number of the first segment of a new epoch.
func nextSeq(fsys fsx.FS, dir string, id Identity) (Seq, error) {
	epochs, err := listEpochs(fsys, filepath.Join(dir, id.Group.Dir()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if n := len(epochs); n > 0 && epochs[n-1] == id.Epoch {
		epochs = epochs[:n-1] // makeDir looks whether it is empty
	}
	if len(epochs) == 0 {
		return 1, nil
	}
	last := epochs[len(epochs)-1]
	if last+1 != id.Epoch {
		return 0, fmt.Errorf("newest epoch is %d, expected %d", last, id.Epoch-1)
	}
	seqs, err := listSeqs(fsys, filepath.Join(dir, id.Group.Dir(), last.Dir()))
	if err != nil {
		return 0, err
	}
	if len(seqs) == 0 {
		return 0, fmt.Errorf("epoch %d holds no segment", last)
	}
	seq := seqs[len(seqs)-1]
	prev := id
	prev.Epoch = last
	s, err := openSeg(fsys, Path(dir, id.Group, last, seq), prev, seq)
	if err != nil {
		return 0, err
	}
	defer s.close()
	if err := s.load(Durable{}); err != nil {
		return 0, err
	}
	if !s.sealed {
		return 0, fmt.Errorf("segment %s is not sealed", s.path)
	}
	return seq + 1, nil
}

// makeDir makes the epoch's folder durable, and refuses one that is in use.
func (w *Writer) makeDir(dir string) error {
	if entries, err := w.o.FS.ReadDir(w.dir); err == nil && len(entries) > 0 {
		return &fs.PathError{Op: "create", Path: w.dir, Err: fs.ErrExist}
	}
	if err := w.o.FS.MkdirAll(w.dir); err != nil {
		return err
	}
	for _, parent := range []string{filepath.Dir(w.dir), dir, filepath.Dir(dir)} {
		if err := w.o.FS.SyncDir(parent); err != nil {
			return err
		}
	}
	return nil
}

// Identity is what the writer's segments say of themselves; its ReplID is the
// latest.
func (w *Writer) Identity() Identity {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.id
}

// BeginRDB announces the RDB and its size in bytes, -1 when the source does
// not tell it. AppendRDB does so with -1 when it was not called.
func (w *Writer) BeginRDB(size int64) error {
	if err := w.ready(); err != nil {
		return err
	}
	if w.rdbBegun || w.rdbDone {
		return fmt.Errorf("begin rdb: %w: it has begun", ErrOrder)
	}
	if size < -1 {
		return fmt.Errorf("begin rdb: size is %d, expected -1 or more", size)
	}
	if err := w.open(); err != nil {
		return err
	}
	if err := w.writeFrame(kindRDBBegin, 0, 0, w.o.Now(), le.AppendUint64(nil, uint64(size))); err != nil {
		return err
	}
	w.rdbBegun, w.rdbSize = true, size
	return nil
}

// AppendRDB appends bytes of the RDB, received at recv. p is not kept.
func (w *Writer) AppendRDB(p []byte, recv time.Time) error {
	if err := w.inRDB(); err != nil {
		return fmt.Errorf("append rdb: %w", err)
	}
	return w.appendData(kindRDB, p, recv)
}

// EndRDB ends the RDB, makes it durable and seals the segment, so that the
// stream starts one of its own whose header says that the RDB is complete.
// crc64 is the RDB's checksum; checked says that the footer had one and that
// it is right.
func (w *Writer) EndRDB(crc64 uint64, checked bool) error {
	if err := w.inRDB(); err != nil {
		return fmt.Errorf("end rdb: %w", err)
	}
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.open(); err != nil {
		return err
	}
	end := rdbEnd{CRC64: crc64, Checked: checked}
	if err := w.writeFrame(kindRDBEnd, 0, w.rdbBytes, w.o.Now(), end.appendTo(nil)); err != nil {
		return err
	}
	w.rdbDone = true
	return w.sealSegment()
}

// AppendStream appends bytes of the replication stream that follow directly
// what was appended before, received at recv. p is not kept.
func (w *Writer) AppendStream(p []byte, recv time.Time) error {
	if err := w.ready(); err != nil {
		return err
	}
	if !w.rdbDone {
		return fmt.Errorf("append stream: %w: the rdb has not ended", ErrOrder)
	}
	return w.appendData(kindStream, p, recv)
}

// AppendClock appends a sample of the offset clock, in any phase.
func (w *Writer) AppendClock(s ClockSample) error {
	if err := w.ready(); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.open(); err != nil {
		return err
	}
	return w.writeFrame(kindClock, 0, w.tally.at, w.o.Now(), appendClock(nil, []ClockSample{s}))
}

// SetReplID says that the source's history goes on under another id (PSYNC2's
// "+CONTINUE <replid>"). Segments from the next one on carry it.
func (w *Writer) SetReplID(id repl.ReplID) error {
	switch _, err := repl.ParseReplID(string(id)); {
	case w.err != nil:
		return w.err
	case err != nil:
		return fmt.Errorf("set replid: %w", err)
	case !w.rdbDone:
		return fmt.Errorf("set replid: %w: the rdb has not ended", ErrOrder)
	case id == w.id.ReplID:
		return nil
	}
	if err := w.sealSegment(); err != nil {
		return err
	}
	w.mu.Lock()
	w.id.ReplID = id
	d := w.durable
	w.mu.Unlock()
	w.publish(d.Bytes, d.Sealed)
	return nil
}

// Sync makes everything appended so far durable, says so in the file and
// publishes it. It seals the segment when that is full or old; the next
// append then starts another. Without new bytes it costs nothing.
func (w *Writer) Sync() (Durable, error) {
	if w.err != nil {
		return w.Durable(), w.err
	}
	if err := w.sync(); err != nil {
		return w.Durable(), err
	}
	if w.f != nil && w.tally.foot.RawBytes > 0 &&
		(w.tally.pos >= w.o.SegmentBytes || w.o.Now().Sub(w.hdr.created()) >= w.o.SegmentAge) {
		if err := w.sealSegment(); err != nil {
			return w.Durable(), err
		}
	}
	return w.Durable(), nil
}

// Rotate makes everything durable and seals the open segment, unless it holds
// no bytes of the source; the next append starts another.
func (w *Writer) Rotate() error {
	if w.err != nil {
		return w.err
	}
	if err := w.sync(); err != nil {
		return err
	}
	if w.f == nil || w.tally.foot.RawBytes == 0 {
		return nil
	}
	return w.sealSegment()
}

// Durable is what the last Sync or seal made durable.
func (w *Writer) Durable() Durable {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.durable
}

// Changed returns a channel that is closed when Durable moves. Take it before
// looking at what has moved.
func (w *Writer) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// Seal makes everything durable, seals the segment and ends the writer.
func (w *Writer) Seal() error {
	if w.err != nil {
		return w.err
	}
	if err := w.sealSegment(); err != nil {
		return err
	}
	w.err = ErrClosed
	return nil
}

// Close ends the writer without a seal: what was not synced may be lost. It
// is harmless after Seal.
func (w *Writer) Close() error {
	f := w.f
	w.f = nil
	if w.err == nil {
		w.err = ErrClosed
	}
	if f == nil {
		return nil
	}
	return f.Close()
}

// ready refuses appends to a writer that failed, ended, or stands behind an
// RDB that a crash cut short.
func (w *Writer) ready() error {
	if w.err == nil && w.cut {
		return fmt.Errorf("%w: the rdb was cut short and is never resumed, expected a new epoch", ErrOrder)
	}
	return w.err
}

// inRDB begins the RDB unless that was done, and refuses what comes behind
// its end.
func (w *Writer) inRDB() error {
	switch err := w.ready(); {
	case err != nil:
		return err
	case w.rdbDone:
		return fmt.Errorf("%w: the rdb has ended", ErrOrder)
	case !w.rdbBegun:
		return w.BeginRDB(-1)
	}
	return nil
}
