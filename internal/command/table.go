package command

// table holds every command that can stand in a stream. MinArgs is the lowest of all
// versions (HSET took exactly 4 before 4.0, LPOP exactly 2 before 6.2).
var table = []Spec{
	// Connection and transaction state, and what changes no key.
	{Name: "SELECT", Class: Select, MinArgs: 2},
	{Name: "MULTI", Class: Multi, MinArgs: 1},
	{Name: "EXEC", Class: Exec, MinArgs: 1},
	{Name: "DISCARD", Class: Discard, MinArgs: 1},
	{Name: "PING", Class: Ignore, MinArgs: 1},
	{Name: "REPLCONF", Class: Ignore, MinArgs: 1}, // GETACK, after a WAIT
	{Name: "PUBLISH", Class: Ignore, MinArgs: 3},
	{Name: "SPUBLISH", Class: Ignore, MinArgs: 3},
	{Name: "TOUCH", Class: Ignore, MinArgs: 2, keys: all}, // moves the idle clock alone

	// Any type.
	{Name: "DEL", Class: Write, MinArgs: 2, keys: all},
	{Name: "DELEX", Class: Write, MinArgs: 2, keys: one, rewrite: toDel},   // its condition was true
	{Name: "DELIFEQ", Class: Write, MinArgs: 3, keys: one, rewrite: toDel}, // Valkey 9
	{Name: "UNLINK", Class: Write, MinArgs: 2, keys: all},
	{Name: "EXPIRE", Class: Write, MinArgs: 3, keys: one, rewrite: expire(1000, true)},
	{Name: "PEXPIRE", Class: Write, MinArgs: 3, keys: one, rewrite: expire(1, true)},
	{Name: "EXPIREAT", Class: Write, MinArgs: 3, keys: one, rewrite: expire(1000, false)},
	{Name: "PEXPIREAT", Class: Write, MinArgs: 3, keys: one, rewrite: expire(1, false)},
	{Name: "PERSIST", Class: Write, MinArgs: 2, keys: one},
	{Name: "RENAME", Class: Write, MinArgs: 3, keys: two},
	{Name: "RENAMENX", Class: Write, MinArgs: 3, keys: two},
	{Name: "MOVE", Class: Write, MinArgs: 3, keys: one},
	{Name: "COPY", Class: Write, MinArgs: 3, keys: copyKeys, since: 602, older: copyOlder},
	{Name: "RESTORE", Class: Write, MinArgs: 4, keys: one, rewrite: restore},
	{Name: "RESTORE-ASKING", Class: Write, MinArgs: 4, keys: one, rewrite: restore},
	{Name: "SORT", Class: Write, MinArgs: 2, keys: sortKeys},
	// A source propagates MIGRATE as DEL; sent on, it would make the target call out.
	{Name: "MIGRATE", Class: Unsupported, MinArgs: 6, keys: migrateKeys},

	// Strings, bitmaps, HyperLogLogs.
	{Name: "SET", Class: Write, MinArgs: 3, keys: one, rewrite: set},
	{Name: "SETNX", Class: Write, MinArgs: 3, keys: one},
	{Name: "SETEX", Class: Write, MinArgs: 4, keys: one, rewrite: setex(1000)},
	{Name: "PSETEX", Class: Write, MinArgs: 4, keys: one, rewrite: setex(1)},
	{Name: "GETSET", Class: Write, MinArgs: 3, keys: one},
	{Name: "GETDEL", Class: Write, MinArgs: 2, keys: one, rewrite: toDel},
	{Name: "GETEX", Class: Write, MinArgs: 2, keys: one, rewrite: getex, since: 602},
	{Name: "MSET", Class: Write, MinArgs: 3, keys: pairs},
	{Name: "MSETNX", Class: Write, MinArgs: 3, keys: pairs},
	{Name: "MSETEX", Class: Write, MinArgs: 4, keys: countedPairs, rewrite: msetex, since: 804},
	{Name: "APPEND", Class: Write, MinArgs: 3, keys: one},
	{Name: "SETRANGE", Class: Write, MinArgs: 4, keys: one},
	{Name: "INCR", Class: Write, MinArgs: 2, keys: one},
	{Name: "DECR", Class: Write, MinArgs: 2, keys: one},
	{Name: "INCRBY", Class: Write, MinArgs: 3, keys: one},
	{Name: "DECRBY", Class: Write, MinArgs: 3, keys: one},
	{Name: "INCRBYFLOAT", Class: Write, MinArgs: 3, keys: one},
	{Name: "SETBIT", Class: Write, MinArgs: 4, keys: one},
	{Name: "BITFIELD", Class: Write, MinArgs: 2, keys: one},
	{Name: "BITOP", Class: Write, MinArgs: 4, keys: keyRule{first: 2, last: -1, step: 1}, rewrite: bitop},
	{Name: "PFADD", Class: Write, MinArgs: 2, keys: one},
	{Name: "PFMERGE", Class: Write, MinArgs: 2, keys: all},
	{Name: "PFCOUNT", Class: Write, MinArgs: 2, keys: all}, // stores the count it found in the value
	{Name: "PFDEBUG", Class: Write, MinArgs: 3, keys: keyRule{first: 2, last: 2, step: 1}},

	// Lists.
	{Name: "LPUSH", Class: Write, MinArgs: 3, keys: one},
	{Name: "RPUSH", Class: Write, MinArgs: 3, keys: one},
	{Name: "LPUSHX", Class: Write, MinArgs: 3, keys: one},
	{Name: "RPUSHX", Class: Write, MinArgs: 3, keys: one},
	{Name: "LINSERT", Class: Write, MinArgs: 5, keys: one},
	{Name: "LSET", Class: Write, MinArgs: 4, keys: one},
	{Name: "LREM", Class: Write, MinArgs: 4, keys: one},
	{Name: "LTRIM", Class: Write, MinArgs: 4, keys: one},
	{Name: "LPOP", Class: Write, MinArgs: 2, keys: one, rewrite: popCount(true)},
	{Name: "RPOP", Class: Write, MinArgs: 2, keys: one, rewrite: popCount(false)},
	{Name: "LMPOP", Class: Write, MinArgs: 4, keys: counted(1), since: 700},
	{Name: "RPOPLPUSH", Class: Write, MinArgs: 3, keys: two},
	{Name: "LMOVE", Class: Write, MinArgs: 5, keys: two, since: 602, older: lmoveOlder},
	{Name: "BLPOP", Class: Write, MinArgs: 3, keys: keyRule{first: 1, last: -2, step: 1}, rewrite: popNow(atOnce{word: "LPOP"})},
	{Name: "BRPOP", Class: Write, MinArgs: 3, keys: keyRule{first: 1, last: -2, step: 1}, rewrite: popNow(atOnce{word: "RPOP"})},
	{Name: "BRPOPLPUSH", Class: Write, MinArgs: 4, keys: two, rewrite: moveNow(atOnce{word: "RPOPLPUSH"}, 3)},
	{Name: "BLMOVE", Class: Write, MinArgs: 6, keys: two, rewrite: moveNow(atOnce{"LMOVE", 602, lmoveOlder}, 5)},
	{Name: "BLMPOP", Class: Write, MinArgs: 5, keys: counted(2), rewrite: mpopNow(atOnce{word: "LMPOP", since: 700})},

	// Sets.
	{Name: "SADD", Class: Write, MinArgs: 3, keys: one},
	{Name: "SREM", Class: Write, MinArgs: 3, keys: one},
	{Name: "SPOP", Class: Write, MinArgs: 2, keys: one},
	{Name: "SMOVE", Class: Write, MinArgs: 4, keys: two},
	{Name: "SINTERSTORE", Class: Write, MinArgs: 3, keys: all},
	{Name: "SUNIONSTORE", Class: Write, MinArgs: 3, keys: all},
	{Name: "SDIFFSTORE", Class: Write, MinArgs: 3, keys: all},

	// Sorted sets and geo.
	{Name: "ZADD", Class: Write, MinArgs: 4, keys: one, rewrite: zadd},
	{Name: "ZINCRBY", Class: Write, MinArgs: 4, keys: one},
	{Name: "ZREM", Class: Write, MinArgs: 3, keys: one},
	{Name: "ZREMRANGEBYRANK", Class: Write, MinArgs: 4, keys: one},
	{Name: "ZREMRANGEBYSCORE", Class: Write, MinArgs: 4, keys: one},
	{Name: "ZREMRANGEBYLEX", Class: Write, MinArgs: 4, keys: one},
	{Name: "ZPOPMIN", Class: Write, MinArgs: 2, keys: one, since: 500, older: zpopOlder(true)},
	{Name: "ZPOPMAX", Class: Write, MinArgs: 2, keys: one, since: 500, older: zpopOlder(false)},
	{Name: "ZMPOP", Class: Write, MinArgs: 4, keys: counted(1), since: 700},
	{Name: "BZPOPMIN", Class: Write, MinArgs: 3, keys: keyRule{first: 1, last: -2, step: 1}, rewrite: popNow(atOnce{"ZPOPMIN", 500, zpopOlder(true)}), since: 500},
	{Name: "BZPOPMAX", Class: Write, MinArgs: 3, keys: keyRule{first: 1, last: -2, step: 1}, rewrite: popNow(atOnce{"ZPOPMAX", 500, zpopOlder(false)}), since: 500},
	{Name: "BZMPOP", Class: Write, MinArgs: 5, keys: counted(2), rewrite: mpopNow(atOnce{word: "ZMPOP", since: 700})},
	{Name: "ZUNIONSTORE", Class: Write, MinArgs: 4, keys: destCounted},
	{Name: "ZINTERSTORE", Class: Write, MinArgs: 4, keys: destCounted},
	{Name: "ZDIFFSTORE", Class: Write, MinArgs: 4, keys: destCounted, since: 602, older: zdiffstoreOlder},
	{Name: "ZRANGESTORE", Class: Write, MinArgs: 5, keys: two, since: 602, older: zrangestoreOlder},
	{Name: "GEOADD", Class: Write, MinArgs: 5, keys: one},
	{Name: "GEORADIUS", Class: Write, MinArgs: 6, keys: geoKeys(6)},
	{Name: "GEORADIUSBYMEMBER", Class: Write, MinArgs: 5, keys: geoKeys(5)},
	{Name: "GEOSEARCHSTORE", Class: Write, MinArgs: 8, keys: two, since: 602, older: geosearchstoreOlder},

	// Hashes. The times to live of fields are of 7.4.
	{Name: "HSET", Class: Write, MinArgs: 4, keys: one},
	{Name: "HSETNX", Class: Write, MinArgs: 4, keys: one},
	{Name: "HMSET", Class: Write, MinArgs: 4, keys: one},
	{Name: "HDEL", Class: Write, MinArgs: 3, keys: one},
	{Name: "HINCRBY", Class: Write, MinArgs: 4, keys: one},
	{Name: "HINCRBYFLOAT", Class: Write, MinArgs: 4, keys: one},
	{Name: "HEXPIRE", Class: Write, MinArgs: 6, keys: one, rewrite: hexpire(1000, true), since: 704},
	{Name: "HPEXPIRE", Class: Write, MinArgs: 6, keys: one, rewrite: hexpire(1, true), since: 704},
	{Name: "HEXPIREAT", Class: Write, MinArgs: 6, keys: one, rewrite: hexpire(1000, false), since: 704},
	{Name: "HPEXPIREAT", Class: Write, MinArgs: 6, keys: one, rewrite: hexpire(1, false), since: 704},
	{Name: "HPERSIST", Class: Write, MinArgs: 5, keys: one, since: 704},
	{Name: "HSETEX", Class: Write, MinArgs: 6, keys: one, rewrite: hsetex, since: 800},
	{Name: "HGETEX", Class: Write, MinArgs: 5, keys: one, rewrite: hgetex, since: 800},
	{Name: "HGETDEL", Class: Write, MinArgs: 5, keys: one, rewrite: hgetdel, since: 800},

	// Streams. XREADGROUP and XAUTOCLAIM are propagated as XCLAIM and XGROUP.
	{Name: "XADD", Class: Write, MinArgs: 5, keys: one, rewrite: xadd, since: 500},
	{Name: "XDELEX", Class: Write, MinArgs: 5, keys: one, since: 802},
	{Name: "XACKDEL", Class: Write, MinArgs: 6, keys: one, since: 802},
	{Name: "XDEL", Class: Write, MinArgs: 3, keys: one, since: 500},
	{Name: "XTRIM", Class: Write, MinArgs: 4, keys: one, rewrite: xtrim, since: 500},
	{Name: "XSETID", Class: Write, MinArgs: 3, keys: one, rewrite: xsetid, since: 500},
	{Name: "XGROUP", Class: Write, MinArgs: 4, keys: keyRule{first: 2, last: 2, step: 1}, rewrite: xgroup, since: 500},
	{Name: "XACK", Class: Write, MinArgs: 4, keys: one, since: 500},
	{Name: "XCLAIM", Class: Write, MinArgs: 6, keys: one, since: 500},
	{Name: "XAUTOCLAIM", Class: Write, MinArgs: 6, keys: one, since: 602},
	{Name: "XREADGROUP", Class: Write, MinArgs: 7, keys: readGroupKeys, since: 500},

	// Vector sets, of 8.0.
	{Name: "VADD", Class: Write, MinArgs: 5, keys: one, since: 800},
	{Name: "VREM", Class: Write, MinArgs: 3, keys: one, since: 800},
	{Name: "VSETATTR", Class: Write, MinArgs: 4, keys: one, since: 800},

	// Scripts and functions.
	{Name: "EVAL", Class: Eval, MinArgs: 3, keys: counted(2)},
	{Name: "EVAL_RO", Class: Eval, MinArgs: 3, keys: counted(2), since: 700},
	{Name: "EVALSHA", Class: EvalSHA, MinArgs: 3, keys: counted(2)},
	{Name: "EVALSHA_RO", Class: EvalSHA, MinArgs: 3, keys: counted(2), since: 700},
	{Name: "SCRIPT", Class: Script, MinArgs: 2},
	{Name: "FCALL", Class: Write, MinArgs: 3, keys: counted(2), since: 700}, // its effects are propagated, never itself
	{Name: "FCALL_RO", Class: Write, MinArgs: 3, keys: counted(2), since: 700},
	{Name: "FUNCTION", Class: Function, MinArgs: 2, rewrite: function, since: 700},

	// Whole databases.
	{Name: "FLUSHALL", Class: Flush, MinArgs: 1},
	{Name: "FLUSHDB", Class: Flush, MinArgs: 1},
	{Name: "SWAPDB", Class: Flush, MinArgs: 3},

	// codis-server. Only the first three were ever seen in a stream.
	{Name: "SLOTSRESTORE", Class: Slots, MinArgs: 4, keys: keyRule{first: 1, last: -1, step: 3}, rewrite: slotsRestore},
	{Name: "SLOTSRESTORE-ASYNC", Class: Slots, MinArgs: 2, keys: keyRule{first: 2, last: 2, step: 1}, rewrite: slotsRestoreAsync},
	{Name: "SLOTSDEL", Class: Slots, MinArgs: 2, rewrite: refuse("is carried out by whoever replays it: see Clears")},
	{Name: "SLOTSMGRTONE", Class: Slots, MinArgs: 5, keys: keyRule{first: 4, last: 4, step: 1}, rewrite: refuseMove},
	{Name: "SLOTSMGRTTAGONE", Class: Slots, MinArgs: 5, keys: keyRule{first: 4, last: 4, step: 1}, rewrite: refuseMove},
	{Name: "SLOTSMGRTSLOT", Class: Slots, MinArgs: 5, rewrite: refuseMove},
	{Name: "SLOTSMGRTTAGSLOT", Class: Slots, MinArgs: 5, rewrite: refuseMove},
	{Name: "SLOTSMGRTONE-ASYNC", Class: Slots, MinArgs: 7, keys: keyRule{first: 6, last: -1, step: 1}, rewrite: refuseMove},
	{Name: "SLOTSMGRTTAGONE-ASYNC", Class: Slots, MinArgs: 7, keys: keyRule{first: 6, last: -1, step: 1}, rewrite: refuseMove},
	{Name: "SLOTSMGRTSLOT-ASYNC", Class: Slots, MinArgs: 8, rewrite: refuseMove},
	{Name: "SLOTSMGRTTAGSLOT-ASYNC", Class: Slots, MinArgs: 8, rewrite: refuseMove},
	{Name: "SLOTSMGRT-EXEC-WRAPPER", Class: Slots, MinArgs: 3, keys: one, rewrite: refuseMove},
	{Name: "SLOTSRESTORE-ASYNC-AUTH", Class: Slots, MinArgs: 2, rewrite: refuseMove},
	{Name: "SLOTSRESTORE-ASYNC-SELECT", Class: Slots, MinArgs: 2, rewrite: refuseMove},
	{Name: "SLOTSRESTORE-ASYNC-ACK", Class: Slots, MinArgs: 3, rewrite: refuseMove},
}

// refuseMove is the rule of what passes between two codis-servers and is never
// propagated by either.
var refuseMove = refuse("belongs between two codis-servers")

var byName = func() map[string]*Spec {
	m := make(map[string]*Spec, len(table))
	for i := range table {
		m[table[i].Name] = &table[i]
	}
	return m
}()
