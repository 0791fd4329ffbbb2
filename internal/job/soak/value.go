package main

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"tairlift/internal/held"
	"tairlift/internal/resp"
)

// kind is the type of a key's value, and the letter that its name has: a key
// never changes it.
type kind byte

const (
	counter kind = 'n'
	text    kind = 't'
	list    kind = 'l'
	hash    kind = 'h'
	zset    kind = 'z'
	set     kind = 'm'
)

var kinds = []kind{counter, text, list, hash, zset, set}

// value is what a key must hold. It is never changed: a command makes another
// one, so that the states before and after it can both be kept.
type value struct {
	text   string           // of text and counter
	list   []string         // of list
	fields map[string]int64 // of hash; of zset, in halves; of set, each 1
	dies   *deadline        // nil: never
}

// deadline is when a key dies, in ms of Unix time: between two bounds, for the
// writer cannot know when exactly the source took a relative one.
type deadline struct {
	ttl      time.Duration // of a relative one
	from, to int64
}

// lax is how far a deadline may be off: as far as verify allows by default.
const lax = time.Second

func (d *deadline) holds(ms int64) bool {
	return held.Off(ms, d.from) >= -lax.Milliseconds() && held.Off(ms, d.to) <= lax.Milliseconds()
}

// content is the whole value in a form that can be compared.
func (v *value) content(k kind) string {
	switch k {
	case counter, text:
		return v.text
	case list:
		return strings.Join(v.list, " ")
	}
	var parts []string
	for f, n := range v.fields {
		switch k {
		case hash:
			parts = append(parts, f+"="+strconv.FormatInt(n, 10))
		case zset:
			parts = append(parts, f+"="+halves(n))
		default:
			parts = append(parts, f)
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// halves is n/2 as a server writes a score.
func halves(n int64) string { return strconv.FormatFloat(float64(n)/2, 'g', -1, 64) }

// reading is what a server holds at a key.
type reading struct {
	exists  bool
	content string
	dies    int64 // ms of Unix time, 0 never
}

// is tells whether a server holds what it must, and else how they differ.
func (r reading) is(k kind, v *value) (diff string) {
	switch {
	case v == nil && r.exists:
		return "got " + short(r.content) + ", want no key"
	case v == nil:
		return ""
	case !r.exists:
		return "got no key, want " + short(v.content(k))
	}
	if want := v.content(k); r.content != want {
		return "got " + around(r.content, want) + ", want " + around(want, r.content)
	}
	switch at := func(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339Nano) }; {
	case v.dies == nil && r.dies != 0:
		return "got a deadline, " + at(r.dies) + ", want none"
	case v.dies != nil && r.dies == 0:
		return "got no deadline, want " + at(v.dies.from)
	case v.dies != nil && !v.dies.holds(r.dies):
		return "got the deadline " + at(r.dies) + ", want " + at(v.dies.from) + " to " + at(v.dies.to)
	}
	return ""
}

const shown = 60 // bytes of a value in a message

func short(s string) string {
	if len(s) > shown {
		return strconv.Quote(s[:shown]) + "..."
	}
	return strconv.Quote(s)
}

// around is the part of s where it begins to differ from t, with its length.
func around(s, t string) string {
	i := 0
	for i < min(len(s), len(t)) && s[i] == t[i] {
		i++
	}
	return strconv.Itoa(len(s)) + " bytes, at " + strconv.Itoa(i) + " " + short(s[max(0, i-8):])
}

// readKey queues the commands that read a key.
func readKey(c *resp.Conn, key string, k kind) error {
	args := []string{"GET", key}
	switch k {
	case list:
		args = []string{"LRANGE", key, "0", "-1"}
	case hash:
		args = []string{"HGETALL", key}
	case zset:
		args = []string{"ZRANGE", key, "0", "-1", "WITHSCORES"}
	case set:
		args = []string{"SMEMBERS", key}
	}
	if err := c.WriteCommand(args...); err != nil {
		return err
	}
	return c.WriteCommand("PTTL", key)
}

// readAnswer reads the answers to the commands of readKey.
func readAnswer(c *resp.Conn, k kind) (r reading, err error) {
	rep, err := c.ReadReply()
	var refused resp.ServerError // a value of another type
	if err != nil && !errors.As(err, &refused) {
		return r, err
	}
	ttl, err := c.ReadReply()
	if err != nil {
		return r, err
	}
	if r.exists = ttl.Int != -2; !r.exists {
		return r, nil
	}
	if ttl.Int >= 0 {
		r.dies = time.Now().UnixMilli() + ttl.Int
	}
	if refused != "" {
		r.content = string(refused)
		return r, nil
	}
	parts := rep.Strings()
	switch k {
	case counter, text:
		r.content = rep.String()
		return r, nil
	case hash, zset:
		var pairs []string
		for i := 0; i+1 < len(parts); i += 2 {
			pairs = append(pairs, parts[i]+"="+parts[i+1])
		}
		slices.Sort(pairs)
		parts = pairs
	case set:
		slices.Sort(parts)
	}
	r.content = strings.Join(parts, " ")
	return r, nil
}
