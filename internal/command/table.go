package command

// table holds every command that can stand in a stream. MinArgs is the lowest of all
// versions (HSET took exactly 4 before 4.0, LPOP exactly 2 before 6.2). effects, needs
// and facts are what others have to know of it: see facts.go.
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
	{Name: "TOUCH", Class: Ignore, MinArgs: 2, keys: all, effects: reads}, // moves the idle clock alone

	// Any type.
	{Name: "DEL", Class: Write, MinArgs: 2, keys: all, effects: drops, needs: NeedNothing, facts: apart},
	{Name: "DELEX", Class: Write, MinArgs: 2, keys: one, effects: drops, needs: NeedNothing, rewrite: toDel},   // its condition was true
	{Name: "DELIFEQ", Class: Write, MinArgs: 3, keys: one, effects: drops, needs: NeedNothing, rewrite: toDel}, // Valkey 9
	{Name: "UNLINK", Class: Write, MinArgs: 2, keys: all, effects: drops, needs: NeedNothing, facts: apart},
	{Name: "EXPIRE", Class: Write, MinArgs: 3, keys: one, needs: NeedNothing, facts: renews, rewrite: expire(1000, true)},
	{Name: "PEXPIRE", Class: Write, MinArgs: 3, keys: one, needs: NeedNothing, facts: renews, rewrite: expire(1, true)},
	{Name: "EXPIREAT", Class: Write, MinArgs: 3, keys: one, needs: NeedNothing, facts: renews, rewrite: expire(1000, false)},
	{Name: "PEXPIREAT", Class: Write, MinArgs: 3, keys: one, needs: NeedNothing, facts: renews, rewrite: expire(1, false)},
	{Name: "PERSIST", Class: Write, MinArgs: 2, keys: one, needs: NeedNothing, facts: renews},
	{Name: "RENAME", Class: Write, MinArgs: 3, keys: two, effects: moves, facts: passesTTL, alone: aloneGone},
	{Name: "RENAMENX", Class: Write, MinArgs: 3, keys: two, effects: moves, facts: passesTTL, alone: aloneGone},
	{Name: "MOVE", Class: Write, MinArgs: 3, keys: one, effects: moves, facts: passesTTL, alone: aloneGone, otherDB: moveDB},
	{Name: "COPY", Class: Write, MinArgs: 3, keys: copyKeys, effects: copies, facts: passesTTL, otherDB: copyDB, since: 602, older: copyOlder},
	{Name: "RESTORE", Class: Write, MinArgs: 4, keys: one, effects: sets, payloads: restored, rewrite: restore},
	{Name: "RESTORE-ASKING", Class: Write, MinArgs: 4, keys: one, effects: sets, payloads: restored, rewrite: restore},
	{Name: "SORT", Class: Write, MinArgs: 2, keys: sortKeys, effects: copies, facts: patterns},
	// A source propagates MIGRATE as DEL; sent on, it would make the target call out.
	{Name: "MIGRATE", Class: Unsupported, MinArgs: 6, keys: migrateKeys},

	// Strings, bitmaps, HyperLogLogs.
	{Name: "SET", Class: Write, MinArgs: 3, keys: one, effects: sets, needs: NeedNothing, rewrite: set},
	{Name: "SETNX", Class: Write, MinArgs: 3, keys: one, effects: sets},
	{Name: "SETEX", Class: Write, MinArgs: 4, keys: one, effects: sets, needs: NeedNothing, rewrite: setex(1000)},
	{Name: "PSETEX", Class: Write, MinArgs: 4, keys: one, effects: sets, needs: NeedNothing, rewrite: setex(1)},
	{Name: "GETSET", Class: Write, MinArgs: 3, keys: one, effects: sets, needs: NeedString},
	{Name: "GETDEL", Class: Write, MinArgs: 2, keys: one, effects: drops, needs: NeedNothing, rewrite: toDel},
	{Name: "GETEX", Class: Write, MinArgs: 2, keys: one, needs: NeedNothing, facts: renews, rewrite: getex, since: 602},
	{Name: "MSET", Class: Write, MinArgs: 3, keys: pairs, effects: sets, needs: NeedNothing, facts: apart},
	{Name: "MSETNX", Class: Write, MinArgs: 3, keys: pairs, effects: sets, facts: together},
	{Name: "MSETEX", Class: Write, MinArgs: 4, keys: countedPairs, effects: sets, rewrite: msetex, since: 804},
	{Name: "APPEND", Class: Write, MinArgs: 3, keys: one, needs: NeedString},
	{Name: "SETRANGE", Class: Write, MinArgs: 4, keys: one, needs: NeedString},
	{Name: "INCR", Class: Write, MinArgs: 2, keys: one, needs: NeedInteger},
	{Name: "DECR", Class: Write, MinArgs: 2, keys: one, needs: NeedInteger},
	{Name: "INCRBY", Class: Write, MinArgs: 3, keys: one, needs: NeedInteger},
	{Name: "DECRBY", Class: Write, MinArgs: 3, keys: one, needs: NeedInteger},
	{Name: "INCRBYFLOAT", Class: Write, MinArgs: 3, keys: one},
	{Name: "SETBIT", Class: Write, MinArgs: 4, keys: one, needs: NeedString},
	{Name: "BITFIELD", Class: Write, MinArgs: 2, keys: one},
	{Name: "BITOP", Class: Write, MinArgs: 4, keys: keyRule{first: 2, last: -1, step: 1}, effects: stores, rewrite: bitop},
	{Name: "PFADD", Class: Write, MinArgs: 2, keys: one},
	{Name: "PFMERGE", Class: Write, MinArgs: 2, keys: all, effects: merges},
	{Name: "PFCOUNT", Class: Write, MinArgs: 2, keys: all, effects: reads}, // stores the count it found in the value
	{Name: "PFDEBUG", Class: Write, MinArgs: 3, keys: keyRule{first: 2, last: 2, step: 1}},

	// Lists.
	{Name: "LPUSH", Class: Write, MinArgs: 3, keys: one, needs: NeedList},
	{Name: "RPUSH", Class: Write, MinArgs: 3, keys: one, needs: NeedList},
	{Name: "LPUSHX", Class: Write, MinArgs: 3, keys: one, needs: NeedList},
	{Name: "RPUSHX", Class: Write, MinArgs: 3, keys: one, needs: NeedList},
	{Name: "LINSERT", Class: Write, MinArgs: 5, keys: one, needs: NeedList},
	{Name: "LSET", Class: Write, MinArgs: 4, keys: one},
	{Name: "LREM", Class: Write, MinArgs: 4, keys: one, needs: NeedList},
	{Name: "LTRIM", Class: Write, MinArgs: 4, keys: one, needs: NeedList},
	{Name: "LPOP", Class: Write, MinArgs: 2, keys: one, needs: NeedList, rewrite: popCount(true)},
	{Name: "RPOP", Class: Write, MinArgs: 2, keys: one, needs: NeedList, rewrite: popCount(false)},
	{Name: "LMPOP", Class: Write, MinArgs: 4, keys: counted(1), since: 700},
	{Name: "RPOPLPUSH", Class: Write, MinArgs: 3, keys: two, needs: NeedList, alone: alonePopped},
	{Name: "LMOVE", Class: Write, MinArgs: 5, keys: two, needs: NeedList, alone: aloneMoved, since: 602, older: lmoveOlder},
	{Name: "BLPOP", Class: Write, MinArgs: 3, keys: keyRule{first: 1, last: -2, step: 1}, rewrite: popNow(atOnce{word: "LPOP"})},
	{Name: "BRPOP", Class: Write, MinArgs: 3, keys: keyRule{first: 1, last: -2, step: 1}, rewrite: popNow(atOnce{word: "RPOP"})},
	{Name: "BRPOPLPUSH", Class: Write, MinArgs: 4, keys: two, needs: NeedList, alone: alonePopped, rewrite: moveNow(atOnce{word: "RPOPLPUSH"}, 3)},
	{Name: "BLMOVE", Class: Write, MinArgs: 6, keys: two, alone: aloneMoved, rewrite: moveNow(atOnce{"LMOVE", 602, lmoveOlder}, 5)},
	{Name: "BLMPOP", Class: Write, MinArgs: 5, keys: counted(2), rewrite: mpopNow(atOnce{word: "LMPOP", since: 700})},

	// Sets.
	{Name: "SADD", Class: Write, MinArgs: 3, keys: one, needs: NeedSet},
	{Name: "SREM", Class: Write, MinArgs: 3, keys: one, needs: NeedSet},
	{Name: "SPOP", Class: Write, MinArgs: 2, keys: one, doubtful: popsMany},
	{Name: "SMOVE", Class: Write, MinArgs: 4, keys: two, needs: NeedSet, alone: aloneMember},
	{Name: "SINTERSTORE", Class: Write, MinArgs: 3, keys: all, effects: stores},
	{Name: "SUNIONSTORE", Class: Write, MinArgs: 3, keys: all, effects: stores},
	{Name: "SDIFFSTORE", Class: Write, MinArgs: 3, keys: all, effects: stores},

	// Sorted sets and geo.
	{Name: "ZADD", Class: Write, MinArgs: 4, keys: one, needs: NeedZSet, rewrite: zadd},
	{Name: "ZINCRBY", Class: Write, MinArgs: 4, keys: one, needs: NeedZSet},
	{Name: "ZREM", Class: Write, MinArgs: 3, keys: one, needs: NeedZSet},
	{Name: "ZREMRANGEBYRANK", Class: Write, MinArgs: 4, keys: one, needs: NeedZSet},
	{Name: "ZREMRANGEBYSCORE", Class: Write, MinArgs: 4, keys: one, needs: NeedZSet},
	{Name: "ZREMRANGEBYLEX", Class: Write, MinArgs: 4, keys: one, needs: NeedZSet},
	{Name: "ZPOPMIN", Class: Write, MinArgs: 2, keys: one, since: 500, older: zpopOlder(true)},
	{Name: "ZPOPMAX", Class: Write, MinArgs: 2, keys: one, since: 500, older: zpopOlder(false)},
	{Name: "ZMPOP", Class: Write, MinArgs: 4, keys: counted(1), since: 700},
	{Name: "BZPOPMIN", Class: Write, MinArgs: 3, keys: keyRule{first: 1, last: -2, step: 1}, rewrite: popNow(atOnce{"ZPOPMIN", 500, zpopOlder(true)}), since: 500},
	{Name: "BZPOPMAX", Class: Write, MinArgs: 3, keys: keyRule{first: 1, last: -2, step: 1}, rewrite: popNow(atOnce{"ZPOPMAX", 500, zpopOlder(false)}), since: 500},
	{Name: "BZMPOP", Class: Write, MinArgs: 5, keys: counted(2), rewrite: mpopNow(atOnce{word: "ZMPOP", since: 700})},
	{Name: "ZUNIONSTORE", Class: Write, MinArgs: 4, keys: destCounted, effects: stores, routed: 1},
	{Name: "ZINTERSTORE", Class: Write, MinArgs: 4, keys: destCounted, effects: stores, routed: 1},
	{Name: "ZDIFFSTORE", Class: Write, MinArgs: 4, keys: destCounted, effects: stores, since: 602, older: zdiffstoreOlder},
	{Name: "ZRANGESTORE", Class: Write, MinArgs: 5, keys: two, effects: stores, since: 602, older: zrangestoreOlder},
	{Name: "GEOADD", Class: Write, MinArgs: 5, keys: one},
	{Name: "GEORADIUS", Class: Write, MinArgs: 6, keys: geoKeys(6), effects: copies},
	{Name: "GEORADIUSBYMEMBER", Class: Write, MinArgs: 5, keys: geoKeys(5), effects: copies},
	{Name: "GEOSEARCHSTORE", Class: Write, MinArgs: 8, keys: two, effects: stores, since: 602, older: geosearchstoreOlder},

	// Hashes. The times to live of fields are of 7.4.
	{Name: "HSET", Class: Write, MinArgs: 4, keys: one, needs: NeedHash},
	{Name: "HSETNX", Class: Write, MinArgs: 4, keys: one, needs: NeedHash},
	{Name: "HMSET", Class: Write, MinArgs: 4, keys: one, needs: NeedHash},
	{Name: "HDEL", Class: Write, MinArgs: 3, keys: one, needs: NeedHash},
	{Name: "HINCRBY", Class: Write, MinArgs: 4, keys: one, needs: NeedIntegerField},
	{Name: "HINCRBYFLOAT", Class: Write, MinArgs: 4, keys: one},
	{Name: "HEXPIRE", Class: Write, MinArgs: 6, keys: one, facts: fieldTTL, rewrite: hexpire(1000, true), since: 704},
	{Name: "HPEXPIRE", Class: Write, MinArgs: 6, keys: one, facts: fieldTTL, rewrite: hexpire(1, true), since: 704},
	{Name: "HEXPIREAT", Class: Write, MinArgs: 6, keys: one, facts: fieldTTL, rewrite: hexpire(1000, false), since: 704},
	{Name: "HPEXPIREAT", Class: Write, MinArgs: 6, keys: one, facts: fieldTTL, rewrite: hexpire(1, false), since: 704},
	{Name: "HPERSIST", Class: Write, MinArgs: 5, keys: one, facts: fieldTTL, since: 704},
	{Name: "HSETEX", Class: Write, MinArgs: 6, keys: one, facts: fieldTTL, rewrite: hsetex, since: 800},
	{Name: "HGETEX", Class: Write, MinArgs: 5, keys: one, facts: fieldTTL, rewrite: hgetex, since: 800},
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
	{Name: "EVAL", Class: Eval, MinArgs: 3, keys: counted(2), facts: runs | passesTTL, doubtful: callsPop},
	{Name: "EVAL_RO", Class: Eval, MinArgs: 3, keys: counted(2), effects: reads, facts: runs, since: 700},
	{Name: "EVALSHA", Class: EvalSHA, MinArgs: 3, keys: counted(2), facts: runs | passesTTL},
	{Name: "EVALSHA_RO", Class: EvalSHA, MinArgs: 3, keys: counted(2), effects: reads, facts: runs, since: 700},
	{Name: "SCRIPT", Class: Script, MinArgs: 2},
	{Name: "FCALL", Class: Write, MinArgs: 3, keys: counted(2), facts: runs | passesTTL | opaque, since: 700}, // its effects are propagated, never itself
	{Name: "FCALL_RO", Class: Write, MinArgs: 3, keys: counted(2), effects: reads, facts: runs, since: 700},
	{Name: "FUNCTION", Class: Function, MinArgs: 2, rewrite: function, since: 700},

	// Whole databases.
	{Name: "FLUSHALL", Class: Flush, MinArgs: 1, clears: flushes(true)},
	{Name: "FLUSHDB", Class: Flush, MinArgs: 1, clears: flushes(false)},
	{Name: "SWAPDB", Class: Flush, MinArgs: 3, facts: swaps},

	// codis-server. Only the first three were ever seen in a stream.
	{Name: "SLOTSRESTORE", Class: Slots, MinArgs: 4, keys: keyRule{first: 1, last: -1, step: 3}, effects: sets, facts: apart | arrives, payloads: slotsRestored, rewrite: slotsRestore},
	{Name: "SLOTSRESTORE-ASYNC", Class: Slots, MinArgs: 2, keys: keyRule{first: 2, last: 2, step: 1}, facts: arrives, payloads: slotsRestoredAsync, rewrite: slotsRestoreAsync},
	{Name: "SLOTSDEL", Class: Slots, MinArgs: 2, clears: slotsDeleted, rewrite: refuse("is carried out by whoever replays it: see Clears")},
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
