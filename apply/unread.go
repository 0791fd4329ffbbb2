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

// kind is what a command demands of its key's type, as far as that alone
// decides whether it fails.
type kind uint8

const (
	kindAny     kind = iota // may fail for other reasons too: cannot be told afterwards
	kindSure                // never fails once it was queued
	kindReset               // never fails, and decides the key's type
	kindString              // fails on another type
	kindInteger             // fails on another type, or on a string that is no integer
	kindList
	kindSet
	kindZSet
	kindHash
)

var kinds = map[string]kind{
	"DEL": kindReset, "UNLINK": kindReset, "SET": kindReset, "MSET": kindReset, "SETEX": kindReset, "PSETEX": kindReset,
	"EXPIRE": kindSure, "PEXPIRE": kindSure, "EXPIREAT": kindSure, "PEXPIREAT": kindSure, "PERSIST": kindSure, "TOUCH": kindSure,
	"APPEND": kindString, "GETSET": kindString, "SETBIT": kindString, "GETDEL": kindString, "SETRANGE": kindString,
	"INCR": kindInteger, "DECR": kindInteger, "INCRBY": kindInteger, "DECRBY": kindInteger,
	"RPUSH": kindList, "LPUSH": kindList, "RPOP": kindList, "LPOP": kindList, "RPUSHX": kindList, "LPUSHX": kindList,
	"LTRIM": kindList, "LREM": kindList, "LINSERT": kindList, "RPOPLPUSH": kindList, "BRPOPLPUSH": kindList, "LMOVE": kindList,
	"SADD": kindSet, "SREM": kindSet, "SMOVE": kindSet,
	"ZADD": kindZSet, "ZINCRBY": kindZSet, "ZREM": kindZSet, "ZREMRANGEBYRANK": kindZSet, "ZREMRANGEBYSCORE": kindZSet, "ZREMRANGEBYLEX": kindZSet,
	"HSET": kindHash, "HMSET": kindHash, "HDEL": kindHash, "HSETNX": kindHash,
	"HINCRBY": kindHash, // and its field must be an integer
}

var kindTypes = map[kind]string{
	kindString: "string", kindInteger: "string", kindList: "list", kindSet: "set", kindZSet: "zset", kindHash: "hash",
}

// suspect is a key of an unread batch, and what the commands behind its last
// reset demand.
type suspect struct {
	doubt  checkpoint.Doubt
	kind   kind
	fields [][]byte // of the hash, that must be integers
	with   []string // suspects that share a command: when it fails, it fails all
}

// suspects are keyed by database and name.
type suspects map[string]suspect

// demand adds what one command wants of its keys.
func (ss suspects) demand(k kind, ids []string, doubts []checkpoint.Doubt, field []byte) {
	for i, id := range ids {
		s, there := ss[id]
		switch {
		case !there:
			s = suspect{kind: k, doubt: doubts[i]}
		case kindTypes[s.kind] != kindTypes[k]:
			s.kind = kindAny
		case s.kind != kindInteger:
			s.kind = k
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
			s.kind = kindAny
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
		k := kinds[spec.Name]
		if k != kindReset && (m.Asked || m.Timed && m.TTL != DeadlinesHeld) { // it may have met a key that was gone
			k = kindAny
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
		case k == kindSure:
		case k == kindReset:
			for _, id := range ids {
				out.reset(id)
			}
		case spec.Name == "HINCRBY":
			out.demand(k, ids, doubts, argOf(c.Args, 2))
		default:
			out.demand(k, ids, doubts, nil)
		}
	}
	return nil, ctx.Err()
}

// fits tells whether the key, in that database of the target, has the type that
// its commands wanted.
func fits(ctx context.Context, conn doer, db int, s suspect) (bool, error) {
	want, ok := kindTypes[s.kind]
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
	if s.kind == kindInteger {
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
