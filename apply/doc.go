// Package apply drains a spool into the target, each command exactly once.
//
// A [Job] has one group per Codis-Group of the spool, each with one [Lane]: a
// serial way into the target whose position, the [Mark], is a small key in the
// target itself, written in the same MULTI/EXEC as the data it vouches for.
//
// The life of a group on the target:
//
//   - claimed: the target held nobody's keys (or was to be replaced), and a
//     mark without a phase was written for every group of the job;
//   - RDB phase: the newest whole RDB of the spool is restored over several
//     named connections, SET for plain strings, RESTORE REPLACE for what the
//     target takes by that, as a probe has shown, and commands of its kind in one
//     transaction for the rest. What is larger than 1 MiB is written in chunks to a
//     temporary key and renamed when it is whole.
//     The mark holds the entry boundary below which every write was answered;
//     repeating what lies above it is harmless, and a session that begins ends
//     the connections of that name first, so that nothing arrives late;
//   - sweep, behind the RDB of a new epoch only: what earlier epochs of the group
//     delivered and this RDB lacks is removed, unless another group holds it;
//     counted first, with a fuse (Options.MaxDeletes). It is told by the spool's
//     keys, looked up by a SCAN of the target;
//   - stream phase: commands become batches. A batch never splits a source's
//     transaction; relative deadlines become absolute, dated by the offset
//     clock; PINGs, PUBLISH, SCRIPT and heartbeats only move the position. Each
//     batch is one EXEC, with the mark inside. A flush of the source is carried
//     out as a sweep is, between two batches, and a SWAPDB in steps that the mark
//     names (Options.OnFlush).
//
// One batch, as the target sees it. What follows MULTI is sent only when MULTI
// was answered and GET has shown the very mark this session wrote last; EXEC only
// when all of it was queued. The first four lines of the next batch go with EXEC:
//
//	SELECT 0
//	WATCH tairlift:mark:<job>:0001
//	GET   tairlift:mark:<job>:0001        -> v=2 owner=5f0c.1.7 ... offset=1800
//	MULTI
//	INCR counter
//	SELECT 1
//	SET k v
//	PEXPIREAT k 1790000000000
//	SELECT 0
//	SET tairlift:mark:<job>:0001 "v=2 owner=5f0c.1.7 ... offset=1990 ..."
//	EXEC
//
// A session that begins, after a crash or a broken connection, first writes a
// fresh owner token into the mark, so that bytes of the session before it, wherever
// they still wait, can no longer be executed; then it goes on from the mark. If
// the replies of the mark's own batch were never read, its keys are looked at:
// those whose type does not prove that nothing failed become doubtful.
//
// A doubtful key is copied again where Options.Sources tells of the group's
// source: the value and the offset that it belongs to are asked for as one cut
// (psync.ReadCut) when the stream has nothing to do, and now and then while it
// has. The value is put between the command that ends at that offset and the next, in
// the same EXEC as the mark, and the key is doubtful no more once the answer was
// read, unless a command behind that offset has made it so again. Every failure
// leaves the doubt, and so does a source that bears another history.
//
// A job may select keys by database and name, and move databases
// (Options.Selection). Entries and commands of other keys are passed over; of a
// command that names both kinds the part for selected keys is sent where there is
// one, and where a selected key follows from another that the target does not have, it is
// doubtful, and copied again. The mark bears a digest of the selection.
//
// A source's full resync begins a new epoch. As soon as its RDB is whole the mark
// goes there from wherever it is, and what is left of the old stream is not
// applied; the mark keeps how far each epoch was (its Past) until the sweep is
// over. Where the mark is lost, or does not belong to the spool, Options.Reseed
// begins the newest epoch again, with everything that the spool ever named as
// its past.
//
// A target expires keys by itself, also those that the source has renewed in what
// is still to come. So while a group is behind, its deadlines are held back (package
// held), and set exact by a pass once it has caught up, or at the spool's end. The
// mark says how they stand. Deadlines that were exact before apply was away may have
// passed since; a batch that is late asks, in its own EXEC, which of the keys it
// counts on are there, and each ends with TIME, which tells how late it is.
//
// Errors of the target are of three kinds. What passes (OOM, LOADING,
// READONLY, a refused EXEC, a lost connection, ...) is waited for: the session
// ends and begins again from the mark. What is refused for good at queue time
// did not happen, nor did the rest of its batch; what fails inside EXEC did
// leave the rest of its batch executed. Both are recorded as rejects and stop
// the group, unless Options.OnReject says otherwise. What apply itself cannot do
// without (WATCH, its mark, ...) and is refused for good stops the group.
//
// A [Closing] ends all of that: it takes the marks over as a session does and
// removes them. A process that has seen its mark and finds none on a target that
// has run on since stops; it never begins again by itself.
//
// Why all this ends exact is argued in docs/exactly-once.md, and explored state
// by state in internal/model.
//
// Glossary: a batch is what one EXEC executes; a lane is one serial way into
// the target; a mark is a lane's position in the target; a key is doubtful when
// its value may differ from the source's, until it was copied again or verify has
// found it equal.
//
// Caveats. A sweep does not know keys that only a script's text names, nor does a
// flush. With ExistingReplace, old keys are replaced where a command names them,
// not where only a script's text does, nor in the other database of a MOVE.
// A selection judges scripts by the keys that they name.
// Only standalone targets are written to.
package apply
