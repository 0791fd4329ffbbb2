package cmdtest

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tairlift/internal/held"
	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

// Value is what a key holds.
type Value struct {
	Type     string
	Elements []string // in an order of their own where the type has none
	// DeadlineMS is in ms since 1970 by the test's clock; 0 is none.
	DeadlineMS int64
}

// Keyspace are the keys of a server's first databases, as "DB0 name". Those of tairlift
// are left out, and so are, unless idle is set, consumers with nothing pending: before
// 7.0 a source does not propagate that it has made one. A HyperLogLog is made dense by
// it: a replica must let itself be written to.
func Keyspace(t testing.TB, s *redistest.Server, dbs int, idle bool) map[string]Value {
	t.Helper()
	c := &reader{t: t, conn: s.Dial(t), idle: idle}
	defer c.conn.Close()
	out := map[string]Value{}
	for db := range dbs {
		c.do("SELECT", strconv.Itoa(db))
		keys := c.do("KEYS", "*").Strings()
		for _, key := range keys {
			if strings.HasPrefix(key, "tairlift:") {
				continue
			}
			v := Value{Type: c.do("TYPE", key).String()}
			if v.Type == "none" { // it has expired
				continue
			}
			v.Elements = c.elements(v.Type, key)
			if ms := c.do("PTTL", key).Int; ms >= 0 {
				v.DeadlineMS = time.Now().UnixMilli() + ms
			}
			out[fmt.Sprintf("DB%d %s", db, key)] = v
		}
	}
	return out
}

type reader struct {
	t    testing.TB
	conn *resp.Conn
	idle bool
}

func (c *reader) do(args ...string) resp.Reply {
	c.t.Helper()
	r, err := c.conn.Do(c.t.Context(), args...)
	if err != nil {
		c.t.Fatalf("%q: %v", args, err)
	}
	return r
}

func (c *reader) elements(typ, key string) []string {
	c.t.Helper()
	switch typ {
	case "string":
		v := c.do("GET", key).String()
		if strings.HasPrefix(v, "HYLL") { // versions are not of one mind when it is to be sparse
			if r, err := c.conn.Do(c.t.Context(), "PFDEBUG", "GETREG", key); err == nil {
				h := fnv.New64()
				h.Write([]byte(r.String()))
				return []string{fmt.Sprintf("registers with the hash %x", h.Sum64())}
			}
		}
		return []string{v}
	case "list":
		return c.do("LRANGE", key, "0", "-1").Strings()
	case "set":
		return slices.Sorted(slices.Values(c.do("SMEMBERS", key).Strings()))
	case "hash":
		return c.hash(key)
	case "zset":
		pairs := c.do("ZRANGE", key, "0", "-1", "WITHSCORES").Strings()
		var out [][]string
		for pair := range slices.Chunk(pairs, 2) {
			score, err := strconv.ParseFloat(pair[1], 64) // versions do not print it alike
			if err != nil {
				c.t.Fatalf("score of %q: %v", key, err)
			}
			out = append(out, []string{pair[0], strconv.FormatFloat(score, 'g', -1, 64)})
		}
		slices.SortFunc(out, slices.Compare)
		return slices.Concat(out...)
	case "stream":
		return c.stream(key)
	}
	return []string{string(c.do("DUMP", key).Str)}
}

func (c *reader) hash(key string) []string {
	c.t.Helper()
	all := c.do("HGETALL", key).Strings()
	fields := map[string]string{}
	names := []string{}
	for i := 0; i+1 < len(all); i += 2 {
		fields[all[i]] = all[i+1]
		names = append(names, all[i])
	}
	slices.Sort(names)
	var out []string
	for _, n := range names {
		out = append(out, n, fields[n])
	}
	if r, err := c.conn.Do(c.t.Context(), append([]string{"HPEXPIRETIME", key, "FIELDS", strconv.Itoa(len(names))}, names...)...); err == nil {
		for i, e := range r.Elems {
			if e.Int > 0 {
				out = append(out, fmt.Sprintf("%s expires at %d", names[i], e.Int))
			}
		}
	}
	return out
}

// stream reads entries, groups, consumers and what they have not acknowledged.
// Times of delivery are left out.
func (c *reader) stream(key string) []string {
	c.t.Helper()
	var out []string
	for _, e := range c.do("XRANGE", key, "-", "+").Elems {
		out = append(out, e.Elems[0].String()+" "+e.Elems[1].String())
	}
	info := pairs(c.do("XINFO", "STREAM", key))
	out = append(out, "last "+info["last-generated-id"].String())
	for _, g := range c.do("XINFO", "GROUPS", key).Elems {
		group := pairs(g)
		name := group["name"].String()
		out = append(out, fmt.Sprintf("group %s at %s", name, group["last-delivered-id"].String()))
		for _, m := range c.do("XINFO", "CONSUMERS", key, name).Elems {
			consumer := pairs(m)
			if !c.idle && consumer["pending"].Int == 0 {
				continue
			}
			out = append(out, fmt.Sprintf("consumer %s %s of %s", name, consumer["name"].String(), consumer["pending"].String()))
		}
		for _, p := range c.do("XPENDING", key, name, "-", "+", "1000").Elems {
			out = append(out, fmt.Sprintf("pending %s %s %s %s", name, p.Elems[0].String(), p.Elems[1].String(), p.Elems[3].String()))
		}
	}
	return out
}

func pairs(r resp.Reply) map[string]resp.Reply {
	m := map[string]resp.Reply{}
	for i := 0; i+1 < len(r.Elems); i += 2 {
		m[r.Elems[i].String()] = r.Elems[i+1]
	}
	return m
}

// Differences of two keyspaces, a line each, in order; at most limit of them. slack
// is how far deadlines of the same key may be apart, beyond apply's margin.
func Differences(got, want map[string]Value, slack time.Duration, limit int) []string {
	var out []string
	for key, w := range want {
		switch g, ok := got[key]; {
		case !ok:
			out = append(out, fmt.Sprintf("%q is missing: want %s", key, w))
		case g.Type != w.Type || !slices.Equal(g.Elements, w.Elements):
			out = append(out, fmt.Sprintf("%q: got %s, want %s", key, g, w))
		case (g.DeadlineMS == 0) != (w.DeadlineMS == 0), max(held.Off(g.DeadlineMS, w.DeadlineMS), -held.Off(g.DeadlineMS, w.DeadlineMS)) > slack.Milliseconds():
			out = append(out, fmt.Sprintf("%q: got deadline %d, want %d", key, g.DeadlineMS, w.DeadlineMS))
		}
	}
	for key, g := range got {
		if _, ok := want[key]; !ok {
			out = append(out, fmt.Sprintf("%q is there, and should not: %s", key, g))
		}
	}
	slices.Sort(out)
	if len(out) > limit {
		out = append(out[:limit], fmt.Sprintf("and %d more", len(out)-limit))
	}
	return out
}

func (v Value) String() string {
	text := fmt.Sprintf("%s %.400q", v.Type, v.Elements)
	if v.DeadlineMS != 0 {
		text += fmt.Sprintf(" until %d", v.DeadlineMS)
	}
	return text
}
