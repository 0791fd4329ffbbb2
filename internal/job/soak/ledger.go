package main

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	hot      = 6   // keys of each kind that are written all the time
	slots    = 160 // keys of each kind in all: most come and go
	shorts   = 32  // keys that live for some 200 ms and are in no tally
	tallest  = 120 // elements of a list, about
	longest  = 4000
	century  = 4102444800000 // ms: the year 2100, for deadlines that are absolute
	faraway  = 100_000 * time.Second
	stepping = 100 * time.Second // each deadline is this much later than the one before
)

// script counts, and remembers what it counted, in one step.
const script = "redis.call('incr', KEYS[1]) return redis.call('rpush', KEYS[2], ARGV[1])"

var scriptSHA = func() string {
	sum := sha1.Sum([]byte(script))
	return hex.EncodeToString(sum[:])
}()

// step is what a source does as a whole or not at all: one command, or a
// transaction.
type step struct {
	commands [][]string
	wants    []string // the reply to each; empty: whichever
	effects  []effect
	dated    []*deadline // relative ones, which begin when the step is executed
}

// effect is what a key holds behind a step, nil when it is gone.
type effect struct {
	key string
	v   *value
}

// ledger is what one writer has written: every key, with its value and its
// deadline. What comes next depends on the seed and the steps so far alone.
type ledger struct {
	prefix string
	rng    *rand.Rand
	keys   map[string]*value
	count  int64             // of deadlines and elements
	open   *step             // that do adds to
	before map[string]*value // what keys of the burst that is being made held ahead of it
}

// burst is a number of steps that are sent at once.
type burst struct {
	steps  []*step
	before map[string]*value // what every key that it touches held ahead of it
}

// after is what the keys of a burst hold when n of its steps are done.
func (b *burst) after(n int) map[string]*value {
	held := maps.Clone(b.before)
	for _, s := range b.steps[:n] {
		for _, e := range s.effects {
			held[e.key] = e.v
		}
	}
	return held
}

func newLedger(seed uint64, group, db int) *ledger {
	return &ledger{
		prefix: fmt.Sprintf("s:%d:", group),
		rng:    rand.New(rand.NewPCG(seed, uint64(1000*group+db))),
		keys:   map[string]*value{},
	}
}

// burst makes some steps, which count as done.
func (l *ledger) burst() *burst {
	l.before = map[string]*value{}
	b := &burst{before: l.before}
	for range 1 + l.rng.IntN(8) {
		b.steps = append(b.steps, l.step())
	}
	return b
}

func (l *ledger) step() *step {
	l.open = &step{}
	if l.rng.IntN(8) > 0 {
		for len(l.open.commands) == 0 {
			l.command()
		}
		return l.open
	}
	l.do("OK", "MULTI")
	for range 2 + l.rng.IntN(4) {
		l.command()
	}
	in := l.open.wants[1:]
	l.open.wants = slices.Concat([]string{"OK"}, slices.Repeat([]string{"QUEUED"}, len(in)), []string{strings.Join(in, "\n")})
	l.open.commands = append(l.open.commands, []string{"EXEC"})
	return l.open
}

// do adds a command to the step.
func (l *ledger) do(want string, args ...string) {
	l.open.commands, l.open.wants = append(l.open.commands, args), append(l.open.wants, want)
}

// put gives a key another value, or none.
func (l *ledger) put(key string, v *value) {
	l.open.effects = append(l.open.effects, effect{key, v})
	if _, known := l.before[key]; !known {
		l.before[key] = l.keys[key]
	}
	if v == nil {
		delete(l.keys, key)
	} else {
		l.keys[key] = v
	}
}

// at is a copy of what a key holds, to be changed and put.
func (l *ledger) at(key string) *value {
	v := l.keys[key]
	if v == nil {
		return &value{fields: map[string]int64{}}
	}
	return &value{text: v.text, list: slices.Clone(v.list), fields: maps.Clone(v.fields), dies: v.dies}
}

func (l *ledger) name(k kind, slot int) string {
	return l.prefix + string(k) + ":" + strconv.Itoa(slot)
}

// key picks one of a kind, most often a hot one.
func (l *ledger) key(k kind) string {
	if l.rng.IntN(10) < 5 {
		return l.name(k, l.rng.IntN(hot))
	}
	return l.name(k, l.rng.IntN(slots))
}

// fleeting picks a key of any kind, seldom a hot one: what happens to it there
// would end what was counted.
func (l *ledger) fleeting() (kind, string) {
	k := kinds[l.rng.IntN(len(kinds))]
	if l.rng.IntN(100) == 0 {
		return k, l.name(k, l.rng.IntN(hot))
	}
	return k, l.name(k, hot+l.rng.IntN(slots-hot))
}

// fresh is a text that no other command has.
func (l *ledger) fresh() string {
	l.count++
	return "e" + strconv.FormatInt(l.count, 36)
}

// relative is a deadline that begins with the step; no two are near each other.
func (l *ledger) relative() (*deadline, string) {
	l.count++
	ttl := faraway + time.Duration(l.count)*stepping
	d := &deadline{ttl: ttl}
	l.open.dated = append(l.open.dated, d)
	return d, strconv.Itoa(int(ttl / time.Second))
}

func (l *ledger) absolute() *deadline {
	l.count++
	ms := century + l.count*stepping.Milliseconds()
	return &deadline{from: ms, to: ms}
}

// command adds one command of any sort.
func (l *ledger) command() {
	sort := l.rng.IntN(total)
	for _, s := range sorts {
		if sort -= s.weight; sort < 0 {
			s.add(l)
			return
		}
	}
}

// sorts of commands, and how often each comes.
var sorts = []struct {
	weight int
	add    func(*ledger)
}{
	{12, (*ledger).incr},
	{8, (*ledger).appendText},
	{6, (*ledger).setText},
	{12, (*ledger).rpush},
	{8, (*ledger).lpop},
	{8, (*ledger).zincrby},
	{3, func(l *ledger) { l.remove(zset, "ZREM") }},
	{8, (*ledger).hincrby},
	{3, func(l *ledger) { l.remove(hash, "HDEL") }},
	{8, (*ledger).sadd},
	{4, func(l *ledger) { l.remove(set, "SREM") }},
	{4, (*ledger).expire},
	{3, (*ledger).persist},
	{2, (*ledger).expirePast},
	{4, (*ledger).setShort},
	{4, (*ledger).del},
	{4, (*ledger).rename},
	{6, (*ledger).eval},
}

var total = func() (n int) {
	for _, s := range sorts {
		n += s.weight
	}
	return n
}()

func (l *ledger) incr() {
	key, by := l.key(counter), int64(1)
	v := l.at(key)
	n, _ := strconv.ParseInt(v.text, 10, 64) // empty: 0
	if l.rng.IntN(3) == 0 {
		by = l.rng.Int64N(2000) - 1000
	}
	v.text = strconv.FormatInt(n+by, 10)
	if by == 1 {
		l.do(v.text, "INCR", key)
	} else {
		l.do(v.text, "INCRBY", key, strconv.FormatInt(by, 10))
	}
	l.put(key, v)
}

func (l *ledger) appendText() {
	key := l.key(text)
	v := l.at(key)
	if len(v.text) > longest {
		l.do("1", "DEL", key)
		l.put(key, nil)
		return
	}
	more := l.fresh() + ";"
	v.text += more
	l.do(strconv.Itoa(len(v.text)), "APPEND", key, more)
	l.put(key, v)
}

// setText takes a deadline away, or gives one.
func (l *ledger) setText() {
	key := l.name(text, hot+l.rng.IntN(slots-hot))
	v := &value{text: l.fresh() + ";"}
	switch l.rng.IntN(3) {
	case 0:
		l.do("OK", "SET", key, v.text)
	case 1:
		var s string
		v.dies, s = l.relative()
		l.do("OK", "SET", key, v.text, "EX", s)
	default:
		var s string
		v.dies, s = l.relative()
		l.do("OK", "PSETEX", key, s+"000", v.text)
	}
	l.put(key, v)
}

func (l *ledger) rpush() {
	key := l.key(list)
	v := l.at(key)
	args := []string{"RPUSH", key}
	for range 1 + l.rng.IntN(3) {
		args = append(args, l.fresh())
	}
	v.list = append(v.list, args[2:]...)
	l.do(strconv.Itoa(len(v.list)), args...)
	l.put(key, v)
}

func (l *ledger) lpop() {
	key := l.key(list)
	v := l.at(key)
	if len(v.list) > tallest {
		n := len(v.list) / 2
		v.list = v.list[n:]
		l.do("OK", "LTRIM", key, strconv.Itoa(n), "-1")
		l.put(key, v)
		return
	}
	if len(v.list) == 0 {
		l.do("(nil)", "LPOP", key)
		return
	}
	if l.rng.IntN(4) == 0 {
		l.do(v.list[len(v.list)-1], "RPOP", key)
		v.list = v.list[:len(v.list)-1]
	} else {
		l.do(v.list[0], "LPOP", key)
		v.list = v.list[1:]
	}
	if len(v.list) == 0 {
		v = nil
	}
	l.put(key, v)
}

// field is one of few, so that they meet again.
func (l *ledger) field() string { return "f" + strconv.Itoa(l.rng.IntN(16)) }

func (l *ledger) zincrby() {
	key, f, by := l.key(zset), l.field(), l.rng.Int64N(9)-3
	v := l.at(key)
	v.fields[f] += by
	l.do(halves(v.fields[f]), "ZINCRBY", key, halves(by), f)
	l.put(key, v)
}

func (l *ledger) hincrby() {
	key, f, by := l.key(hash), l.field(), l.rng.Int64N(100)-30
	v := l.at(key)
	v.fields[f] += by
	l.do(strconv.FormatInt(v.fields[f], 10), "HINCRBY", key, f, strconv.FormatInt(by, 10))
	l.put(key, v)
}

func (l *ledger) sadd() {
	key, f := l.key(set), l.field()
	v := l.at(key)
	l.do(strconv.FormatInt(1-v.fields[f], 10), "SADD", key, f)
	v.fields[f] = 1
	l.put(key, v)
}

// remove takes a field or member away, and the key with its last one.
func (l *ledger) remove(k kind, command string) {
	key, f := l.key(k), l.field()
	v := l.at(key)
	if _, ok := v.fields[f]; !ok {
		l.do("0", command, key, f)
		return
	}
	delete(v.fields, f)
	l.do("1", command, key, f)
	if len(v.fields) == 0 {
		v = nil
	}
	l.put(key, v)
}

func (l *ledger) expire() {
	_, key := l.fleeting()
	v := l.at(key)
	args := []string{"EXPIRE", key, ""}
	if l.rng.IntN(2) == 0 {
		v.dies, args[2] = l.relative()
	} else {
		v.dies = l.absolute()
		args[0], args[2] = "PEXPIREAT", strconv.FormatInt(v.dies.from, 10)
	}
	if l.keys[key] == nil {
		l.do("0", args...)
		return
	}
	l.do("1", args...)
	l.put(key, v)
}

func (l *ledger) persist() {
	_, key := l.fleeting()
	v := l.at(key)
	if v.dies == nil {
		l.do("0", "PERSIST", key)
		return
	}
	v.dies = nil
	l.do("1", "PERSIST", key)
	l.put(key, v)
}

// expirePast deletes, which is what a source makes of it.
func (l *ledger) expirePast() {
	_, key := l.fleeting()
	args := []string{"PEXPIREAT", key, "1000000000000"}
	if l.rng.IntN(2) == 0 {
		args = []string{"EXPIRE", key, "-1"}
	}
	if l.keys[key] == nil {
		l.do("0", args...)
		return
	}
	l.do("1", args...)
	l.put(key, nil)
}

func (l *ledger) setShort() {
	key := l.prefix + "x:" + strconv.Itoa(l.rng.IntN(shorts))
	l.do("OK", "SET", key, l.fresh(), "PX", strconv.Itoa(100+l.rng.IntN(200)))
}

func (l *ledger) del() {
	args, n := []string{"DEL"}, 0
	for range 1 + l.rng.IntN(4) {
		_, key := l.fleeting()
		args = append(args, key)
		if l.keys[key] != nil {
			l.put(key, nil)
			n++
		}
	}
	l.do(strconv.Itoa(n), args...)
}

func (l *ledger) rename() {
	k, from := l.fleeting()
	to := l.name(k, hot+l.rng.IntN(slots-hot))
	v := l.keys[from]
	if v == nil || from == to {
		return // which would be an error, or nothing
	}
	l.do("OK", "RENAME", from, to)
	l.put(from, nil)
	l.put(to, v)
}

func (l *ledger) eval() {
	n, e := l.key(counter), l.key(list)
	v, w, more := l.at(n), l.at(e), l.fresh()
	i, _ := strconv.ParseInt(v.text, 10, 64)
	v.text = strconv.FormatInt(i+1, 10)
	w.list = append(w.list, more)
	args := []string{"EVAL", script, "2", n, e, more}
	if l.rng.IntN(2) == 0 {
		args[0], args[1] = "EVALSHA", scriptSHA
	}
	l.do(strconv.Itoa(len(w.list)), args...)
	l.put(n, v)
	l.put(e, w)
}
