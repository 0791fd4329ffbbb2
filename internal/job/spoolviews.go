package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tairlift/internal/rdb"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// SpoolDump shows the frames, or with Keys, Values or Commands what they hold.
func SpoolDump(ctx context.Context, o SpoolOptions) error {
	f, ids, err := openSpool(o)
	if err != nil {
		return err
	}
	if o.Keys || o.Values || o.Commands {
		return o.contents(ctx, f, ids)
	}
	shown := false
	for _, id := range ids {
		err := spool.Dump(o.Out, f.spoolDir(), spool.DumpOptions{
			Group: id, Epoch: repl.Epoch(o.Epoch), Seq: spool.Seq(o.Seq), Data: o.Data, JSON: o.JSON,
		})
		if errors.Is(err, spool.ErrNoSpool) && (o.Epoch != 0 || o.Seq != 0) {
			continue // another group may have it
		}
		if err != nil {
			return explain(err)
		}
		shown = true
	}
	if !shown {
		return o.nothing()
	}
	return nil
}

// nothing is the end of a dump whose epoch or segment is in no group.
func (o SpoolOptions) nothing() *Error {
	what := "segment"
	if o.Seq != 0 {
		what += " " + strconv.Itoa(o.Seq)
	}
	if o.Epoch != 0 {
		what += " of epoch " + strconv.Itoa(o.Epoch)
	}
	return usage("`tairlift spool ls` with this --dir shows the segments that are there", "the spool has no %s", what)
}

// contents shows keys, values and commands out of the spool, epoch by epoch.
func (o SpoolOptions) contents(ctx context.Context, f *folder, ids []repl.GroupID) error {
	vouched, err := f.vouched()
	if err != nil {
		return explain(err)
	}
	v := newListing(o.Out, o.JSON)
	shown := false
	for _, id := range ids {
		g, err := spool.OpenGroup(f.spoolDir(), f.rec.Job, id)
		if errors.Is(err, spool.ErrNoSpool) {
			continue // a folder only, so far
		}
		if err != nil {
			return explain(err)
		}
		if d, ok := vouched[id]; ok {
			g.Vouch(d)
		}
		epochs, err := g.Epochs()
		if err != nil {
			return explain(err)
		}
		for _, e := range epochs {
			if o.Epoch != 0 && e.Epoch != repl.Epoch(o.Epoch) {
				continue
			}
			shown = true
			err := o.epoch(ctx, v, g, id, e)
			if ferr := v.w.Flush(); err == nil {
				err = ferr
			}
			if err != nil {
				return explainRDB(fmt.Sprintf("group %s epoch %s", id, e.Epoch), err)
			}
		}
	}
	switch {
	case shown:
		return nil
	case o.Epoch != 0:
		return o.nothing()
	}
	return noSpool(f)
}

// epoch shows what is durable of one epoch.
func (o SpoolOptions) epoch(ctx context.Context, v *listing, g *spool.Group, id repl.GroupID, e spool.EpochInfo) error {
	if err := v.in(id, e.Epoch); err != nil {
		return err
	}
	if o.Keys || o.Values {
		if err := o.rdb(ctx, v, g, e); err != nil {
			return err
		}
	}
	if o.Commands {
		return o.stream(ctx, v, g, e)
	}
	return nil
}

// rdb shows what is held of the epoch's RDB.
func (o SpoolOptions) rdb(ctx context.Context, v *listing, g *spool.Group, e spool.EpochInfo) error {
	var at rdb.Boundary
	if first := e.Segments[0].Seq; first != e.FirstSeq {
		from, err := g.Resume(e.Epoch, first)
		if err != nil {
			return err
		}
		if err := v.pruned("rdb", int(first-e.FirstSeq), from); err != nil || from.Stream {
			return err
		}
		at = rdb.Boundary{Offset: from.Offset, DB: from.DB, Version: from.RDBVersion}
	}
	r, err := g.OpenRDBAt(e.Epoch, at.Offset)
	if err != nil {
		return err
	}
	defer r.Close()
	size := r.Size()
	if at.Offset == size { // what is held is the end of an entry, or of the RDB
		return nil
	}
	return v.rdb(ctx, rdb.Resume(r, at, rdb.Options{Hold: -1}), o.Values, &size)
}

// stream shows what is held of the epoch's stream.
func (o SpoolOptions) stream(ctx context.Context, v *listing, g *spool.Group, e spool.EpochInfo) error {
	i := slices.IndexFunc(e.Segments, func(s spool.SegmentInfo) bool { return s.Stream })
	if i < 0 {
		return nil
	}
	first := e.Segments[i]
	start, db := repl.Offset(first.From), -1 // until the first SELECT
	if i == 0 || e.Segments[i-1].Seq != first.Seq-1 {
		from, err := g.Resume(e.Epoch, first.Seq)
		if err != nil {
			return err
		}
		start, db = repl.Offset(from.Offset), from.DB
		if db >= 0 {
			if err := v.pruned("stream", int(first.Seq-e.FirstSeq), from); err != nil || start > e.EndOffset {
				return err // what is held is a part of one command
			}
		}
	}
	r, err := g.OpenCommands(e.Epoch, start, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	return v.commands(ctx, r, db)
}

// pruned says that a phase is not shown from its beginning, or not at all.
func (v *listing) pruned(phase string, segments int, from spool.Resume) error {
	all := phase == "rdb" && from.Stream
	if v.json != nil {
		row := map[string]any{"phase": phase, "segments": segments, "offset": from.Offset, "db": from.DB}
		if all {
			row["offset"], row["db"] = nil, nil
		}
		return v.row("pruned", row)
	}
	if all {
		_, err := fmt.Fprintf(v.w, "%10s the rdb was pruned\n", "")
		return err
	}
	_, err := fmt.Fprintf(v.w, "%10d begin of what is held of the %s, %d %s before it pruned\n", from.Offset, phase, segments, plural(segments, "segment"))
	return err
}

// commands shows what r reads, beginning in database db; -1 is not known.
func (v *listing) commands(ctx context.Context, r *spool.CommandReader, db int) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		c, err := r.Next()
		if errors.Is(err, spool.ErrEnd) || errors.Is(err, spool.ErrEpochEnd) {
			break
		}
		if err != nil {
			return err
		}
		if len(c.Args) == 2 && strings.EqualFold(string(c.Args[0]), "SELECT") {
			if n, err := strconv.Atoi(string(c.Args[1])); err == nil {
				db = n
			}
		}
		if err := v.command(c, db); err != nil {
			return err
		}
	}
	if v.json != nil {
		return v.row("stream", map[string]any{"offset": r.Offset(), "rest": r.Rest()})
	}
	_, err := fmt.Fprintf(v.w, "%10d end of stream, %d bytes of a command behind it\n", r.Offset(), r.Rest())
	return err
}

func (v *listing) command(c resp.Command, db int) error {
	if v.json != nil {
		row := map[string]any{"end": c.End, "db": db, "args": texts(c.Args)}
		if db < 0 {
			row["db"] = nil
		}
		return v.row("command", row)
	}
	name := "?"
	if db >= 0 {
		name = strconv.Itoa(db)
	}
	fmt.Fprintf(v.w, "%10d db %s", c.End, name)
	for _, a := range c.Args {
		v.put(" ")
		v.quote(a)
	}
	return v.w.WriteByte('\n')
}
