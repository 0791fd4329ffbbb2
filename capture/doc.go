// Package capture brings one group's RDB and replication stream into the spool,
// and tells the source only of what is durable there.
//
// A [Session] attaches to a server of the group as a replica would. It does not
// parse what comes: the bytes are copied, with their offsets and receive times,
// and whoever reads the spool makes sense of them. How fast that is has no
// influence on capture.
//
// The types: [Options] say what to capture; a [Session] does it; [Status] is
// what it does at this instant; a [StopError] is why it ended for good. [Store],
// [FullSyncGate] and [Room] are what it needs from others.
//
// The life of a session:
//
//	s := capture.New(capture.Options{SpoolDir: dir, Job: job, Group: 1, Addr: "10.0.0.1:6379", Store: db})
//	err := s.Run(ctx) // until ctx ends: nil, or a *StopError
//
// What happens meanwhile:
//
//  1. The spool is recovered up to what the record vouches for. If its newest
//     epoch has a whole RDB, the source is asked for the byte after the last
//     durable one (PSYNC replid offset+1), else, or when Options.NewEpoch wants
//     it once, for a full sync.
//  2. +CONTINUE: the epoch goes on. +FULLRESYNC: the epoch is sealed and the
//     next one begins, with the reason in the log and in the status. An RDB
//     that was cut, or whose CRC64 is wrong, ends its epoch too.
//  3. One goroutine drains the socket, the goroutine of Run writes and fsyncs;
//     while one fsync runs, the bytes for the next one gather. After it they
//     are published: Changed, Status().Durable.
//  4. Behind that, at the pace of RecordEvery, the position goes to the Store,
//     and then to the source: REPLCONF ACK at least once per AckEvery, 0 before
//     the RDB is whole, the last good position while the disk stalls.
//  5. The offset clock asks for (source time, source offset) on a connection of
//     its own. Every link's first sample precedes its first byte in the spool.
//  6. Room is asked before bytes are written. While it refuses (a quota, or a disk
//     that is nearly full), the link stays and what is durable is acknowledged
//     again and again; what comes waits in Options.Buffer and at the source. At a
//     quota the tail is sealed, for only what is sealed can be pruned. A disk that
//     is full all the same ends the link: the spool is recovered as in 1, behind
//     pauses that grow until something durable comes of it. MaxWait bounds both.
//  7. When ctx ends, what was read is made durable, sealed, recorded and
//     acknowledged. When the link breaks, it is made again, with backoff, for
//     ever or for MaxWait; Status().Reason says why it waits.
//
// A promoted server may answer +CONTINUE with a new replid. That is made durable
// before the first byte of the new history.
//
// Caveats. A source that was never reached under this folder stops Run at once
// or after FirstContact: an address or a password may be wrong. The record may
// be lost: the segments carry the position too. A Store that could not write,
// also for lack of space, stops Run. Epochs that were given up stay on disk until
// they are pruned. A disk that hangs (not one that fails) blocks Run until it
// answers, also when ctx ends. Only samples of the history that is followed reach
// the spool, and of those with one offset only the first and the last.
// Status().Durable.Offset can be compared with AskSource only within one epoch.
package capture
