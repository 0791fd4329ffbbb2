package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"tairlift/internal/command"
	"tairlift/internal/rdb"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

// Ends of a walk that are not offsets.
const (
	// WalkRDB is a walk over the RDB alone.
	WalkRDB repl.Offset = -1
	// WalkAll is a walk to the end of what is held of the epoch.
	WalkAll repl.Offset = math.MaxInt64
)

// WalkKeys calls fn for the keys that an epoch's RDB and its stream up to the
// offset until name, which is a command's end, WalkRDB or WalkAll. What was
// pruned comes first, from the key files, and unordered; the rest in the order
// of the RDB and the stream, each as often as it is named. removed tells that
// the key is gone behind the command: never of what was pruned, for its key
// files do not tell.
//
// cleared, if given, is called for each command that empties databases, with the
// one that is selected, or slots of one. Whether apply carried it out is not
// known here: that depends on its policy.
//
// swaps is as at the epoch's start, and then as at until: fingerprints, and the
// databases that cleared is told of, are numbered as it says. With a nil one each
// name is as it is written.
//
// opaque counts commands that may have written keys which they do not name. An
// error of fn or cleared is returned as it is; others are ErrRDBIncomplete, ErrEnd and
// ErrEpochEnd when the stream ends before until, and those of reading.
func (g *Group) WalkKeys(ctx context.Context, e repl.Epoch, until repl.Offset, swaps *Swaps, fn func(fp Fingerprint, removed bool) error, cleared ...ClearedFunc) (opaque uint64, err error) {
	at, opaque, err := g.walkPruned(ctx, e, until, swaps, fn)
	if err != nil {
		return opaque, err
	}
	if !at.Stream {
		if err := g.walkRDB(ctx, e, at, fn); err != nil {
			return opaque, err
		}
		info, err := g.epoch(e)
		if err != nil {
			return opaque, err
		}
		at = Resume{Stream: true, Offset: int64(info.Start)}
	}
	if until == WalkRDB || repl.Offset(at.Offset) >= until {
		return opaque, nil
	}
	more, err := g.WalkStream(ctx, e, repl.Offset(at.Offset), max(at.DB, 0), until, swaps, fn, cleared...)
	return opaque + more.Opaque, err
}

// walkPruned reads the epoch's key files and tells where what is held begins.
func (g *Group) walkPruned(ctx context.Context, e repl.Epoch, until repl.Offset, swaps *Swaps, fn func(Fingerprint, bool) error) (at Resume, opaque uint64, err error) {
	// Segments first: what is pruned between the two looks is in both then.
	held, err := g.listSeqs(e)
	if err != nil {
		return at, 0, err
	}
	keys, err := g.listKeySeqs(e)
	if err != nil {
		return at, 0, err
	}
	if len(keys) == 0 {
		return at, 0, nil
	}
	var last *keysFile
	for i, seq := range keys {
		if err := ctx.Err(); err != nil {
			return at, opaque, err
		}
		k, err := g.openKeys(e, seq)
		if err != nil {
			return at, opaque, err
		}
		h := &k.head.hdr
		if i == 0 {
			held, err = g.unbroken(e, h.First, keys, held)
		}
		if err == nil && !k.head.incomplete && (!h.Stream || repl.Offset(h.begin()) < until) {
			opaque += k.end.Opaque
			err = k.each(func(fp Fingerprint) error { return fn(fp, false) })
			if swaps != nil {
				swaps.load(&k.end.Swaps, until)
			}
		}
		k.close()
		if err != nil {
			return at, opaque, err
		}
		last = k
	}
	if len(held) > 0 {
		at, err = g.Resume(e, held[0])
		return at, opaque, err
	}
	return Resume{Stream: true, Offset: math.MaxInt64}, opaque, last.reaches(until) // nothing is held
}

// reaches is an error when the epoch, of which k is the last that is here, must
// have had more before the end of a walk.
func (k *keysFile) reaches(until repl.Offset) error {
	h := &k.head.hdr
	end := repl.Offset(k.end.Next.Offset)
	switch {
	case k.head.incomplete:
		return nil
	case !h.Stream && !k.head.foot.RDBDone:
		return &MissingError{Path: strings.TrimSuffix(k.path, keysName(h.Seq)) + (h.Seq + 1).File()}
	case !h.Stream:
		end = h.Start
	}
	if until != WalkAll && end < until {
		return fmt.Errorf("%s: %w", k.path, ErrEpochEnd)
	}
	return nil
}

// unbroken returns the segments of an epoch that are held and not pruned: a
// prune that was cut short leaves both files of a segment. It is a MissingError
// when neither is here of one before them, as in a copy under way.
func (g *Group) unbroken(e repl.Epoch, first Seq, pruned, held []Seq) ([]Seq, error) {
	held = slices.DeleteFunc(held, func(s Seq) bool { return slices.Contains(pruned, s) })
	row := pruned
	if len(held) > 0 {
		row = append(slices.Clone(pruned), held[0])
	}
	for i, seq := range row {
		if want := first + Seq(i); seq != want {
			return nil, &MissingError{Path: g.path(e, want)}
		}
	}
	return held, nil
}

func (g *Group) walkRDB(ctx context.Context, e repl.Epoch, from Resume, fn func(Fingerprint, bool) error) error {
	in, err := g.OpenRDBAt(e, from.Offset)
	if err != nil {
		return err
	}
	defer in.Close()
	o := rdb.Options{Hold: -1}
	dec := rdb.NewDecoder(in, o)
	if from.Offset > 0 {
		dec = rdb.Resume(in, rdb.Boundary{Offset: from.Offset, DB: from.DB, Version: from.RDBVersion}, o)
	}
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		ent, err := dec.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read keys of the RDB of epoch %s: %w", e, err)
		}
		if err := fn(FingerprintOf(ent.DB, ent.Key), false); err != nil {
			return err
		}
		if err := dec.Skip(); err != nil {
			return fmt.Errorf("read keys of the RDB of epoch %s: %w", e, err)
		}
	}
}

// ClearedFunc is told of a command that empties what c says, with db selected.
type ClearedFunc func(db int, c command.Cleared) error

// Walked is where a walk over a stream has ended.
type Walked struct {
	DB     int // selected there
	Opaque uint64
}

// WalkStream is WalkKeys over the stream behind the offset after, where db is
// selected and swaps is as it was there.
func (g *Group) WalkStream(ctx context.Context, e repl.Epoch, after repl.Offset, db int, until repl.Offset, swaps *Swaps, fn func(fp Fingerprint, removed bool) error, cleared ...ClearedFunc) (Walked, error) {
	uses := keyUses{db: db, swaps: swaps, cleared: cleared}
	walked := func() Walked { return Walked{DB: uses.db, Opaque: uses.opaque} }
	in, err := g.OpenCommands(e, after, until)
	if err != nil {
		return walked(), err
	}
	defer in.Close()
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return walked(), ctx.Err()
		}
		c, err := in.Next()
		var garbled *resp.ParseError // nothing behind it was ever applied
		if err == io.EOF || until == WalkAll && (errors.Is(err, ErrEnd) || errors.Is(err, ErrEpochEnd) || errors.As(err, &garbled)) {
			return walked(), nil
		}
		if err == nil {
			err = uses.of(c, fn)
		}
		if err != nil {
			return walked(), err
		}
	}
}

// keyUses tells which keys the commands of a stream name.
type keyUses struct {
	db     int // that is selected
	swaps  *Swaps
	opaque uint64
	keys   [][]byte
	// cleared is called for the commands that empty databases, or slots of one.
	cleared []ClearedFunc
}

// of calls fn for each key of the next command.
func (u *keyUses) of(c resp.Command, fn func(fp Fingerprint, removed bool) error) error {
	spec := command.Lookup(c.Args[0])
	switch spec.Class {
	case command.Select:
		if v, err := strconv.Atoi(string(c.Args[len(c.Args)-1])); err == nil && v >= 0 {
			u.db = v
		}
		return nil
	case command.Flush, command.Slots:
		if a, b, ok := spec.SwapDBs(c.Args); ok && u.swaps != nil {
			u.swaps.passed(a, b, c.End)
		}
		if what, ok := spec.Clears(c.Args); ok {
			for _, fn := range u.cleared {
				if err := fn(u.swaps.Origin(u.db), what); err != nil {
					return err
				}
			}
		}
	}
	if spec.Class == command.Unknown || spec.Scripts() {
		u.opaque++
	}
	u.keys = spec.AppendKeys(u.keys[:0], c.Args)
	db := u.swaps.Origin(u.db)
	for i, key := range u.keys {
		if err := fn(FingerprintOf(db, key), spec.Effect(i).Removes()); err != nil {
			return err
		}
	}
	if to, key, ok := spec.OtherDB(c.Args); ok {
		return fn(FingerprintOf(u.swaps.Origin(to), key), false)
	}
	return nil
}
