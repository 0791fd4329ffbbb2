package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/held"
	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

// value is what a key holds, as clients see it: the same on every server,
// whatever its version and encodings.
type value struct {
	Type     string
	Elements []string // in an order of their own where the type has none
	Deadline time.Time
	// Delivered is when a stream's entries that wait for an acknowledgment were
	// given to their consumers.
	Delivered map[string]time.Time
}

// within compares times that may be apart by as much, and by apply's margin. cmp
// does not tell which is the target's.
func within(d time.Duration) cmp.Option {
	return cmp.Comparer(func(a, b time.Time) bool {
		return a.IsZero() == b.IsZero() && a.Sub(b).Abs() <= held.Margin+d
	})
}

// databases is how many a server has by default.
const databases = 16

// keyspace is every key of every database but the program's own. It asks by
// what clients use, and shares nothing with verify.
func keyspace(t testing.TB, s *redistest.Server) map[string]value {
	t.Helper()
	return newReader(t, s).keyspace()
}

// keyspaces are those of a source and a target, as far as both can hold them, and
// the target can be told: what its groups have read a source before 7.4 does not
// tell its replicas.
func keyspaces(t testing.TB, source, target *redistest.Server) (want, got map[string]value) {
	t.Helper()
	a, b := newReader(t, source), newReader(t, target)
	a.fieldTTL = a.fieldTTL && b.fieldTTL
	a.counters, a.reads = a.counters && b.counters, false
	b.fieldTTL, b.counters, b.reads = a.fieldTTL, a.counters, a.reads
	a.counts = target
	return a.keyspace(), b.keyspace()
}

// libraries are the names of a server's function libraries.
func libraries(t testing.TB, s *redistest.Server) []string {
	t.Helper()
	r := newReader(t, s)
	if !r.knows("FUNCTION") {
		return nil
	}
	var names []string
	for _, l := range r.do("FUNCTION", "LIST").Elems {
		names = append(names, info(l)["library_name"].String())
	}
	slices.Sort(names)
	return names
}

// place names a key in a keyspace.
func place(db int, key string) string { return fmt.Sprintf("DB%d %q", db, key) }

// reader reads the keys of one server.
type reader struct {
	t        testing.TB
	c        *resp.Conn
	counts   *redistest.Server // tells what a HyperLogLog counts, which versions estimate differently
	fieldTTL bool              // fields of hashes may have deadlines
	counters bool              // streams count what was added to them
	reads    bool              // and their groups what they have read
}

func newReader(t testing.TB, s *redistest.Server) reader {
	t.Helper()
	r := reader{t: t, c: s.Dial(t), counts: s}
	r.fieldTTL = r.knows("HPEXPIRETIME")
	r.counters = r.knows("FUNCTION") // of the same version
	r.reads = r.counters
	return r
}

func (r reader) keyspace() map[string]value {
	r.t.Helper()
	out := map[string]value{}
	for db := range databases {
		r.do("SELECT", strconv.Itoa(db))
		for _, key := range r.do("KEYS", "*").Strings() {
			if strings.HasPrefix(key, "tairlift:") {
				continue
			}
			v := value{Type: r.do("TYPE", key).String(), Deadline: r.deadline(key)}
			if v.Type == "stream" {
				v.Elements, v.Delivered = r.stream(key)
			} else {
				v.Elements = r.elements(v.Type, key)
			}
			out[place(db, key)] = v
		}
	}
	return out
}

func (r reader) do(args ...string) resp.Reply {
	r.t.Helper()
	rep, err := r.c.Do(r.t.Context(), args...)
	if err != nil {
		r.t.Fatalf("%.200q at %s: %v", args, r.c.RemoteAddr(), err)
	}
	return rep
}

// knows tells whether the server has a command.
func (r reader) knows(name string) bool {
	r.t.Helper()
	rep := r.do("COMMAND", "INFO", name)
	return len(rep.Elems) == 1 && len(rep.Elems[0].Elems) > 0
}

// deadline is when the key expires by the server's own clock, to the
// millisecond.
func (r reader) deadline(key string) time.Time {
	r.t.Helper()
	r.do("MULTI")
	r.do("TIME")
	r.do("PTTL", key)
	rep := r.do("EXEC")
	ttl := rep.Elems[1].Int
	if ttl < 0 {
		return time.Time{}
	}
	return r.now(rep.Elems[0]).Add(time.Duration(ttl) * time.Millisecond)
}

// now reads the answer to TIME.
func (r reader) now(rep resp.Reply) time.Time {
	r.t.Helper()
	s := rep.Strings()
	return time.Unix(number(r.t, s[0]), number(r.t, s[1])*1000)
}

func (r reader) elements(typ, key string) []string {
	r.t.Helper()
	switch typ {
	case "string":
		return []string{r.text(r.do("GET", key).String())}
	case "list":
		return r.do("LRANGE", key, "0", "-1").Strings()
	case "set":
		members := r.do("SMEMBERS", key).Strings()
		slices.Sort(members)
		return members
	case "zset":
		var members []string
		for member, score := range pairs(r.do("ZRANGE", key, "0", "-1", "WITHSCORES")) {
			members = append(members, scored(r.t, member, score))
		}
		slices.Sort(members)
		return members
	case "hash":
		var fields []string
		for field, text := range pairs(r.do("HGETALL", key)) {
			line := fmt.Sprintf("%q=%q", field, text)
			if r.fieldTTL {
				if ms := r.do("HPEXPIRETIME", key, "FIELDS", "1", field).Elems[0].Int; ms > 0 {
					line += fmt.Sprintf(" until %d", ms)
				}
			}
			fields = append(fields, line)
		}
		slices.Sort(fields)
		return fields
	}
	r.t.Fatalf("type of key %q at %s: %s", key, r.c.RemoteAddr(), typ)
	return nil
}

// text is what a string holds. Servers of several versions store the same
// HyperLogLog differently, which is told by what it counts.
func (r reader) text(s string) string {
	r.t.Helper()
	if !strings.HasPrefix(s, "HYLL") {
		return s
	}
	const key = "estimated"
	if b := []byte(s); len(b) >= 16 {
		b[15] |= 0x80 // the estimate that stands there is of whoever counted last
		s = string(b)
	}
	other := reader{t: r.t, c: r.counts.Dial(r.t)}
	other.do("SELECT", strconv.Itoa(scratch))
	other.do("SET", key, s)
	n, err := other.c.Do(r.t.Context(), "PFCOUNT", key)
	other.do("DEL", key)
	if err != nil {
		return s // it only looks like one
	}
	return fmt.Sprintf("a HyperLogLog of %d", n.Int)
}

// stream is its entries, its last id, and its groups with their consumers and
// what these have not acknowledged.
func (r reader) stream(key string) (out []string, delivered map[string]time.Time) {
	r.t.Helper()
	for _, e := range r.do("XRANGE", key, "-", "+").Elems {
		out = append(out, streamEntry(e.Elems[0].String(), e.Elems[1].Strings()))
	}
	about := info(r.do("XINFO", "STREAM", key))
	out = append(out, "last id "+about["last-generated-id"].String())
	if r.counters {
		out = append(out, streamCounters(about["entries-added"].Int, about["max-deleted-entry-id"].String()))
	}
	delivered = map[string]time.Time{}
	for _, g := range r.do("XINFO", "GROUPS", key).Elems {
		about := info(g)
		group := about["name"].String()
		out = append(out, streamGroup(group, about["last-delivered-id"].String()))
		if r.reads {
			out = append(out, streamRead(group, about["entries-read"].String()))
		}
		var lines []string
		for _, c := range r.do("XINFO", "CONSUMERS", key, group).Elems {
			lines = append(lines, streamConsumer(group, info(c)["name"].String()))
		}
		if n := about["pending"].Int; n > 0 {
			pending := r.do("XPENDING", key, group, "-", "+", strconv.FormatInt(n, 10)).Elems
			now := r.now(r.do("TIME"))
			for _, p := range pending {
				line := streamPending(group, p.Elems[0].String(), p.Elems[1].String(), p.Elems[3].Int)
				lines = append(lines, line)
				delivered[line] = now.Add(-time.Duration(p.Elems[2].Int) * time.Millisecond)
			}
		}
		slices.Sort(lines)
		out = append(out, lines...)
	}
	return out, delivered
}

func streamEntry(id string, fields []string) string { return fmt.Sprintf("%s %q", id, fields) }
func streamGroup(group, lastID string) string       { return fmt.Sprintf("group %q at %s", group, lastID) }

func streamCounters(added int64, maxDeleted string) string {
	return fmt.Sprintf("added %d, deleted up to %s", added, maxDeleted)
}

func streamRead(group, entries string) string { return fmt.Sprintf("group %q read %s", group, entries) }

func streamConsumer(group, name string) string {
	return fmt.Sprintf("group %q consumer %q", group, name)
}

func streamPending(group, id, consumer string, times int64) string {
	return fmt.Sprintf("group %q pending %s of %q, delivered %d times", group, id, consumer, times)
}

// scored is a member of a sorted set: a score is a double, which servers print
// differently, and which may lose the sign of zero in a packed set.
func scored(t testing.TB, member, score string) string {
	t.Helper()
	f, err := strconv.ParseFloat(score, 64)
	if err != nil {
		t.Fatalf("score of %q: %v", member, err)
	}
	return fmt.Sprintf("%q %v", member, f+0)
}

// pairs goes through a reply of alternating names and texts.
func pairs(rep resp.Reply) func(yield func(name, text string) bool) {
	return func(yield func(name, text string) bool) {
		s := rep.Strings()
		for i := 0; i+1 < len(s); i += 2 {
			if !yield(s[i], s[i+1]) {
				return
			}
		}
	}
}

// info is a reply of alternating names and values.
func info(rep resp.Reply) map[string]resp.Reply {
	m := map[string]resp.Reply{}
	for i := 0; i+1 < len(rep.Elems); i += 2 {
		m[rep.Elems[i].String()] = rep.Elems[i+1]
	}
	return m
}

func number(t testing.TB, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
