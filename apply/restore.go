package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"tairlift/checkpoint"
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
	for db := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c, ok := <-s.full:
			if !ok {
				return nil
			}
			commands, bytes := int64(len(c.cmds)), int64(len(c.buf))
			if err := s.g.pace.Wait(ctx, commands, bytes); err != nil {
				return err
			}
			s.g.silence.asks(id)
			sent := time.Now()
			err := s.use(conn, &db, c)
			if err == nil {
				err = s.restore(conn, c, id)
			}
			if err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return err
			}
			s.g.silence.answered(id)
			s.g.pace.Took(time.Since(sent), commands, bytes)
			s.water.done(c)
			s.free <- c // never full: it has room for every chunk
		}
	}
}

// use selects the chunk's database where the connection has another, and is
// answered before the chunk is sent: a SELECT that is refused, because a script
// runs, would leave what follows it to the other one once the script has ended.
func (s *snapshot) use(conn control, db *int, c *chunk) error {
	if c.db == dbNone || c.db == *db {
		return nil
	}
	if err := conn.SetDeadline(time.Now().Add(conn.timeout)); err != nil {
		return err
	}
	err := conn.WriteCommand("SELECT", strconv.Itoa(c.db))
	if err == nil {
		err = conn.Flush()
	}
	if err == nil {
		_, err = conn.SkipReply()
	}
	if err != nil {
		return fmt.Errorf("select database %d of the target: %w", c.db, err)
	}
	*db = c.db
	return nil
}

// restore sends one chunk and reads its replies.
func (s *snapshot) restore(conn control, c *chunk, id int) error {
	for buf := c.buf; len(buf) > 0; {
		if err := conn.SetDeadline(time.Now().Add(conn.timeout)); err != nil {
			return err
		}
		n, err := conn.Write(buf[:min(len(buf), writePiece)])
		if err != nil {
			return err
		}
		buf = buf[n:]
	}
	if err := conn.Flush(); err != nil {
		return err
	}
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
		_, err := conn.SkipReply()
		var se resp.ServerError
		switch {
		case err == nil:
		case !errors.As(err, &se):
			return err
		default:
			if err := s.failed(c, cmd, se); err != nil {
				return err
			}
		}
	}
	return nil
}

// failed handles a command that the target refused; the others of its chunk
// are executed.
func (s *snapshot) failed(c *chunk, cmd chunkCmd, cause resp.ServerError) error {
	if kind, _ := classify(cause); kind == classWait {
		return cause
	}
	key := c.keys[cmd.from:cmd.to]
	r := checkpoint.Reject{
		Group: s.g.id, Epoch: s.epoch, Phase: checkpoint.PhaseRDB, DB: c.db, Keys: [][]byte{slices.Clone(key)},
		Command: resp.AppendCommandStrings(nil, "RESTORE", string(key[:min(len(key), 4096)])), Error: string(cause), Applied: true,
	}
	if s.g.onReject != RejectContinue {
		return s.g.rejectStop(r)
	}
	_, err := s.g.addRejects([]checkpoint.Reject{r})
	return err
}
