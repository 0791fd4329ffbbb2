package command_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/command"
	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

// serverCommand is a row of COMMAND's reply.
type serverCommand struct {
	name       string
	arity      int
	propagates bool // it writes, or may be propagated all the same
	container  bool
}

func serverCommands(t *testing.T, s *redistest.Server) []serverCommand {
	t.Helper()
	var rows []serverCommand
	for _, e := range s.Do(t, "COMMAND").Elems {
		c := serverCommand{name: strings.ToUpper(e.Elems[0].String()), arity: int(e.Elems[1].Int)}
		flags := e.Elems[2].Strings()
		if len(e.Elems) > 9 { // subcommands, from 7.0 on
			c.container = len(e.Elems[9].Elems) > 0
			for _, sub := range e.Elems[9].Elems {
				flags = append(flags, sub.Elems[2].Strings()...)
			}
		}
		c.propagates = slices.Contains(flags, "write") || slices.Contains(flags, "may_replicate")
		rows = append(rows, c)
	}
	return rows
}

func TestTableHasWhatTheServerPropagates(t *testing.T) {
	s := redistest.Source(t)
	found := 0
	for _, c := range serverCommands(t, s) {
		spec := command.Lookup([]byte(c.name))
		if spec.Class == command.Unknown {
			if c.propagates {
				t.Errorf("%s may be propagated and is not in the table", c.name)
			}
			continue
		}
		arity := max(c.arity, -c.arity)
		if spec.MinArgs > arity && !c.container {
			t.Errorf("%s: MinArgs %d, the server takes %d arguments", c.name, spec.MinArgs, arity)
		}
		found++
	}
	if found < 80 {
		t.Errorf("found %d commands of the server in the table, want at least 80", found)
	}
}

func TestKeysAreThoseOfTheServer(t *testing.T) {
	s := redistest.Source(t)
	if major, _ := s.Version(); major < 7 {
		t.Skip("COMMAND GETKEYS before 7.0 does not know where SORT, GEORADIUS and MIGRATE have their keys")
	}
	samples := map[string][][][]byte{}
	for _, sample := range keySamples {
		line, _, _ := strings.Cut(sample, "|")
		args := words(t, line)
		samples[string(args[0])] = append(samples[string(args[0])], args)
	}
	for _, c := range serverCommands(t, s) {
		spec := command.Lookup([]byte(c.name))
		if spec.Class == command.Unknown || c.container {
			continue
		}
		tries := samples[c.name]
		if len(tries) == 0 {
			// Most commands have their keys at fixed places: any arguments will do.
			args := [][]byte{[]byte(c.name)}
			for i := 1; i < max(c.arity, -c.arity); i++ {
				args = append(args, []byte("x"+strconv.Itoa(i)))
			}
			tries = [][][]byte{args}
			if len(args) == 1 {
				continue // MULTI and the like: no arguments, no keys
			}
		}
		for _, args := range tries {
			got := []string{}
			for _, k := range spec.AppendKeys(nil, args) {
				got = append(got, string(k))
			}
			ask := []string{"COMMAND", "GETKEYS"}
			for _, a := range args {
				ask = append(ask, string(a))
			}
			rep, err := s.DoErr(ask...)
			want := rep.Strings()
			if err != nil {
				if !strings.Contains(err.Error(), "no key arguments") {
					t.Errorf("%s: %v", strings.Join(ask, " "), err)
					continue
				}
				want = []string{}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("keys of %s (-server +table):\n%s", strings.Join(ask[2:], " "), diff)
			}
		}
	}
}

// capsOf is what a server of that version understands.
func capsOf(s *redistest.Server) command.Caps {
	major, minor := s.Version()
	return command.Caps{AbsTTL: major >= 5, Major: major, Minor: minor}
}

// run rewrites a command that the source executed at the given time and has the server
// execute the result.
func run(t *testing.T, c *resp.Conn, caps command.Caps, at int64, args ...string) command.Info {
	t.Helper()
	var b [][]byte
	for _, a := range args {
		b = append(b, []byte(a))
	}
	out, n, info, err := command.Lookup(b[0]).AppendRewrite(nil, nil, b, at, caps)
	if err != nil {
		t.Fatalf("rewrite %q: %v", args, err)
	}
	if _, err := c.Write(out); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	for range n {
		if _, err := c.ReadReply(); err != nil {
			t.Fatalf("the server refuses %q, made from %q: %v", out, args, err)
		}
	}
	return info
}

func clock(t *testing.T, s *redistest.Server) int64 {
	t.Helper()
	now := s.Do(t, "TIME").Strings()
	sec, err1 := strconv.ParseInt(now[0], 10, 64)
	us, err2 := strconv.ParseInt(now[1], 10, 64)
	if err1 != nil || err2 != nil {
		t.Fatalf("TIME gave %q", now)
	}
	return sec*1000 + us/1000
}

// The commands below were executed 20 s ago; what they ask for counts from then.
func TestServerHasTheDeadlineAskedFor(t *testing.T) {
	s := redistest.Target(t)
	c := s.Dial(t)
	full := capsOf(s)
	old := command.Caps{Major: full.Major, Minor: full.Minor}
	s.Do(t, "SET", "model", "value")
	payload := string(s.Do(t, "DUMP", "model").Str)
	at := clock(t, s) - 20_000
	abs := func(ms int64) string { return strconv.FormatInt(at+ms, 10) }
	tests := []struct {
		claim string
		args  string // K, V and P stand for key, value and payload
		after int64  // ms from at
		caps  command.Caps
	}{
		{"EXPIRE", "EXPIRE K 100", 100_000, full},
		{"EXPIRE with a condition that no longer holds", "EXPIRE K 100 NX", 100_000, full},
		{"PEXPIRE", "PEXPIRE K 100001", 100_001, full},
		{"EXPIREAT of a condition that no longer holds", "EXPIREAT K " + strconv.FormatInt((at+999)/1000+100, 10) + " XX", ((at+999)/1000+100)*1000 - at, full},
		{"PEXPIREAT", "PEXPIREAT K " + abs(100_002), 100_002, full},
		{"SETEX", "SETEX K 100 V", 100_000, full},
		{"PSETEX", "PSETEX K 100003 V", 100_003, full},
		{"SET EX", "SET K V EX 100", 100_000, full},
		{"SET NX PX on a key that is there", "SET K V NX PX 100004", 100_004, full},
		{"SET PXAT", "SET K V PXAT " + abs(100_005), 100_005, full},
		{"GETEX PX", "GETEX K PX 100006", 100_006, full},
		{"RESTORE", "RESTORE K 100007 P", 100_007, full},
		{"RESTORE to a target without ABSTTL", "RESTORE K 100008 P", 100_008, old},
		{"SLOTSRESTORE", "SLOTSRESTORE K 100010 P", 100_010, full},
		{"SLOTSRESTORE to a target without ABSTTL", "SLOTSRESTORE K 100011 P", 100_011, old},
		{"SLOTSRESTORE-ASYNC string", "SLOTSRESTORE-ASYNC string K 100012 V", 100_012, full},
		{"SLOTSRESTORE-ASYNC expire", "SLOTSRESTORE-ASYNC expire K 100013", 100_013, full},
	}
	for i, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			key := fmt.Sprintf("key:%d", i)
			s.Do(t, "SET", key, "value")
			args := strings.Fields(tt.args)
			for j, a := range args {
				switch a {
				case "K":
					args[j] = key
				case "V":
					args[j] = "value"
				case "P":
					args[j] = payload
				}
			}
			info := run(t, c, tt.caps, at, args...)
			if want := at + tt.after; info.DeadlineMS != want {
				t.Errorf("deadline told: got %d, want %d", info.DeadlineMS, want)
			}
			if got, want := s.Do(t, "GET", key).String(), "value"; got != want {
				t.Errorf("value: got %q, want %q", got, want)
			}
			// The server read its clock for PTTL between the two TIMEs.
			before := clock(t, s)
			pttl := s.Do(t, "PTTL", key).Int
			after := clock(t, s)
			if read := at + tt.after - pttl; read < before-1 || read > after+1 {
				t.Errorf("PTTL %d between %d and %d: the deadline is not %d", pttl, before, after, at+tt.after)
			}
		})
	}
}

func TestServerDropsWhatExpiredOnTheWay(t *testing.T) {
	s := redistest.Target(t)
	c := s.Dial(t)
	s.Do(t, "SET", "model", "value")
	payload := string(s.Do(t, "DUMP", "model").Str)
	at := clock(t, s) - 86_400_000
	for _, caps := range []command.Caps{capsOf(s), {}} {
		for _, args := range [][]string{
			{"EXPIRE", "k", "100"},
			{"SETEX", "k", "100", "v"},
			{"SET", "k", "v", "PX", "5"},
			{"RESTORE", "k", "100", payload},
			{"SLOTSRESTORE", "k", "100", payload},
		} {
			s.Do(t, "SET", "k", "old")
			run(t, c, caps, at, args...)
			if got := s.Do(t, "EXISTS", "k").Int; got != 0 {
				t.Errorf("%s executed a day ago: the key is there", args[0])
			}
		}
	}
}

func TestServerTakesWhatCodisMoved(t *testing.T) {
	s := redistest.Target(t)
	c := s.Dial(t)
	caps := capsOf(s)
	at := clock(t, s)
	tests := []struct {
		claim string
		steps []string
		ask   string
		want  string
	}{
		{"a list in chunks, the last one empty", []string{"list k 9000 4 a b", "list k 9000 4 c", "list k 9000 4", "expire k 0"}, "LRANGE k 0 -1", "[a b c]"},
		{"a hash", []string{"hash k 9000 2 f v", "hash k 9000 2 f w", "expire k 0"}, "HGETALL k", "[f w]"},
		{"a set, an element twice", []string{"dict k 9000 2 a", "dict k 9000 2 a", "expire k 0"}, "SMEMBERS k", "[a]"},
		{"a zset", []string{`zset k 9000 3 b "\x00\x00\x00\x00\x00\x00\xf0\x7f" a "\x9a\x99\x99\x99\x99\x99\xb9?"`, "expire k 0"}, "ZRANGE k 0 -1", "[a b]"},
		{"the score of a zset, to the bit", []string{`zset k 9000 3 a "\x9a\x99\x99\x99\x99\x99\xb9?"`, `zset k 9000 3 b "\x01\x00\x00\x00\x00\x00\x00\x00"`, "expire k 0"}, "ZRANGEBYSCORE k 0.1 0.1", "[a]"},
		{"a string over what was there", []string{"hash k 0 1 f v", "string k 0 hello"}, "GET k", "hello"},
		{"nothing after delete", []string{"string k 0 hello", "delete k"}, "EXISTS k", "0"},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			s.Do(t, "DEL", "k")
			for _, step := range tt.steps {
				args := []string{"SLOTSRESTORE-ASYNC"}
				for _, w := range words(t, step) {
					args = append(args, string(w))
				}
				run(t, c, caps, at, args...)
			}
			if got := s.Do(t, strings.Fields(tt.ask)...).String(); got != tt.want {
				t.Errorf("%s: got %s, want %s", tt.ask, got, tt.want)
			}
			if got := s.Do(t, "PTTL", "k").Int; got >= 0 {
				t.Errorf("PTTL: got %d, want none", got)
			}
		})
	}
}

func TestServerTakesFunctionsTwice(t *testing.T) {
	s := redistest.Target(t)
	if major, _ := s.Version(); major < 7 {
		t.Skip("functions are of 7.0")
	}
	c := s.Dial(t)
	code := "#!lua name=lib\nredis.register_function('f', function() return 7 end)"
	for range 2 {
		run(t, c, capsOf(s), 0, "FUNCTION", "LOAD", code)
	}
	payload := string(s.Do(t, "FUNCTION", "DUMP").Str)
	for range 2 {
		run(t, c, capsOf(s), 0, "FUNCTION", "RESTORE", payload)
	}
	if got := s.Do(t, "FCALL", "f", "0").Int; got != 7 {
		t.Errorf("FCALL f: got %d, want 7", got)
	}
}
