// Package spool keeps what a source sent, as files that outlive the process,
// travel by rsync or disk, and prove that they arrived whole.
//
// There are only a few types: Writer, Group, RDBReader and StreamReader, and
// Durable, which says how far a group's spool is vouched for. Check, List and
// Dump look at a spool from outside.
//
// Glossary: a frame is the unit of writing: a header with two checksums and
// up to one megabyte of payload. A segment is a file of frames. Its tail is
// where the writer appends; a seal (footer and trailer) ends it for good.
// Bytes are durable once an fsync behind them has returned, and a sync frame
// says so in the file. What lies behind the last sync frame may be torn; what
// lies before it and is not what was written is corrupt.
//
// The life of a spool: group 1 is captured from offset 1000 on.
//
//	w, err := spool.Create(dir, spool.Identity{Job: job, Group: 1, Epoch: 1, ReplID: id, Start: 1000}, spool.WriterOptions{})
//	w.BeginRDB(size)
//	w.AppendRDB(p, now)      // ... until the RDB ends
//	w.EndRDB(crc, true)      // seals DIR/spool/group-0001/epoch-0001/00000001.seg
//	w.AppendStream(p, now)   // starts 00000002.seg: bytes 1001, 1002, ...
//	d, err := w.Sync()       // d.Offset may be acknowledged to the source
//
// At its size or age Sync seals 00000002.seg, and the next append starts
// 00000003.seg. After kill -9, Recover cuts the torn end off, seals the tail
// and gives a Writer that goes on in the next segment:
//
//	w, rec, err := spool.Recover(dir, job, 1, vouched, spool.WriterOptions{})
//	// rec.Durable.Position() is where PSYNC goes on
//
// When the source grants only a full resync, Seal ends the epoch and Create
// starts epoch 2 with segment 4: sequence numbers run through all epochs, so a
// missing file always shows. A reader in any process follows along:
//
//	g, err := spool.OpenGroup(dir, job, 1)
//	r, err := g.OpenStream(1, 1000)
//	f, err := r.Next()       // ErrEnd: nothing more is durable yet
//
// In the writer's own process Group.Live spares it the polling. Group.Vouch
// tells it what a status file says is durable, so that a copy under way shows
// as MissingError and not as the end. Group.Prune removes what lies before a
// Floor, and leaves for each segment a key file.
//
// # Caveats
//
// A Writer belongs to one goroutine and a group's folder to one Writer; who
// writes holds a lock elsewhere. A Writer that failed stays failed: Close it
// and Recover. Data of a Frame is valid until the next call. Readers never
// write, so a spool may be read-only. FORMAT.md has the bytes, DESIGN.md the
// reasons.
package spool
