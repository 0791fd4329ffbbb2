package apply

import (
	"context"
	"fmt"
	"strconv"

	"tairlift/checkpoint"
	"tairlift/internal/command"
	"tairlift/internal/resp"
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
	"LTRIM": kindList, "LREM": kindList, "LINSERT": kindList,
	"SADD": kindSet, "SREM": kindSet,
	"ZADD": kindZSet, "ZREM": kindZSet, "ZREMRANGEBYRANK": kindZSet, "ZREMRANGEBYSCORE": kindZSet, "ZREMRANGEBYLEX": kindZSet,
	"HSET": kindHash, "HMSET": kindHash, "HDEL": kindHash, "HSETNX": kindHash,
}

var kindTypes = map[kind]string{
	kindString: "string", kindInteger: "string", kindList: "list", kindSet: "set", kindZSet: "zset", kindHash: "hash",
}

// suspect is a key of an unread batch, and what the commands behind its last
// reset demand.
type suspect struct {
	doubt checkpoint.Doubt
	kind  kind
}

// unread looks at a batch that its mark shows committed and whose replies
// nobody read: one of its commands may have failed unseen. A command fails in
// EXEC because its key has another type, and such a command leaves the type as
// it is. So a key that now has the type its commands want cannot have failed
// them; every other key is recorded as doubtful.
func (g *group) unread(ctx context.Context, conn doer, m Mark) error {
	suspects, err := g.suspects(ctx, m)
	if err != nil || len(suspects) == 0 {
		return err
	}
	var doubts []checkpoint.Doubt
	for _, s := range suspects {
		ok, err := fits(ctx, conn, s)
		if err != nil {
			return err
		}
		if !ok {
			doubts = append(doubts, s.doubt)
		}
	}
	if _, err := conn.Do(ctx, "SELECT", "0"); err != nil {
		return err
	}
	n, err := g.addDoubts(doubts)
	if err == nil && n > 0 {
		g.log.Warn("a batch was committed and its replies were lost; keys that may differ are doubtful until verified",
			"after", m.Start, "until", m.Offset, "doubtful", n, "of", len(suspects))
	}
	return err
}

// suspects reads the batch of m again.
func (g *group) suspects(ctx context.Context, m Mark) (map[string]suspect, error) {
	in, err := g.spool.OpenStream(m.Epoch, m.Start)
	if err != nil {
		return nil, g.spoolErr(err)
	}
	defer in.Close()
	var (
		p    = resp.NewParser(m.Start)
		keys [][]byte
		db   = m.StartDB
		out  = map[string]suspect{}
	)
	for p.Offset() < m.Offset && ctx.Err() == nil {
		c, ok, err := p.Next()
		if err != nil {
			return nil, err
		}
		if !ok {
			f, err := in.Next()
			if err != nil {
				return nil, g.spoolErr(err)
			}
			p.Feed(f.Data)
			continue
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
		case command.Write, command.Eval, command.EvalSHA, command.Unknown:
		default:
			continue
		}
		k := kinds[spec.Name]
		keys = spec.AppendKeys(keys[:0], c.Args)
		for _, key := range keys {
			if isOurs(key) {
				continue
			}
			id := strconv.Itoa(db) + ":" + string(key)
			switch s, there := out[id]; {
			case k == kindSure:
			case k == kindReset:
				delete(out, id)
			case there && s.kind != k && kindTypes[s.kind] != kindTypes[k]:
				s.kind = kindAny
				out[id] = s
			case there && s.kind == kindInteger:
			default:
				out[id] = suspect{kind: k, doubt: checkpoint.Doubt{
					Group: g.id, DB: db, Key: append([]byte(nil), key...), Why: "unread", Offset: c.End,
				}}
			}
		}
	}
	return out, ctx.Err()
}

// fits tells whether the key has the type that its commands wanted.
func fits(ctx context.Context, conn doer, s suspect) (bool, error) {
	want, ok := kindTypes[s.kind]
	if !ok {
		return false, nil
	}
	key := string(s.doubt.Key)
	if _, err := conn.Do(ctx, "SELECT", strconv.Itoa(s.doubt.DB)); err != nil {
		return false, fmt.Errorf("look at key %q of an unread batch: %w", key, err)
	}
	r, err := conn.Do(ctx, "TYPE", key)
	if err != nil {
		return false, fmt.Errorf("look at key %q of an unread batch: %w", key, err)
	}
	if string(r.Str) != want || s.kind != kindInteger {
		return string(r.Str) == want, nil
	}
	r, err = conn.Do(ctx, "GET", key)
	if err != nil {
		return false, fmt.Errorf("look at key %q of an unread batch: %w", key, err)
	}
	_, perr := strconv.ParseInt(string(r.Str), 10, 64)
	return perr == nil, nil
}
