package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"tairlift/internal/job/workload"
	"tairlift/internal/resp"
)

const (
	pace       = 4 * time.Millisecond // between bursts, so that all get along on two cores
	answerTime = 30 * time.Second     // for a burst; a source answers at once, or is dead
	awayTime   = 2 * time.Minute      // for a source that was killed to be back
)

// writer writes to one database of one source, and keeps the ledger of it. When
// the source dies over a burst, it looks what of it had happened.
type writer struct {
	group, db int
	addr      string
	conn      *resp.Conn

	mu       sync.Mutex // held by whoever wants the ledger to stand still, and over each burst
	ledger   *ledger
	commands atomic.Int64 // that were answered
	resolved atomic.Int64 // bursts whose answers were lost
}

// run writes until enough is closed, and behind the burst of that moment ends
// without an error; when ctx ends it does so at once.
func (w *writer) run(ctx context.Context, enough <-chan struct{}) error {
	defer w.close()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-enough:
			return nil
		case <-tick.C:
		}
		w.mu.Lock()
		err := w.write(ctx, w.ledger.burst())
		w.mu.Unlock()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("write to DB%d of group %d at %s: %w", w.db, w.group, w.addr, err)
		}
	}
}

// close closes the connection; the next write makes another one.
func (w *writer) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}

// write has a burst executed, all of it, once. It goes on through any death of
// the source: the ledger must not end within a burst.
func (w *writer) write(ctx context.Context, b *burst) error {
	begun := time.Now()
	for done := 0; done < len(b.steps); {
		if w.conn == nil {
			if err := w.connect(ctx, begun); err != nil {
				return err
			}
		}
		err := w.send(b.steps[done:])
		if err == nil {
			break
		}
		var lost *lostError
		if !errors.As(err, &lost) {
			return err
		}
		w.conn.Close()
		w.conn = nil
		begun = time.Now()
		if done, err = w.resolve(ctx, b, done); err != nil {
			return fmt.Errorf("%w; it was lost with %w", err, lost)
		}
		w.resolved.Add(1)
	}
	for _, s := range b.steps {
		w.commands.Add(int64(len(s.commands)))
	}
	return nil
}

// lostError says that the connection broke: what was sent may have been executed.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }

// send sends steps and reads their answers.
func (w *writer) send(steps []*step) error {
	sent := time.Now()
	defer func() { date(steps, sent, time.Now()) }()
	if err := w.conn.SetDeadline(sent.Add(answerTime)); err != nil {
		return &lostError{err}
	}
	for _, s := range steps {
		for _, args := range s.commands {
			if err := w.conn.WriteCommand(args...); err != nil {
				return &lostError{err}
			}
		}
	}
	if err := w.conn.Flush(); err != nil {
		return &lostError{err}
	}
	for _, s := range steps {
		for i, args := range s.commands {
			rep, err := w.conn.ReadReply()
			var refused resp.ServerError
			switch got, want := answer(rep), s.wants[i]; {
			case errors.As(err, &refused):
				return fmt.Errorf("%q: %w", args, err)
			case err != nil:
				return &lostError{err}
			case want != "" && got != want:
				return fmt.Errorf("%q was answered by %q, want %q", args, got, want)
			}
		}
	}
	return nil
}

// date gives relative deadlines their bounds.
func date(steps []*step, from, to time.Time) {
	for _, s := range steps {
		for _, d := range s.dated {
			d.from, d.to = from.Add(d.ttl).UnixMilli(), to.Add(d.ttl).UnixMilli()
		}
	}
}

// answer is a reply as one text, an array's elements on a line each.
func answer(rep resp.Reply) string {
	if rep.Type != '*' {
		return rep.String()
	}
	text := ""
	for i, s := range rep.Strings() {
		if i > 0 {
			text += "\n"
		}
		text += s
	}
	return text
}

// connect waits for the source, which may be dead or loading.
func (w *writer) connect(ctx context.Context, begun time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, begun.Add(awayTime))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := workload.Open(ctx, w.addr, "", w.db)
		if err == nil {
			// A source's scripts die with it.
			if _, err = c.Do(ctx, "SCRIPT", "LOAD", script); err == nil {
				w.conn = c
				return nil
			}
			c.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the source has been away for %s: %w", awayTime, err)
		}
	}
}

// resolve finds how many steps of a burst the source has executed: those after
// which it would hold what it holds. Less than were answered it cannot be.
func (w *writer) resolve(ctx context.Context, b *burst, done int) (int, error) {
	keys := slices.Sorted(maps.Keys(b.before))
	var held map[string]reading
	for begun := time.Now(); held == nil; {
		if err := w.connect(ctx, begun); err != nil {
			return 0, err
		}
		var err error
		if held, err = readAll(w.conn, keys); err != nil { // killed once more
			w.conn.Close()
			w.conn = nil
		}
	}
	diffs := ""
	for n := done; n <= len(b.steps); n++ {
		diff := ""
		for key, v := range b.after(n) {
			if d := held[key].is(kindOf(key), v); d != "" {
				diff = key + ": " + d
				break
			}
		}
		if diff == "" {
			return n, nil
		}
		diffs += fmt.Sprintf("\n  after %d steps: %s", n, diff)
	}
	return 0, fmt.Errorf("the source holds what it can hold after no part of a burst of %d steps%s", len(b.steps), diffs)
}

// settle waits until no key with a short life is left at the source, which
// deletes them when somebody looks. The ledger must stand still.
func (w *writer) settle(ctx context.Context) error {
	// On a connection of its own: the source may have been killed since the last
	// burst.
	c, err := workload.Open(ctx, w.addr, "", w.db)
	if err != nil {
		return err
	}
	defer c.Close()
	for i := range shorts {
		key := w.ledger.prefix + "x:" + strconv.Itoa(i)
		err := until(ctx, awayTime, "the end of "+key, func() (bool, error) {
			rep, err := c.Do(ctx, "EXISTS", key)
			return rep.Int == 0, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readAll reads keys, some hundreds at a time.
func readAll(c *resp.Conn, keys []string) (map[string]reading, error) {
	held := map[string]reading{}
	for chunk := range slices.Chunk(keys, 200) {
		if err := c.SetDeadline(time.Now().Add(answerTime)); err != nil {
			return nil, err
		}
		for _, key := range chunk {
			if err := readKey(c, key, kindOf(key)); err != nil {
				return nil, err
			}
		}
		if err := c.Flush(); err != nil {
			return nil, err
		}
		for _, key := range chunk {
			r, err := readAnswer(c, kindOf(key))
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", key, err)
			}
			held[key] = r
		}
	}
	return held, nil
}
