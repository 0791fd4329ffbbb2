package apply

import (
	"context"
	"errors"
	"math"
	"time"

	"tairlift/internal/held"
	"tairlift/internal/resp"
)

// The pass sets a group's held deadlines exact once it has caught up. Which keys
// bear one is known by name, unless this process was not there when they were
// written: then a scan of the target finds them.
// It works between the batches of the stream: while it does, deadlines of
// commands that are fresh are written exact, and a command that is not makes
// them held again, until the group has caught up the next time.
//
// Each EXEC of the pass sets some deadlines exact and says in the mark that
// they are mixed. A crash between any two leaves some of them held, which the
// next pass finds.

// passTime is how long steps are taken between two batches, one at least.
const passTime = 5 * time.Millisecond

// scansAgain is how often a scan is made again because of scripts that came
// meanwhile: a source may run them all the time.
const scansAgain = 3

// watchKeys is how many keys one EXEC of the pass is about, by the round trip to
// the target. A server compares each key that it is to watch with all that the
// connection watches, so n of them take it some 5 ns * n^2; and an EXEC takes
// three round trips.
func watchKeys(rtt time.Duration) int {
	return min(max(int(math.Sqrt(3*float64(rtt.Nanoseconds())/5)), 128), 1000)
}

// caughtUp tells whether deadlines may be exact from here on.
func (s *streamer) caughtUp() bool {
	ms, age := s.date(s.tr.batch.end), s.g.job.o.behindAge // or the next command holds again
	if s.drained {
		age = caughtAge
		if due := s.g.due.Load(); due != nil && due.epoch == s.lane.Mark().Epoch && s.tr.batch.end >= due.offset {
			return true
		}
		ms = s.tr.clock.newest(s.recv)
	}
	return ms != 0 && s.tr.clock.sourceAge(ms, s.g.wall()) <= age
}

// settle takes some steps of the pass that sets held deadlines exact, if one is
// due. end says that the spool is at its end for good. It tells whether more is
// to be done at once. What was translated is committed and answered when it is
// called behind land, and nothing is in the batch.
func (s *streamer) settle(ctx context.Context, end bool) (more bool, err error) {
	if s.lane.Mark().TTL == DeadlinesExact && !s.tr.held.any {
		s.tr.hold(false)
		return false, nil
	}
	if !end && !s.caughtUp() {
		return false, nil
	}
	s.tr.hold(false)
	if !end && s.tr.inMulti { // a transaction that is half read may hold some
		return false, nil
	}
	if err := s.land(); err != nil {
		return false, err
	}
	for begun := time.Now(); ; {
		done, err := s.passStep(ctx)
		if err != nil || done || ctx.Err() != nil {
			return false, err
		}
		if time.Since(begun) >= passTime {
			return true, nil
		}
	}
}

// passStep is one step of the pass. It tells whether that was the last.
func (s *streamer) passStep(ctx context.Context) (done bool, err error) {
	h := s.tr.held
	switch {
	case !h.all:
		return false, s.findStep(ctx)
	case h.names.n > 0:
		return false, s.nameStep(ctx)
	}
	if s.lane.Mark().TTL != DeadlinesExact {
		m := s.settled()
		m.TTL = DeadlinesExact
		if err := s.move(m); err != nil {
			return false, err
		}
		s.g.well = true
		s.g.log.Info("deadlines are exact", "set", s.g.status.get().TTLPass.Set)
	}
	h.exact(s.lane.Mark())
	s.g.status.update(func(st *Status) { st.TTL = DeadlinesExact })
	s.g.moved(s.lane.Mark(), counts{}, 0)
	return true, nil
}

// nameStep looks at the next keys that are known by name.
func (s *streamer) nameStep(ctx context.Context) error {
	q := s.tr.held.names
	db, keys, rest, err := q.first(watchKeys(s.lane.rtt))
	if err != nil {
		s.g.log.Warn("the names of keys with held deadlines cannot be read: the target is scanned for them", "error", err)
		s.tr.held.forget()
		return nil
	}
	err = s.retime(ctx, db, keys)
	var refused resp.ServerError
	if errors.As(err, &refused) && isPermanent(refused) {
		// One of them was never written, for the account may not. Those that are
		// there are found by a scan, in another session: this one's answers are mixed up.
		s.g.log.Warn("the target refuses a key whose deadline was to be held: it is scanned for those that are there", "error", err)
		s.tr.held.forget()
		return errMoved
	}
	if err != nil {
		return err
	}
	s.g.status.update(func(st *Status) {
		if st.TTLPass.Seen >= st.TTLPass.Total {
			st.TTLPass.Seen, st.TTLPass.Total = 0, q.n
		}
		st.TTLPass.Seen += int64(len(keys))
	})
	q.drop(len(keys), rest)
	s.tr.held.dropped = true
	return nil
}

// findStep looks at the next keys that a scan has found, or at what it finds next.
func (s *streamer) findStep(ctx context.Context) error {
	h, scans := s.tr.held, s.g.job.scans
	if err := s.g.wantHeld(ctx); err != nil {
		return err
	}
	db, keys, rest, all, err := scans.next(ctx, s.g.id, watchKeys(s.lane.rtt))
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		h.found(all)
		if seen, total := scans.progress(); total > 0 {
			s.g.status.update(func(st *Status) { st.TTLPass.Seen, st.TTLPass.Total = seen, total })
		}
		return nil
	}
	if err := s.retime(ctx, db, keys); err != nil {
		return err
	}
	scans.done(s.g.id, len(keys), rest)
	h.dropped = true
	return nil
}

// found takes the word of the scans, that all keys were found or not yet.
func (h *heldKeys) found(all bool) {
	if all && h.missed && h.again < scansAgain {
		h.wanted = false
		h.again++
		return
	}
	h.all = all
}

// outlast waits at the end of a spool until the deadlines that had passed before
// are over by the margin as well.
func (s *streamer) outlast(ctx context.Context) {
	select {
	case <-time.After(time.Until(s.passing)):
	case <-ctx.Done():
	}
}

// isHeld tells whether a deadline is one that this group holds.
func (s *streamer) isHeld(deadline int64) bool {
	g, _, ok := held.Decode(deadline)
	return ok && g == s.g.id
}

// retime sets the held deadlines among those of keys exact.
func (s *streamer) retime(ctx context.Context, db int, keys [][]byte) error {
	m := s.settled()
	m.TTL = DeadlinesMixed
	var seen counts
	if err := s.tr.existing.sync(); err != nil {
		return err
	}
	if err := s.g.paced(ctx, int64(len(keys)), 0, s.g.beat); err != nil {
		return err
	}
	set, err := s.lane.Retime(db, keys, m, func(deadline, now int64) (int64, bool) {
		if !s.isHeld(deadline) {
			return 0, false
		}
		_, ms, _ := held.Decode(deadline)
		written := held.Exact.Hold(ms)
		if ms <= now {
			seen.expired++
			if left := time.Duration(written-now) * time.Millisecond; time.Until(s.passing) < left {
				s.passing = time.Now().Add(left)
			}
		}
		return written, true
	})
	if err != nil {
		return err
	}
	if set > 0 {
		s.g.read, s.marked, s.g.well = m.Offset, s.g.now(), true
		s.g.markSeen()
	}
	s.g.status.update(func(st *Status) { st.TTLPass.Set += int64(set); st.Expired += seen.expired })
	return nil
}
