package command_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tairlift/internal/command"
	"tairlift/internal/redistest"
	"tairlift/internal/redistest/cmdtest"
	"tairlift/internal/resp"
)

// lab runs commands of the table's rows on a real server, in states of its choice.
type lab struct {
	t       *testing.T
	s       *redistest.Server
	caps    command.Caps
	conn    *resp.Conn
	payload string
	rows    []row
	exec    int // what EXEC of a write that does nothing adds to the count of changes
}

// row is one that names keys and that the server knows.
type row struct {
	*command.Spec
	trials []trial
}

// trial is a command of a row, with what stands before it in its template.
type trial struct {
	spec   *command.Spec
	fill   [][]string
	before [][]string
	args   []string
	keys   []string
	// otherDB and otherKey are of a key in another database.
	otherDB  int
	otherKey string
	base     outcome // with the keys as they are
}

func newLab(t *testing.T) *lab {
	s := redistest.Source(t)
	s.Do(t, "SET", "model", "value of a payload")
	l := &lab{t: t, s: s, caps: capsOf(s), conn: s.Dial(t), payload: string(s.Do(t, "DUMP", "model").Str)}
	idle := trial{spec: command.Lookup([]byte("DEL")), args: []string{"DEL", "nothing"}, keys: []string{"nothing"}}
	l.exec = l.run(idle, 0, none, nil).changed
	command.All(func(spec *command.Spec) {
		switch {
		case spec.Class == command.Unsupported, !l.knows(spec.Name):
			return
		case strings.HasPrefix(spec.Name, "SLOTSMGRT"), spec.Name == "SLOTSRESTORE-ASYNC": // between two codis-servers; one may die of it
			return
		case spec.Name == "PFDEBUG": // which changes how a value is kept
			return
		}
		if trials := l.trials(spec); len(trials) > 0 {
			l.rows = append(l.rows, row{spec, trials})
		}
	})
	if len(l.rows) < 65 { // a Redis 2.8 knows no more
		t.Errorf("got %d rows with trials, want 65 or more", len(l.rows))
	}
	return l
}

func (l *lab) knows(name string) bool {
	r := l.send([][]string{{"COMMAND", "INFO", name}})[0]
	return len(r.Elems) == 1 && len(r.Elems[0].Elems) > 0
}

// send runs commands, and returns their answers, refusals too.
func (l *lab) send(cmds [][]string) []resp.Reply {
	l.t.Helper()
	var b []byte
	for _, args := range cmds {
		b = resp.AppendCommandStrings(b, args...)
	}
	_, err := l.conn.Write(b)
	if err = errors.Join(err, l.conn.Flush()); err != nil {
		l.t.Fatal(err)
	}
	out := make([]resp.Reply, len(cmds))
	for i := range cmds {
		var refused resp.ServerError
		switch out[i], err = l.conn.ReadReply(); {
		case errors.As(err, &refused):
			out[i] = resp.Reply{Type: '-', Str: []byte(refused)}
		case err != nil:
			l.t.Fatal(err)
		}
	}
	return out
}

func bytesOf(args []string) (out [][]byte) {
	for _, a := range args {
		out = append(out, []byte(a))
	}
	return out
}

func stringsOf(args [][]byte) (out []string) {
	for _, a := range args {
		out = append(out, string(a))
	}
	return out
}

// sent is what stands for the command on a server like this one.
func (l *lab) sent(tr trial) (cmds [][]string) {
	l.t.Helper()
	out, n, _, err := tr.spec.AppendRewrite(nil, nil, bytesOf(tr.args), clock(l.t, l.s), l.caps)
	if err != nil {
		l.t.Fatal(err)
	}
	p := resp.NewParser(0)
	p.Feed(out)
	for range n {
		c, ok, err := p.Next()
		if err != nil || !ok {
			l.t.Fatalf("%q: cannot be read: %v", out, err)
		}
		cmds = append(cmds, stringsOf(c.Args))
	}
	return cmds
}

// trials are some of a row's own commands, whose keys are all different; such as do
// something where that is to be had.
func (l *lab) trials(spec *command.Spec) (out []trial) {
	for _, template := range cmdtest.Templates(spec.Name, true) {
		if strings.HasPrefix(template, "MULTI") || strings.HasPrefix(template, "SELECT") {
			continue
		}
		var best *trial
		for seed := uint64(1); seed <= 30 && (best == nil || best.base.does() < 2); seed++ {
			f := cmdtest.NewFiller(seed, "k:")
			f.Payload = l.payload
			tr := trial{spec: spec, before: f.Fill(template)}
			own := slices.IndexFunc(tr.before, func(args []string) bool { return args[0] == spec.Name })
			tr.args, tr.before = tr.before[own], tr.before[:own]
			args := bytesOf(tr.args)
			tr.keys = stringsOf(spec.AppendKeys(nil, args))
			if to, key, ok := spec.OtherDB(args); ok {
				tr.otherDB, tr.otherKey = to, string(key)
			}
			if len(tr.keys) == 0 || len(slices.Compact(slices.Sorted(slices.Values(tr.keys)))) != len(tr.keys) {
				continue
			}
			used := slices.Concat(slices.Concat(tr.before...), tr.args)
			for _, args := range f.Populate() {
				if args[0] == "XADD" {
					args[2] = "1-1" // the same each time
				}
				if slices.Contains(used, args[1]) || slices.Contains(used, args[2]) {
					tr.fill = append(tr.fill, args)
				}
			}
			if tr.base = l.run(tr, 0, none, nil); best == nil || tr.base.does() > best.base.does() {
				best = &tr
			}
		}
		if best != nil {
			out = append(out, *best)
		}
	}
	return out
}

// without is a trial in which the first of several keys is gone.
func (l *lab) without(tr trial) trial {
	tr.before = append(slices.Clip(tr.before), []string{"DEL", tr.keys[0]})
	tr.base = l.run(tr, 0, none, nil)
	return tr
}

// value is what a key holds.
type value struct {
	typ        string
	elements   []string
	deadlineMS int64
	dated      string // deadlines of fields
}

// looks are the commands that read a key, lookedAt what they say; nil is no key.
func looks(key string) [][]string {
	return [][]string{
		{"TYPE", key},
		{"PTTL", key},
		{"GET", key},
		{"LRANGE", key, "0", "-1"},
		{"SMEMBERS", key},
		{"ZRANGE", key, "0", "-1", "WITHSCORES"},
		{"HGETALL", key},
		{"HPEXPIRETIME", key, "FIELDS", "3", "f1", "f2", "f3"},
		{"DUMP", key},
	}
}

func lookedAt(r []resp.Reply) *value {
	v := &value{typ: string(r[0].Str), dated: fmt.Sprint(r[7])}
	if ms := r[1].Int; ms > 0 {
		v.deadlineMS = time.Now().UnixMilli() + ms
	}
	switch v.typ {
	case "none":
		return nil
	case "string":
		b := string(r[2].Str)
		if len(b) >= 16 && strings.HasPrefix(b, "HYLL") { // the count in it is only kept
			b = b[:8] + b[16:]
		}
		v.elements = []string{b}
	case "list":
		v.elements = r[3].Strings()
	case "set":
		v.elements = slices.Sorted(slices.Values(r[4].Strings()))
	case "zset":
		v.elements = r[5].Strings()
	case "hash":
		for pair := range slices.Chunk(r[6].Strings(), 2) {
			v.elements = append(v.elements, fmt.Sprintf("%q", pair))
		}
		slices.Sort(v.elements)
	default:
		v.elements = []string{string(r[8].Str)}
	}
	return v
}

func (v *value) String() string {
	if v == nil {
		return "nothing"
	}
	return fmt.Sprintf("%s %.200q until %d", v.typ, v.elements, v.deadlineMS)
}

// alike tells whether two values are the same but for their deadlines.
func alike(a, b *value) bool {
	return a != nil && b != nil && a.typ == b.typ && slices.Equal(a.elements, b.elements)
}

// equal tells whether two values are the same, but for some seconds of their deadlines.
func equal(a, b *value) bool {
	if a == nil || b == nil {
		return a == b
	}
	return alike(a, b) && (a.deadlineMS == 0) == (b.deadlineMS == 0) && max(a.deadlineMS-b.deadlineMS, b.deadlineMS-a.deadlineMS) < longDeadline.Milliseconds()/10
}

// longDeadline is far beyond those of templates.
const longDeadline = 5_000_000 * time.Second

// isLong tells whether a value has the deadline of longDeadline.
func (v *value) isLong() bool {
	return v != nil && v.deadlineMS > 0 && time.Until(time.UnixMilli(v.deadlineMS)) > longDeadline/2
}

// change makes another state of one of a trial's keys.
type change struct {
	name string
	cmds func(key string) [][]string
}

func alter(args ...string) func(key string) [][]string {
	return func(key string) [][]string {
		return [][]string{append([]string{args[0], key}, args[1:]...)}
	}
}

func anew(args ...string) func(key string) [][]string {
	return func(key string) [][]string { return [][]string{{"DEL", key}, alter(args...)(key)[0]} }
}

var (
	none    = change{"no change", func(string) [][]string { return nil }}
	nothing = change{"nothing", alter("DEL")}
	dated   = change{"a deadline", alter("EXPIRE", strconv.Itoa(int(longDeadline/time.Second)))}

	// wholes are values of each type.
	wholes = []change{
		nothing,
		{"a string", anew("SET", "text")},
		{"an integer", anew("SET", "77")},
		{"a list", anew("RPUSH", "m1", "9", "m2", "m3")},
		{"a set", anew("SADD", "m1", "9")},
		{"a sorted set", anew("ZADD", "1", "m1", "2", "9", "3", "m2")},
		{"a hash", anew("HMSET", "f1", "9", "count", "3", "float", "2")},
		{"a hash without integers", anew("HMSET", "count", "text")},
	}
	// variations change a key in some way that a command may go by.
	variations = append([]change{
		none, dated,
		{"more text", alter("APPEND", "7")},
		{"more registers", alter("PFADD", "q", "w", "e")},
		{"more elements", alter("RPUSH", "extra")},
		{"more members", alter("SADD", "8")},
		{"more scores", alter("ZADD", "0.5", "extra")},
		{"more places", alter("GEOADD", "15", "37", "extra")},
		{"more fields", alter("HMSET", "f1", "77", "count", "9", "float", "2")},
		{"more entries", alter("XADD", "2-1", "extra", "entry")},
	}, wholes...)
)

// outcome is what a command did.
type outcome struct {
	before, after []*value // of the keys
	other         *value   // the key in another database
	failed        string
	changed       int
	dirty         bool // it would have been propagated
	reply         resp.Reply
}

// does ranks outcomes: 2 has changed a key, 1 would have been propagated all the same.
func (o outcome) does() int {
	switch {
	case !o.dirty:
		return 0
	case slices.EqualFunc(o.before, o.after, equal):
		return 1
	}
	return 2
}

// run runs cmds, which stand for a trial's command, with its i-th key changed; nil is
// the command itself. Within MULTI nothing blocks.
func (l *lab) run(tr trial, i int, c change, cmds [][]string) outcome {
	l.t.Helper()
	if cmds == nil {
		cmds = [][]string{tr.args}
	}
	var all [][]string
	add := func(cmds ...[]string) int {
		all = append(all, cmds...)
		return len(all) - len(cmds)
	}
	add([]string{"FLUSHALL"})
	add(slices.Concat(tr.fill, tr.before, c.cmds(tr.keys[i]))...) // some servers do not know all of it
	var at []int
	for _, k := range tr.keys {
		at = append(at, add(looks(k)...))
	}
	count := add([]string{"INFO", "persistence"})
	add([]string{"MULTI"})
	first := add(cmds...)
	exec := add([]string{"EXEC"})
	recount := add([]string{"INFO", "persistence"})
	for _, k := range tr.keys {
		at = append(at, add(looks(k)...))
	}
	if tr.otherKey != "" {
		add([]string{"SELECT", strconv.Itoa(tr.otherDB)})
		at = append(at, add(looks(tr.otherKey)...))
		add([]string{"SELECT", "0"})
	}
	r := l.send(all)
	var o outcome
	for n, from := range at {
		switch v := lookedAt(r[from : from+len(looks(""))]); {
		case n < len(tr.keys):
			o.before = append(o.before, v)
		case n < 2*len(tr.keys):
			o.after = append(o.after, v)
		default:
			o.other = v
		}
	}
	if r[exec].Type == '-' {
		o.failed = string(r[first].Str)
		return o
	}
	for _, e := range r[exec].Elems {
		if o.reply = e; e.Type == '-' {
			o.failed = string(e.Str)
		}
	}
	changes := func(info resp.Reply) int {
		_, rest, _ := strings.Cut(string(info.Str), "rdb_changes_since_last_save:")
		text, _, _ := strings.Cut(rest, "\r\n")
		n, err := strconv.Atoi(text)
		if err != nil {
			l.t.Fatal(err)
		}
		return n
	}
	o.changed = changes(r[recount]) - changes(r[count])
	o.dirty = o.failed == "" && o.changed > l.exec
	return o
}
