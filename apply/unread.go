package apply

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"

	"tairlift/checkpoint"
	"tairlift/internal/command"
)

// needTypes are the types that a need of a key's value is about.
var needTypes = map[command.Need]string{
	command.NeedString: "string", command.NeedInteger: "string", command.NeedList: "list", command.NeedSet: "set",
	command.NeedZSet: "zset", command.NeedHash: "hash",
}

// suspect is a key of an unread batch, and what the commands behind its last
// reset demand.
type suspect struct {
	doubt  checkpoint.Doubt
	need   command.Need
	fields [][]byte // of the hash, that must be integers
	with   []string // suspects that share a command: when it fails, it fails all
}

// suspects are keyed by database and name.
type suspects map[string]suspect

// demand adds what one command wants of its keys.
func (ss suspects) demand(need command.Need, ids []string, doubts []checkpoint.Doubt, field []byte) {
	for i, id := range ids {
		s, there := ss[id]
		switch {
		case !there:
			s = suspect{need: need, doubt: doubts[i]}
		case needTypes[s.need] != needTypes[need]:
			s.need = command.NeedUnknown
		case s.need != command.NeedInteger:
			s.need = need
		}
		if field != nil {
			s.fields = append(s.fields, slices.Clone(field))
		}
		if len(ids) > 1 {
			s.with = append(s.with, ids...)
		}
		ss[id] = s
	}
}

// reset forgets a key that was written anew. With it goes what it could tell of
// the commands that it shared.
func (ss suspects) reset(id string) {
	for _, other := range ss[id].with {
		if s, ok := ss[other]; ok {
			s.need = command.NeedUnknown
			ss[other] = s
		}
	}
	delete(ss, id)
}

// unread looks at a batch that its mark shows committed and whose replies
// nobody read: one of its commands may have failed unseen. A command fails in
// EXEC because its key has another type, and such a command leaves the type as
// it is. So a key that now has the type its commands want cannot have failed
// them; every other key, and those that share a command with it, is recorded as
// doubtful. So is each, whatever its type, where deadlines were not all held: the
// batch may have been executed any time after it was sent, and have met keys that
// had died meanwhile.
func (g *group) unread(ctx context.Context, conn doer, m Mark) error {
	all, err := g.suspects(ctx, m)
	if err != nil || len(all) == 0 {
		return err
	}
	unfit := map[string]bool{}
	for id, s := range all {
		ok, err := fits(ctx, conn, g.job.o.Selection.To(s.doubt.DB), s)
		if err != nil {
			return err
		}
		if !ok {
			unfit[id] = true
			for _, other := range s.with {
				unfit[other] = true
			}
		}
	}
	if _, err := conn.Do(ctx, "SELECT", "0"); err != nil {
		return err
	}
	var doubts []checkpoint.Doubt
	for id := range unfit {
		if s, ok := all[id]; ok {
			doubts = append(doubts, s.doubt)
		}
	}
	n, err := g.addDoubts(doubts)
	if err == nil && n > 0 {
		g.log.Warn("a batch was committed and its replies were lost; keys that may differ are doubtful until verified",
			"after", m.Start, "until", m.Offset, "doubtful", n, "of", len(all))
	}
	return err
}

// suspects reads the batch of m again.
func (g *group) suspects(ctx context.Context, m Mark) (suspects, error) {
	in, err := g.spool.OpenCommands(m.Epoch, m.Start, m.Offset)
	if err != nil {
		return nil, g.spoolErr(err)
	}
	defer in.Close()
	var (
		keys [][]byte
		db   = m.StartDB
		out  = suspects{}
	)
	for ctx.Err() == nil {
		c, err := in.Next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, g.spoolErr(err)
		}
		if len(c.Args) == 0 {
			continue
		}
		spec := command.Lookup(c.Args[0])
		switch spec.Class {
		case command.Select:
			if n, err := strconv.Atoi(string(argOf(c.Args, 1))); err == nil {
				db = n
			}
			continue
		case command.Write, command.Eval, command.EvalSHA, command.Unknown, command.Slots:
		default:
			continue
		}
		need := spec.Needs()
		reset := need == command.NeedNothing && spec.Effect(0).Overwrites()
		if !reset && (m.Asked || m.Timed && m.TTL != DeadlinesHeld) { // it may have met a key that was gone
			need = command.NeedUnknown
		}
		keys = spec.AppendKeys(keys[:0], c.Args)
		var ids []string
		var doubts []checkpoint.Doubt
		for i, key := range keys {
			if isOurs(key) || !g.job.o.Selection.Has(db, key) {
				continue
			}
			ids = append(ids, strconv.Itoa(db)+":"+string(key))
			doubts = append(doubts, checkpoint.Doubt{
				Group: g.id, Epoch: m.Epoch, DB: db, Key: slices.Clone(key), Why: "unread", Offset: m.Offset, Own: isOwn(spec, keys, i),
			})
		}
		switch {
		case reset:
			for _, id := range ids {
				out.reset(id)
			}
		case need == command.NeedNothing:
		case need == command.NeedIntegerField:
			out.demand(command.NeedHash, ids, doubts, argOf(c.Args, 2))
		default:
			out.demand(need, ids, doubts, nil)
		}
	}
	return nil, ctx.Err()
}

// fits tells whether the key, in that database of the target, has the type that
// its commands wanted.
func fits(ctx context.Context, conn doer, db int, s suspect) (bool, error) {
	want, ok := needTypes[s.need]
	if !ok {
		return false, nil
	}
	key := string(s.doubt.Key)
	if _, err := conn.Do(ctx, "SELECT", strconv.Itoa(db)); err != nil {
		return false, fmt.Errorf("look at key %q of an unread batch: %w", key, err)
	}
	r, err := conn.Do(ctx, "TYPE", key)
	if err != nil {
		return false, fmt.Errorf("look at key %q of an unread batch: %w", key, err)
	}
	if string(r.Str) != want {
		return false, nil
	}
	var integers [][]string // how to read what must be an integer
	if s.need == command.NeedInteger {
		integers = append(integers, []string{"GET", key})
	}
	for _, f := range s.fields {
		integers = append(integers, []string{"HGET", key, string(f)})
	}
	for _, get := range integers {
		r, err := conn.Do(ctx, get...)
		if err != nil {
			return false, fmt.Errorf("look at key %q of an unread batch: %w", key, err)
		}
		if _, err := strconv.ParseInt(string(r.Str), 10, 64); err != nil && !r.Null {
			return false, nil
		}
	}
	return true, nil
}
