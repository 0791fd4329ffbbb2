package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

// scratch is a database for trying what a server can do.
const scratch = 9

// can tells whether a server does all of the commands without an error. It
// empties the server afterwards.
func can(t *testing.T, s *redistest.Server, commands ...[]string) bool {
	t.Helper()
	defer s.Do(t, "FLUSHALL")
	c := s.Dial(t)
	for _, args := range append([][]string{{"SELECT", strconv.Itoa(scratch)}}, commands...) {
		_, err := c.Do(t.Context(), args...)
		var refused resp.ServerError
		if errors.As(err, &refused) {
			return false
		}
		if err != nil {
			t.Fatalf("%q at %s: %v", args, s.Addr, err)
		}
	}
	return true
}

// kept is a key that is made before a migration: of a type, an encoding, or with
// something else that a full sync has to bring.
type kept struct {
	name string
	make []string // K stands for the key
	more [][]string
	many func(i int) []string // what is appended to make, for i below size
	size int
}

// words is a command from one line; K, L and M stand for keys, N for a number.
func words(line string) []string { return strings.Fields(line) }

const (
	farMS  = "4102444800123"
	farSec = "4102444800"
)

func item(i int) string { return fmt.Sprintf("item-%d", i) }

var keptKeys = []kept{
	{name: "string", make: words("SET K v")},
	{name: "string empty", make: []string{"SET", "K", ""}},
	{name: "string binary", make: []string{"SET", "K", "\x00\r\n$5\r\n\xff\xfe"}},
	{name: "string int8", make: words("SET K -128")},
	{name: "string int16", make: words("SET K 32767")},
	{name: "string int32", make: words("SET K -2147483648")},
	{name: "string int64", make: words("SET K 9223372036854775807")},
	{name: "string like a number", make: words("SET K 007")},
	{name: "string raw", make: []string{"SET", "K", strings.Repeat("0123456789abcdef", 10)}},
	{name: "string compressed", make: []string{"SET", "K", strings.Repeat("a", 1<<20)}},
	{name: "string bitmap", make: words("SETBIT K 99999 1")},
	{name: "string float", make: words("INCRBYFLOAT K 3.25")},
	{name: "hll sparse", make: words("PFADD K a b c d")},
	{name: "hll dense", make: words("PFADD K"), many: func(i int) []string { return []string{item(i)} }, size: 5000},
	{name: "list packed", make: []string{"RPUSH", "K", "a", "", "-1", "4294967296", "\x00\xff"}},
	{name: "list of nodes", make: words("RPUSH K"), many: func(i int) []string { return []string{item(i)} }, size: 5000},
	{name: "list of large elements", make: []string{"RPUSH", "K", strings.Repeat("x", 70_000), "small", strings.Repeat("yz", 50_000)}},
	{name: "set of int16", make: words("SADD K 1 2 -3")},
	{name: "set of int32", make: words("SADD K 1 70000 -70000")},
	{name: "set of int64", make: words("SADD K 1 5000000000")},
	{name: "set packed", make: []string{"SADD", "K", "a", "", "1", "\xff"}},
	{name: "set table", make: words("SADD K"), many: func(i int) []string { return []string{item(i)} }, size: 1000},
	{name: "set of many ints", make: words("SADD K"), many: func(i int) []string { return []string{strconv.Itoa(i * i)} }, size: 1000},
	{name: "zset packed", make: words("ZADD K 1 a -1.5 b 0.1 c inf d -inf e -0 f 1e300 g 1.7976931348623157e308 h")},
	{
		name: "zset table", make: words("ZADD K"), size: 600,
		many: func(i int) []string { return []string{strconv.FormatFloat(float64(i)/7, 'g', -1, 64), item(i)} },
	},
	{name: "zset of a large member", make: []string{"ZADD", "K", "5", strings.Repeat("m", 5000)}},
	{name: "hash packed", make: []string{"HMSET", "K", "f", "v", "", "", "n", "12", "b", "\x00\xff"}},
	{name: "hash table", make: words("HMSET K"), many: func(i int) []string { return []string{item(i), strconv.Itoa(i)} }, size: 1000},
	{name: "hash of a large value", make: []string{"HMSET", "K", "f", strings.Repeat("v", 100_000)}},
	{
		name: "hash with deadlines of fields", make: words("HSET K f v g w h x"),
		more: [][]string{words("HPEXPIREAT K " + farMS + " FIELDS 1 f"), words("HEXPIRE K 3000 FIELDS 1 h")},
	},
	{
		name: "hash table with a deadline of a field", make: words("HSET K"), size: 600,
		many: func(i int) []string { return []string{item(i), "v"} }, more: [][]string{words("HPEXPIREAT K " + farMS + " FIELDS 1 item-5")},
	},
	{name: "geo", make: words("GEOADD K 13.361389 38.115556 Palermo 15.087269 37.502669 Catania")},
	{name: "string with a deadline", make: words("SET K v"), more: [][]string{words("PEXPIREAT K " + farMS)}},
	{name: "string with a long number and a deadline", make: words("SET K 12345678901"), more: [][]string{words("EXPIRE K 3000")}},
	{name: "list with a deadline", make: words("RPUSH K a b"), more: [][]string{words("EXPIRE K 3000")}},
	{name: "set with a deadline", make: words("SADD K a b"), more: [][]string{words("PEXPIRE K 3000000")}},
	{name: "zset with a deadline", make: words("ZADD K 1 a"), more: [][]string{words("EXPIREAT K " + farSec)}},
	{name: "hash with a deadline", make: words("HMSET K a b"), more: [][]string{words("PEXPIREAT K " + farMS)}},
	{name: "stream", make: words("XADD K 5-1 f v g w"), more: [][]string{words("XADD K 6-0 other fields"), words("XADD K 6-7 f v g w")}},
	{name: "stream with a deadline", make: words("XADD K 5-1 f v"), more: [][]string{words("PEXPIREAT K " + farMS)}},
	{name: "stream of many", make: words("XADD K 1-1 f v"), more: manyEntries(300)},
	{name: "stream trimmed", make: words("XADD K 1-1 f v"), more: [][]string{words("XADD K 2-1 f v"), words("XADD K 3-1 f v"), words("XTRIM K MAXLEN 1")}},
	{name: "stream deleted from", make: words("XADD K 1-1 f v"), more: [][]string{words("XADD K 2-1 f v"), words("XADD K 3-1 f v"), words("XDEL K 2-1"), words("XDEL K 3-1")}},
	{name: "stream emptied", make: words("XADD K 7-3 f v"), more: [][]string{words("XDEL K 7-3")}},
	{name: "stream with a last id set", make: words("XADD K 7-3 f v"), more: [][]string{words("XSETID K 99-5")}},
	{name: "stream of a group alone", make: words("XGROUP CREATE K g $ MKSTREAM")},
	{name: "stream with groups", make: words("XADD K 1-1 f v"), more: [][]string{
		words("XADD K 2-1 f v"), words("XADD K 3-1 f v"), words("XADD K 4-1 f v"),
		words("XGROUP CREATE K g 0"), words("XGROUP CREATE K idle $"), words("XGROUP CREATE K behind 2-1"),
		words("XREADGROUP GROUP g alice COUNT 2 STREAMS K >"), words("XREADGROUP GROUP g bob COUNT 1 STREAMS K >"),
		words("XREADGROUP GROUP behind carol COUNT 1 NOACK STREAMS K >"),
		words("XACK K g 2-1"), words("XREADGROUP GROUP g bob STREAMS K 0"), words("XDEL K 3-1"),
	}},
	{name: "stream with an idle consumer", make: words("XADD K 1-1 f v"), more: [][]string{
		words("XGROUP CREATE K g 0"), words("XGROUP CREATECONSUMER K g nobody"),
	}},
}

func manyEntries(n int) (out [][]string) {
	for i := range n {
		out = append(out, words(fmt.Sprintf("XADD K %d-%d f %s n %d", 1000+i/3, 1+i%3, item(i), i)))
	}
	for i := 0; i < n; i += 17 {
		out = append(out, words(fmt.Sprintf("XDEL K %d-%d", 1000+i/3, 1+i%3)))
	}
	return out
}

// commands are those that make the key, under its name.
func (k kept) commands() [][]string {
	first := slices.Clone(k.make)
	for i := range k.size {
		first = append(first, k.many(i)...)
	}
	out := append([][]string{first}, k.more...)
	for i, args := range out {
		out[i] = slices.Clone(args)
		if at := slices.Index(args, "K"); at >= 0 {
			out[i][at] = k.name
		}
	}
	return out
}

// written is one kind of write during a migration.
type written struct {
	do string // commands, of the words of one line each, parted by ";"
	// sent is what a source propagates for them, where a target may know this
	// and not those.
	sent  string
	short bool // the key does not live long
}

var writes = []written{
	{do: "SET K N"},
	{do: "SET K N EX 2000"},
	{do: "SET K N PX 2000000 XX"},
	{do: "SET K N PXAT " + farMS},
	{do: "SET K N EX 2000;SET K v KEEPTTL"},
	{do: "SET K N;SET K v GET"},
	{do: "SET K N PX 300", short: true},
	{do: "SETEX K 2000 N"},
	{do: "PSETEX K 2000000 N"},
	{do: "SETNX K N"},
	{do: "GETSET K N"},
	{do: "SET K N;GETDEL K", sent: "SET K N;DEL K"},
	{do: "SET K N;GETEX K EX 2000", sent: "SET K N;PEXPIREAT K " + farMS},
	{do: "SET K N EX 2000;GETEX K PERSIST", sent: "PERSIST K"},
	{do: "MSET K N L N"},
	{do: "MSETNX K N L N"},
	{do: "APPEND K N"},
	{do: "SETRANGE K 5 N"},
	{do: "INCR K"},
	{do: "INCRBY K N"},
	{do: "DECR K"},
	{do: "DECRBY K N"},
	{do: "INCRBYFLOAT K 0.1"},
	{do: "SETBIT K N 1"},
	{do: "SETBIT K N 1;BITOP NOT L K"},
	{do: "BITFIELD K SET u8 0 N INCRBY i5 20 1"},
	{do: "PFADD K N"},
	{do: "PFADD K N;PFADD L v;PFMERGE M K L"},
	{do: "PFADD K N;PFCOUNT K"},
	{do: "PFADD K N;PFADD L v;DEL M;PFMERGE M K L"},
	{do: "SET K N;DEL K"},
	{do: "SET K N;DEL K L M"},
	{do: "SET K N;UNLINK K"},
	{do: "SET K N;RENAME K L"},
	{do: "SET K N;RENAMENX K L"},
	{do: "SET K N;MOVE K 5"},
	{do: "SET K N;COPY K L REPLACE"},
	{do: "SET K N;COPY K L DB 5 REPLACE"},
	{do: "SET K N;EXPIRE K 2000"},
	{do: "SET K N;PEXPIRE K 2000000"},
	{do: "SET K N;EXPIREAT K " + farSec},
	{do: "SET K N;PEXPIREAT K " + farMS},
	{do: "SET K N EX 2000;PERSIST K"},
	{do: "SET K N;EXPIRE K -1", sent: "SET K N;DEL K"},
	{do: "SET K N EX 2000;EXPIRE K 3000 GT", sent: "PEXPIREAT K " + farMS},

	{do: "RPUSH K N a b"},
	{do: "LPUSH K N"},
	{do: "RPUSH K N;LPUSHX K x;RPUSHX K y"},
	{do: "RPUSH K N a b;LPOP K;RPOP K"},
	{do: "RPUSH K N a b c;LPOP K 2"},
	{do: "RPUSH K N a;LINSERT K BEFORE a x"},
	{do: "RPUSH K N a;LSET K 0 z"},
	{do: "RPUSH K N a N;LREM K -1 N"},
	{do: "RPUSH K N a b;LTRIM K -20 -1"},
	{do: "RPUSH K N;RPOPLPUSH K L"},
	{do: "RPUSH K N;BRPOPLPUSH K L 1"},
	{do: "RPUSH K N a;BLPOP K 1"},
	{do: "RPUSH K N a;BRPOP L K 1"},
	{do: "RPUSH K N;LMOVE K L LEFT RIGHT"},
	{do: "RPUSH K N;BLMOVE K L RIGHT LEFT 1", sent: "RPUSH K N;LMOVE K L RIGHT LEFT"},
	{do: "RPUSH K N a b;LMPOP 1 K LEFT COUNT 2", sent: "RPUSH K N a b;LPOP K 2"},
	{do: "RPUSH K N a b;BLMPOP 1 2 L K RIGHT COUNT 2", sent: "RPUSH K N a b;RPOP K 2"},
	{do: "RPUSH K 3 N 2;SORT K LIMIT 0 5 STORE L"},

	{do: "SADD K N a"},
	{do: "SADD K N a b;SREM K a N"},
	{do: "SADD K N;SMOVE K L N"},
	{do: "SADD K N a b;SADD L b c;SINTERSTORE M K L"},
	{do: "SADD K N a b;SADD L b c;SUNIONSTORE M K L"},
	{do: "SADD K N a b;SADD L b c;SDIFFSTORE M K L"},
	{do: "SADD K N a b c;SPOP K"},
	{do: "SADD K N a b c d e;SPOP K 2", sent: "SREM K a"},

	{do: "ZADD K N a 0.1 b"},
	{do: "ZADD K NX N a;ZADD K XX CH 2 a;ZADD K INCR 0.5 a"},
	{do: "ZADD K GT N a;ZADD K LT 5 b"},
	{do: "ZINCRBY K 0.7 a"},
	{do: "ZADD K N a 2 b;ZREM K a"},
	{do: "ZADD K 1 N 2 b 3 c;ZREMRANGEBYRANK K 0 0"},
	{do: "ZADD K N N 2 b 3 c;ZREMRANGEBYSCORE K (2 3"},
	{do: "ZADD K 0 N 0 b 0 c;ZREMRANGEBYLEX K [b [c"},
	{do: "ZADD K N a 2 b;ZADD L 1 a 1 c;ZUNIONSTORE M 2 K L WEIGHTS 2 0.5 AGGREGATE MAX"},
	{do: "ZADD K N a 2 b;ZADD L 1 a 1 c;ZINTERSTORE M 2 K L"},
	{do: "ZADD K N a 2 b;ZADD L 1 a 1 c;ZDIFFSTORE M 2 K L"},
	{do: "ZADD K 1 N 2 b;ZRANGESTORE L K 0 5"},
	{do: "ZADD K 1 N 2 b 3 c;ZPOPMIN K;ZPOPMAX K 1"},
	{do: "ZADD K 1 N 2 b;BZPOPMIN K 1", sent: "ZPOPMIN K"},
	{do: "ZADD K 1 N 2 b 3 c;ZMPOP 1 K MIN COUNT 2", sent: "ZPOPMIN K 2"},
	{do: "GEOADD K 13.36 38.11 N;GEORADIUS K 13 38 200 km STORE L"},
	{do: "GEOADD K 13.36 38.11 N;GEORADIUSBYMEMBER K N 200 km STOREDIST L"},
	{do: "GEOADD K 13.36 38.11 N;GEOSEARCHSTORE L K FROMLONLAT 13 38 BYRADIUS 200 km"},

	{do: "HSET K f N"},
	{do: "HMSET K f N g v"},
	{do: "HSET K f N g v"},
	{do: "HSETNX K N v"},
	{do: "HINCRBY K f N"},
	{do: "HINCRBYFLOAT K f 0.1"},
	{do: "HMSET K f N g v;HDEL K f"},
	{do: "HSET K f N g v;HGETDEL K FIELDS 1 f", sent: "HDEL K f"},

	{do: "HSET K f N g v;HEXPIRE K 2000 FIELDS 1 f"},
	{do: "HSET K f N g v;HPEXPIREAT K " + farMS + " FIELDS 2 f g;HPERSIST K FIELDS 1 g"},

	{do: "XADD K * f N"},
	{do: "XADD K N-1 f v;XADD K MAXLEN 20 N-2 f v"},
	{do: "XADD K N-1 f v;XADD K MAXLEN ~ 20 N-2 f v"},
	{do: "XADD K N-1 f v;XADD K NOMKSTREAM MINID ~ 3 N-2 f v"},
	{do: "XADD K N-1 f v;XADD K N-* f v", sent: "XADD K N-2 f v"},
	{do: "XADD K N-1 f v;XADD K N-2 f v;XDEL K N-1"},
	{do: "XADD K N-1 f v;XTRIM K MAXLEN 10"},
	{do: "XADD K N-1 f v;XTRIM K MINID 4", sent: "XTRIM K MINID 4"},
	{do: "XADD K N-1 f v;XSETID K N-9"},
	{do: "XGROUP CREATE K g 0 MKSTREAM;XADD K N-1 f v;XREADGROUP GROUP g a COUNT 5 STREAMS K >;XADD K N-2 f v;XREADGROUP GROUP g b STREAMS K >;XACK K g N-2"},
	{do: "XGROUP CREATE K g 0 MKSTREAM;XADD K N-1 f v;XREADGROUP GROUP g a NOACK STREAMS K >"},
	{do: "XGROUP CREATE K g 0 MKSTREAM;XADD K N-1 f v;XREADGROUP GROUP g a STREAMS K >;XCLAIM K g b 0 N-1"},
	{
		do:   "XGROUP CREATE K g 0 MKSTREAM;XADD K N-1 f v;XREADGROUP GROUP g a STREAMS K >;XAUTOCLAIM K g b 0 0 COUNT 2",
		sent: "XGROUP CREATE K g 0 MKSTREAM;XADD K N-1 f v;XREADGROUP GROUP g a STREAMS K >;XCLAIM K g b 0 N-1",
	},
	{do: "XGROUP CREATE K g 0 MKSTREAM;XADD K N-1 f v;XREADGROUP GROUP g a STREAMS K >;XGROUP SETID K g 0"},
	{do: "XGROUP CREATE K g 0 MKSTREAM;XADD K N-1 f v;XREADGROUP GROUP g a STREAMS K >;XGROUP DELCONSUMER K g a"},
	{do: "XGROUP CREATE K g 0 MKSTREAM;XGROUP CREATECONSUMER K g N"},
	{do: "XGROUP CREATE K g 0 MKSTREAM;XGROUP DESTROY K g"},

	{do: "MULTI;SET K N;INCR L;RPUSH M N;EXEC"},
	{do: "MULTI;SET K N;SELECT 5;SET K N;SELECT 0;SET L N;EXEC"},
	{do: "MULTI;SET K N;DISCARD"},
	{do: "EVAL return(redis.call('incrby',KEYS[1],ARGV[1])) 1 K N"},
	{do: "EVAL redis.replicate_commands()return(redis.call('set',KEYS[1],redis.call('time')[1])) 1 K"},
	{do: "EVAL return(redis.call('setex',KEYS[1],2000,ARGV[1])) 1 K N"},
	{do: "FCALL matrix 1 K N", sent: "RPUSH K N"},
	{do: "PUBLISH channel N"},
}

// library has the function that one of the writes calls.
const library = "#!lua name=matrix\nredis.register_function('matrix', function(keys, args) return redis.call('RPUSH', keys[1], args[1]) end)"

// parse gives the commands of a line for the nth time, on keys of its kind's own.
// n goes into what they write; there are a few keys of each kind, so that most
// are written again.
func parse(line string, kind, n int) [][]string {
	key := func(letter string) string { return fmt.Sprintf("m:%d:%s:%d", kind, letter, n%3) }
	var out [][]string
	for _, one := range strings.Split(line, ";") {
		args := words(one)
		for i, a := range args {
			switch a {
			case "K", "L", "M":
				args[i] = key(a)
			case "N":
				args[i] = strconv.Itoa(n)
			default:
				if rest, ok := strings.CutPrefix(a, "N-"); ok {
					args[i] = strconv.Itoa(n) + "-" + rest
				}
			}
		}
		out = append(out, args)
	}
	return out
}
