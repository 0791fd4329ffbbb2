// Package native turns values of an RDB file into the commands that make them,
// for targets that do not take the payload by RESTORE.
//
// Writer is given the elements of a value as package rdb decodes them and gives
// commands in bounded chunks, in the form of the Target's version: SET and
// APPEND, RPUSH, SADD, ZADD, HSET or HMSET.
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
// Caveats:
//   - The commands add to what the key holds. Whoever sends them deletes it first,
//     and after a failure begins with that again.
//   - A chunk is one command or more, each of at most Options.ChunkBytes unless
//     one element alone is larger; a string is cut. The Writer holds one chunk.
//   - The deadline of a key is the caller's to set.
package native
