package apply

import (
	"context"
	"errors"
	"fmt"
	"io"

	"tairlift/checkpoint"
	"tairlift/internal/command"
	"tairlift/internal/rdb"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// What happens when apply.db was lost and the target bears our marks. The mark
// says where to go on; what the store alone knew is, as far as it can be, taken
// from the spool:
//
//   - bodies of scripts, once one is named that is not known. Since a source
//     forgets at a full sync which scripts its replicas have, its RDB and the
//     stream behind it hold every body that it can name;
//   - rejects and doubtful keys are lost. The group says so until a full
//     verify has found everything equal.

// forget notes that the store knows less of the group than the target's mark.
func (g *group) forget(rec *checkpoint.ApplyRecord, m Mark) {
	if rec.Claimed || m.Phase == checkpoint.PhaseNone {
		return
	}
	g.log.Warn("apply.db is new, and the target bears marks of this job: what was rejected or doubtful before is not known; `tairlift verify --level full` tells whether it matters",
		"epoch", m.Epoch, "offset", m.Offset)
	g.forgot(m.Epoch)
	rec.Forgotten, rec.ForgottenIn = true, m.Epoch
}

// forgot is told by the status, and by the next record.
func (g *group) forgot(in repl.Epoch) {
	g.forgotten, g.forgottenIn = true, in
	g.status.update(func(st *Status) { st.Forgotten = true })
}

// findScripts reads what of the mark's epoch is applied already, for the bodies
// in it. lost says why it cannot be told from the spool, now or later; err is
// what happens next where that is not so.
func (g *group) findScripts(ctx context.Context, m Mark, start repl.Offset) (lost, err error) {
	g.log.Info("looking for the bodies of scripts in what is applied already", "epoch", m.Epoch, "until", m.Offset)
	where := "RDB"
	err = g.scriptsOfRDB(ctx, m.Epoch)
	if err == nil {
		where = "stream"
		err = g.scriptsOfStream(ctx, m, start)
	}
	var (
		pruned *spool.PrunedError
		gap    *spool.GapError
		format *rdb.FormatError
		parse  *resp.ParseError
	)
	switch {
	case err == nil:
		return nil, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &pruned), errors.As(err, &gap), errors.As(err, &format), errors.As(err, &parse),
		errors.Is(err, spool.ErrEnd), errors.Is(err, spool.ErrEpochEnd):
		return fmt.Errorf("look for scripts in the %s: %w", where, err), nil
	}
	return nil, g.spoolErr(err)
}

func (g *group) scriptsOfRDB(ctx context.Context, e repl.Epoch) error {
	in, err := g.spool.OpenRDB(e)
	if err != nil {
		return err
	}
	defer in.Close()
	var kept error
	dec := rdb.NewDecoder(in, rdb.Options{Hold: -1, OnAux: func(key, value []byte) {
		if string(key) == "lua" && kept == nil {
			kept = g.scripts.keep(value)
		}
	}})
	for ctx.Err() == nil && kept == nil {
		switch _, err := dec.Next(); {
		case err == io.EOF:
			return kept
		case err != nil:
			return err
		}
	}
	if kept != nil {
		return kept
	}
	return ctx.Err()
}

func (g *group) scriptsOfStream(ctx context.Context, m Mark, start repl.Offset) error {
	in, err := g.spool.OpenCommands(m.Epoch, start, m.Offset)
	if err != nil {
		return err
	}
	defer in.Close()
	for ctx.Err() == nil {
		c, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if len(c.Args) < 2 {
			continue
		}
		switch command.Lookup(c.Args[0]).Class {
		case command.Eval:
			err = g.scripts.keep(c.Args[1])
		case command.Script:
			if len(c.Args) > 2 && is(c.Args[1], "LOAD") {
				err = g.scripts.keep(c.Args[2])
			}
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}
