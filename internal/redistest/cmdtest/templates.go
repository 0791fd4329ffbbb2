package cmdtest

import (
	"maps"
	"slices"
	"strings"
)

// Rows are the names of the rows that have templates.
func Rows() []string { return slices.Sorted(maps.Keys(templates)) }

// Templates are the lines of a row. Those that a source does not know, or finds of no
// use at the moment, it refuses. Those with an @ are left out where versions before
// and from 7.0 meet: they do not do the same there.
func Templates(row string, alike bool) []string {
	var out []string
	for _, line := range templates[row] {
		line, differs := strings.CutPrefix(line, "@ ")
		if alike || !differs {
			out = append(out, line)
		}
	}
	return out
}

var templates = func() map[string][]string {
	m := map[string][]string{}
	row := ""
	for line := range strings.Lines(lines) {
		switch line = strings.TrimSpace(line); {
		case line == "":
		case strings.HasSuffix(line, ":"):
			row = strings.TrimSuffix(line, ":")
		default:
			m[row] = append(m[row], line)
		}
	}
	return m
}()

const lines = `
SELECT:
	SELECT 1 ; SET {string} {value} ; SELECT 0
	MULTI ; SELECT 1 ; INCR {number} ; SELECT 0 ; INCR {number} ; EXEC
MULTI:
	MULTI ; INCR {number} ; RPUSH {list} {value} ; EXEC
EXEC:
	MULTI ; SET {string} {value} ; LPOP {number} ; INCR {number} ; EXEC
DISCARD:
	MULTI ; INCR {number} ; DISCARD
PING:
	PING
REPLCONF:
	REPLCONF listening-port 1
PUBLISH:
	PUBLISH channel {value}
SPUBLISH:
	SPUBLISH channel {value}
TOUCH:
	TOUCH {any} {any}
DEL:
	DEL {any}
	DEL {string} {any} missing
DELEX:
	SET {string} same ; DELEX {string} IFEQ same
DELIFEQ:
	SET {string} same ; DELIFEQ {string} same
UNLINK:
	UNLINK {string} {any} missing
EXPIRE:
	EXPIRE {any} {sec}
	EXPIRE {any} {sec} NX
	EXPIRE {any} {sec} GT
	EXPIRE {any} -1
PEXPIRE:
	PEXPIRE {any} {ms}
	PEXPIRE {any} {ms} LT
EXPIREAT:
	EXPIREAT {any} {at}
	EXPIREAT {any} {at} XX
	EXPIREAT {any} 1
PEXPIREAT:
	PEXPIREAT {any} {atms}
PERSIST:
	EXPIRE {any0} {sec} ; PERSIST {any0}
	PERSIST {any}
RENAME:
	RENAME {string} {string}
	RENAME {hash} {hash}
	RENAME {zset} {zset}
RENAMENX:
	RENAMENX {string} {string}
	DEL {list0} ; RENAMENX {list1} {list0}
MOVE:
	MOVE {string} 1
	SELECT 1 ; MOVE {string} 0 ; SELECT 0
COPY:
	COPY {list} {list} REPLACE
	COPY {hash} {hash} DB 1 REPLACE
	DEL {zset0} ; COPY {zset1} {zset0}
	EXPIRE {set1} {sec} ; COPY {set1} {set0} REPLACE
RESTORE:
	DEL {string0} ; RESTORE {string0} 0 {payload}
	RESTORE {string} {ms} {payload} REPLACE
	RESTORE {string} {atms} {payload} REPLACE ABSTTL
	RESTORE {string} 0 {payload} REPLACE IDLETIME 100
RESTORE-ASKING:
	RESTORE-ASKING {string} {ms} {payload} REPLACE
SORT:
	SORT {intset} STORE {list}
	SORT {list} ALPHA DESC LIMIT 0 5 STORE {list}
	SORT missing STORE {list}
	SORT {set} BY nosort GET # STORE {list}
MIGRATE:
	MIGRATE {host} {port} {string} 0 10000
	MIGRATE {host} {port} {hash} 0 10000 COPY REPLACE
SET:
	SET {string} {value}
	SET {string} {value} EX {sec}
	SET {string} {value} PX {ms} XX
	SET {string} {value} KEEPTTL
	SET {string} {value} PXAT {atms}
	SET {string} {value} GET
	DEL {string0} ; SET {string0} {value} NX EX {sec}
	SET {string0} same ; SET {string0} {value} IFEQ same
SETNX:
	DEL {string0} ; SETNX {string0} {value}
	SETNX {string} {value}
SETEX:
	SETEX {string} {sec} {value}
PSETEX:
	PSETEX {string} {ms} {value}
GETSET:
	GETSET {string} {value}
GETDEL:
	GETDEL {string}
GETEX:
	GETEX {string} EX {sec}
	GETEX {string} PXAT {atms}
	GETEX {string} PERSIST
MSET:
	MSET {string} {value} {string} {value}
MSETNX:
	DEL {string0} {string1} ; MSETNX {string0} {value} {string1} {value}
MSETEX:
	MSETEX 2 {string} {value} {string} {value} EX {sec}
	MSETEX 1 {string} {value} KEEPTTL
APPEND:
	APPEND {string} {value}
SETRANGE:
	SETRANGE {string} {index} {value}
INCR:
	INCR {number}
DECR:
	DECR {number}
INCRBY:
	INCRBY {number} {int}
DECRBY:
	DECRBY {number} {int}
INCRBYFLOAT:
	INCRBYFLOAT {float} {double}
	INCRBYFLOAT {number} {int}
SETBIT:
	SETBIT {bits} {index} {bit}
BITFIELD:
	BITFIELD {bits} SET u8 {index} {index} INCRBY i16 #1 {int}
	BITFIELD {bits} OVERFLOW FAIL INCRBY u2 {index} 1 GET u8 0
	BITFIELD {bits} GET u8 0
BITOP:
	BITOP AND {bits} {bits} {bits}
	BITOP NOT {bits} {bits}
	BITOP XOR {bits} {string} missing
	BITOP DIFF {bits} {bits} {bits}
PFADD:
	PFADD {hll} {value} {value} {member}
PFMERGE:
	PFMERGE {hll} {hll} {hll}
PFCOUNT:
	PFADD {hll0} {value} ; PFCOUNT {hll0}
	PFCOUNT {hll} {hll}
PFDEBUG:
	PFDEBUG TODENSE {hll}
LPUSH:
	LPUSH {list} {value} {member}
RPUSH:
	RPUSH {list} {value} {value} {member}
LPUSHX:
	LPUSHX {list} {value}
RPUSHX:
	RPUSHX {list} {value}
LINSERT:
	LINSERT {list} BEFORE {member} {value}
	RPUSH {list0} here ; LINSERT {list0} AFTER here {value}
LSET:
	LSET {list} {small} {value}
LREM:
	LREM {list} {small} {member}
	RPUSH {list0} here ; LREM {list0} -1 here
LTRIM:
	LTRIM {list} {small} -1
LPOP:
	LPOP {list}
	LPOP {list} {small}
RPOP:
	RPOP {list}
	RPOP {list} {small}
LMPOP:
	LMPOP 2 {list} {list} LEFT COUNT {small}
	LMPOP 1 {list} RIGHT
RPOPLPUSH:
	RPOPLPUSH {list} {list}
LMOVE:
	LMOVE {list} {list} LEFT RIGHT
	LMOVE {list} {list} RIGHT LEFT
	LMOVE {list0} {list0} LEFT RIGHT
	DEL {list0} ; RPUSH {list0} only ; EXPIRE {list0} {sec} ; LMOVE {list0} {list0} LEFT RIGHT
BLPOP:
	RPUSH {list0} {value} ; BLPOP {list0} 1
	MULTI ; BLPOP {list} {list} 1 ; EXEC
BRPOP:
	RPUSH {list0} {value} ; BRPOP missing {list0} 1
BRPOPLPUSH:
	RPUSH {list0} {value} ; BRPOPLPUSH {list0} {list} 1
	MULTI ; BRPOPLPUSH {list} {list} 1 ; EXEC
BLMOVE:
	RPUSH {list0} {value} ; BLMOVE {list0} {list} LEFT LEFT 1
	MULTI ; BLMOVE {list} {list} RIGHT RIGHT 1 ; EXEC
BLMPOP:
	RPUSH {list0} {value} ; BLMPOP 1 2 missing {list0} LEFT COUNT 2
SADD:
	SADD {set} {member} {value} {member}
	SADD {intset} {int} {int}
SREM:
	SREM {set} {member} {member}
SPOP:
	SPOP {set}
	SPOP {set} {small}
	SPOP {intset} 1000
SMOVE:
	SMOVE {set} {set} {member}
	SADD {set0} here ; SMOVE {set0} {set1} here
SINTERSTORE:
	SINTERSTORE {set} {set} {set}
SUNIONSTORE:
	SUNIONSTORE {set} {set} {set}
SDIFFSTORE:
	SDIFFSTORE {set} {set} {set}
ZADD:
	ZADD {zset} {double} {member} {double} {member}
	ZADD {zset} NX {double} {member}
	ZADD {zset} XX CH {double} {member}
	ZADD {zset} INCR {double} {member}
	ZADD {zset} GT {double} {member} {double} {member}
	ZADD {zset} XX LT CH {double} {member}
	ZADD {zset} LT INCR {double} {member}
	ZADD {zset} inf {member} -inf {member}
ZINCRBY:
	ZINCRBY {zset} {double} {member}
ZREM:
	ZREM {zset} {member} {member}
ZREMRANGEBYRANK:
	ZREMRANGEBYRANK {zset} {small} {small}
ZREMRANGEBYSCORE:
	ZREMRANGEBYSCORE {zset} (1 5
	ZREMRANGEBYSCORE {zset} -inf -5
ZREMRANGEBYLEX:
	DEL {zset0} ; ZADD {zset0} 0 a 0 b 0 c ; ZREMRANGEBYLEX {zset0} [b +
ZPOPMIN:
	ZPOPMIN {zset}
	ZPOPMIN {zset} {small}
ZPOPMAX:
	ZPOPMAX {zset}
	ZPOPMAX {zset} {small}
ZMPOP:
	ZMPOP 2 {zset} {zset} MIN COUNT {small}
BZPOPMIN:
	ZADD {zset0} {double} {member} ; BZPOPMIN {zset0} 1
	MULTI ; BZPOPMIN {zset} {zset} 1 ; EXEC
BZPOPMAX:
	ZADD {zset0} {double} {member} ; BZPOPMAX missing {zset0} 1
BZMPOP:
	ZADD {zset0} {double} {member} ; BZMPOP 1 2 missing {zset0} MAX COUNT 2
ZUNIONSTORE:
	ZUNIONSTORE {zset} 2 {zset} {set}
	ZUNIONSTORE {zset} 2 {zset} {zset} WEIGHTS 2 1 AGGREGATE MAX
ZINTERSTORE:
	ZINTERSTORE {zset} 2 {zset} {zset} AGGREGATE MIN
ZDIFFSTORE:
	ZDIFFSTORE {zset} 2 {zset} {zset}
	ZDIFFSTORE {zset} 3 {zset} {set} missing
ZRANGESTORE:
	ZRANGESTORE {zset} {zset} 0 2
	ZRANGESTORE {zset} {zset} 0 2 REV
	ZRANGESTORE {zset} {zset} -inf (5 BYSCORE LIMIT 0 3
	ZRANGESTORE {zset} {zset} +inf 0 BYSCORE REV
	DEL {zset0} ; ZADD {zset0} 0 a 0 b 0 c ; ZRANGESTORE {zset1} {zset0} [b + BYLEX
	DEL {zset0} ; ZADD {zset0} 0 a 0 b 0 c ; ZRANGESTORE {zset1} {zset0} + - BYLEX REV LIMIT 1 1
GEOADD:
	GEOADD {geo} {lon} {lat} {member} {lon} {lat} {member}
	GEOADD {geo} XX {lon} {lat} {member}
GEORADIUS:
	GEORADIUS {geo} 15 37 500 km STORE {geo}
	GEORADIUS {geo} 15 37 500 km COUNT 2 ASC STOREDIST {zset}
GEORADIUSBYMEMBER:
	GEORADIUSBYMEMBER {geo} {place} 300 km STORE {geo}
GEOSEARCHSTORE:
	GEOSEARCHSTORE {geo} {geo} FROMLONLAT 15 37 BYRADIUS 500 km ASC COUNT 3
	GEOSEARCHSTORE {zset} {geo} FROMMEMBER {place} BYRADIUS 300 km STOREDIST
HSET:
	HSET {hash} {field} {value}
	HSET {hash} {field} {value} {field} {value}
HSETNX:
	HSETNX {hash} {field} {value}
HMSET:
	HMSET {hash} {field} {value} {field} {value}
HDEL:
	HDEL {hash} {field} {field}
HINCRBY:
	HINCRBY {hash} count {int}
HINCRBYFLOAT:
	HINCRBYFLOAT {hash} float {double}
HEXPIRE:
	HEXPIRE {fields} {sec} FIELDS 2 {field} {field}
	HEXPIRE {fields} {sec} NX FIELDS 1 {field}
	HEXPIRE {fields} 0 FIELDS 1 {field}
HPEXPIRE:
	HPEXPIRE {fields} {ms} FIELDS 1 {field}
HEXPIREAT:
	HEXPIREAT {fields} {at} FIELDS 1 {field}
HPEXPIREAT:
	HPEXPIREAT {fields} {atms} FIELDS 1 {field}
HPERSIST:
	HEXPIRE {fields0} {sec} FIELDS 1 {field} ; HPERSIST {fields0} FIELDS 2 {field} {field}
HSETEX:
	HSETEX {fields} EX {sec} FIELDS 2 {field} {value} {field} {value}
	HSETEX {fields} KEEPTTL FIELDS 1 {field} {value}
	HSETEX {fields} FXX PXAT {atms} FIELDS 1 {field} {value}
	HSETEX {fields} FIELDS 1 {field} {value}
HGETEX:
	HGETEX {fields} EX {sec} FIELDS 1 {field}
	HGETEX {fields} PERSIST FIELDS 2 {field} {field}
HGETDEL:
	HGETDEL {fields} FIELDS 2 {field} {field}
XADD:
	XADD {stream} * {field} {value}
	XADD {stream} * {field} {value} {field} {value}
	XADD {stream} MAXLEN {small} * {field} {value}
	XADD {stream} MAXLEN ~ {small} * {field} {value}
	XADD {stream} MAXLEN ~ {small} LIMIT 10 * {field} {value}
	XADD {stream} NOMKSTREAM * {field} {value}
	XADD {stream0} * a b ; XADD {stream0} MINID {lastms} * {field} {value}
XDELEX:
	DEL {stream0} ; XADD {stream0} 5-1 a b ; XDELEX {stream0} DELREF IDS 1 5-1
XACKDEL:
	DEL {stream0} ; XADD {stream0} 5-1 a b ; XGROUP CREATE {stream0} g 0 ; XREADGROUP GROUP g c STREAMS {stream0} > ; XACKDEL {stream0} g IDS 1 5-1
XDEL:
	DEL {stream0} ; XADD {stream0} 5-1 a b ; XADD {stream0} 6-1 a b ; XDEL {stream0} 5-1
XTRIM:
	XTRIM {stream} MAXLEN {small}
	XTRIM {stream} MAXLEN ~ {small} LIMIT 10
	DEL {stream0} ; XADD {stream0} 5-1 a b ; XADD {stream0} 6-0 a b ; XADD {stream0} 7-0 a b ; XTRIM {stream0} MINID 6
XSETID:
	DEL {stream0} ; XADD {stream0} 5-1 a b ; XSETID {stream0} 9-9
	DEL {stream0} ; XADD {stream0} 5-1 a b ; XSETID {stream0} 9-9 ENTRIESADDED 7 MAXDELETEDID 4-0
XGROUP:
	XADD {stream0} * a b ; XGROUP CREATE {stream0} {group} 0
	DEL {stream0} ; XGROUP CREATE {stream0} {group} $ MKSTREAM
	XGROUP CREATE {stream} {group} $
	XGROUP CREATECONSUMER {stream} {group} {consumer}
	XGROUP DELCONSUMER {stream} {group} {consumer}
	XGROUP SETID {stream} {group} 0
	XGROUP DESTROY {stream} {group}
	DEL {stream0} ; XADD {stream0} 5-1 a b ; XGROUP CREATE {stream0} g $ ENTRIESREAD 1
XACK:
	DEL {stream0} ; XADD {stream0} 5-1 a b ; XGROUP CREATE {stream0} g 0 ; XREADGROUP GROUP g c STREAMS {stream0} > ; XACK {stream0} g 5-1
XCLAIM:
	DEL {stream0} ; XADD {stream0} 5-1 a b ; XGROUP CREATE {stream0} g 0 ; XREADGROUP GROUP g c STREAMS {stream0} > ; XCLAIM {stream0} g other 0 5-1
	DEL {stream0} ; XADD {stream0} 5-1 a b ; XGROUP CREATE {stream0} g 0 ; XREADGROUP GROUP g c STREAMS {stream0} > ; XCLAIM {stream0} g other 0 5-1 RETRYCOUNT 7 JUSTID
XAUTOCLAIM:
	DEL {stream0} ; XADD {stream0} 5-1 a b ; XADD {stream0} 6-1 a b ; XGROUP CREATE {stream0} g 0 ; XREADGROUP GROUP g c STREAMS {stream0} > ; XAUTOCLAIM {stream0} g other 0 0 COUNT 1
	@ DEL {stream0} ; XADD {stream0} 5-1 a b ; XADD {stream0} 6-1 a b ; XGROUP CREATE {stream0} g 0 ; XREADGROUP GROUP g c STREAMS {stream0} > ; XDEL {stream0} 6-1 ; XAUTOCLAIM {stream0} g other 0 0 COUNT 5
XREADGROUP:
	XADD {stream0} * a b ; XGROUP CREATE {stream0} {group} 0 ; XREADGROUP GROUP {group} {consumer} COUNT 2 STREAMS {stream0} >
	XREADGROUP GROUP {group} {consumer} COUNT 2 STREAMS {stream} {stream} > >
	XREADGROUP GROUP {group} {consumer} NOACK STREAMS {stream} >
VADD:
	VADD {vector} VALUES 2 0.5 0.25 {member}
VREM:
	VADD {vector0} VALUES 2 0.5 0.25 here ; VREM {vector0} here
VSETATTR:
	VADD {vector0} VALUES 2 0.5 0.25 here ; VSETATTR {vector0} here {"a":1}
EVAL:
	EVAL {incr} 1 {number} {int}
	EVAL {several} 3 {string} {list} {hash} {value}
	EVAL {effects} 1 {set} {member}
	EVAL {nothing} 1 {string}
EVAL_RO:
	EVAL_RO {nothing} 1 {string}
EVALSHA:
	SCRIPT LOAD {incr} ; EVALSHA {incr.sha} 1 {number} {int}
	EVAL {several} 3 {string} {list} {hash} {value} ; EVALSHA {several.sha} 3 {string} {list} {hash} {value}
EVALSHA_RO:
	SCRIPT LOAD {nothing} ; EVALSHA_RO {nothing.sha} 1 {string}
SCRIPT:
	SCRIPT LOAD {several}
	SCRIPT FLUSH
	SCRIPT LOAD {incr} ; SCRIPT FLUSH ; EVAL {incr} 1 {number} 1
FCALL:
	FUNCTION LOAD REPLACE {library} ; FCALL push 1 {list} {value}
FCALL_RO:
	FUNCTION LOAD REPLACE {library} ; FCALL_RO look 1 {string}
FUNCTION:
	FUNCTION LOAD REPLACE {library}
	FUNCTION LOAD REPLACE {library} ; FUNCTION DELETE lib
	FUNCTION FLUSH ; FUNCTION LOAD {library} ; FCALL push 1 {list} {value}
FLUSHALL:
	FLUSHALL
FLUSHDB:
	FLUSHDB
SWAPDB:
	SWAPDB 0 1
SLOTSRESTORE:
	SLOTSRESTORE {string} 0 {payload}
	SLOTSRESTORE {string} {ms} {payload} {string} 0 {payload}
SLOTSRESTORE-ASYNC:
	SLOTSRESTORE-ASYNC delete {any}
	DEL {string0} ; SLOTSRESTORE-ASYNC string {string0} {ms} {value}
	DEL {string0} ; SLOTSRESTORE-ASYNC object {string0} 0 {payload}
	DEL {list0} ; SLOTSRESTORE-ASYNC list {list0} 90000 3 {value} {member} ; SLOTSRESTORE-ASYNC list {list0} 90000 3 ; SLOTSRESTORE-ASYNC expire {list0} 0
	DEL {hash0} ; SLOTSRESTORE-ASYNC hash {hash0} 90000 2 {field} {value} ; SLOTSRESTORE-ASYNC expire {hash0} {ms}
	DEL {set0} ; SLOTSRESTORE-ASYNC dict {set0} 90000 2 {member} {value} ; SLOTSRESTORE-ASYNC expire {set0} 0
	DEL {zset0} ; SLOTSRESTORE-ASYNC zset {zset0} 90000 2 {member} {rawdouble} {member} {rawdouble} ; SLOTSRESTORE-ASYNC expire {zset0} 0
SLOTSDEL:
	SLOTSDEL 1
SLOTSMGRTONE:
	SLOTSMGRTONE 127.0.0.1 1 100 {string}
SLOTSMGRTTAGONE:
	SLOTSMGRTTAGONE 127.0.0.1 1 100 {string}
SLOTSMGRTSLOT:
	SLOTSMGRTSLOT 127.0.0.1 1 100 1
SLOTSMGRTTAGSLOT:
	SLOTSMGRTTAGSLOT 127.0.0.1 1 100 1
SLOTSMGRTONE-ASYNC:
	SLOTSMGRTONE-ASYNC 127.0.0.1 1 100 1 1 {string}
SLOTSMGRTTAGONE-ASYNC:
	SLOTSMGRTTAGONE-ASYNC 127.0.0.1 1 100 1 1 {string}
SLOTSMGRTSLOT-ASYNC:
	SLOTSMGRTSLOT-ASYNC 127.0.0.1 1 100 1 1 1 1
SLOTSMGRTTAGSLOT-ASYNC:
	SLOTSMGRTTAGSLOT-ASYNC 127.0.0.1 1 100 1 1 1 1
SLOTSMGRT-EXEC-WRAPPER:
	SLOTSMGRT-EXEC-WRAPPER {string0} SET {string0} {value}
	SLOTSMGRT-EXEC-WRAPPER {list0} LPOP {list0}
SLOTSRESTORE-ASYNC-AUTH:
	SLOTSRESTORE-ASYNC-AUTH password
SLOTSRESTORE-ASYNC-SELECT:
	SLOTSRESTORE-ASYNC-SELECT 1
SLOTSRESTORE-ASYNC-ACK:
	SLOTSRESTORE-ASYNC-ACK 0 ok
`
