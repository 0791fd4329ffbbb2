package command

import (
	"fmt"
	"math"
	"strconv"
)

// TargetError says that the target is too old for a command, and that nothing it
// knows has the same effect.
type TargetError struct {
	Command string // upper case
	Option  string // of the command, when that is what is too new; else empty
	Since   int    // the version that brought it, as 100*major+minor
}

// Error is one line naming the command and the version.
func (e *TargetError) Error() string {
	what := e.Command
	if e.Option != "" {
		what += " with " + e.Option
	}
	return fmt.Sprintf("%s is of version %d.%d", what, e.Since/100, e.Since%100)
}

// appendEval appends a script in place of a command that the target does not know.
// The keys are named, so that what reads the commands that were sent knows of them.
func appendEval(dst []byte, script string, keys [][]byte, args ...[]byte) []byte {
	dst = appendHeader(dst, 3+len(keys)+len(args))
	dst = appendWord(dst, "EVAL")
	dst = appendWord(dst, script)
	dst = appendNumber(dst, int64(len(keys)))
	for _, k := range keys {
		dst = appendArg(dst, k)
	}
	for _, a := range args {
		dst = appendArg(dst, a)
	}
	return dst
}

// Scripts replicate their effects where they read a clock: else a 4.0 target would
// refuse what they write, and its replicas might write another time. Numbers are
// written by %.0f, for Lua's own format would round them.
const (
	// deadlineOf reads a key's deadline to the millisecond from a server without
	// PEXPIRETIME: its TTL, between two looks at the clock that agree. Each change of a
	// counter would else move the deadline a little.
	deadlineOf = `redis.replicate_commands()
local function ms() local t=redis.call('time') return t[1]*1000+math.floor(t[2]/1000) end
local function deadline(k)
local a,p repeat a=ms() p=redis.call('pttl',k) until p<0 or a==ms()
if p>=0 then return string.format('%.0f',a+p) end
end
`
	setKeepingTTL = deadlineOf + `local d=deadline(KEYS[1])
redis.call('set',KEYS[1],ARGV[1])
if d then redis.call('pexpireat',KEYS[1],d) end`

	copyKey = deadlineOf + `local v=redis.call('dump',KEYS[1])
if not v then return end
local d=deadline(KEYS[1])
if ARGV[1] then redis.call('select',ARGV[1]) end
redis.call('restore',KEYS[2],'0',v,'replace')
if d then redis.call('pexpireat',KEYS[2],d) end`

	// A list that is moved onto itself keeps its only element, and with that its TTL.
	moveElement = `if KEYS[1]==KEYS[2] and redis.call('llen',KEYS[1])<2 then return end
local v=redis.call(ARGV[1],KEYS[1])
if v then redis.call(ARGV[2],KEYS[2],v) end`

	// storeZSet makes a sorted set anew from scores and members by turns.
	storeZSet = `redis.call('del',KEYS[1])
for i=1,#z,1000 do redis.call('zadd',KEYS[1],unpack(z,i,math.min(i+999,#z))) end`

	storeRange = `local r=redis.call(ARGV[1],KEYS[2],unpack(ARGV,2))
local z={}
if string.find(ARGV[1],'lex') then for i,m in ipairs(r) do z[2*i-1]=redis.call('zscore',KEYS[2],m) z[2*i]=m end
else for i=1,#r,2 do z[i]=r[i+1] z[i+1]=r[i] end end
` + storeZSet

	storeDiff = `local function read(k)
local o={}
if redis.call('type',k).ok=='set' then for _,m in ipairs(redis.call('smembers',k)) do o[m]='1' end return o end
local r=redis.call('zrange',k,0,-1,'withscores')
for i=1,#r,2 do o[r[i]]=r[i+1] end
return o
end
local d=read(KEYS[2])
for i=3,#KEYS do for m in pairs(read(KEYS[i])) do d[m]=nil end end
local z={}
for m,s in pairs(d) do z[#z+1]=s z[#z+1]=m end
` + storeZSet

	addIfBeyond = `local gt,xx,incr=ARGV[1]=='gt',ARGV[2]=='xx',ARGV[3]=='incr'
for i=4,#ARGV,2 do
local c=redis.call('zscore',KEYS[1],ARGV[i+1])
if not c then if not xx then redis.call('zadd',KEYS[1],ARGV[i],ARGV[i+1]) end
else
c=tonumber(c)
local n=tonumber(ARGV[i])
if incr then n=c+n end
if gt and n>c or not gt and n<c then redis.call(incr and 'zincrby' or 'zadd',KEYS[1],ARGV[i],ARGV[i+1]) end
end
end`

	trimUpTo = `repeat
local r=redis.call('xrange',KEYS[1],'-',ARGV[1],'count',500)
local ids={}
for i,e in ipairs(r) do ids[i]=e[1] end
if #ids>0 then redis.call('xdel',KEYS[1],unpack(ids)) end
until #ids<500`
)

// copyOlder makes up for COPY source destination [DB n] [REPLACE].
func copyOlder(s *Spec, dst []byte, args [][]byte, _ int64, _ Caps) ([]byte, int, int64, error) {
	var db [][]byte
	for i := 3; i < len(args); i++ {
		switch {
		case is(args[i], "replace"):
		case is(args[i], "db") && i+1 < len(args):
			i++
			db = args[i : i+1]
		default:
			return dst, 0, 0, s.bad(args, i, "not an option")
		}
	}
	return appendEval(dst, copyKey, args[1:3], db...), 1, 0, nil
}

// lmoveOlder makes up for LMOVE source destination LEFT|RIGHT LEFT|RIGHT.
func lmoveOlder(s *Spec, dst []byte, args [][]byte, _ int64, _ Caps) ([]byte, int, int64, error) {
	words := [2][2]string{{"lpop", "rpop"}, {"lpush", "rpush"}}
	var call [2]string
	for i := range call {
		switch a := args[3+i]; {
		case is(a, "left"):
			call[i] = words[i][0]
		case is(a, "right"):
			call[i] = words[i][1]
		default:
			return dst, 0, 0, s.bad(args, 3+i, "neither LEFT nor RIGHT")
		}
	}
	if call == [2]string{"rpop", "lpush"} {
		return appendArgs(dst, "RPOPLPUSH", args[1:3]...), 1, 0, nil
	}
	return appendEval(dst, moveElement, args[1:3], []byte(call[0]), []byte(call[1])), 1, 0, nil
}

// popCount is the rule of LPOP and RPOP key [count]: the count is of 6.2.
func popCount(left bool) rewriteFunc {
	return func(s *Spec, dst []byte, args [][]byte, _ int64, caps Caps) ([]byte, int, int64, error) {
		if len(args) == 2 || !caps.before(602) {
			return dst, 0, 0, nil
		}
		n, err := s.count(args, 2)
		if err != nil {
			return dst, 0, 0, err
		}
		if left {
			return appendTrim(dst, "LTRIM", args[1], n, -1), 1, 0, nil
		}
		return appendTrim(dst, "LTRIM", args[1], 0, -n-1), 1, 0, nil
	}
}

// zpopOlder makes up for ZPOPMIN and ZPOPMAX key [count].
func zpopOlder(lowest bool) rewriteFunc {
	return func(s *Spec, dst []byte, args [][]byte, _ int64, _ Caps) ([]byte, int, int64, error) {
		n := int64(1)
		if len(args) > 2 {
			var err error
			if n, err = s.count(args, 2); err != nil {
				return dst, 0, 0, err
			}
		}
		first, last := -n, int64(-1)
		if lowest {
			first, last = 0, n-1
		}
		if n == 0 { // of nothing: -1 would be the last one
			first, last = 1, 0
		}
		return appendTrim(dst, "ZREMRANGEBYRANK", args[1], first, last), 1, 0, nil
	}
}

func appendTrim(dst []byte, word string, key []byte, first, last int64) []byte {
	dst = appendArg(appendWord(appendHeader(dst, 4), word), key)
	return appendNumber(appendNumber(dst, first), last)
}

// count reads how many elements a command is about at args[i].
func (s *Spec) count(args [][]byte, i int) (int64, error) {
	n, err := s.number(args, i)
	if err == nil && (n < 0 || n == math.MaxInt64) {
		err = s.bad(args, i, "not a count")
	}
	return n, err
}

// zdiffstoreOlder makes up for ZDIFFSTORE destination n key...
func zdiffstoreOlder(s *Spec, dst []byte, args [][]byte, _ int64, _ Caps) ([]byte, int, int64, error) {
	keys := s.AppendKeys(nil, args)
	if n, err := s.number(args, 2); err != nil || n < 1 || int64(len(keys)) != n+1 {
		return dst, 0, 0, s.bad(args, 2, "not the number of keys")
	}
	return appendEval(dst, storeDiff, keys), 1, 0, nil
}

// zrangestoreOlder makes up for ZRANGESTORE destination source first last
// [BYSCORE|BYLEX] [REV] [LIMIT offset count].
func zrangestoreOlder(s *Spec, dst []byte, args [][]byte, _ int64, _ Caps) ([]byte, int, int64, error) {
	by, rev := "", false
	var limit [][]byte
	for i := 5; i < len(args); i++ {
		switch a := args[i]; {
		case is(a, "byscore"):
			by = "byscore"
		case is(a, "bylex"):
			by = "bylex"
		case is(a, "rev"):
			rev = true
		case is(a, "limit") && i+2 < len(args):
			limit = args[i : i+3]
			i += 2
		default:
			return dst, 0, 0, s.bad(args, i, "not an option")
		}
	}
	word := "zrange"
	if rev {
		word = "zrevrange"
	}
	call := [][]byte{[]byte(word + by), args[3], args[4]}
	if by != "bylex" {
		call = append(call, []byte("withscores"))
	}
	return appendEval(dst, storeRange, args[1:3], append(call, limit...)...), 1, 0, nil
}

// geosearchstoreOlder makes GEORADIUS of GEOSEARCHSTORE destination source, which
// knows no boxes, and not ANY.
func geosearchstoreOlder(s *Spec, dst []byte, args [][]byte, _ int64, _ Caps) ([]byte, int, int64, error) {
	word, store := "", []byte("STORE")
	var from, radius, more [][]byte
	for i := 3; i < len(args); i++ {
		a, left := args[i], len(args)-i-1
		switch {
		case is(a, "frommember") && left >= 1:
			word, from = "GEORADIUSBYMEMBER", args[i+1:i+2]
			i++
		case is(a, "fromlonlat") && left >= 2:
			word, from = "GEORADIUS", args[i+1:i+3]
			i += 2
		case is(a, "byradius") && left >= 2:
			radius = args[i+1 : i+3]
			i += 2
		case is(a, "asc"), is(a, "desc"):
			more = append(more, a)
		case is(a, "count") && left >= 1:
			more = append(more, args[i:i+2]...)
			i++
		case is(a, "storedist"):
			store = []byte("STOREDIST")
		case is(a, "bybox"):
			return dst, 0, 0, &TargetError{Command: s.Name, Option: "BYBOX", Since: s.since}
		case is(a, "any"):
			return dst, 0, 0, &TargetError{Command: s.Name, Option: "ANY", Since: s.since}
		default:
			return dst, 0, 0, s.bad(args, i, "not an option")
		}
	}
	if from == nil || radius == nil {
		return dst, 0, 0, s.bad(args, len(args), "missing")
	}
	out := append([][]byte{args[2]}, from...)
	out = append(append(append(out, radius...), more...), store, args[1])
	return appendArgs(dst, word, out...), 1, 0, nil
}

// zadd is the rule of ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member...: GT and
// LT are of 6.2.
func zadd(_ *Spec, dst []byte, args [][]byte, _ int64, caps Caps) ([]byte, int, int64, error) {
	if !caps.before(602) {
		return dst, 0, 0, nil
	}
	words, i := [3]string{}, 2 // gt or lt, xx, incr
	for ; i < len(args); i++ {
		switch a := args[i]; {
		case is(a, "gt"):
			words[0] = "gt"
		case is(a, "lt"):
			words[0] = "lt"
		case is(a, "xx"):
			words[1] = "xx"
		case is(a, "incr"):
			words[2] = "incr"
		case is(a, "nx"), is(a, "ch"):
		default:
			if words[0] == "" || (len(args)-i)%2 != 0 {
				return dst, 0, 0, nil
			}
			call := [][]byte{[]byte(words[0]), []byte(words[1]), []byte(words[2])}
			return appendEval(dst, addIfBeyond, args[1:2], append(call, args[i:]...)...), 1, 0, nil
		}
	}
	return dst, 0, 0, nil
}

// bitop is the rule of BITOP: DIFF, DIFF1, ANDOR and ONE are of 8.2.
func bitop(s *Spec, dst []byte, args [][]byte, _ int64, caps Caps) ([]byte, int, int64, error) {
	for _, op := range []string{"diff", "diff1", "andor", "one"} {
		if caps.before(802) && is(args[1], op) {
			return dst, 0, 0, &TargetError{Command: s.Name, Option: string(args[1]), Since: 802}
		}
	}
	return dst, 0, 0, nil
}

// msetex is the rule of MSETEX n key value ... [NX|XX] [EX|PX|EXAT|PXAT t|KEEPTTL].
func msetex(s *Spec, dst []byte, args [][]byte, at int64, caps Caps) ([]byte, int, int64, error) {
	n, err := s.count(args, 1)
	if err != nil || n < 1 || n > int64(len(args)-2)/2 {
		return dst, 0, 0, s.bad(args, 1, "not the number of keys")
	}
	pairs := args[2 : 2+2*n]
	deadline, keep, i, err := s.expiries(args, 2+int(2*n), at, "nx", "xx")
	switch {
	case err != nil:
		return dst, 0, 0, err
	case i < len(args):
		return dst, 0, 0, s.bad(args, i, "not an option")
	}
	if keep {
		for i := 0; i < len(pairs); i += 2 {
			var err error
			if dst, _, _, err = set(s, dst, [][]byte{nil, pairs[i], pairs[i+1], []byte("KEEPTTL"), []byte("GET")}, at, caps); err != nil {
				return dst, 0, 0, err
			}
		}
		return dst, int(n), 0, nil
	}
	dst = appendArgs(dst, "MSET", pairs...)
	if deadline == 0 {
		return dst, 1, 0, nil
	}
	for i := 0; i < len(pairs); i += 2 {
		dst = appendExpireAt(dst, pairs[i], deadline, caps)
	}
	return dst, 1 + int(n), deadline, nil
}

// idBefore is the stream id just before one given as ms or ms-seq; ok is false where
// there is none, or b is no id.
func idBefore(b []byte) (id string, first, ok bool) {
	ms, seq := b, []byte("0")
	for i, c := range b {
		if c == '-' {
			ms, seq = b[:i], b[i+1:]
			break
		}
	}
	m, err1 := strconv.ParseUint(string(ms), 10, 64)
	s, err2 := strconv.ParseUint(string(seq), 10, 64)
	switch {
	case err1 != nil || err2 != nil:
		return "", false, false
	case s > 0:
		s--
	case m > 0:
		m, s = m-1, math.MaxUint64
	default:
		return "", true, true
	}
	return strconv.FormatUint(m, 10) + "-" + strconv.FormatUint(s, 10), false, true
}
