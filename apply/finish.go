package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// GroupMark is the mark of a group as it stands on a target.
type GroupMark struct {
	Group repl.GroupID
	Text  string
}

// SamePlace tells whether two marks vouch for the same data, whoever owns them
// and whichever run of the target they are from.
func SamePlace(a, b Mark) bool {
	a.Owner, a.RunID, b.Owner, b.RunID = "", "", "", ""
	return a.String() == b.String()
}

// Traces are what a job has on a target beside the data.
type Traces struct {
	RunID  string // of the target
	Keys   int64  // of data, in all its databases
	Marks  []GroupMark
	Listed bool     // among the jobs with marks here
	Jobs   []string // the other ones
	Others []string // keys with the job's id that are not marks
}

// None tells whether nothing of the job is there.
func (t *Traces) None() bool { return len(t.Marks) == 0 && !t.Listed && len(t.Others) == 0 }

// Mark is the text of a group's mark, or empty.
func (t *Traces) Mark(g repl.GroupID) string {
	for _, m := range t.Marks {
		if m.Group == g {
			return m.Text
		}
	}
	return ""
}

// ClosingOptions name a job and its target. All but Secret and Timeout are
// required.
type ClosingOptions struct {
	Addr    string
	Secret  resp.Secret
	Job     spool.JobID
	Groups  []repl.GroupID // of the job, as far as they are known: some may have no mark
	Timeout time.Duration  // for one answer; 0 is 20 s
}

// Closing ends a job on a target: [Closing.Traces], [Closing.TakeOver],
// [Closing.Remove]; or brings it back by [Closing.Restore].
//
// A mark is removed as a session would write it: a fresh owner token first, then
// the connections that write outside a mark are ended, and the EXEC that removes
// it follows only a GET behind a WATCH that has shown this token. So an older
// apply, stopped or hung at any instant, never writes again: what it has queued
// has watched a mark that was written since, what it queues later finds no mark,
// and a session that it begins refuses to claim the target anew.
//
// Errors: *StopError when the target cannot be used or refuses what is needed,
// ErrTaken when somebody wrote a mark in between, the context's.
type Closing struct {
	o      ClosingOptions
	conn   control
	owner  owner
	target target
}

// OpenClosing connects; it writes nothing.
func OpenClosing(ctx context.Context, o ClosingOptions) (*Closing, error) {
	if o.Timeout == 0 {
		o.Timeout = 20 * time.Second
	}
	c := &Closing{o: o, owner: newOwner()}
	dialCtx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	conn, err := resp.Dial(dialCtx, o.Addr, o.Secret)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	c.conn = control{conn, o.Timeout}
	if c.target, err = probe(ctx, c.conn); err != nil {
		c.Close()
		return nil, c.explain(ctx, err)
	}
	return c, nil
}

// Close ends the connection.
func (c *Closing) Close() { c.conn.Close() }

// explain makes of what passes by itself, which a closing does not wait for,
// what a person is told.
func (c *Closing) explain(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	var w *waitError
	switch err = connErr(err); {
	case errors.Is(err, context.DeadlineExceeded):
		w = &waitError{reason: "target-unreachable", err: fmt.Errorf("no answer within %s", c.o.Timeout)}
	case !errors.As(err, &w):
		return err
	}
	hint := "mend that, then start the same command again: it goes on where it stopped"
	if w.reason == "target-auth" {
		hint = hintFor(w.reason)
	}
	return &StopError{Reason: w.reason, What: fmt.Sprintf("target %s cannot be used now: %v", c.o.Addr, w.err), Hint: hint, Err: w.err}
}

// Traces looks at what the job has on the target; it writes nothing. It reads
// the name of every key in database 0, where all of ours are.
func (c *Closing) Traces(ctx context.Context) (t Traces, err error) {
	defer func() { err = c.explain(ctx, err) }()
	if c.target, err = probe(ctx, c.conn); err != nil {
		return t, err
	}
	t.RunID = c.target.runID
	for _, n := range c.target.keyspace {
		t.Keys += n
	}
	if _, err := c.conn.Do(ctx, "SELECT", "0"); err != nil {
		return t, fmt.Errorf("select database 0 of the target: %w", err)
	}
	r, err := c.conn.Do(ctx, "SMEMBERS", jobsKey)
	if err != nil {
		return t, fmt.Errorf("look for jobs on the target: %w", err)
	}
	id := c.o.Job.String()
	for _, e := range r.Elems {
		if string(e.Str) == id {
			t.Listed = true
		} else {
			t.Jobs = append(t.Jobs, string(e.Str))
		}
	}
	names, err := c.scanOurs(ctx)
	if err != nil {
		return t, err
	}
	t.Keys = max(t.Keys-int64(len(names)), 0)
	for _, name := range names {
		if !slices.Contains(strings.Split(name, ":"), id) {
			continue
		}
		g, ok := markGroup(c.o.Job, name)
		if strings.HasPrefix(name, swapPrefix) { // data, which a mark that is brought back puts in its place
			continue
		}
		if !ok {
			t.Others = append(t.Others, name)
			continue
		}
		text, there, err := getMark(ctx, c.conn, name)
		if err != nil {
			return t, err
		}
		if there {
			t.Marks = append(t.Marks, GroupMark{g, text})
		}
	}
	return t, nil
}

// scanOurs lists the keys of all jobs in database 0, each once and sorted.
func (c *Closing) scanOurs(ctx context.Context) (names []string, err error) {
	err = scanKeys(ctx, c.conn, 0, func(key []byte) error { names = append(names, string(key)); return nil }, "MATCH", keyPrefix+"*")
	slices.Sort(names)
	return slices.Compact(names), err
}

// TakeOver makes this process the owner of the marks, and ends the connections
// of sessions that write outside them, and removes what those have left of a
// value they were writing, in whichever database, also of groups without a mark.
// It returns the marks as they stand then. One that cannot be read has no owner and
// stays as it is.
func (c *Closing) TakeOver(ctx context.Context, marks []GroupMark) (out []GroupMark, err error) {
	defer func() { err = c.explain(ctx, err) }()
	groups := slices.Clone(c.o.Groups)
	for _, m := range marks {
		if _, err := ParseMark(m.Text); err == nil {
			if m.Text, err = c.takeOver(ctx, m.Group); err != nil {
				return nil, err
			}
		}
		out, groups = append(out, m), append(groups, m.Group)
	}
	slices.Sort(groups)
	var temp []string // of big values that were cut short
	for _, g := range slices.Compact(groups) {
		// By name, and so behind the token: what reads the mark later finds it, or none.
		if err := killNamed(ctx, c.conn, connName(c.o.Job, g)); err != nil {
			return nil, err
		}
		temp = append(temp, tempKey(c.o.Job, g))
	}
	if len(temp) > 0 { // which nobody writes any more
		if err := removeTemp(ctx, c.conn, c.target, temp); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (c *Closing) takeOver(ctx context.Context, g repl.GroupID) (text string, err error) {
	l := &Lane{addr: c.o.Addr, secret: c.o.Secret, key: markKey(c.o.Job, g), owner: c.owner, timeout: c.o.Timeout, wall: time.Now}
	defer l.Close()
	_, err = l.Open(ctx)
	if errors.Is(err, errNoMark) { // it was there a moment ago
		err = ErrTaken
	}
	return string(l.text), err
}

// Remove removes the marks, the job from the set of jobs, and the other keys,
// at once, if each mark is still what is given. Nothing of another job is
// touched.
func (c *Closing) Remove(ctx context.Context, marks []GroupMark, others []string) (err error) {
	defer func() { err = c.explain(ctx, err) }()
	gone := slices.Clone(others)
	for _, m := range marks {
		gone = append(gone, markKey(c.o.Job, m.Group))
	}
	cmds := [][]string{{"SREM", jobsKey, c.o.Job.String()}}
	if len(gone) > 0 {
		cmds = append(cmds, append([]string{"DEL"}, gone...))
	}
	return c.exec(ctx, marks, cmds)
}

// Restore puts marks back, each with a fresh owner, and the job into the set of
// jobs, at once, if none of them is there.
func (c *Closing) Restore(ctx context.Context, marks []GroupMark) (err error) {
	defer func() { err = c.explain(ctx, err) }()
	cmds := [][]string{{"SADD", jobsKey, c.o.Job.String()}}
	absent := make([]GroupMark, len(marks))
	for i, gm := range marks {
		m, err := ParseMark(gm.Text)
		if err != nil {
			return err
		}
		m.Owner, m.RunID = c.owner.token(0), c.target.runID
		cmds = append(cmds, []string{"SET", markKey(c.o.Job, gm.Group), m.String()})
		absent[i] = GroupMark{Group: gm.Group}
	}
	return c.exec(ctx, absent, cmds)
}

// exec runs cmds in one transaction if the marks are what is expected: an empty
// text is no mark.
func (c *Closing) exec(ctx context.Context, expected []GroupMark, cmds [][]string) error {
	if _, err := c.conn.Do(ctx, "SELECT", "0"); err != nil {
		return fmt.Errorf("select database 0 of the target: %w", err)
	}
	for _, m := range expected {
		key := markKey(c.o.Job, m.Group)
		if _, err := c.conn.Do(ctx, "WATCH", key); err != nil {
			return fmt.Errorf("watch mark %s: %w", key, err)
		}
		text, _, err := getMark(ctx, c.conn, key)
		if err != nil {
			return err
		}
		if text != m.Text {
			return ErrTaken
		}
	}
	for _, args := range append(append([][]string{{"MULTI"}}, cmds...), []string{"EXEC"}) {
		r, err := c.conn.Do(ctx, args...)
		var se resp.ServerError
		if errors.As(err, &se) && args[0] == "EXEC" {
			err = refusedExec(se)
		}
		if err != nil {
			return fmt.Errorf("%s on the target: %w", args[0], err)
		}
		if args[0] != "EXEC" {
			continue
		}
		if r.Null {
			return ErrTaken
		}
		for _, e := range r.Elems {
			if e.Type == '-' {
				return fmt.Errorf("end a job on the target: %w", resp.ServerError(e.Str))
			}
		}
	}
	return nil
}
