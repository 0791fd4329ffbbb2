package command_test

import (
	"errors"
	"strings"
	"testing"

	"tairlift/internal/command"
	"tairlift/internal/redistest"
)

var (
	redis5  = command.Caps{AbsTTL: true, Major: 5}
	redis6  = command.Caps{AbsTTL: true, Major: 6}
	redis74 = command.Caps{AbsTTL: true, Major: 7, Minor: 4}
	redis8  = command.Caps{AbsTTL: true, Major: 8}
)

// script in a wanted result stands for the text of an EVAL.
const script = "script"

func TestRewriteForAnOlderTarget(t *testing.T) {
	tests := []struct {
		claim, in string
		caps      command.Caps
		want      string
		deadline  int64
	}{
		{"SET KEEPTTL", "SET k v KEEPTTL", redis5, "EVAL script 1 k v", 0},
		{"SET KEEPTTL passes from 6.0 on", "SET k v KEEPTTL", redis6, verbatim, 0},
		{"COPY", "COPY a b DB 3 REPLACE", redis6, "EVAL script 2 a b 3", 0},
		{"COPY passes from 6.2 on", "COPY a b", redis62, verbatim, 0},
		{"LMOVE that an older version has", "LMOVE a b RIGHT LEFT", redis6, "RPOPLPUSH a b", 0},
		{"LMOVE that none has", "LMOVE a b LEFT RIGHT", redis6, "EVAL script 2 a b lpop rpush", 0},
		{"BLMOVE", "BLMOVE a b right right 0", redis6, "EVAL script 2 a b rpop rpush", 0},
		{"LPOP with a count", "LPOP k 3", redis6, "LTRIM k 3 -1", 0},
		{"RPOP with a count", "RPOP k 3", redis6, "LTRIM k 0 -4", 0},
		{"LPOP without one", "LPOP k", redis6, verbatim, 0},
		{"ZPOPMIN", "ZPOPMIN k", redis4, "ZREMRANGEBYRANK k 0 0", 0},
		{"ZPOPMIN of several", "ZPOPMIN k 3", redis4, "ZREMRANGEBYRANK k 0 2", 0},
		{"ZPOPMAX of several", "ZPOPMAX k 3", redis4, "ZREMRANGEBYRANK k -3 -1", 0},
		{"ZPOPMAX of none", "ZPOPMAX k 0", redis4, "ZREMRANGEBYRANK k 1 0", 0},
		{"BZPOPMAX", "BZPOPMAX k 0", redis4, "ZREMRANGEBYRANK k -1 -1", 0},
		{"ZPOPMAX passes from 5.0 on", "ZPOPMAX k 3", redis5, verbatim, 0},
		{"ZADD GT", "ZADD k GT CH 1 a 2 b", redis6, "EVAL script 1 k gt \"\" \"\" 1 a 2 b", 0},
		{"ZADD XX LT INCR", "ZADD k XX LT INCR 1 a", redis6, "EVAL script 1 k lt xx incr 1 a", 0},
		{"ZADD of what an older version has", "ZADD k NX CH 1 a", redis6, verbatim, 0},
		{"ZADD of a member named so", "ZADD k 1 gt", redis6, verbatim, 0},
		{"ZDIFFSTORE", "ZDIFFSTORE d 2 a b", redis6, "EVAL script 3 d a b", 0},
		{"ZRANGESTORE by rank", "ZRANGESTORE d s 0 -1 REV", redis6, "EVAL script 2 d s zrevrange 0 -1 withscores", 0},
		{"ZRANGESTORE by score", "ZRANGESTORE d s (1 5 BYSCORE LIMIT 0 2", redis6, "EVAL script 2 d s zrangebyscore (1 5 withscores LIMIT 0 2", 0},
		{"ZRANGESTORE by name", "ZRANGESTORE d s + - BYLEX REV", redis6, "EVAL script 2 d s zrevrangebylex + -", 0},
		{"GEOSEARCHSTORE around a place", "GEOSEARCHSTORE d s FROMLONLAT 1 2 BYRADIUS 3 km COUNT 4 DESC STOREDIST", redis6, "GEORADIUS s 1 2 3 km COUNT 4 DESC STOREDIST d", 0},
		{"GEOSEARCHSTORE around a member", "GEOSEARCHSTORE d s BYRADIUS 3 km FROMMEMBER m", redis6, "GEORADIUSBYMEMBER s m 3 km STORE d", 0},
		{"XADD MAXLEN", "XADD s MAXLEN = 5 1-1 f v", redis6, verbatim, 0},
		{"XADD, of which the source made ~ LIMIT into = LIMIT", "XADD s MAXLEN = 5 LIMIT 10 1-1 f v", redis7, "XADD s MAXLEN = 5 1-1 f v", 0},
		{"XTRIM, of which the source did the same", "XTRIM s MINID = 5-1 LIMIT 10", redis7, "XTRIM s MINID = 5-1", 0},
		{"XADD NOMKSTREAM", "XADD s NOMKSTREAM 1-1 f v", redis6, "XADD s 1-1 f v", 0},
		{"XADD MINID", "XADD s MINID = 5-1 7-1 f v", redis6, "XADD s 7-1 f v|EVAL script 1 s 5-0", 0},
		{"XADD MINID passes from 6.2 on", "XADD s MINID 5-1 7-1 f v", redis62, verbatim, 0},
		{"XTRIM MINID of a whole millisecond", "XTRIM s MINID 5", redis6, "EVAL script 1 s 4-18446744073709551615", 0},
		{"XTRIM MINID of nothing", "XTRIM s MINID 0-0", redis6, "XTRIM s MAXLEN 9223372036854775807", 0},
		{"XADD KEEPREF, which older ones do in any case", "XADD s KEEPREF MAXLEN 5 1-1 f v", redis74, "XADD s MAXLEN 5 1-1 f v", 0},
		{"XGROUP CREATECONSUMER", "XGROUP CREATECONSUMER s g c", redis6, "XREADGROUP GROUP g c COUNT 1 STREAMS s 0", 0},
		{"XGROUP CREATECONSUMER passes from 6.2 on", "XGROUP CREATECONSUMER s g c", redis62, verbatim, 0},
		{"DELEX is a DEL", "DELEX k IFEQ v", redis7, "DEL k", 0},
		{"DELIFEQ is a DEL", "DELIFEQ k v", redis7, "DEL k", 0},
		{"MSETEX", "MSETEX 2 a 1 b 2 NX EX 100", redis7, "MSET a 1 b 2|PEXPIREAT a 1700000100000|PEXPIREAT b 1700000100000", at + 100_000},
		{"MSETEX without a time", "MSETEX 1 a 1", redis7, "MSET a 1", 0},
		{"MSETEX KEEPTTL", "MSETEX 2 a 1 b 2 KEEPTTL", redis7, "SET a 1 KEEPTTL|SET b 2 KEEPTTL", 0},
		{"HEXPIRE counts from the source's time", "HEXPIRE h 100 NX FIELDS 1 f", redis74, "HPEXPIREAT h 1700000100000 NX FIELDS 1 f", 0},
		{"HEXPIREAT in ms", "HEXPIREAT h 1700000100 FIELDS 1 f", redis74, "HPEXPIREAT h 1700000100000 FIELDS 1 f", 0},
		{"HPEXPIREAT passes", "HPEXPIREAT h 1700000100000 GT FIELDS 1 f", redis74, verbatim, 0},
		{"HPERSIST passes", "HPERSIST h FIELDS 1 f", redis74, verbatim, 0},
		{"HSETEX as its parts, which 7.4 knows", "HSETEX h FNX PX 500 FIELDS 2 f v g w", redis74, "HSET h f v g w|HPEXPIREAT h 1700000000500 FIELDS 2 f g", 0},
		{"HSETEX without a time, anywhere", "HSETEX h FIELDS 1 f v", redis62, "HSET h f v", 0},
		{"HSETEX KEEPTTL", "HSETEX h FXX KEEPTTL FIELDS 1 f v", redis8, "HSETEX h KEEPTTL FIELDS 1 f v", 0},
		{"HGETEX by its effect", "HGETEX h EX 100 FIELDS 2 f g", redis74, "HPEXPIREAT h 1700000100000 FIELDS 2 f g", 0},
		{"HGETEX PERSIST by its effect", "HGETEX h PERSIST FIELDS 1 f", redis74, "HPERSIST h FIELDS 1 f", 0},
		{"HGETDEL is an HDEL", "HGETDEL h FIELDS 2 f g", redis62, "HDEL h f g", 0},
		{"a command that the target has ported back", "HPEXPIREAT h 1 FIELDS 1 f", command.Caps{Major: 7, Known: map[string]bool{"HPEXPIREAT": true}}, verbatim, 0},
		{"a command that makes use of one", "HEXPIREAT h 1 FIELDS 1 f", command.Caps{Major: 7, Known: map[string]bool{"HPEXPIREAT": true}}, "HPEXPIREAT h 1000 FIELDS 1 f", 0},
		{"of a target that nothing is known of, it passes", "HPEXPIREAT h 1 FIELDS 1 f", command.Caps{}, verbatim, 0},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			args := words(t, tt.in)
			raw := encode(args)
			out, n, info, err := command.Lookup(args[0]).AppendRewrite(nil, raw, args, at, tt.caps)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Split(tt.want, "|")
			if tt.want == verbatim {
				want = decode(t, raw)
			}
			var got []string
			for _, line := range decode(t, out) {
				if args := words(t, line); string(args[0]) == "EVAL" {
					args[1] = []byte(script)
					line = decode(t, encode(args))[0]
				}
				got = append(got, line)
			}
			if strings.Join(got, "|") != strings.Join(want, "|") || n != len(want) || info.DeadlineMS != tt.deadline {
				t.Errorf("rewrite %s: got %q, %d commands, deadline %d, want %q, deadline %d", tt.in, got, n, info.DeadlineMS, want, tt.deadline)
			}
		})
	}
}

func TestRewriteRefusesWhatTheTargetIsTooOldFor(t *testing.T) {
	for _, tt := range []struct {
		in   string
		caps command.Caps
		want string
	}{
		{"XADD s 1-1 f v", redis4, "XADD is of version 5.0"},
		{"XGROUP CREATECONSUMER s g c", redis4, "XGROUP is of version 5.0"},
		{"XGROUP SETID s g 1-1 ENTRIESREAD 5", redis4, "XGROUP is of version 5.0"},
		{"XSETID s 1-1 ENTRIESADDED 5 MAXDELETEDID 0-0", redis4, "XSETID is of version 5.0"},
		{"LMPOP 1 a LEFT", redis62, "LMPOP is of version 7.0"},
		{"BLMPOP 0 1 a LEFT", redis62, "LMPOP is of version 7.0"},
		{"BZMPOP 0 1 a MIN", redis62, "ZMPOP is of version 7.0"},
		{"GEOSEARCHSTORE d s FROMMEMBER m BYBOX 1 2 km", redis6, "GEOSEARCHSTORE with BYBOX is of version 6.2"},
		{"GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 1 km COUNT 1 ANY", redis6, "GEOSEARCHSTORE with ANY is of version 6.2"},
		{"BITOP DIFF d a b", redis74, "BITOP with DIFF is of version 8.2"},
		{"XADD s DELREF MAXLEN 5 1-1 f v", redis74, "XADD with DELREF is of version 8.2"},
		{"XTRIM s MAXLEN 5 ACKED", redis74, "XTRIM with ACKED is of version 8.2"},
		{"XACKDEL s g IDS 1 1-1", redis8, "XACKDEL is of version 8.2"},
		{"HEXPIRE h 1 FIELDS 1 f", redis7, "HEXPIRE is of version 7.4"},
		{"HPERSIST h FIELDS 1 f", redis7, "HPERSIST is of version 7.4"},
		{"HSETEX h EX 1 FIELDS 1 f v", redis7, "HSETEX is of version 8.0"},
		{"HSETEX h KEEPTTL FIELDS 1 f v", redis74, "HSETEX with KEEPTTL is of version 8.0"},
		{"FUNCTION LOAD code", redis62, "FUNCTION is of version 7.0"},
	} {
		args := words(t, tt.in)
		out, n, _, err := command.Lookup(args[0]).AppendRewrite([]byte("kept"), encode(args), args, at, tt.caps)
		var old *command.TargetError
		if !errors.As(err, &old) || err.Error() != tt.want || string(out) != "kept" || n != 0 {
			t.Errorf("rewrite %s: got %q, %d, %v, want *TargetError %s", tt.in, out, n, err, tt.want)
		}
	}
}

// What stands in for a command that an older target does not know leaves on a server
// what the command itself does.
func TestServerEndsTheSameByWhatStandsIn(t *testing.T) {
	s := redistest.Target(t)
	if major, _ := s.Version(); major < 7 {
		t.Skip("the target does not know the commands")
	}
	c := s.Dial(t)
	setup := []string{
		"RPUSH l a b c d", "RPUSH m x", "RPUSH one only", "PEXPIREAT one 4102444800123",
		"ZADD z 1 a 2.5 b 0.1 c inf d -inf e 7 f", "ZADD y 1 a 9 b", "SADD s a c", "ZADD lex 0 a 0 b 0 c 0 d",
		"SET k old", "PEXPIREAT k 4102444800123", "HSET h f v", "PEXPIREAT h 4102444800456",
		"GEOADD g 13.361389 38.115556 palermo 15.087269 37.502669 catania 2.35 48.85 paris",
		"XADD x 5-1 f v", "XADD x 5-2 f v", "XADD x 6-0 f v", "XADD x 7-3 f v", "XGROUP CREATE x grp 0",
	}
	state := func() (out []string) {
		for _, key := range []string{"l", "m", "one", "z", "y", "s", "lex", "k", "h", "g", "x", "new"} {
			typ := s.Do(t, "TYPE", key).String()
			value := ""
			switch typ {
			case "string":
				value = s.Do(t, "GET", key).String()
			case "list":
				value = s.Do(t, "LRANGE", key, "0", "-1").String()
			case "zset":
				value = s.Do(t, "ZRANGE", key, "0", "-1", "WITHSCORES").String()
			case "set":
				value = s.Do(t, "SMEMBERS", key).String()
			case "hash":
				value = s.Do(t, "HGETALL", key).String()
			case "stream":
				value = s.Do(t, "XRANGE", key, "-", "+").String() + s.Do(t, "XINFO", "STREAM", key).Elems[5].String() + s.Do(t, "XINFO", "GROUPS", key).Elems[0].Elems[3].String()
			}
			out = append(out, key+" "+typ+" "+value+" "+s.Do(t, "PEXPIRETIME", key).String())
		}
		return out
	}
	do := func(line string) {
		t.Helper()
		var args []string
		for _, w := range words(t, line) {
			args = append(args, string(w))
		}
		s.Do(t, args...)
	}
	for _, line := range []string{
		"SET k v KEEPTTL", "SET new v KEEPTTL", "COPY h new", "COPY h l REPLACE", "COPY k new", "COPY missing new",
		"LMOVE l m LEFT LEFT", "LMOVE l m LEFT RIGHT", "LMOVE l m RIGHT RIGHT", "LMOVE l m RIGHT LEFT", "LMOVE l l LEFT RIGHT", "LMOVE one one LEFT RIGHT", "LMOVE one new LEFT LEFT", "LMOVE missing m LEFT LEFT",
		"LPOP l 2", "RPOP l 2", "LPOP l 10", "RPOP l 10", "ZPOPMIN z", "ZPOPMIN z 2", "ZPOPMAX z 2", "ZPOPMAX z 10",
		"ZADD z GT 5 a 2 b 8 new", "ZADD z LT 5 a 2 b 8 new", "ZADD z XX GT 5 a 8 new", "ZADD z GT INCR 2 a", "ZADD z LT INCR 2 a", "ZADD z GT 1 d 0 e", "ZADD new GT 1 a",
		"ZDIFFSTORE new 2 z y", "ZDIFFSTORE z 3 z s y", "ZDIFFSTORE k 2 y z", "ZDIFFSTORE new 1 missing",
		"ZRANGESTORE new z 1 2", "ZRANGESTORE new z 0 1 REV", "ZRANGESTORE z z (1 inf BYSCORE", "ZRANGESTORE new z inf 1 BYSCORE REV LIMIT 1 2", "ZRANGESTORE new lex [b + BYLEX", "ZRANGESTORE new lex + (b BYLEX REV LIMIT 0 1", "ZRANGESTORE k z 100 200",
		"GEOSEARCHSTORE new g FROMLONLAT 15 37 BYRADIUS 200 km", "GEOSEARCHSTORE new g FROMMEMBER palermo BYRADIUS 500 km STOREDIST COUNT 1 DESC",
		"XADD x NOMKSTREAM MINID = 5-2 8-0 f v", "XTRIM x MINID 6", "XTRIM x MINID 7-3", "XTRIM x MINID 0-1", "XTRIM x MINID 100", "XGROUP CREATECONSUMER x grp c",
	} {
		t.Run(line, func(t *testing.T) {
			var ends [2][]string
			for i := range ends {
				s.Do(t, "FLUSHALL")
				for _, l := range setup {
					do(l)
				}
				if i == 0 {
					do(line)
				} else {
					args := []string{}
					for _, w := range words(t, line) {
						args = append(args, string(w))
					}
					caps := redis5
					if strings.HasPrefix(line, "ZPOP") {
						caps = redis4
					}
					if info := run(t, c, caps, at, args...); !info.Rewritten {
						t.Error("it is sent as it came")
					}
				}
				ends[i] = state()
			}
			for i := range ends[0] {
				if ends[0][i] != ends[1][i] {
					t.Errorf("got %s, want %s", ends[1][i], ends[0][i])
				}
			}
		})
	}
}
