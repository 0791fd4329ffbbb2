package capture

import (
	"errors"
	"fmt"
	"slices"

	"tairlift/checkpoint"
	"tairlift/internal/psync"
	"tairlift/internal/repl"
	"tairlift/spool"
)

// recover finds out what an earlier run left.
func (r *run) recover() error {
	s := r.s
	rec, known, err := s.o.Store.Group(s.o.Group)
	if err != nil {
		return s.recordFailed(err)
	}
	vouched := vouchedBy(rec)
	if p := s.o.Published; p.Seq > vouched.Seq || p.Seq == vouched.Seq && (p.Bytes > vouched.Bytes || p.Sealed && !vouched.Sealed) {
		vouched = p
	}
	r.ever, r.addr, r.epoch = known || !vouched.IsZero(), rec.Addr, vouched.Epoch
	w, found, err := spool.Recover(s.o.SpoolDir, s.o.Job, s.o.Group, vouched, s.o.Writer)
	switch {
	case errors.Is(err, spool.ErrNoEpoch) && vouched.IsZero():
		s.update(func(st *Status) { st.EverConnected = known })
		return nil
	case errors.Is(err, spool.ErrNoEpoch):
		return &StopError{
			Group: s.o.Group, Reason: ReasonCorrupt, Err: err,
			What: fmt.Sprintf("spool %s holds nothing of epoch %s, which is recorded as durable up to offset %s",
				s.o.SpoolDir, vouched.Epoch, vouched.Offset),
			Hint: "restore the spool, or capture into a new folder",
		}
	case err != nil:
		return s.spoolFailed(err)
	}
	d := found.Durable
	r.w, r.ever, r.epoch, r.history = w, true, d.Epoch, d.ReplID
	switch {
	case !known:
		s.o.Log.Warn("record of the durable position is lost, going on from the segments",
			"epoch", d.Epoch, "offset", d.Offset)
	case rec.Epoch == d.Epoch && rec.Addr != s.o.Addr:
		s.o.Log.Info("source has a new address", "was", rec.Addr, "addr", s.o.Addr)
	}
	if err := r.findSegments(); err != nil {
		return s.spoolFailed(err)
	}
	s.update(func(st *Status) { st.EverConnected, st.EpochReason = true, "" })
	r.publish(d)
	switch {
	case s.Status().EpochDue:
		s.o.Log.Warn("epoch is given up, as asked for", "epoch", d.Epoch, "offset", d.Offset)
		return r.giveUp(EpochAsked)
	case !d.RDBDone:
		return r.giveUpRDB()
	}
	return nil
}

// position is where the stream goes on, zero when a full sync is due.
func (r *run) position() repl.Position {
	if r.w == nil {
		return repl.Position{}
	}
	d := r.w.Durable()
	return repl.Position{ReplID: r.history, Offset: d.Offset}
}

// openEpoch answers +FULLRESYNC: the newest epoch is sealed, and one after it
// begins. A gap is never hidden inside an epoch.
func (r *run) openEpoch(start repl.Position, sample *psync.ClockSample) error {
	s := r.s
	why := r.whyEpoch(start, sample)
	if r.w != nil {
		s.o.Log.Warn("stream cannot go on, a new epoch begins", "why", why,
			"had", repl.Position{ReplID: r.history, Offset: r.w.Durable().Offset}, "source", start)
		if err := r.seal(); err != nil {
			return err
		}
	}
	id := spool.Identity{Job: s.o.Job, Group: s.o.Group, Epoch: r.epoch + 1, ReplID: start.ReplID, Start: start.Offset}
	w, err := spool.Create(s.o.SpoolDir, id, s.o.Writer)
	if err != nil {
		return s.spoolFailed(err)
	}
	r.w, r.epoch, r.history, r.addr, r.renew = w, id.Epoch, id.ReplID, s.o.Addr, ""
	r.segments, r.last, r.held = nil, nil, nil
	s.o.Log.Info("epoch began", "epoch", id.Epoch, "why", why, "pos", start)
	s.update(func(st *Status) {
		st.EpochReason, st.EpochDue, st.RDBTotal, st.SourceOffset = why, false, -1, -1
		if sample != nil && sample.ReplID == start.ReplID {
			st.SourceOffset = sample.Offset
		}
	})
	r.publish(w.Durable())
	return r.book.put()
}

// whyEpoch says why the newest epoch does not go on.
func (r *run) whyEpoch(start repl.Position, sample *psync.ClockSample) string {
	switch {
	case r.epoch == 0:
		return EpochFirst
	case r.renew != "":
		return r.renew
	case start.ReplID == r.history:
		return EpochOverrun
	case r.addr != "" && r.addr != r.s.o.Addr, sample != nil && r.runID != "" && sample.RunID == r.runID:
		return EpochFailover
	}
	return EpochRestart
}

// follows takes the replid of +CONTINUE. A promoted server names its new
// history, which shares ours up to here; that must be durable before any byte
// of it is, or the old master, still alive and gone its own way, could later be
// taken for the same history.
func (r *run) follows(history repl.ReplID) error {
	if history == r.history {
		return nil
	}
	s := r.s
	s.o.Log.Info("source goes on under a new replid", "was", r.history, "replid", history,
		"offset", r.w.Durable().Offset)
	if err := r.w.SetReplID(history); err != nil {
		return s.spoolFailed(err)
	}
	// The old master may have been ahead of what the new one got from it: its
	// offsets from there on are those of other bytes now.
	r.history, r.last, r.held = history, nil, nil
	d, err := r.w.Sync()
	if err != nil {
		return s.spoolFailed(err)
	}
	r.publish(d)
	return r.book.put()
}

// giveUpRDB ends an epoch whose RDB is not whole.
func (r *run) giveUpRDB() error {
	d := r.w.Durable()
	r.s.o.Log.Warn("epoch has no whole RDB and is given up", "epoch", d.Epoch, "rdb_bytes", d.RDBBytes)
	return r.giveUp(EpochRDB)
}

// giveUp ends the newest epoch. It stays as it is; the next full sync opens
// another.
func (r *run) giveUp(why string) error {
	r.renew = why
	return r.seal()
}

// seal makes everything appended durable, ends the segment and records it.
func (r *run) seal() error {
	if err := r.appendHeld(); err != nil {
		return err
	}
	w := r.w
	r.w = nil
	if err := w.Seal(); err != nil {
		w.Close()
		return r.s.spoolFailed(err)
	}
	r.publish(w.Durable())
	return r.book.put()
}

// finish is the clean end of a run.
func (r *run) finish() error {
	if r.w == nil {
		return r.book.put()
	}
	return r.seal()
}

// publish tells everyone what is durable.
func (r *run) publish(d spool.Durable) {
	r.noteSegment(d)
	r.book.note(recordOf(r.addr, d, r.segments))
	r.s.update(func(st *Status) {
		st.Durable, st.Epoch, st.ReplID, st.EverConnected = d, d.Epoch, r.history, true
		if d.RDBDone {
			st.RDBTotal = d.RDBBytes
		}
	})
}

// noteSegment adds the segment that d says was sealed. Each Sync seals at most
// one, so none is missed.
func (r *run) noteSegment(d spool.Durable) {
	if n := len(r.segments); !d.Sealed || n > 0 && r.segments[n-1].Seq >= uint64(d.Seq) {
		return
	}
	// The book may be writing the old slice: it is never changed in place.
	kept := r.segments[max(0, len(r.segments)+1-maxSegments):]
	r.segments = append(slices.Clone(kept),
		checkpoint.SegmentRecord{Epoch: d.Epoch, Seq: uint64(d.Seq), Bytes: d.Bytes, End: d.Offset})
}

// findSegments lists the sealed segments of the recovered epoch: the record may
// be some segments behind.
func (r *run) findSegments() error {
	g, err := spool.OpenGroup(r.s.o.SpoolDir, r.s.o.Job, r.s.o.Group)
	if err != nil {
		return err
	}
	epochs, err := g.Epochs()
	if err != nil || len(epochs) == 0 {
		return err
	}
	e := epochs[len(epochs)-1]
	for _, seg := range e.Segments[max(0, len(e.Segments)-maxSegments):] {
		if !seg.Sealed {
			continue
		}
		end := e.Start // of a segment that holds RDB bytes only
		if seg.Stream {
			end = repl.Offset(seg.To)
		}
		r.segments = append(r.segments,
			checkpoint.SegmentRecord{Epoch: e.Epoch, Seq: uint64(seg.Seq), Bytes: seg.Bytes, End: end})
	}
	return nil
}
