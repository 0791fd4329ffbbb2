// Package native turns values of an RDB file into the commands that make them,
// for targets that do not take the payload by RESTORE.
//
// Writer is given the elements of a value as package rdb decodes them and gives
// commands in bounded chunks, in the form of the Target's version: SET and
// APPEND, RPUSH, SADD, ZADD, HSET or HMSET; of a stream XADD, XSETID, XGROUP and
// XCLAIM.
//
// The life of a Writer:
//
//	w := native.NewWriter(native.Options{Target: t}, func(c native.Chunk) error {
//		return pipeline(c.Bytes, c.Commands) // so many replies
//	})
//	err := w.Begin(key, kind)        // behind a DEL of the key
//	kind, n, err := d.Elements(w.Add) // a chunk at a time
//	err = w.Finish()                  // the rest, of a small value all
//	err = w.Begin(next, kind)         // whatever came of the one before
//
// Streams are read twice where they can be: what Survey learns of the first walk
// keeps pending entries that are deleted from the stream.
//
//	_, _, err = rdb.Elements(typ, body, w.Survey) // does nothing for other kinds
//	_, _, err = rdb.Elements(typ, body, w.Add)
//
// One that comes once is written as it comes; Lost then tells how many such
// entries are missing, and Again begins the walk that keeps them.
//
// Caveats:
//   - The commands add to what the key holds. Whoever sends them deletes it first,
//     and after a failure begins with that again.
//   - A chunk is one command or more, each of at most Options.ChunkBytes unless
//     one element alone is larger; a string is cut. The Writer holds one chunk.
//   - Beside its chunk a Writer holds some ten bytes for each pending entry of one
//     group of a stream, and in the first walk two to four for each entry; and
//     some forty for each deleted entry that is pending, however many groups have it.
//   - No command sets when a consumer was seen or active: that is when it is
//     written. A delivery in the target's future is one of that moment. A target
//     before 7.0 does not count entries that were added and read. One since 7.0
//     may know of a stream from before the largest id that was deleted from it,
//     which RESTORE does not tell.
//   - A replica of a target before 6.2 does not get consumers that own nothing.
//   - The deadline of a key is the caller's to set.
package native
