package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tairlift/checkpoint"
	"tairlift/internal/held"
	"tairlift/internal/native"
	"tairlift/internal/rdb"
	"tairlift/internal/repl"
	"tairlift/spool"
)

const (
	// snapshotConns is the number of connections that restore one group's RDB.
	snapshotConns = 3
	// markEvery bounds, with markEntries, how far the mark lags the boundary.
	markEvery = time.Second
	// heldBytes is up to which size a value is held, and written by one command or
	// transaction, for which a target answers nobody else: 20 to 70 ms for 1 MiB
	// of a set, hash or zset.
	heldBytes = 1 << 20
	// valueChunk bounds what is sent of a larger one before it is answered.
	valueChunk = 512 << 10
	// madeBytes bounds such a transaction.
	madeBytes = 4 << 20
)

// snapshot restores one epoch's RDB: one goroutine decodes it into chunks,
// several send them, and the group's own moves the mark after them.
type snapshot struct {
	g      *group
	owner  string // of the session
	epoch  repl.Epoch
	target target
	dec    *rdb.Decoder
	aux    error // met in a callback of dec
	wanted bool  // the entry that dec gave last
	full   chan *chunk
	free   chan *chunk
	water  lowWater
	// unnoted says that more keys are doubtful than are noted.
	unnoted atomic.Bool
	// noMSet says that the target refuses MSET.
	noMSet atomic.Bool

	// What follows is of the goroutine that decodes.
	seq    int64     // of the next chunk
	made   *natively // nil before the target was probed
	writer *bigWriter
}

// snapshot restores the RDB of the mark's epoch from the mark's boundary on.
// When it returns nil without ctx having ended, the mark is at the epoch's
// start, in the stream phase, or in the sweep when there is a past.
func (g *group) snapshot(ctx context.Context, info spool.EpochInfo) error {
	m := g.lane.Mark()
	in, err := g.spool.OpenRDB(info.Epoch)
	if err != nil {
		return g.spoolErr(err)
	}
	defer in.Close()
	g.job.existing.rewind(g.id, m)
	if m.TTL == DeadlinesExact { // written by a version that held none
		m.TTL = m.TTL.holding()
		if err := g.lane.Write(m); err != nil {
			return err
		}
	}
	g.held.enter(m, m.RDB == 0 && len(m.Past) == 0 && g.job.existing.none() && !g.job.o.heldUnknown)
	s := &snapshot{
		g: g, owner: m.Owner, epoch: info.Epoch, target: g.lane.target,
		full: make(chan *chunk, snapshotConns), free: make(chan *chunk, 2*snapshotConns),
		water: lowWater{boundary: rdb.Boundary{Offset: m.RDB, DB: m.RDBDB}, keys: m.Keys, every: g.job.o.markEntries},
	}
	for range cap(s.free) {
		s.free <- &chunk{}
	}
	if err := s.open(ctx, in, m); err != nil {
		return err
	}
	if err := g.killOlder(ctx); err != nil {
		return err
	}
	if err := g.removeTemp(ctx); err != nil {
		return err
	}
	if err := g.wantHeld(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	eg, ectx := errgroup.WithContext(ctx)
	defer g.silence.restored()
	for i := range snapshotConns {
		eg.Go(g.guarded(func() error { return s.restorer(ectx, restorerConn+i) }))
	}
	eg.Go(g.guarded(func() error {
		defer close(s.full)
		return s.decode(ectx)
	}))
	done := make(chan error, 1)
	go func() { done <- eg.Wait() }()
	err = s.follow(done)
	cancel() // what is in flight is repeated from the mark
	_ = eg.Wait()
	if err != nil {
		return err
	}
	next := g.lane.Mark()
	next.RDB = info.RDBBytes
	if len(next.Past) > 0 {
		next.Phase = checkpoint.PhaseSweep
		return g.advance(next, counts{})
	}
	return g.beginStream(next, info)
}

// beginStream moves the mark to where the epoch's stream begins.
func (g *group) beginStream(m Mark, info spool.EpochInfo) error {
	m.Phase, m.Offset, m.Start, m.DB, m.StartDB, m.Past = checkpoint.PhaseStream, info.Start, info.Start, 0, 0, nil
	return g.advance(m, counts{})
}

// follow writes the mark after the boundary until the workers are done, and
// returns their error or its own.
func (s *snapshot) follow(done <-chan error) error {
	tick := time.NewTicker(min(markEvery, s.g.job.o.beat))
	defer tick.Stop()
	marked := time.Now()
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				return err
			}
			running = false
		case <-tick.C:
		case <-s.water.due():
		}
		next := s.g.lane.Mark()
		b, keys, seen := s.water.get()
		var err error
		switch {
		case b.Offset > next.RDB:
			if s.unnoted.Load() && !s.g.forgotten {
				s.g.log.Warn("fields of more hashes than are noted may have died early: `tairlift verify --level full` tells which")
				s.g.forgot(s.epoch)
			}
			next.RDB, next.RDBDB, next.Keys, next.Timed = b.Offset, b.DB, keys, next.Timed || seen.timed
			err = s.g.advance(next, seen)
		case running && time.Since(marked) >= s.g.job.o.beat: // one value takes long
			err = s.g.beat()
		default:
			continue
		}
		if err != nil {
			return err
		}
		marked = time.Now()
	}
	return nil
}

// advance writes a mark of the RDB phase and records it.
func (g *group) advance(m Mark, seen counts) error {
	if err := g.job.existing.sync(); err != nil {
		return err
	}
	if err := g.lane.Write(m); err != nil {
		return err
	}
	g.markSeen()
	g.well = true
	g.moved(m, seen, 0)
	return g.record(g.lane.Mark())
}

// open opens the RDB at the mark's boundary.
func (s *snapshot) open(ctx context.Context, in *spool.RDBReader, m Mark) error {
	o := rdb.Options{
		Hold:            s.g.job.o.heldBytes,
		NoStringPayload: s.target.setPXAT(),
		OldestVersion:   true,
		Want: func(db int, key []byte) bool {
			s.wanted = !isOurs(key) && s.g.job.o.Selection.Has(db, key)
			return s.wanted
		},
		OnAux: func(key, value []byte) {
			if string(key) == "lua" && s.aux == nil { // Redis 4.0 to 6.2 keep scripts here
				s.aux = s.g.scripts.keep(value)
			}
		},
		OnFunction: func(payload []byte) {
			if s.aux == nil {
				s.aux = s.loadFunction(ctx, payload)
			}
		},
	}
	if m.RDB == 0 {
		s.dec = rdb.NewDecoder(in, o)
		return nil
	}
	header := make([]byte, rdb.HeaderSize)
	if _, err := io.ReadFull(in, header); err != nil {
		return s.g.spoolErr(err)
	}
	version, err := rdb.ParseHeader(header)
	if err != nil {
		return s.corrupt(err)
	}
	if err := in.SeekTo(m.RDB); err != nil {
		return s.g.spoolErr(err)
	}
	s.dec = rdb.Resume(in, rdb.Boundary{Offset: m.RDB, DB: m.RDBDB, Version: version}, o)
	return nil
}

// decode fills chunks until the RDB's end, and writes big values itself.
func (s *snapshot) decode(ctx context.Context) error {
	defer func() { s.writer.close() }()
	var (
		c     *chunk
		most  int // entries, and bytes, of a chunk
		bytes int
	)
	send := func(end rdb.Boundary) error {
		if c == nil {
			return nil
		}
		c.end = end
		c.seal(!s.noMSet.Load())
		// What a chunk replaces is recorded before it may be on the target: another
		// epoch may begin before the mark has come this far.
		if err := s.g.job.existing.sync(); err != nil {
			return err
		}
		if err := s.keepDoubts(c); err != nil {
			return err
		}
		select {
		case s.full <- c:
			c = nil
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for {
		before := s.dec.Boundary()
		e, err := s.dec.Next()
		switch {
		case s.aux != nil:
			return s.aux
		case err == io.EOF:
			return send(s.dec.Boundary())
		case err != nil:
			return s.readErr(err)
		}
		if c != nil && c.db != dbNone && c.db != e.DB {
			if err := send(before); err != nil {
				return err
			}
		}
		if c == nil {
			select {
			case c = <-s.free:
			case <-ctx.Done():
				return ctx.Err()
			}
			c.reset(s.seq)
			s.seq++
			most, bytes = s.g.pace.Most(int(s.g.job.o.chunkEntries), chunkBytes)
		}
		if err := s.hold(e); err != nil {
			return err
		}
		err = s.add(ctx, c, e, before)
		if errors.Is(err, errLarge) {
			if err = send(before); err == nil {
				err = s.big(ctx, e, before)
			}
		}
		if err != nil {
			return err
		}
		if c != nil && (c.size() >= bytes || c.entries >= int64(most)) {
			if err := send(s.dec.Boundary()); err != nil {
				return err
			}
		}
	}
}

// hold holds the deadline of an entry back: the stream behind the RDB may renew the
// key, or delete it.
func (s *snapshot) hold(e *rdb.Entry) error {
	if s.wanted && held.TooLate(e.ExpireMS) {
		return &StopError{
			Reason: "deadline-too-late",
			What:   fmt.Sprintf("group %s: key %q of the RDB, in database %d, has the deadline %d, which cannot be told from one that is held back", s.g.id, short(e.Key), e.DB, e.ExpireMS),
			Hint:   tooLateHint,
		}
	}
	if by := held.By(s.g.id); s.wanted && by.Holds(e.ExpireMS) {
		e.ExpireMS = by.Hold(e.ExpireMS)
		s.g.held.note(s.g.job.o.Selection.To(e.DB), e.Key)
	}
	return nil
}

// readErr is an error of the decoder.
func (s *snapshot) readErr(err error) error {
	var fe *rdb.FormatError
	if errors.As(err, &fe) {
		return s.corrupt(err)
	}
	return s.g.spoolErr(err)
}

// add puts an entry, which begins behind before, into a chunk. errLarge says
// that it is to be written by itself.
func (s *snapshot) add(ctx context.Context, c *chunk, e *rdb.Entry, before rdb.Boundary) error {
	if !s.wanted {
		c.entries++
		if isOurs(e.Key) {
			c.seen.ignored++
		} else {
			c.seen.filtered++
		}
		if err := s.dec.Skip(); err != nil {
			return s.readErr(err)
		}
		return nil
	}
	if c.db != e.DB {
		if err := s.g.job.proveDB(ctx, e.DB); err != nil {
			return err
		}
	}
	if err := s.probe(ctx, e); err != nil {
		return err
	}
	// At the first byte of it: the mark is behind that when it is behind the entry.
	s.g.job.existing.replaced(s.g.id, s.epoch, s.g.job.o.Selection.To(e.DB), e.Key, before.Offset+1)
	s.fields(c, e)
	if e.Unread {
		return errLarge
	}
	if err := c.add(e, s.target, s.made); err != nil {
		var u *native.UnsupportedError
		switch {
		case errors.Is(err, errLarge):
			return err
		case !errors.As(err, &u):
			return s.corrupt(err)
		}
		if err := s.cannot(e.DB, e.Key, e.Type, unmade(u, e)); err != nil {
			return err
		}
	}
	c.entries++
	return nil
}

// probe finds out what the target takes, once, when an entry needs it.
func (s *snapshot) probe(ctx context.Context, e *rdb.Entry) (err error) {
	if s.target.takes != nil || e.IsString && !e.Unread && (e.ExpireMS == 0 || s.target.setPXAT()) {
		return nil
	}
	if s.target.takes, err = s.g.job.accepts(ctx, s.g.id, s.target); err == nil {
		s.made = newNatively(s.target, madeBytes)
	}
	return err
}

func (s *snapshot) corrupt(err error) error {
	return &StopError{
		Reason: "rdb-unreadable",
		What:   fmt.Sprintf("group %s: the RDB of epoch %s cannot be read: %v", s.g.id, s.epoch, err),
		Hint:   "its checksum is right, so the source wrote it so: report the type and the source's version; nothing behind it was applied; " + newEpochHint,
		Err:    err,
	}
}
