package capture

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/repl"
	"tairlift/spool"
)

// book records the durable position in the Store. It knows two positions: the
// one that is on our disk, and the one that is recorded too, which alone is
// acknowledged to the source.
type book struct {
	s        *Session
	cancel   context.CancelCauseFunc
	moved    chan struct{} // cap 1: there is something to record
	recorded chan struct{} // cap 1: there is something to acknowledge
	ack      atomic.Int64  // the offset that may be acknowledged; 0 without a whole RDB

	mu      sync.Mutex // guards what follows, never held over a write
	rec     checkpoint.CaptureRecord
	version int // of rec

	writing sync.Mutex // keeps records in order; guards what follows
	written int        // the version last recorded
}

// note takes a position that is durable.
func (b *book) note(rec checkpoint.CaptureRecord) {
	b.mu.Lock()
	b.rec = rec
	b.version++
	b.mu.Unlock()
	signal(b.moved)
}

// put records what was noted last. When it returns nil, that is on disk and
// may be acknowledged.
func (b *book) put() error {
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.Lock()
	rec, version := b.rec, b.version
	b.mu.Unlock()
	if version == b.written {
		return nil
	}
	rec.UpdatedMS = time.Now().UnixMilli()
	if err := b.s.o.Store.PutGroup(b.s.o.Group, rec); err != nil {
		return b.s.recordFailed(err)
	}
	b.written = version
	if rec.RDBDone {
		b.ack.Store(int64(rec.Offset))
	} else {
		b.ack.Store(0)
	}
	signal(b.recorded)
	return nil
}

// loop records whatever has moved, at most once per RecordEvery.
func (b *book) loop(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		select {
		case <-b.moved:
		case <-ctx.Done():
			return
		}
		if err := b.put(); err != nil {
			b.cancel(err)
			return
		}
		pause.Reset(b.s.o.RecordEvery)
	}
}

// acknowledgeable is the offset for REPLCONF ACK.
func (b *book) acknowledgeable() repl.Offset { return repl.Offset(b.ack.Load()) }

// recordOf is the record of a durable position.
func recordOf(addr string, d spool.Durable, segments []checkpoint.SegmentRecord) checkpoint.CaptureRecord {
	return checkpoint.CaptureRecord{
		Addr: addr, Epoch: d.Epoch, ReplID: d.ReplID, Offset: d.Offset, Seq: uint64(d.Seq), Bytes: d.Bytes,
		RDBBytes: d.RDBBytes, RDBDone: d.RDBDone, Sealed: d.Sealed, Segments: segments,
	}
}

// vouchedBy is the durable position that a record vouches for.
func vouchedBy(rec checkpoint.CaptureRecord) spool.Durable {
	return spool.Durable{
		Epoch: rec.Epoch, ReplID: rec.ReplID, Offset: rec.Offset, Seq: spool.Seq(rec.Seq), Bytes: rec.Bytes,
		RDBBytes: rec.RDBBytes, RDBDone: rec.RDBDone, Sealed: rec.Sealed,
	}
}
