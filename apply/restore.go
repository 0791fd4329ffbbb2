package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/native"
	"tairlift/internal/rdb"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// connName names the connections that write outside a mark.
func connName(job spool.JobID, g repl.GroupID) string {
	return "tairlift-" + job.String()[:12] + "-" + g.String()
}

// killOlder ends every connection of older sessions, after which none of their
// bytes can be executed: our token is in the mark, and a connection writes
// only after it has read the mark under its name.
func (g *group) killOlder(ctx context.Context) error {
	return killNamed(ctx, control{g.lane.conn, g.lane.timeout}, connName(g.job.o.Job, g.id))
}

// killNamed ends the connections with a name.
func killNamed(ctx context.Context, conn doer, name string) error {
	r, err := conn.Do(ctx, "CLIENT", "LIST")
	if err != nil {
		return fmt.Errorf("list the target's connections: %w", err)
	}
	for _, id := range clientsNamed(string(r.Str), name) {
		_, err := conn.Do(ctx, "CLIENT", "KILL", "ID", id)
		var se resp.ServerError
		if errors.As(err, &se) && se.Code() == "ERR" { // "No such client": it went by itself
			continue
		}
		if err != nil {
			return fmt.Errorf("end an older connection to the target: %w", err)
		}
	}
	return nil
}

// outside opens a connection that may write outside the mark. It bears its name
// before it reads the mark, so that a session whose token is not in there yet
// will find it. The token alone would not do: a target that went back may show
// it in another phase.
func (s *snapshot) outside(ctx context.Context) (control, error) {
	conn, err := s.g.job.dial(ctx)
	if err != nil {
		return control{}, err
	}
	if err := s.prove(ctx, conn); err != nil {
		conn.Close()
		return control{}, err
	}
	return conn, nil
}

func (s *snapshot) prove(ctx context.Context, conn control) error {
	if _, err := conn.Do(ctx, "CLIENT", "SETNAME", connName(s.g.job.o.Job, s.g.id)); err != nil {
		return fmt.Errorf("name a connection to the target: %w", err)
	}
	key := markKey(s.g.job.o.Job, s.g.id)
	text, _, err := getMark(ctx, conn, key)
	if err != nil {
		return err
	}
	m, err := ParseMark(text)
	if err != nil || m.Owner != s.owner || m.Epoch != s.epoch || m.Phase != checkpoint.PhaseRDB {
		return errMoved
	}
	return nil
}

// restorer sends chunks over one connection, which silence knows as id.
func (s *snapshot) restorer(ctx context.Context, id int) error {
	conn, err := s.outside(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	release, err := conn.CloseOn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = release() }()
	// Nothing is unanswered when it does.
	beat := func() error { return s.ping(conn, id) }
	idle := time.NewTicker(s.g.job.o.beat)
	defer idle.Stop()
	for db := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-idle.C:
			if err := beat(); err != nil {
				return ended(ctx, err)
			}
		case c, ok := <-s.full:
			if !ok {
				return nil
			}
			commands, bytes := int64(c.commands()), int64(len(c.buf))
			if err := s.g.paced(ctx, commands, bytes, beat); err != nil {
				return ended(ctx, err)
			}
			s.g.silence.asks(id)
			sent := time.Now()
			err := s.use(conn, &db, c.db)
			if err == nil {
				err = s.restore(ctx, conn, c, id)
			}
			if err != nil {
				return ended(ctx, err)
			}
			s.g.silence.answered(id)
			s.g.pace.Took(time.Since(sent), commands, bytes)
			s.water.done(c)
			s.free <- c // never full: it has room for every chunk
		}
	}
}

// ping shows a connection to the target: whatever it answers, it has seen it.
func (s *snapshot) ping(conn control, id int) error {
	s.g.silence.asks(id)
	if err := conn.SetDeadline(time.Now().Add(conn.timeout)); err != nil {
		return err
	}
	err := conn.WriteCommand("PING")
	if err == nil {
		err = conn.Flush()
	}
	if err == nil {
		_, err = conn.SkipReply()
	}
	var se resp.ServerError
	if err != nil && !errors.As(err, &se) {
		return err
	}
	s.g.silence.answered(id)
	return nil
}

// use selects, for a database of the source, that of the target where the connection
// has another one, db. It is answered before anything else is sent: a SELECT that is
// refused, because a script runs, would leave what follows it to the other one once
// the script has ended.
func (s *snapshot) use(conn control, db *int, source int) error {
	if source == dbNone {
		return nil
	}
	to := s.g.job.o.Selection.To(source)
	if to == *db {
		return nil
	}
	if err := conn.SetDeadline(time.Now().Add(conn.timeout)); err != nil {
		return err
	}
	err := conn.WriteCommand("SELECT", strconv.Itoa(to))
	if err == nil {
		err = conn.Flush()
	}
	if err == nil {
		_, err = conn.SkipReply()
	}
	if err != nil {
		return fmt.Errorf("select database %d of the target: %w", to, err)
	}
	*db = to
	return nil
}

// restore sends one chunk and reads its replies.
func (s *snapshot) restore(ctx context.Context, conn control, c *chunk, id int) error {
	if err := writeAll(conn, c.buf); err != nil {
		return err
	}
	var refusals []refusal // the first of each entry
	for i, cmd := range c.cmds {
		if i%readPiece == 0 {
			if i > 0 {
				s.g.silence.answered(id)
				s.g.silence.asks(id)
			}
			if err := conn.SetDeadline(time.Now().Add(conn.timeout)); err != nil {
				return err
			}
		}
		why, aborted, err := answer(conn, cmd.kind)
		known := len(refusals) > 0 && refusals[len(refusals)-1].at == cmd.at
		switch {
		case err != nil:
			return err
		case why == "" || known:
		case aborted:
			return refusedExec(why)
		default:
			refusals = append(refusals, refusal{cmd, why})
		}
	}
	for _, r := range refusals {
		if err := s.refused(ctx, conn, c, r, id); err != nil {
			return err
		}
	}
	return nil
}

// refusal is a command that the target refused for good; the others of its chunk
// are executed.
type refusal struct {
	chunkCmd
	why resp.ServerError
}

// writeAll sends p.
func writeAll(conn control, p []byte) error {
	for len(p) > 0 {
		if err := conn.SetDeadline(time.Now().Add(conn.timeout)); err != nil {
			return err
		}
		n, err := conn.Write(p[:min(len(p), writePiece)])
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return conn.Flush()
}

// answer reads a reply. Why is what the target refuses for good; aborted says
// that it is a transaction as a whole. What it refuses for a while is an error.
func answer(conn control, kind cmdKind) (why resp.ServerError, aborted bool, err error) {
	if kind == cmdExec {
		r, err := conn.ReadExec()
		switch {
		case err != nil:
			return "", false, err
		case r.Err != "":
			return r.Err, true, nil
		case len(r.Errors) > 0:
			why = r.Errors[0].Err
		}
	} else if _, err := conn.SkipReply(); err != nil && !errors.As(err, &why) {
		return "", false, err
	}
	if why != "" {
		if kind, _ := classify(why); kind == classWait {
			return "", false, why
		}
	}
	return why, false, nil
}

// refused handles an entry that was refused: if that was its payload, the value
// is made by commands of its kind.
func (s *snapshot) refused(ctx context.Context, conn control, c *chunk, r refusal, id int) error {
	key := c.keys[r.from:r.to]
	switch r.kind {
	case cmdRestore:
		return s.remake(ctx, conn, c, r, id)
	case cmdMSet:
		return s.singly(ctx, conn, c, id)
	}
	if r.kind == cmdExec { // some of it may be there
		if err := conn.SetDeadline(time.Now().Add(conn.timeout)); err != nil {
			return err
		}
		if err := writeAll(conn, resp.AppendCommand(nil, []byte("DEL"), key)); err != nil {
			return err
		}
		if _, _, err := answer(conn, cmdPlain); err != nil {
			return err
		}
	}
	return s.reject(c.db, key, r.why)
}

// singly writes the plain strings of a chunk by a SET each, for the target has
// refused to take them at once: because of one of them, or of MSET.
func (s *snapshot) singly(ctx context.Context, conn control, c *chunk, id int) error {
	s.noMSet.Store(true)
	var out []byte
	for _, cmd := range c.plain {
		out = appendSet(out, c.strings[cmd.at:cmd.end])
	}
	if err := writeAll(conn, out); err != nil {
		return err
	}
	var refusals []refusal
	for _, cmd := range c.plain {
		why, _, err := answer(conn, cmdPlain)
		if err != nil {
			return err
		}
		if why != "" {
			refusals = append(refusals, refusal{cmd, why})
		}
	}
	for _, r := range refusals {
		if err := s.refused(ctx, conn, c, r, id); err != nil {
			return err
		}
	}
	return nil
}

// remake makes a value that RESTORE has refused by commands of its kind, with
// its deadline. One that takes too many for a transaction is left to the session that
// follows: the type is known as refused then, and it is written in chunks.
func (s *snapshot) remake(ctx context.Context, conn control, c *chunk, r refusal, id int) error {
	key := c.keys[r.from:r.to]
	p := resp.NewParser(0)
	p.Feed(c.buf[r.at:r.end])
	sent, ok, err := p.Next()
	if err != nil || !ok || len(sent.Args) < 4 {
		return fmt.Errorf("read an entry that was sent: %w", err)
	}
	payload := sent.Args[3]
	typ := payload[0]
	if rdb.KindOf(typ) == rdb.KindModule {
		return s.cannot(c.db, key, typ, moduleError(body(payload), r.why))
	}
	out, n, err := newNatively(s.target, madeBytes).append(slices.Clone(multiCommand), key, typ, body(payload), r.ms)
	var u *native.UnsupportedError
	large := errors.Is(err, errLarge)
	switch {
	case errors.As(err, &u):
		return s.cannot(c.db, key, typ, u)
	case err != nil && !large:
		return s.corrupt(err)
	}
	if (large || refusesPayload(r.why)) && s.target.takes.refuse(typ) {
		s.g.log.Warn("the target does not RESTORE values of a type: they are written by other commands", "type", rdb.TypeName(typ), "first", string(short(key)), "error", string(r.why))
	}
	if large {
		return errAgain
	}
	out = append(out, execCommand...)
	if err := s.g.paced(ctx, int64(n+2), int64(len(out)), func() error { return s.ping(conn, id) }); err != nil {
		return err
	}
	s.g.silence.asks(id)
	if err := writeAll(conn, out); err != nil {
		return err
	}
	c.seen.native++
	why, err := transaction(conn, n+2)
	if err != nil || why == "" {
		return err
	}
	return s.refused(ctx, conn, c, refusal{chunkCmd{from: r.from, to: r.to, kind: cmdExec}, why}, id)
}

// transaction reads the replies to n commands, MULTI and EXEC among them. Why is
// what of it the target refuses for good.
func transaction(conn control, n int) (why resp.ServerError, err error) {
	for i := range n {
		kind := cmdPlain
		if i == n-1 {
			kind = cmdExec
		}
		w, aborted, err := answer(conn, kind)
		switch {
		case err != nil:
			return "", err
		case w == "" || why != "":
		case aborted:
			return "", refusedExec(w)
		default:
			why = w
		}
	}
	return why, nil
}

// reject records an entry that the target refuses; what is behind it is written
// all the same, unless that is to stop the group.
func (s *snapshot) reject(db int, key []byte, cause resp.ServerError) error {
	r := checkpoint.Reject{
		Group: s.g.id, Epoch: s.epoch, Phase: checkpoint.PhaseRDB, DB: db, Keys: [][]byte{slices.Clone(key)},
		Command: resp.AppendCommandStrings(nil, "RESTORE", string(key[:min(len(key), 4096)])), Error: string(cause), Applied: true,
	}
	if s.g.onReject != RejectContinue {
		return s.g.rejectStop(r)
	}
	_, err := s.g.addRejects([]checkpoint.Reject{r})
	return err
}
