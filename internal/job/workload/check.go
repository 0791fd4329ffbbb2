package workload

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"tairlift/internal/held"
	"tairlift/internal/resp"
)

// Entry is one line of a tally: what the writer wrote, and what a server holds.
type Entry struct {
	Name      string // the commands that wrote it
	Key       string
	Want, Got string
}

// Equal tells whether the server holds what was written.
func (e Entry) Equal() bool { return e.Want == e.Got }

// Check compares the server at addr with the tally. The error is of the
// connection; differences are in the entries.
func (w *Writer) Check(ctx context.Context, addr string, secret resp.Secret) ([]Entry, error) {
	c, err := Open(ctx, addr, secret, w.DB)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	k := check{w: w, ctx: ctx, c: c}
	n := w.Bursts()
	k.value("INCR, INCRBY", "counter", strconv.FormatInt(4*n, 10), n > 0)
	k.value("MULTI 1st", "pair:a", strconv.FormatInt(n, 10), n > 0)
	k.value("MULTI 2nd", "pair:b", strconv.FormatInt(n, 10), n > 0)
	k.value("EVAL, EVALSHA", "script:n", strconv.FormatInt(2*n, 10), n > 0)
	var script, list, text []string
	for i := range n {
		s := strconv.FormatInt(i, 10)
		script = append(script, s, "sha-"+s)
		text = append(text, s)
	}
	for i := n; i < 2*n; i++ {
		list = append(list, strconv.FormatInt(i, 10))
	}
	k.list("EVAL RPUSH", "script:list", script)
	k.list("RPUSH, LPOP", "list", list)
	k.elements("APPEND", "text", text, strings.FieldsFunc(k.do("GET", w.key("text")).String(), func(r rune) bool { return r == ';' }))
	var hash, zset []string
	for i := range min(n, fields) {
		times := (n - i + fields - 1) / fields
		hash = append(hash, fmt.Sprintf("%d=%d", i, times))
		zset = append(zset, fmt.Sprintf("%d=%g", i, float64(times)/2))
	}
	k.elements("HINCRBY", "hash", hash, pairs(k.do("HGETALL", w.key("hash"))))
	k.elements("ZINCRBY", "zset", zset, pairs(k.do("ZRANGE", w.key("zset"), "0", "-1", "WITHSCORES")))
	k.living(n)
	k.deleted(n)
	return k.entries, k.err
}

// check asks one server; after the first error it asks nothing more.
type check struct {
	w       *Writer
	ctx     context.Context
	c       *resp.Conn
	entries []Entry
	err     error
}

func (k *check) do(args ...string) resp.Reply {
	if k.err != nil {
		return resp.Reply{}
	}
	rep, err := k.c.Do(k.ctx, args...)
	k.err = err
	return rep
}

func (k *check) add(name, key, want, got string) {
	k.entries = append(k.entries, Entry{Name: name, Key: k.w.key(key), Want: want, Got: got})
}

func (k *check) value(name, key, want string, exists bool) {
	if !exists {
		want = "(nil)"
	}
	k.add(name, key, want, k.do("GET", k.w.key(key)).String())
}

func (k *check) list(name, key string, want []string) {
	k.elements(name, key, want, k.do("LRANGE", k.w.key(key), "0", "-1").Strings())
}

// elements compares one by one, and says only how many there are and where the
// first difference is.
func (k *check) elements(name, key string, want, got []string) {
	wants, gots := fmt.Sprintf("%d elements", len(want)), fmt.Sprintf("%d elements", len(got))
	for i := range max(len(want), len(got)) {
		at := func(list []string) string {
			if i < len(list) {
				return list[i]
			}
			return "none"
		}
		if at(want) != at(got) {
			wants += fmt.Sprintf(", number %d is %s", i, at(want))
			gots += fmt.Sprintf(", number %d is %s", i, at(got))
			break
		}
	}
	k.add(name, key, wants, gots)
}

// pairs are "field=value" in the order of fields.
func pairs(rep resp.Reply) []string {
	s := rep.Strings()
	var out []string
	for i := 0; i+1 < len(s); i += 2 {
		out = append(out, s[i]+"="+s[i+1])
	}
	slices.Sort(out)
	return out
}

// late is how much later than on the source a key may end on a target, in ms: by
// apply's margin, and by a second where the source is older than Redis 7.
const late = 1000 + int64(held.Margin/time.Millisecond)

// living are the keys set with EX: each holds the last number written to it,
// and a part of its hour.
func (k *check) living(n int64) {
	var want, got []string
	for slot := range min(n, expires) {
		key := "ex:" + strconv.FormatInt(slot, 10)
		last := (n-1-slot)/expires*expires + slot
		want = append(want, strconv.FormatInt(last, 10))
		value := k.do("GET", k.w.key(key)).String()
		if ttl := k.do("PTTL", k.w.key(key)).Int; ttl < 1 || ttl > shortest*1000+late {
			value += fmt.Sprintf(" with PTTL %d", ttl)
		}
		got = append(got, value)
	}
	k.elements("SET EX", "ex:*", want, got)
}

// deleted looks for the last keys set, which are there, and for those before
// them, which were deleted.
func (k *check) deleted(n int64) {
	var want, got []string
	for i := max(0, n-4*kept); i < n; i++ {
		exists := int64(0)
		if i >= n-kept {
			exists = 1
		}
		want = append(want, strconv.FormatInt(exists, 10))
		got = append(got, strconv.FormatInt(k.do("EXISTS", k.w.key("kept:"+strconv.FormatInt(i, 10))).Int, 10))
	}
	k.elements("SET, DEL", "kept:*", want, got)
}
