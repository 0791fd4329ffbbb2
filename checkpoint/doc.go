// Package checkpoint keeps each process's progress in bbolt files: what
// capture has made durable, and what apply has seen answered.
//
// There are two stores, one file each, each owned by one process at a time:
//
//   - [Capture] (DIR/capture/capture.db) holds one [CaptureRecord] per group:
//     the position up to which the spool is durable. It is written after the
//     spool's fsync and before REPLCONF ACK, so what was acknowledged to a
//     source is always found again.
//   - [Apply] (DIR/apply/<target>/apply.db) holds one [ApplyRecord] per group,
//     the script bodies seen, the rejected commands and the doubtful keys. A key
//     that was healed keeps its record, because the target may lose what healed
//     it. Its position is a hint where to begin reading: the mark in the target
//     alone decides what was applied.
//
// The life of a store:
//
//	db, err := checkpoint.OpenCapture(path) // ErrInUse: another process has it
//	rec, ok, err := db.Group(1)             // what the last run left
//	err = db.PutGroup(1, rec)               // returns once it is on disk
//	db.Close()
//
// Caveats. The file lock is exclusive, so no other verb opens these files:
// status and prune read what the owner publishes under DIR/status. Records
// are JSON inside bbolt, each with a checksum: a field unknown to an older
// version is ignored by it, a field added later reads as its zero. A file is
// read as a whole when it is opened, and refused as a whole ([DamagedError])
// when a page or a record of it is not what was written; the least of it that
// is lost is a bit in space that nothing uses. PutGroup of many groups at once share
// one fsync; call it per interval, never per command. The stores never travel
// with a copied spool.
package checkpoint
