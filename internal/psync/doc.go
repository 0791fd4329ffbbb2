// Package psync is a replica's side of Redis replication, bytes only: it asks a
// master (or a replica) for its stream, reads the RDB of a full sync, and then
// the stream itself, without parsing either.
//
// Link is an attached connection; its Start says whether a full sync or a
// continuation follows. RDBReader is the RDB of a full sync. Sample, on a second
// connection, asks what the time and the offset are at the source, and ReadCut
// what some keys hold at one offset; Covers tells whether the source would go on
// from a position. The wire follows redis/src/replication.c of 2.8 to 7.x, PSYNC1
// and PSYNC2.
//
// The life of a Link:
//
//	c, err := resp.Dial(ctx, addr, secret)
//	link, err := psync.Attach(ctx, c, position, psync.Options{})
//	defer link.Close()
//	if link.Start.Full {
//		rdb, err := link.OpenRDB()
//		_, err = io.Copy(spool, rdb)              // all of it
//		err = link.Ack(link.Start.Position.Offset)
//	}
//	for {
//		n, err := link.Read(buf)                  // bytes Offset+1, Offset+2, ...
//		...
//		err = link.Ack(durable)                   // at least once a second
//	}
//
// The words: a sized RDB comes as "$<bytes>" and was saved to the source's disk
// first; a marked one comes as "$EOF:<mark>", straight from memory (diskless),
// its length unknown, with the 40 bytes of the mark behind it.
//
// Caveats: behind a marked RDB the source sends nothing until it has an ACK, and
// an ACK that follows the RDB at once comes too early to count: Read repeats
// the last one until the stream begins, so it must be called meanwhile.
// After a continuation no SELECT is sent: whoever applies the stream must know
// its database. A source that says nothing at all for Options.Timeout is given
// up; its PINGs (every 10 s by default) keep a quiet link alive. A link to an
// old master that was replaced without being stopped stays alive on them too,
// and gets nothing else: only the topology tells.
package psync
