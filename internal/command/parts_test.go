package command_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"tairlift/internal/command"
	"tairlift/internal/redistest"
)

func line(args [][]byte) string { return string(bytes.Join(args, []byte(" "))) }

func TestSomeOfACommandsKeys(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"DEL a1 b1 a2", "DEL a1 a2"},
		{"UNLINK b1 a1", "UNLINK a1"},
		{"MSET a1 b1 b2 a2 a3 b3", "MSET a1 b1 a3 b3"},
		{"MSETNX b1 a1 a2 x", "MSETNX a2 x"},
		{"SLOTSRESTORE b1 0 p a1 7 q", "SLOTSRESTORE a1 7 q"},
		{"SUNIONSTORE a1 b1", ""},
		{"RENAME a1 b1", ""},
		{"EVAL x 2 a1 b1", ""},
	} {
		args := words(t, c.line)
		some, ok := command.Lookup(args[0]).Some(args, func(k []byte) bool { return k[0] == 'a' })
		if line(some) != c.want || ok != (c.want != "") {
			t.Errorf("%s: got %q %v, want %q", c.line, line(some), ok, c.want)
		}
	}
}

// What is done to one key alone leaves that key as the whole command did.
func TestAloneDoesTheSameToItsKey(t *testing.T) {
	s := redistest.Target(t)
	fill := func() {
		s.Do(t, "FLUSHALL")
		for _, k := range []string{"a", "b"} {
			s.Do(t, "RPUSH", "list:"+k, k+"1", k+"2", k+"3")
			s.Do(t, "SADD", "set:"+k, k+"1", k+"2", k+"3")
		}
		s.Do(t, "SET", "string:a", "x")
	}
	digest := func(key string) string {
		if s.Do(t, "EXISTS", key).Int == 0 {
			return "gone"
		}
		return string(s.Do(t, "DUMP", key).Str)
	}
	tried := 0
	for _, whole := range []string{
		"RENAME string:a string:c", "RENAMENX string:a string:c", "MOVE string:a 1",
		"SMOVE set:a set:b a2", "RPOPLPUSH list:a list:b", "BRPOPLPUSH list:a list:b 1", "LMOVE list:a list:b LEFT RIGHT",
		"LMOVE list:a list:b right left", "BLMOVE list:a list:b left left 1", "SUNIONSTORE set:c set:a set:b", "COPY string:a string:c",
	} {
		args := words(t, whole)
		if major, minor := s.Version(); major < 6 || major == 6 && minor < 2 {
			if slices.Contains([]string{"LMOVE", "BLMOVE", "COPY"}, string(args[0])) {
				continue
			}
		}
		spec := command.Lookup(args[0])
		for i, key := range spec.AppendKeys(nil, args) {
			alone, ok := spec.Alone(args, i)
			if !ok {
				continue
			}
			tried++
			fill()
			s.Do(t, strings.Fields(whole)...)
			want := digest(string(key))
			fill()
			s.Do(t, strings.Fields(line(alone))...)
			if got := digest(string(key)); got != want {
				t.Errorf("%s, for %s alone %s: it holds %q, want %q", whole, key, line(alone), got, want)
			}
		}
	}
	if tried < 8 {
		t.Errorf("got %d commands for one key alone, want 8 or more", tried)
	}
}

// Redis 7 tells of each key of a command how it is used.
func TestWhatIsReadAndWhatIsReplaced(t *testing.T) {
	s := redistest.Target(t)
	if major, _ := s.Version(); major < 7 {
		t.Skip("COMMAND GETKEYSANDFLAGS is of 7.0")
	}
	for _, text := range []string{
		"SUNIONSTORE d a b", "SINTERSTORE d a b", "SDIFFSTORE d a b", "ZUNIONSTORE d 2 a b", "ZINTERSTORE d 2 a b", "ZDIFFSTORE d 2 a b",
		"ZRANGESTORE d a 0 1", "GEOSEARCHSTORE d a FROMMEMBER m BYRADIUS 1 m", "BITOP AND d a b", "PFMERGE d a b", "COPY a d", "SORT a STORE d",
		"SORT a", "GEORADIUS a 1 1 1 m STORE d", "GEORADIUSBYMEMBER a m 1 m STORE d", "RENAME a d", "RENAMENX a d", "MOVE a 1", "SMOVE a d m",
		"RPOPLPUSH a d", "LMOVE a d LEFT LEFT", "MSET a 1 b 2", "DEL a b", "EVAL x 2 a b", "EVAL_RO x 2 a b", "LMPOP 2 a b LEFT", "BLPOP a b 0",
	} {
		args := words(t, text)
		spec := command.Lookup(args[0])
		keys := spec.AppendKeys(nil, args)
		rep := s.Do(t, append([]string{"COMMAND", "GETKEYSANDFLAGS"}, strings.Fields(text)...)...)
		if len(rep.Elems) != len(keys) {
			t.Errorf("%s: got %d keys, the server has %d", text, len(keys), len(rep.Elems))
			continue
		}
		for i, e := range rep.Elems {
			flags := e.Elems[1].Strings()
			effect := spec.Effect(i)
			if got, want := effect == command.Reads, slices.Contains(flags, "RO"); got != want {
				t.Errorf("%s: %s is only read: got %v, the server says %v", text, keys[i], got, flags)
			}
			if spec.Name == "SINTERSTORE" {
				continue // it says RW of what it replaces, as its sisters do not
			}
			if written := string(keys[i]) == "d"; written && (effect == command.Sets) != slices.Contains(flags, "OW") {
				t.Errorf("%s: %s is written anew: got %v, the server says %v", text, keys[i], effect == command.Sets, flags)
			}
		}
	}
}

func TestNumbersOfOtherDatabasesAreReplaced(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"MOVE a 1", "MOVE a 7"},
		{"COPY a b DB 1", "COPY a b DB 7"},
		{"COPY a b REPLACE db 1", "COPY a b REPLACE db 7"},
	} {
		args := words(t, c.line)
		if got := line(command.Lookup(args[0]).WithOtherDB(args, 7)); got != c.want || line(args) != c.line {
			t.Errorf("%s: got %s (from %s), want %s", c.line, got, line(args), c.want)
		}
	}
}

func TestSortThatReadsWhatItDoesNotName(t *testing.T) {
	for text, want := range map[string]bool{
		"SORT a STORE b": false, "SORT a LIMIT 0 5 ALPHA STORE b": false, "SORT a BY w_* STORE b": true, "SORT a get # STORE b": true,
		"SUNIONSTORE by get": false,
	} {
		args := words(t, text)
		if got := command.Lookup(args[0]).ReadsUnnamed(args); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}
