package apply

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"tairlift/internal/held"
	"tairlift/internal/resp"
)

// The pass sets a group's held deadlines exact once it has caught up. Which keys
// bear one is known by name, unless this process was not there when they were
// written: then a scan of the target finds them.
// It works between the batches of the stream: while it does, deadlines of
// commands that are fresh are written exact, and a command that is not makes
// them held again, until the group has caught up the next time. A scan goes on
// then where it was: what it may have missed since was noted.
//
// Each EXEC of the pass sets some deadlines exact and says in the mark that
// they are mixed. A crash between any two leaves some of them held, which the
// next pass finds.

const (
	// scanCount is how many keys a step of a scan looks at, about.
	scanCount = 1000
	// passTime is how long steps are taken between two batches, one at least.
	passTime = 5 * time.Millisecond
)

// watchKeys is how many keys one EXEC of the pass is about, by the round trip to
// the target. A server compares each key that it is to watch with all that the
// connection watches, so n of them take it some 5 ns * n^2; and an EXEC takes
// three round trips.
func watchKeys(rtt time.Duration) int {
	return min(max(int(math.Sqrt(3*float64(rtt.Nanoseconds())/5)), 128), 1000)
}

// heldScan is a scan of the target for held deadlines.
type heldScan struct {
	conn   control
	dbs    []int // still to be scanned, the first one from cursor on
	cursor string
}

func (c *heldScan) close() {
	if c != nil {
		c.conn.Close()
	}
}

// caughtUp tells whether deadlines may be exact from here on.
func (s *streamer) caughtUp() bool {
	ms := s.date(s.tr.batch.end)
	if s.drained {
		if due := s.g.due.Load(); due != nil && due.epoch == s.lane.Mark().Epoch && s.tr.batch.end >= due.offset {
			return true
		}
		ms = s.tr.clock.newest(s.recv)
	}
	return ms != 0 && s.tr.clock.sourceAge(ms, s.g.now()) <= caughtAge
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
	case s.scan != nil:
		return false, s.scanStep(ctx)
	case !h.all:
		return false, s.beginScan(ctx)
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
	if err := s.retime(ctx, db, keys); err != nil {
		return err
	}
	s.g.status.update(func(st *Status) {
		if st.TTLPass.Seen >= st.TTLPass.Total {
			st.TTLPass.Seen, st.TTLPass.Total = 0, q.n
		}
		st.TTLPass.Seen += int64(len(keys))
	})
	q.drop(len(keys), rest)
	return nil
}

// beginScan looks which databases there are to scan.
func (s *streamer) beginScan(ctx context.Context) error {
	conn, err := s.g.job.dial(ctx)
	if err != nil {
		return err
	}
	t, err := probe(ctx, conn)
	if err != nil {
		conn.Close()
		return err
	}
	s.scan = &heldScan{conn: conn, cursor: "0"}
	total := int64(0)
	for _, db := range slices.Sorted(maps.Keys(t.keyspace)) {
		if t.expires[db] > 0 {
			s.scan.dbs = append(s.scan.dbs, db)
			total += t.keyspace[db]
		}
	}
	s.tr.held.scanning()
	s.g.status.update(func(st *Status) { st.TTLPass.Total, st.TTLPass.Seen = total, 0 })
	return nil
}

// scanStep looks at the next keys of a scan.
func (s *streamer) scanStep(ctx context.Context) error {
	c := s.scan
	if len(c.dbs) == 0 {
		c.close()
		s.scan = nil
		s.tr.held.scanned()
		return nil
	}
	db := c.dbs[0]
	if c.cursor == "0" {
		if _, err := c.conn.Do(ctx, "SELECT", strconv.Itoa(db)); err != nil {
			return fmt.Errorf("select database %d of the target: %w", db, err)
		}
	}
	r, err := c.conn.Do(ctx, "SCAN", c.cursor, "COUNT", strconv.Itoa(scanCount))
	if err != nil {
		return fmt.Errorf("scan database %d of the target: %w", db, err)
	}
	if len(r.Elems) != 2 {
		return fmt.Errorf("%w: scan database %d of the target: answer has %d parts, expected 2", resp.ErrProtocol, db, len(r.Elems))
	}
	if c.cursor = string(r.Elems[0].Str); c.cursor == "0" {
		c.dbs = c.dbs[1:]
	}
	var names [][]byte
	for _, e := range r.Elems[1].Elems {
		names = append(names, e.Str)
	}
	keys, err := c.held(ctx, names, s.isHeld)
	if err != nil {
		return err
	}
	s.g.status.update(func(st *Status) { st.TTLPass.Seen += int64(len(names)) })
	for some := range slices.Chunk(keys, watchKeys(s.lane.rtt)) {
		if err := s.retime(ctx, db, some); err != nil {
			return err
		}
	}
	return nil
}

// held returns those of the names whose deadlines are held, at a glance.
func (c *heldScan) held(ctx context.Context, names [][]byte, is func(deadline int64) bool) ([][]byte, error) {
	if len(names) == 0 {
		return nil, nil
	}
	release, err := c.conn.CloseOn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = release() }()
	if err := c.conn.SetDeadline(time.Now().Add(c.conn.timeout)); err != nil {
		return nil, err
	}
	var out []byte
	for _, k := range names {
		out = resp.AppendArrayHeader(out, 2)
		out = resp.AppendBulkString(out, "PTTL")
		out = resp.AppendBulk(out, k)
	}
	if _, err := c.conn.Write(out); err != nil {
		return nil, err
	}
	if err := c.conn.Flush(); err != nil {
		return nil, err
	}
	var keys [][]byte
	for _, k := range names {
		r, err := c.conn.ReadReply()
		if err != nil {
			return nil, fmt.Errorf("ask for a deadline: %w", err)
		}
		if r.Int > held.Base/2 && is(r.Int+time.Now().UnixMilli()) {
			keys = append(keys, k)
		}
	}
	return keys, nil
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
		if ms <= now {
			seen.expired++
		}
		return ms, true
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
