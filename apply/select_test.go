package apply

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/command"
	"tairlift/internal/resp"
	"tairlift/internal/selection"
)

func selecting(t testing.TB, spec selection.Spec) *selection.Selection {
	t.Helper()
	s, err := selection.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// judged is what a translator makes of a stream.
type judged struct {
	sent, doubts []string
	filtered     int64
	err          error
}

func judge(t testing.TB, s *selection.Selection, stream ...string) judged {
	t.Helper()
	doubts := &doubtSet{}
	doubts.clear()
	tr := translator{
		group: 1, epoch: 1, clock: &offsetClock{}, scripts: &scripts{bodies: map[string][]byte{sha1Of1: []byte("return(1)")}},
		selection: s, proveDB: func(int) error { return nil }, alone: func() (string, error) { return "", nil }, doubtful: doubts, wall: time.Now,
	}
	tr.derived = deriver{group: 1, epoch: 1, known: doubts}
	tr.held = &heldKeys{}
	b := &Batch{}
	tr.start(b, 0, 0)
	var raw []byte
	for _, l := range stream {
		raw = resp.AppendCommandStrings(raw, strings.Fields(l)...)
	}
	p := resp.NewParser(0)
	p.Feed(raw)
	var out judged
	for {
		c, ok, err := p.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if out.err = tr.add(c, time.Now()); out.err != nil {
			return out
		}
	}
	err := b.each(func(i int, args [][]byte) {
		words := make([]string, len(args))
		for n, a := range args {
			words[n] = string(a)
		}
		out.sent = append(out.sent, strings.Join(words, " "))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range tr.doubts {
		out.doubts = append(out.doubts, fmt.Sprintf("%d:%s", d.DB, d.Key))
		if d.Why != "selection" && d.Why != "nondeterministic" && d.Why != "derived" {
			t.Errorf("%q: doubtful for %q", stream, d.Why)
		}
	}
	out.filtered = tr.seen.filtered
	return out
}

// sha1Of1 is that of "return(1)".
const sha1Of1 = "930269f31393d0be681588b6ab08dccee7d6bb67"

// Selected are names that begin with a, in the databases 0 and 1 of the source,
// the second of which is 3 on the target.
func TestEachCommandIsJudgedByItsKeys(t *testing.T) {
	s := selecting(t, selection.Spec{DBs: []int{0, 1}, DBMap: map[int]int{1: 3}, IncludePrefix: []selection.Text{"a"}})
	for _, c := range []struct{ stream, sent, doubts string }{
		// Keys that are alone.
		{"SET a 1;SET b 1;SELECT 1;SET a 2;SELECT 2;SET a 3", "SET a 1;SELECT 3;SET a 2", ""},
		{"EXPIREAT a 1;HSET b f v;XGROUP CREATE b g 0;PFDEBUG TODENSE b", "EXPIREAT a 1", ""},
		{"STRANGE a x;STRANGE b x", "STRANGE a x", ""},
		// The same to each key.
		{"DEL a1 b a2", "DEL a1 a2", ""},
		{"UNLINK b a", "UNLINK a", ""},
		{"MSET a1 1 b 2 a2 3", "MSET a1 1 a2 3", ""},
		{"MSETNX b 1 a 2", "MSETNX a 2", ""},
		{"DEL b1 b2;MSET b1 1 b2 2", "", ""},
		// A part for one key.
		{"RENAME a b", "DEL a", ""},
		{"RENAMENX a b", "DEL a", ""},
		{"RENAME b a", "DEL a", "0:a"},
		{"RENAME a1 a2;RENAME b1 b2", "RENAME a1 a2", ""},
		{"SMOVE a b m", "SREM a m", ""},
		{"SMOVE b a m", "SADD a m", ""},
		{"RPOPLPUSH a b", "RPOP a", ""},
		{"RPOPLPUSH b a", "", "0:a"},
		{"BRPOPLPUSH a b 0", "RPOP a", ""},
		{"LMOVE a b LEFT RIGHT", "LPOP a", ""},
		{"LMOVE a b RIGHT RIGHT", "RPOP a", ""},
		{"BLMOVE b a LEFT LEFT 0", "", "0:a"},
		// A destination, and what it is made from.
		{"SUNIONSTORE a b a2", "DEL a", "0:a"},
		{"SUNIONSTORE a a1 a2;SUNIONSTORE b a1 a2", "SUNIONSTORE a a1 a2", ""},
		{"SINTERSTORE a a1 b", "DEL a", "0:a"},
		{"ZUNIONSTORE a 2 a1 b WEIGHTS 1 2", "DEL a", "0:a"},
		{"ZRANGESTORE a b 0 -1;ZRANGESTORE b a 0 -1", "DEL a", "0:a"},
		{"BITOP AND a b c;BITOP AND b a a2", "DEL a", "0:a"},
		{"PFMERGE a b;PFMERGE b a", "", "0:a"},
		{"GEORADIUS b 1 1 1 m STORE a;GEORADIUS a 1 1 1 m STORE b", "DEL a", "0:a"},
		{"SORT b STORE a;SORT a STORE b", "DEL a", "0:a"},
		{"SORT a1 STORE a2", "SORT a1 STORE a2", ""},
		{"SORT a1 BY a* STORE a2", "DEL a2", "0:a2"},
		{"COPY a b;COPY b1 b2", "", ""},
		{"COPY b a REPLACE", "DEL a", "0:a"},
		// Several that may be written.
		{"LMPOP 2 b a LEFT", "", "0:a"},
		{"BLPOP b a1 a2 0", "", "0:a1 0:a2"},
		{"XREADGROUP GROUP g c STREAMS a b > >", "", "0:a"},
		// Another database.
		{"MOVE a 1", "MOVE a 3", ""},
		{"SELECT 1;MOVE a 0", "SELECT 3;MOVE a 0", ""},
		{"MOVE a 2", "DEL a", ""},
		{"SELECT 2;MOVE a 1", "SELECT 3;DEL a", "1:a"},
		{"MOVE b 1", "", ""},
		{"COPY a1 a2 DB 1", "COPY a1 a2 DB 3", ""},
		{"COPY a1 a2 DB 2", "", ""},
		{"COPY a1 b DB 1", "", ""},
		{"COPY b a DB 1", "SELECT 3;DEL a", "1:a"},
		{"SELECT 2;COPY a1 a2 DB 0", "DEL a2", "0:a2"},
		{"COPY a1 a2 DB 0 REPLACE", "COPY a1 a2 DB 0 REPLACE", ""},
		// Scripts.
		{"EVAL return(1) 2 a1 a2;EVAL return(1) 1 b", "EVAL return(1) 2 a1 a2", ""},
		{"EVAL return(1) 2 b a", "", "0:a"},
		{"EVALSHA " + sha1Of1 + " 1 a", "EVAL return(1) 1 a", ""},
		{"EVALSHA ffff 1 b", "", ""}, // whose body nobody needs
		{"SELECT 2;EVAL return(1) 0", "", ""},
		{"EVAL_RO return(1) 2 a b", "", ""},
		{"FUNCTION DELETE lib;SELECT 2;FUNCTION DELETE lib", "FUNCTION DELETE lib;FUNCTION DELETE lib", ""},
		// What this version does not follow, on keys that nobody wants.
		{"SELECT 2;FLUSHDB;SLOTSDEL 1;SELECT 0;SWAPDB 2 4;SLOTSRESTORE b 0 x;HEXPIRE b 1 FIELDS 1 f;SET a 1", "SET a 1", ""},
		// Transactions.
		{"MULTI;SET a 1;SET b 1;SELECT 1;INCR a;RENAME a b;EXEC", "SELECT 0;SET a 1;SELECT 3;INCR a;DEL a", ""},
		{"MULTI;SET b 1;EXEC;MULTI;RENAME b a;INCR a;EXEC", "SELECT 0;DEL a;INCR a", "0:a"},
		{"SELECT 2;MULTI;FUNCTION DELETE lib;EXEC", "SELECT 0;FUNCTION DELETE lib", ""},
		// Behind a doubt.
		{"RENAME b a1;RENAME a1 a2", "DEL a1;RENAME a1 a2", "0:a1 0:a1 0:a2"},
	} {
		got := judge(t, s, strings.Split(c.stream, ";")...)
		if got.err != nil {
			t.Errorf("%s: %v", c.stream, got.err)
			continue
		}
		if sent := strings.Join(got.sent, ";"); sent != c.sent {
			t.Errorf("%s: sent is %q, want %q", c.stream, sent, c.sent)
		}
		if doubts := strings.Join(got.doubts, " "); doubts != c.doubts {
			t.Errorf("%s: doubtful are %q, want %q", c.stream, doubts, c.doubts)
		}
	}
}

func TestWhatIsNotSentIsCounted(t *testing.T) {
	s := selecting(t, selection.Spec{DBs: []int{0}, IncludePrefix: []selection.Text{"a"}})
	got := judge(t, s, "SET a 1", "SET b 1", "DEL a b", "DEL b", "SUNIONSTORE a b c", "COPY a b", "SELECT 1", "SET a 1", "FLUSHDB", "EVAL return(1) 0", "PING")
	if got.err != nil || got.filtered != 7 {
		t.Errorf("got %d left out, %v, want 7", got.filtered, got.err)
	}
}

func TestWhatCannotBeJudgedStopsTheGroup(t *testing.T) {
	byName := selecting(t, selection.Spec{ExcludePrefix: []selection.Text{"b"}})
	for _, c := range []struct {
		s      *selection.Selection
		stream string
		reason string // empty: it is sent
	}{
		{byName, "EVAL return(1) 0", "filter-script"},
		{byName, "EVALSHA " + sha1Of1 + " 0", "filter-script"},
		{byName, "FCALL f 0", "filter-script"},
		{byName, "FLUSHDB", "flush-in-stream"},
		{byName, "MIGRATE h 1 a 0 5", "unsupported-command"},
		{selecting(t, selection.Spec{DBs: []int{0}}), "EVAL return(1) 0", ""},
		{selecting(t, selection.Spec{DBs: []int{0}}), "FLUSHALL", "flush-in-stream"},
		{selecting(t, selection.Spec{DBs: []int{1}}), "SWAPDB 0 1", "flush-in-stream"},
	} {
		got := judge(t, c.s, c.stream)
		var stop *StopError
		switch {
		case c.reason == "":
			if got.err != nil || len(got.sent) != 1 {
				t.Errorf("%s: got %v, sent %q, want it sent", c.stream, got.err, got.sent)
			}
		case !errors.As(got.err, &stop) || stop.Reason != c.reason || stop.Hint == "":
			t.Errorf("%s: got %v, want a stop with %s", c.stream, got.err, c.reason)
		}
	}
}

// A doubt about what a database has another number for on the target is about
// the source's.
func TestWhatIsMadeFromADoubtfulKeyElsewhere(t *testing.T) {
	s := selecting(t, selection.Spec{DBMap: map[int]int{0: 1, 1: 0}})
	known := &doubtSet{}
	known.clear()
	g := &group{id: 1, job: &Job{o: Options{Selection: s}}, lane: &Lane{}}
	g.doubts.clear()
	g.doubts.add([]checkpoint.Doubt{{Group: 1, DB: 0, Key: []byte("a")}})
	d := deriver{group: 1, known: &g.doubts, placed: true, selection: s}
	var got []string
	b := &Batch{}
	b.begin(s)
	tr := translator{clock: &offsetClock{}, held: &heldKeys{}, selection: s, scripts: &scripts{}, proveDB: func(int) error { return nil }, doubtful: known, wall: time.Now}
	tr.derived = deriver{known: known}
	tr.start(b, 0, 0)
	if err := tr.add(resp.Command{Args: [][]byte{[]byte("MOVE"), []byte("a"), []byte("1")}, End: 9}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	var sent string
	err := b.each(func(i int, args [][]byte) {
		sent += string(slices.Concat(args...)) + " "
		d.derive(command.Lookup(args[0]), args, int(b.cmds[i].db), b.cmds[i].end, func(x checkpoint.Doubt) { got = append(got, fmt.Sprintf("%d:%s", x.DB, x.Key)) })
	})
	if err != nil {
		t.Fatal(err)
	}
	if sent != "SELECT1 MOVEa0 " || strings.Join(got, " ") != "0:a 1:a" {
		t.Errorf("sent is %q and doubtful are %q, want SELECT1 MOVEa0 and 0:a 1:a", sent, got)
	}
}

func TestNothingIsAllocatedForACommandThatIsSelected(t *testing.T) {
	s := selecting(t, selection.Spec{DBs: []int{0, 1}, DBMap: map[int]int{1: 3}, IncludePrefix: []selection.Text{"a"}, ExcludeRegex: []selection.Text{"x$"}})
	known := &doubtSet{}
	known.clear()
	tr := translator{clock: &offsetClock{}, held: &heldKeys{}, selection: s, scripts: &scripts{}, proveDB: func(int) error { return nil }, doubtful: known, wall: time.Now}
	tr.derived = deriver{known: known}
	b := &Batch{}
	tr.start(b, 0, 0)
	commands := []resp.Command{}
	p := resp.NewParser(0)
	p.Feed([]byte("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n1\r\n*3\r\n$6\r\nRENAME\r\n$2\r\na1\r\n$2\r\na2\r\n"))
	for {
		c, ok, err := p.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		args := make([][]byte, len(c.Args))
		for i, a := range c.Args {
			args[i] = slices.Clone(a)
		}
		commands = append(commands, resp.Command{Args: args, Raw: slices.Clone(c.Raw), End: c.End})
	}
	one := func() {
		tr.next(b)
		for _, c := range commands {
			if err := tr.add(c, time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	one()
	if n := testing.AllocsPerRun(200, one); n != 0 {
		t.Errorf("got %v allocations for %d commands, want 0", n, len(commands))
	}
	if len(b.cmds) != 2 {
		t.Errorf("got %d commands in the batch, want 2", len(b.cmds))
	}
}
