package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"time"

	"tairlift/internal/held"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

// heldScans are scans of the target for held deadlines. A round finds those of all
// groups that want to know of theirs, so that there is one for all that begin
// with the process. Groups that have caught up take the steps of a round in turn.
type heldScans struct {
	job *Job
	// turn holds a token; who has taken it out may use all of what follows.
	turn  chan struct{}
	begun int // rounds
	ended int // the last round that came to its end
	round *heldRound
	found map[repl.GroupID]*foundHeld
}

// foundHeld are names that rounds have found for a group.
type foundHeld struct {
	names *nameQueue
	wants bool
	after int // the rounds after this one have all of its keys
}

// heldRound is one scan. Its number is heldScans.begun.
type heldRound struct {
	conn   control
	dbs    []int // still to be scanned, the first one from cursor on
	cursor string
	seen   int64 // keys
	total  int64 // of the databases, when it began
}

func newHeldScans(j *Job) *heldScans {
	s := &heldScans{job: j, turn: make(chan struct{}, 1), found: map[repl.GroupID]*foundHeld{}}
	s.turn <- struct{}{}
	return s
}

// heldFile is where names of keys of a group with held deadlines are kept, by who
// notes them.
func (j *Job) heldFile(g repl.GroupID, by string) string {
	return filepath.Join(j.o.StateDir, fmt.Sprintf("held-%s-%04d", by, uint32(g)))
}

// take waits for the turn; the function gives it back.
func (s *heldScans) take(ctx context.Context) (func(), error) {
	select {
	case <-s.turn:
		return func() { s.turn <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// wantHeld has the group's keys found that it does not know, if there are any: from
// here on it notes those that come.
func (g *group) wantHeld(ctx context.Context) error {
	if g.held.all || g.held.wanted {
		return nil
	}
	if err := g.job.scans.want(ctx, g.id); err != nil {
		return err
	}
	g.held.wanted, g.held.missed = true, false
	return nil
}

// want has the keys of a group found by the rounds that are yet to begin.
func (s *heldScans) want(ctx context.Context, g repl.GroupID) error {
	give, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer give()
	f := s.found[g]
	if f == nil {
		f = &foundHeld{names: newNameQueue(s.job.heldFile(g, "found"), math.MaxInt64)}
		s.found[g] = f
	}
	f.wants, f.after = true, s.begun
	return nil
}

// next is up to n names that were found for a group, as nameQueue.first returns
// them. Where there are none, all says that there will be none; else a step of a
// round is taken.
func (s *heldScans) next(ctx context.Context, g repl.GroupID, n int) (db int, keys [][]byte, rest int, all bool, err error) {
	give, err := s.take(ctx)
	if err != nil {
		return 0, nil, 0, false, err
	}
	defer give()
	f := s.found[g]
	switch {
	case f.names.n > 0:
		if db, keys, rest, err = f.names.first(n); err == nil {
			return db, keys, rest, false, nil
		}
		s.job.o.Log.Warn("names that a scan has found cannot be read: the target is scanned again", "group", g.String(), "error", err)
		f.names.reset()
		f.after = s.begun
		return 0, nil, 0, false, nil
	case s.ended > f.after:
		f.names.reset()
		f.wants = false
		return 0, nil, 0, true, nil
	case s.round == nil:
		err = s.begin(ctx)
	default:
		err = s.step(ctx)
	}
	if err != nil { // it has to begin anew
		s.stop()
	}
	return 0, nil, 0, false, err
}

// stop ends a round that is under way.
func (s *heldScans) stop() {
	if s.round != nil {
		s.round.conn.Close()
		s.round = nil
	}
}

// close is for when no group runs any more.
func (s *heldScans) close() {
	s.stop()
	for _, f := range s.found {
		f.names.reset()
	}
}

// done takes out what next returned.
func (s *heldScans) done(g repl.GroupID, keys, rest int) {
	<-s.turn
	s.found[g].names.drop(keys, rest)
	s.turn <- struct{}{}
}

// progress is how far the round is.
func (s *heldScans) progress() (seen, total int64) {
	<-s.turn
	defer func() { s.turn <- struct{}{} }()
	if s.round == nil {
		return 0, 0
	}
	return s.round.seen, s.round.total
}

// begin begins a round.
func (s *heldScans) begin(ctx context.Context) error {
	conn, err := s.job.dial(ctx)
	if err != nil {
		return err
	}
	t, err := probe(ctx, conn)
	if err != nil {
		conn.Close()
		return err
	}
	s.begun++
	s.round = &heldRound{conn: conn, cursor: "0"}
	for _, db := range slices.Sorted(maps.Keys(t.keyspace)) {
		if t.expires[db] > 0 {
			s.round.dbs = append(s.round.dbs, db)
			s.round.total += t.keyspace[db]
		}
	}
	return nil
}

// step looks at the next keys of the round, or ends it.
func (s *heldScans) step(ctx context.Context) error {
	c := s.round
	if len(c.dbs) == 0 {
		s.stop()
		s.ended = s.begun
		return nil
	}
	db := c.dbs[0]
	names, next, err := scanStep(ctx, c.conn, db, c.cursor)
	if err != nil {
		return err
	}
	groups, err := c.held(ctx, names)
	if err != nil {
		return err
	}
	for i, g := range groups {
		f := s.found[g]
		if f == nil || !f.wants {
			continue
		}
		if err := f.names.add(db, names[i].Str); err != nil { // the rounds up to this one do not have all
			f.after = s.begun
		}
	}
	if c.cursor = next; next == "0" {
		c.dbs = c.dbs[1:]
	}
	c.seen += int64(len(names))
	return nil
}

// held tells by which group the deadline of each key is held; 0 is by none.
func (c *heldRound) held(ctx context.Context, names []resp.Reply) ([]repl.GroupID, error) {
	groups := make([]repl.GroupID, len(names))
	return groups, c.conn.askEach(ctx, "PTTL", len(names), func(i int) []byte { return names[i].Str }, func(i int, r resp.Reply, err error) error {
		var refused resp.ServerError
		switch {
		case errors.As(err, &refused) && isPermanent(refused): // what the account may not touch is somebody else's
		case err != nil:
			return fmt.Errorf("ask for a deadline: %w", err)
		case r.Int > held.Base/2:
			groups[i], _, _ = held.Decode(r.Int + time.Now().UnixMilli())
		}
		return nil
	})
}
