// Package workload writes to sources and knows, to the unit, what they must
// hold afterwards. The demo and the end-to-end tests use it.
//
// Fill gives a database a number of keys of every type, some with a time to
// live. A Writer then writes to one database of one source until it is stopped,
// and keeps its own tally of it: how often it counted, which elements a list
// must hold, which text was appended. Check compares a server with that tally;
// a command that was lost, doubled or cut out of its transaction on the way
// shows as an Entry that is not Equal.
//
//	w, err := workload.Start(source, secret, 1, 0)  // group 1, DB0
//	...
//	err = w.Stop()                                  // now the tally stands still
//	entries, err := w.Check(ctx, target, secret)
//	for _, e := range entries {
//		fmt.Println(e.Name, e.Want, e.Got, e.Equal())
//	}
//
// A burst is one pipelined round of every kind of write: INCR and INCRBY, two
// counters in MULTI/EXEC, a script by EVAL and by EVALSHA, RPUSH and LPOP,
// APPEND, HINCRBY, ZINCRBY, SET with EX and with PX, SET and DEL. They are
// commands that every server from 2.8 on knows, and none of them can be
// repeated or left out unseen.
//
// Caveats: the tally holds only while nobody else writes keys that begin with
// "w:<group>:". Keys set with PX live a fifth of a second and are in no tally:
// they are there for the DELs by which a source expires them.
package workload
