package command_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/command"
)

func TestLookup(t *testing.T) {
	tests := []struct {
		claim, name, want string
		class             command.Class
	}{
		{"upper case", "SET", "SET", command.Write},
		{"lower case", "set", "SET", command.Write},
		{"mixed case with a dash", "SlotsRestore-Async", "SLOTSRESTORE-ASYNC", command.Slots},
		{"the longest name", "slotsrestore-async-select", "SLOTSRESTORE-ASYNC-SELECT", command.Slots},
		{"a name that no server has", "NOSUCH", "", command.Unknown},
		{"a name longer than any", strings.Repeat("SET", 100), "", command.Unknown},
		{"an empty name", "", "", command.Unknown},
		{"a name with a byte behind", "SET\x00", "", command.Unknown},
		{"MIGRATE is refused by name", "MIGRATE", "MIGRATE", command.Unsupported},
		{"a TTL of a hash field is a write", "hpexpireat", "HPEXPIREAT", command.Write},
		{"a script by its text", "EVAL", "EVAL", command.Eval},
		{"a script by its SHA1", "evalsha", "EVALSHA", command.EvalSHA},
		{"a flush", "flushall", "FLUSHALL", command.Flush},
		{"a swap, which replaces every key of two dbs", "swapdb", "SWAPDB", command.Flush},
		{"a heartbeat", "ping", "PING", command.Ignore},
		{"GETACK", "replconf", "REPLCONF", command.Ignore},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			got := command.Lookup([]byte(tt.name))
			if got.Name != tt.want || got.Class != tt.class {
				t.Errorf("lookup %q: got %q of class %s, want %q of class %s", tt.name, got.Name, got.Class, tt.want, tt.class)
			}
		})
	}
}

func TestTableIsFoundByLookup(t *testing.T) {
	seen := map[string]bool{}
	command.All(func(s *command.Spec) {
		if s.Name != strings.ToUpper(s.Name) || s.MinArgs < 1 || s.Class == command.Unknown {
			t.Errorf("row %+v: name not in upper case, no MinArgs, or no class", s)
		}
		if seen[s.Name] {
			t.Errorf("%s has two rows", s.Name)
		}
		seen[s.Name] = true
		if got := command.Lookup([]byte(strings.ToLower(s.Name))); got != s {
			t.Errorf("lookup %s: got row %q", s.Name, got.Name)
		}
	})
}

func TestClassString(t *testing.T) {
	for c := command.Unknown; c <= command.Unsupported; c++ {
		if s := c.String(); s == "" || s == "class?" {
			t.Errorf("class %d has no name", c)
		}
	}
	if got, want := command.Class(200).String(), "class?"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// keySamples has the keys of each line behind its bar. The server's COMMAND GETKEYS is
// asked about the same lines.
var keySamples = []string{
	"SET a v|a", "SET a v EX 5|a", "APPEND a v|a", "DEL a b c|a b c", "UNLINK a b|a b",
	"MSET a 1 b 2|a b", "MSETNX a 1 b 2|a b", "GETDEL a|a", "GETEX a EX 5|a", "PFCOUNT a b|a b", "PFADD a x|a", "PFMERGE a b c|a b c",
	"PFDEBUG TODENSE a|a", "BITOP AND d a b|d a b", "BITFIELD a SET u8 0 1|a", "SETBIT a 1 1|a",
	"EXPIRE a 10|a", "PEXPIREAT a 10 NX|a", "PERSIST a|a", "RENAME a b|a b", "RENAMENX a b|a b", "MOVE a 1|a", "COPY a b REPLACE|a b",
	"RESTORE a 0 p|a", "RESTORE-ASKING a 0 p|a", "TOUCH a b|a b",
	"SORT a|a", "SORT a BY w* LIMIT 0 5 GET # GET p* DESC ALPHA STORE d|a d", "SORT a GET store STORE d|a d", "SORT a STORE d STORE e|a e",
	"MIGRATE h 1 a 0 5|a", `MIGRATE h 1 "" 0 5 COPY AUTH pw KEYS a b|a b`, `MIGRATE h 1 "" 0 5 AUTH2 u keys KEYS a b|a b`,
	"LPUSH a x|a", "LINSERT a BEFORE x y|a", "RPOPLPUSH a b|a b", "LMOVE a b LEFT RIGHT|a b", "BRPOPLPUSH a b 1|a b", "BLMOVE a b LEFT RIGHT 1|a b",
	"LMPOP 2 a b LEFT COUNT 2|a b", "BLMPOP 0 2 a b LEFT|a b", "BLPOP a b 0|a b", "BRPOP a 0|a",
	"SMOVE a b x|a b", "SPOP a 2|a", "SINTERSTORE d a b|d a b", "SUNIONSTORE d a|d a", "SDIFFSTORE d a b|d a b",
	"ZADD a 1 x|a", "ZUNIONSTORE d 2 a b WEIGHTS 1 2|d a b", "ZINTERSTORE d 1 a AGGREGATE MAX|d a", "ZDIFFSTORE d 2 a b|d a b", "ZRANGESTORE d a 0 1|d a",
	"ZPOPMIN a 2|a", "ZMPOP 2 a b MIN|a b", "BZMPOP 0 1 a MIN|a", "BZPOPMIN a b 0|a b", "BZPOPMAX a 0|a",
	"GEOADD a 1 2 x|a", "GEORADIUS a 1 2 3 m|a", "GEORADIUS a 1 2 3 m COUNT 5 STORE d|a d", "GEORADIUS a 1 2 3 m STORE d STOREDIST e|a d e",
	"GEORADIUSBYMEMBER a STORE 3 m STOREDIST d|a d", "GEOSEARCHSTORE d a FROMMEMBER x BYRADIUS 1 m|d a",
	"HSET a f v|a", "HINCRBY a f 1|a",
	"XADD a 1-1 f v|a", "XGROUP CREATE a g 0|a", "XGROUP SETID a g 0|a", "XCLAIM a g c 0 1-1 TIME 5 RETRYCOUNT 1 FORCE JUSTID LASTID 1-1|a",
	"XREADGROUP GROUP g c STREAMS a b 1 2|a b", "XREADGROUP GROUP STREAMS c COUNT 5 BLOCK 0 NOACK STREAMS a >|a", "XAUTOCLAIM a g c 0 0|a",
	"EVAL body 2 a b x|a b", "EVALSHA sha 1 a|a", "EVAL body 0 x|", "EVAL_RO body 1 a|a", "EVALSHA_RO sha 1 a|a", "FCALL f 1 a x|a", "FCALL_RO f 1 a|a",
}

// keySamplesApart are of commands that Debian's redis-server does not have, or whose
// keys it does not tell.
var keySamplesApart = []string{
	"SLOTSRESTORE a 0 p b 0 p|a b", "SLOTSRESTORE-ASYNC string a 0 v|a", "slotsrestore-async delete a|a", "SLOTSDEL 1 2|",
	"SLOTSMGRTONE h 1 0 a|a", "SLOTSMGRTTAGONE h 1 0 a|a", "SLOTSMGRTONE-ASYNC h 1 0 1 1 a b|a b", "SLOTSMGRT-EXEC-WRAPPER a SET a v|a",
	"HEXPIRE a 1 FIELDS 1 f|a", "NOSUCH a b|a", "NOSUCH|", "PING|", "MULTI|", "SELECT 3|", "FLUSHALL|", "SCRIPT LOAD body|", "FUNCTION LOAD code|", "SWAPDB 0 1|",

	"COPY a b DB 1 REPLACE|a", "COPY a|a", "COPY|", // the other key lies in another database

	"EVAL body 3 a|a", "EVAL body -1 a|", "EVAL body x a|", "EVAL body|", "EVAL|", "EVAL body 9223372036854775807 a|a",
	"ZUNIONSTORE d|d", "ZUNIONSTORE|", "ZUNIONSTORE d 5 a|d a", "SORT|", "SORT a STORE|a", "SORT a LIMIT 1|a", "GEORADIUS|", "GEORADIUS a 1 2 3 m STORE|a",
	"XREADGROUP|", "XREADGROUP GROUP|", "XREADGROUP GROUP g c STREAMS|", "MIGRATE|", `MIGRATE h 1 ""|`, "BLPOP 0|", "BLPOP|", "MSET a|a", "RENAME a|a", "BITOP AND|",
}

func TestAppendKeys(t *testing.T) {
	for _, sample := range append(append([]string(nil), keySamples...), keySamplesApart...) {
		line, keys, _ := strings.Cut(sample, "|")
		t.Run(line, func(t *testing.T) {
			args := words(t, line)
			want := append([]string{"kept"}, strings.Fields(keys)...)
			var got []string
			for _, k := range command.Lookup(args[0]).AppendKeys([][]byte{[]byte("kept")}, args) {
				got = append(got, string(k))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("keys of %s (-want +got):\n%s", line, diff)
			}
		})
	}
}

func TestDoubtful(t *testing.T) {
	tests := []struct {
		claim, in string
		want      bool
	}{
		{"SPOP with a count", "SPOP k 3", true},
		{"SPOP without one is propagated as SREM, and would be one member", "SPOP k", false},
		{"a script that calls SPOP", `EVAL "return redis.call('SPOP',KEYS[1])" 1 k`, true},
		{"a script that is told to call SPOP", `EVAL "return redis.call(ARGV[1],KEYS[1])" 1 k spop`, true},
		{"a key named spop", `EVAL "return redis.call('incr',KEYS[1])" 1 spop`, false},
		{"a longer word", `EVAL "return redis.call('incr','my_spop')" 0`, false},
		{"a script cut short", "EVAL spop", false},
		{"a plain write", "SET k spop", false},
		{"an unknown command", "NOSUCH spop", false},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			args := words(t, tt.in)
			if got := command.Lookup(args[0]).Doubtful(args); got != tt.want {
				t.Errorf("doubtful %s: got %v, want %v", tt.in, got, tt.want)
			}
		})
	}
}

func TestHiddenTTL(t *testing.T) {
	tests := []struct {
		claim, in string
		want      bool
	}{
		{"EXPIRE in the text", `EVAL "redis.call('Expire',KEYS[1],10)" 1 k`, true},
		{"SET with EX in the text", `EVAL "redis.call('set',KEYS[1],'v','EX',10)" 1 k`, true},
		{"PX at the very end", `EVAL "x px" 0`, true},
		{"an option given as argument", `EVAL "redis.call('set',KEYS[1],unpack(ARGV))" 1 k v PX 10`, true},
		{"EXPIREAT is absolute", `EVAL "redis.call('expireat',KEYS[1],ARGV[1])" 1 k 1700000000`, false},
		{"a key named so", `EVAL "redis.call('incr',KEYS[1])" 1 expire`, false},
		{"no script", "SET k v EX 10", false},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			args := words(t, tt.in)
			if got := command.Lookup(args[0]).HiddenTTL(args); got != tt.want {
				t.Errorf("hidden TTL of %s: got %v, want %v", tt.in, got, tt.want)
			}
		})
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	for _, line := range []string{"SET k v", "set k v", "INCR k", "MSET a 1 b 2", "HSET k f v", "SETEX k 100 v", "EXPIRE k 10", "ZUNIONSTORE d 2 a b", "NOSUCH k", "BRPOPLPUSH a b 0", "RESTORE k 5 p"} {
		t.Run(line, func(t *testing.T) {
			args := words(t, line)
			raw := encode(args)
			dst := make([]byte, 0, 4096)
			keys := make([][]byte, 0, 16)
			var err error
			got := testing.AllocsPerRun(100, func() {
				s := command.Lookup(args[0])
				keys = s.AppendKeys(keys[:0], args)
				dst, _, _, err = s.AppendRewrite(dst[:0], raw, args, at, redis7)
			})
			if err != nil || got != 0 {
				t.Errorf("%s: got %v allocations, error %v, want 0 and none", line, got, err)
			}
		})
	}
}

func BenchmarkPlain(b *testing.B) {
	args := words(b, "hset user:1234 name somebody")
	raw := encode(args)
	var dst []byte
	var keys [][]byte
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		s := command.Lookup(args[0])
		keys = s.AppendKeys(keys[:0], args)
		dst, _, _, _ = s.AppendRewrite(dst[:0], raw, args, at, redis7)
	}
}
