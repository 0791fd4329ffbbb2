package command_test

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/command"
	"tairlift/internal/held"
)

// at is when the source executed the commands of these tests.
const at = 1_700_000_000_000

// words splits a command written with spaces; \x0 style escapes and quotes are as in Go.
func words(t testing.TB, line string) [][]byte {
	t.Helper()
	var args [][]byte
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		if line[0] != '"' {
			w, rest, _ := strings.Cut(line, " ")
			args, line = append(args, []byte(w)), rest
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			t.Fatalf("words of %q: %v", line, err)
		}
		w, err := strconv.Unquote(quoted)
		if err != nil {
			t.Fatalf("words of %q: %v", line, err)
		}
		args, line = append(args, []byte(w)), line[len(quoted):]
	}
	return args
}

// encode is a second, plain encoder, so that the package's own one is not its judge.
func encode(args [][]byte) []byte {
	var b bytes.Buffer
	b.WriteString("*" + strconv.Itoa(len(args)) + "\r\n")
	for _, a := range args {
		b.WriteString("$" + strconv.Itoa(len(a)) + "\r\n" + string(a) + "\r\n")
	}
	return b.Bytes()
}

// decode turns RESP commands into lines of words; it fails on anything else.
func decode(t testing.TB, b []byte) []string {
	t.Helper()
	number := func(mark byte) int {
		t.Helper()
		line, rest, ok := bytes.Cut(b, []byte("\r\n"))
		if !ok || len(line) < 2 || line[0] != mark {
			t.Fatalf("RESP %q: no %c line", b, mark)
		}
		n, err := strconv.Atoi(string(line[1:]))
		if err != nil {
			t.Fatalf("RESP line %q: %v", line, err)
		}
		b = rest
		return n
	}
	var lines []string
	for len(b) > 0 {
		var parts []string
		for range number('*') {
			n := number('$')
			if len(b) < n+2 || string(b[n:n+2]) != "\r\n" {
				t.Fatalf("RESP %q: bulk of %d bytes is cut", b, n)
			}
			w := string(b[:n])
			if q := strconv.Quote(w); w == "" || strings.ContainsAny(w, " |") || q != `"`+w+`"` {
				w = q
			}
			parts, b = append(parts, w), b[n+2:]
		}
		lines = append(lines, strings.Join(parts, " "))
	}
	return lines
}

var (
	redis4  = command.Caps{Major: 4}
	redis62 = command.Caps{AbsTTL: true, Major: 6, Minor: 2}
	redis7  = command.Caps{AbsTTL: true, Major: 7}
)

// verbatim in a wanted result stands for the bytes as they came.
const verbatim = "verbatim"

func TestRewrite(t *testing.T) {
	tests := []struct {
		claim    string
		in       string
		caps     command.Caps
		want     string
		deadline int64
	}{
		{"EXPIRE counts seconds from the source's time", "EXPIRE k 100", redis7, "PEXPIREAT k 1700000100000", at + 100_000},
		{"a name in lower case is the same command", "expire k 100", redis7, "PEXPIREAT k 1700000100000", at + 100_000},
		{"PEXPIRE counts milliseconds from the source's time", "PEXPIRE k 1500", redis7, "PEXPIREAT k 1700000001500", at + 1500},
		{"EXPIRE takes the numbers that strtoll takes", "EXPIRE k +0100", redis7, "PEXPIREAT k 1700000100000", at + 100_000},
		{"EXPIRE in the past is a deadline in the past", "EXPIRE k -1", redis7, "PEXPIREAT k 1699999999000", at - 1000},
		{"a deadline before 1970 is 1, never 0", "PEXPIRE k -1700000000000", redis7, "PEXPIREAT k 1", 1},
		{"EXPIRE drops a condition, which the source found true", "EXPIRE k 100 NX", redis7, "PEXPIREAT k 1700000100000", at + 100_000},
		{"PEXPIREAT drops a condition too, in any case", "PEXPIREAT k 1700000100000 gt", redis7, "PEXPIREAT k 1700000100000", at + 100_000},
		{"EXPIREAT passes, its deadline known in ms", "EXPIREAT k 1700000100", redis7, verbatim, at + 100_000},
		{"PEXPIREAT passes, its deadline known", "PEXPIREAT k 1700000100001", redis7, verbatim, at + 100_001},
		{"EXPIREAT with a condition is rewritten", "EXPIREAT k 1700000100 LT", redis7, "PEXPIREAT k 1700000100000", at + 100_000},
		{"PERSIST passes", "PERSIST k", redis7, verbatim, 0},

		{"SET without options passes", "SET k v", redis7, verbatim, 0},
		{"SET EX becomes SET and an absolute deadline", "SET k v EX 100", redis7, "SET k v | PEXPIREAT k 1700000100000", at + 100_000},
		{"SET PX becomes SET and an absolute deadline", "set k v px 100", redis7, "SET k v | PEXPIREAT k 1700000000100", at + 100},
		{"SET EXAT becomes two commands that an old target knows", "SET k v EXAT 1700000100", redis4, "SET k v | PEXPIREAT k 1700000100000", at + 100_000},
		{"SET PXAT becomes two commands that an old target knows", "SET k v PXAT 1700000100000", redis4, "SET k v | PEXPIREAT k 1700000100000", at + 100_000},
		{"SET drops NX beside a TTL", "SET k v NX EX 1", redis7, "SET k v | PEXPIREAT k 1700000001000", at + 1000},
		{"SET drops XX and GET behind a TTL", "SET k v EX 1 XX GET", redis7, "SET k v | PEXPIREAT k 1700000001000", at + 1000},
		{"SET drops NX without a TTL", "SET k v NX", redis7, "SET k v", 0},
		{"SET drops a comparison with its argument", "SET k v IFEQ old PX 5", redis7, "SET k v | PEXPIREAT k 1700000000005", at + 5},
		{"SET KEEPTTL passes", "SET k v KEEPTTL", redis7, verbatim, 0},
		{"SET KEEPTTL stays when a condition is dropped", "SET k v XX KEEPTTL GET", redis7, "SET k v KEEPTTL", 0},
		{"SET takes a value that looks like an option", "SET k EX EX 1", redis7, "SET k EX | PEXPIREAT k 1700000001000", at + 1000},
		{"SETEX becomes SET and an absolute deadline", "SETEX k 100 v", redis7, "SET k v | PEXPIREAT k 1700000100000", at + 100_000},
		{"PSETEX becomes SET and an absolute deadline", "PSETEX k 100 v", redis7, "SET k v | PEXPIREAT k 1700000000100", at + 100},
		{"SETEX keeps empty values and binary keys", `SETEX "a b\x00" 1 ""`, redis7, `SET "a b\x00" "" | PEXPIREAT "a b\x00" 1700000001000`, at + 1000},
		{"SETNX passes", "SETNX k v", redis7, verbatim, 0},
		{"GETDEL becomes DEL", "GETDEL k", redis4, "DEL k", 0},
		{"GETEX EX becomes its effect", "GETEX k EX 100", redis4, "PEXPIREAT k 1700000100000", at + 100_000},
		{"GETEX PXAT becomes its effect", "GETEX k PXAT 1700000100000", redis4, "PEXPIREAT k 1700000100000", at + 100_000},
		{"GETEX PERSIST becomes its effect", "GETEX k persist", redis4, "PERSIST k", 0},
		{"GETEX alone passes", "GETEX k", redis7, verbatim, 0},
		{"PFCOUNT passes, for it stores the count", "PFCOUNT k", redis7, verbatim, 0},

		{"RESTORE without a TTL replaces", "RESTORE k 0 p", redis7, "RESTORE k 0 p REPLACE", 0},
		{"RESTORE REPLACE without a TTL passes", "RESTORE k 0 p REPLACE", redis4, verbatim, 0},
		{"RESTORE gets an absolute TTL where the target has it", "RESTORE k 100 p", redis7, "RESTORE k 1700000000100 p REPLACE ABSTTL", at + 100},
		{"RESTORE to an old target sets the deadline behind", "RESTORE k 100 p REPLACE", redis4, "RESTORE k 0 p REPLACE | PEXPIREAT k 1700000000100", at + 100},
		{"RESTORE ABSTTL REPLACE passes", "RESTORE k 1700000100000 p ABSTTL REPLACE", redis7, verbatim, at + 100_000},
		{"RESTORE ABSTTL to an old target sets the deadline behind", "RESTORE k 1700000100000 p ABSTTL REPLACE", redis4, "RESTORE k 0 p REPLACE | PEXPIREAT k 1700000100000", at + 100_000},
		{"RESTORE keeps IDLETIME where the target has it", "RESTORE k 100 p IDLETIME 7", redis7, "RESTORE k 1700000000100 p REPLACE ABSTTL IDLETIME 7", at + 100},
		{"RESTORE keeps FREQ where the target has it", "RESTORE k 0 p FREQ 7", redis7, "RESTORE k 0 p REPLACE FREQ 7", 0},
		{"RESTORE drops IDLETIME for an old target", "RESTORE k 0 p REPLACE IDLETIME 7", redis4, "RESTORE k 0 p REPLACE", 0},
		{"RESTORE-ASKING becomes RESTORE", "RESTORE-ASKING k 0 p REPLACE", redis7, "RESTORE k 0 p REPLACE", 0},

		{"BLPOP of one key becomes LPOP", "BLPOP k 0", redis7, "LPOP k", 0},
		{"BRPOP of one key becomes RPOP", "BRPOP k 0", redis7, "RPOP k", 0},
		{"BLPOP of several keys passes", "BLPOP k l 0", redis7, verbatim, 0},
		{"BRPOPLPUSH becomes RPOPLPUSH", "BRPOPLPUSH a b 1", redis7, "RPOPLPUSH a b", 0},
		{"BLMOVE becomes LMOVE", "BLMOVE a b LEFT RIGHT 1", redis7, "LMOVE a b LEFT RIGHT", 0},
		{"BLMPOP becomes LMPOP", "BLMPOP 1 2 a b LEFT COUNT 3", redis7, "LMPOP 2 a b LEFT COUNT 3", 0},
		{"BZMPOP becomes ZMPOP", "BZMPOP 1 1 a MIN", redis7, "ZMPOP 1 a MIN", 0},
		{"BZPOPMIN of one key becomes ZPOPMIN", "BZPOPMIN a 0", redis7, "ZPOPMIN a", 0},
		{"BZPOPMAX of one key becomes ZPOPMAX", "BZPOPMAX a 0", redis7, "ZPOPMAX a", 0},

		{"XGROUP SETID loses ENTRIESREAD for a target before 7.0", "XGROUP SETID s g 1-1 ENTRIESREAD 5", redis62, "XGROUP SETID s g 1-1", 0},
		{"XGROUP CREATE keeps MKSTREAM there", "XGROUP CREATE s g 0 MKSTREAM ENTRIESREAD 5", redis62, "XGROUP CREATE s g 0 MKSTREAM", 0},
		{"XGROUP SETID passes to 7.0", "XGROUP SETID s g 1-1 ENTRIESREAD 5", redis7, verbatim, 0},
		{"XGROUP SETID passes to a target of unknown version", "XGROUP SETID s g 1-1 ENTRIESREAD 5", command.Caps{}, verbatim, 0},
		{"XGROUP CREATE with a group named ENTRIESREAD passes", "XGROUP CREATE s ENTRIESREAD 0 MKSTREAM", redis62, verbatim, 0},
		{"XSETID loses its options for a target before 7.0", "XSETID s 1-1 ENTRIESADDED 5 MAXDELETEDID 0-1", redis62, "XSETID s 1-1", 0},
		{"XSETID passes to 7.0", "XSETID s 1-1 ENTRIESADDED 5 MAXDELETEDID 0-1", redis7, verbatim, 0},

		{"FUNCTION LOAD may be repeated", `FUNCTION LOAD "#!lua name=l"`, redis7, `FUNCTION LOAD REPLACE "#!lua name=l"`, 0},
		{"FUNCTION LOAD REPLACE passes", `FUNCTION LOAD REPLACE "#!lua name=l"`, redis7, verbatim, 0},
		{"FUNCTION RESTORE may be repeated", "FUNCTION RESTORE p", redis7, "FUNCTION RESTORE p REPLACE", 0},
		{"FUNCTION RESTORE FLUSH passes", "FUNCTION RESTORE p FLUSH", redis7, verbatim, 0},
		{"FUNCTION DELETE passes", "FUNCTION DELETE l", redis7, verbatim, 0},

		{"SLOTSRESTORE becomes a RESTORE for each key", "SLOTSRESTORE a 0 p b 500 q", redis7, "RESTORE a 0 p REPLACE | RESTORE b 1700000000500 q REPLACE ABSTTL", at + 500},
		{"SLOTSRESTORE to an old target sets deadlines behind", "SLOTSRESTORE a 7 p b 5 q", redis4, "RESTORE a 0 p REPLACE | PEXPIREAT a 1700000000007 | RESTORE b 0 q REPLACE | PEXPIREAT b 1700000000005", at + 7},
		{"SLOTSRESTORE-ASYNC delete becomes DEL", "SLOTSRESTORE-ASYNC delete k", redis7, "DEL k", 0},
		{"SLOTSRESTORE-ASYNC string becomes SET", "SLOTSRESTORE-ASYNC string k 0 hello", redis7, "SET k hello", 0},
		{"SLOTSRESTORE-ASYNC string with a TTL becomes SET and a deadline", "slotsrestore-async STRING k 9 hello", redis7, "SET k hello | PEXPIREAT k 1700000000009", at + 9},
		{"SLOTSRESTORE-ASYNC object becomes RESTORE", "SLOTSRESTORE-ASYNC object k 0 p", redis7, "RESTORE k 0 p REPLACE", 0},
		{"SLOTSRESTORE-ASYNC list keeps its order", "SLOTSRESTORE-ASYNC list k 9000 600 a b c", redis7, "RPUSH k a b c | PEXPIREAT k 1700000009000", at + 9000},
		{"an empty last list chunk sets the TTL alone", "SLOTSRESTORE-ASYNC list k 9000 600", redis7, "PEXPIREAT k 1700000009000", at + 9000},
		{"SLOTSRESTORE-ASYNC hash with TTL 0 persists", "SLOTSRESTORE-ASYNC hash k 0 2 f v g w", redis7, "HMSET k f v g w | PERSIST k", 0},
		{"SLOTSRESTORE-ASYNC dict is a set", "SLOTSRESTORE-ASYNC dict k 1 2 a b", redis7, "SADD k a b | PEXPIREAT k 1700000000001", at + 1},
		{
			"SLOTSRESTORE-ASYNC zset has raw little-endian doubles", `SLOTSRESTORE-ASYNC zset k 1 4 a "\x9a\x99\x99\x99\x99\x99\xb9?" b "\x00\x00\x00\x00\x00\x00\xf0\x7f" c "\x00\x00\x00\x00\x00\x00\xf0\xff" d "\x00\x00\x00\x00\x00\x00\x00\x80"`, redis7,
			"ZADD k 0.10000000000000001 a inf b -inf c -0 d | PEXPIREAT k 1700000000001", at + 1,
		},
		{"SLOTSRESTORE-ASYNC expire 0 persists", "SLOTSRESTORE-ASYNC expire k 0", redis7, "PERSIST k", 0},
		{"SLOTSRESTORE-ASYNC expire sets the TTL", "SLOTSRESTORE-ASYNC expire k 5", redis7, "PEXPIREAT k 1700000000005", at + 5},

		{"MULTI passes", "MULTI", redis7, verbatim, 0},
		{"EVAL passes", "EVAL body 1 k", redis7, verbatim, 0},
		{"an unknown command passes", "NOSUCH a b c", redis7, verbatim, 0},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			args := words(t, tt.in)
			raw := encode(args)
			want, rewritten := strings.Split(tt.want, " | "), true
			if tt.want == verbatim {
				want, rewritten = decode(t, raw), false
			}
			out, n, info, err := command.Lookup(args[0]).AppendRewrite([]byte("kept"), raw, args, at, tt.caps)
			if err != nil {
				t.Fatalf("rewrite %s: %v", tt.in, err)
			}
			rest, ok := bytes.CutPrefix(out, []byte("kept"))
			if !ok {
				t.Fatalf("rewrite %s: what stood in dst before is gone: %q", tt.in, out)
			}
			got := decode(t, rest)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("rewrite %s (-want +got):\n%s", tt.in, diff)
			}
			if n != len(got) {
				t.Errorf("rewrite %s: count: got %d, want %d", tt.in, n, len(got))
			}
			if want := (command.Info{Rewritten: rewritten, DeadlineMS: tt.deadline}); info != want {
				t.Errorf("rewrite %s: info: got %+v, want %+v", tt.in, info, want)
			}
			if !rewritten && !bytes.Equal(rest, raw) {
				t.Errorf("rewrite %s: got %q, want the bytes as they came %q", tt.in, rest, raw)
			}
		})
	}
}

func TestRewriteRefuses(t *testing.T) {
	const max = "9223372036854775807"
	tests := []struct {
		claim, in string
		at        int64
		want      string
	}{
		{"too few arguments", "SETEX k 1", at, "SETEX: has 3 arguments, expected at least 4"},
		{"a bare INCR", "INCR", at, "INCR: has 1 arguments, expected at least 2"},
		{"a TTL that is no number", "SETEX k abc v", at, `SETEX argument 2 "abc": not a 64-bit integer`},
		{"an empty TTL", `EXPIRE k ""`, at, `EXPIRE argument 2 "": not a 64-bit integer`},
		{"a sign without digits", "EXPIRE k -", at, `EXPIRE argument 2 "-": not a 64-bit integer`},
		{"a TTL beyond 64 bits", "PEXPIRE k 9223372036854775808", at, `PEXPIRE argument 2 "9223372036854775808": not a 64-bit integer`},
		{"a TTL beyond 128 bits", "PEXPIRE k 999999999999999999999999999999999999999", at, `PEXPIRE argument 2 "999999999999999999999999999999999999999": not a 64-bit integer`},
		{"seconds that overflow as milliseconds", "EXPIRE k " + max, at, `EXPIRE argument 2 "` + max + `": time overflows`},
		{"seconds that underflow as milliseconds", "EXPIRE k -9223372036854775808", at, `EXPIRE argument 2 "-9223372036854775808": time overflows`},
		{"a sum that overflows", "PEXPIRE k " + max, at, `PEXPIRE argument 2 "` + max + `": time overflows`},
		{"EXPIREAT that overflows", "EXPIREAT k " + max, at, `EXPIREAT argument 2 "` + max + `": time overflows`},
		{"SET EX that overflows", "SET k v EX " + max, at, `SET argument 4 "` + max + `": time overflows`},
		{"RESTORE that overflows", "RESTORE k " + max + " p", at, `RESTORE argument 2 "` + max + `": time overflows`},
		{"SLOTSRESTORE that overflows", "SLOTSRESTORE a 0 p k " + max + " p", at, `SLOTSRESTORE argument 5 "` + max + `": time overflows`},
		{"SETEX 0, which no source accepts", "SETEX k 0 v", at, `SETEX argument 2 "0": time is not positive`},
		{"a negative SET PX", "SET k v PX -5", at, `SET argument 4 "-5": time is not positive`},
		{"a negative RESTORE", "RESTORE k -1 p", at, `RESTORE argument 2 "-1": time is negative`},
		{"SET EX without its time", "SET k v EX", at, `SET argument 4 "": missing`},
		{"SET with two times", "SET k v EX 1 PX 2", at, `SET argument 5 "PX": a second expiry`},
		{"SET with a time and KEEPTTL", "SET k v EX 1 KEEPTTL", at, `SET argument 5 "KEEPTTL": a second expiry`},
		{"an option that SET does not have", "SET k v WAT", at, `SET argument 3 "WAT": not an option`},
		{"an option that EXPIRE does not have", "EXPIRE k 1 WAT", at, `EXPIRE argument 3 "WAT": not an option`},
		{"an option that GETEX does not have", "GETEX k WAT", at, `GETEX argument 2 "WAT": not an option`},
		{"GETEX with two options", "GETEX k EX 1 PERSIST", at, `GETEX argument 2 "EX": not an option`},
		{"an option that RESTORE does not have", "RESTORE k 0 p WAT", at, `RESTORE argument 4 "WAT": not an option`},
		{"IDLETIME without its number", "RESTORE k 0 p IDLETIME", at, `RESTORE argument 5 "": missing`},
		{"a relative time while the source's clock is unknown", "EXPIRE k 100", 0, "EXPIRE: relative time, and the source's clock is not known (0)"},
		{"SETEX while the source's clock is unknown", "SETEX k 100 v", -1, "SETEX: relative time, and the source's clock is not known (-1)"},
		{"SET PX while the source's clock is unknown", "SET k v PX 100", 0, "SET: relative time, and the source's clock is not known (0)"},
		{"RESTORE while the source's clock is unknown", "RESTORE k 100 p", 0, "RESTORE: relative time, and the source's clock is not known (0)"},
		{"BRPOPLPUSH with too much", "BRPOPLPUSH a b 1 2", at, `BRPOPLPUSH argument 4 "2": one argument too many`},
		{"XGROUP ENTRIESREAD without its number", "XGROUP SETID s g 1-1 MKSTREAM ENTRIESREAD", at, `XGROUP argument 7 "": missing`},
		{"FUNCTION LOAD without code", "FUNCTION LOAD", at, `FUNCTION argument 2 "": missing`},
		{"SLOTSRESTORE without a payload", "SLOTSRESTORE a 0 p b 0", at, `SLOTSRESTORE argument 6 "": missing`},
		{"a step without its key", "SLOTSRESTORE-ASYNC delete", at, `SLOTSRESTORE-ASYNC argument 2 "": missing`},
		{"a step that codis does not have", "SLOTSRESTORE-ASYNC wat k 0 1 a", at, `SLOTSRESTORE-ASYNC argument 1 "wat": not a step`},
		{"a step without its value", "SLOTSRESTORE-ASYNC string k 0", at, `SLOTSRESTORE-ASYNC argument 4 "": missing`},
		{"a hash chunk of odd length", "SLOTSRESTORE-ASYNC hash k 0 1 f", at, `SLOTSRESTORE-ASYNC argument 6 "": missing`},
		{"a score that is not 8 bytes", "SLOTSRESTORE-ASYNC zset k 0 1 m 1.5", at, `SLOTSRESTORE-ASYNC argument 6 "1.5": not the 8 bytes of a score`},
		{"a score that is not a number", `SLOTSRESTORE-ASYNC zset k 0 1 m "\x01\x00\x00\x00\x00\x00\xf0\x7f"`, at, `SLOTSRESTORE-ASYNC argument 6 "\x01\x00\x00\x00\x00\x00\xf0\x7f": not the 8 bytes of a score`},
		{"SLOTSDEL", "SLOTSDEL 1", at, "SLOTSDEL: is carried out by whoever replays it: see Clears"},
		{"SLOTSMGRTONE", "SLOTSMGRTONE h 1 0 k", at, "SLOTSMGRTONE: belongs between two codis-servers"},
		{"MIGRATE", "MIGRATE h 1 k 0 5", at, "MIGRATE: not supported"},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			args := words(t, tt.in)
			out, n, info, err := command.Lookup(args[0]).AppendRewrite([]byte("kept"), encode(args), args, tt.at, redis62)
			var argErr *command.ArgError
			if !errors.As(err, &argErr) || err.Error() != tt.want {
				t.Errorf("rewrite %s: got error %v, want *ArgError %s", tt.in, err, tt.want)
			}
			if string(out) != "kept" || n != 0 || info != (command.Info{}) {
				t.Errorf("rewrite %s: got %q, %d commands, %+v, want dst as it was", tt.in, out, n, info)
			}
		})
	}
}

func TestRewriteOfNoArguments(t *testing.T) {
	if _, _, _, err := command.Lookup(nil).AppendRewrite(nil, nil, nil, at, redis7); err == nil {
		t.Errorf("rewrite of no arguments: got no error")
	}
}

func TestRewriteMakesArraysOfInlineCommands(t *testing.T) {
	args := words(t, "SET k v")
	for claim, raw := range map[string][]byte{"inline": []byte("SET k v\r\n"), "no raw bytes": nil} {
		out, n, info, err := command.Lookup(args[0]).AppendRewrite(nil, raw, args, at, redis7)
		if err != nil || n != 1 || info.Rewritten || !bytes.Equal(out, encode(args)) {
			t.Errorf("%s: got %q, %d, %+v, %v, want %q", claim, out, n, info, err, encode(args))
		}
	}
}

// The last deadline that is written as it is.
func TestRewriteAtTheEndOfTime(t *testing.T) {
	args := words(t, "PEXPIRE k "+strconv.FormatInt(held.Base-1-at, 10))
	out, _, info, err := command.Lookup(args[0]).AppendRewrite(nil, nil, args, at, redis7)
	if err != nil || info.DeadlineMS != held.Base-1 {
		t.Fatalf("got %q, %+v, %v, want deadline %d", out, info, err, held.Base-1)
	}
}
