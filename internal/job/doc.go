// Package job joins the parts: it knows DIR, who may do what in it, and how a
// verb ends.
//
// The types: [Options] and [RunSync], [RunCapture], [RunApply] are a run;
// [RunVerify], [RunStatus], [SpoolList], [SpoolCheck] and [SpoolDump] only look;
// [SpoolPrune] removes what no target needs any more, and [Keep] does so while
// capture runs; [RunFinish] ends a job on a target, or reopens it; [RunCtl] asks and
// changes what a run may do per second; [ShowRDB]
// shows an RDB file, without any DIR; [Status] is a job at one moment; [Error] is
// an end that is not a good one, with its exit [Code]; [Console] is stderr.
//
// What lies in DIR:
//
//	job.json                   job id, groups with their last known addresses
//	spool/                     what was captured (package spool)
//	status/capture.json        what capture publishes, once a second and at its end
//	status/apply-<target>.json what each apply publishes
//	capture/capture.db         capture's own store; its lock is that of capture
//	apply/<target>/apply.db    the store of one target's apply, and its lock
//	apply/<target>/target.json the target's address, and what is selected for it
//	.../ctl.sock               beside each store, while its owner runs: see RunCtl
//	apply/<target>/finished.json what finish has left: the job is at its end there
//
// The first three travel with a copy; the stores of capture and apply never
// do. No verb opens the store of another process: status files are what they
// know of each other.
//
// With --state STATE, what apply writes (apply/, its status files, and
// state.json, which names the job) lies in STATE, and DIR is only read. So
// capture does not see that target: what it needs may be pruned.
//
// The life of a run:
//
//  1. DIR is read. Groups that it does not know are added, an address may
//     change, and what contradicts is refused: nothing was written so far.
//  2. The locks are taken, and sources that were never reached are greeted.
//     Only then is job.json written.
//  3. A target that was never used is claimed before anything is captured;
//     one that was is waited for while capture goes on.
//  4. Capture and apply run, and never wait for each other, but for the room of
//     --max-spool: a group that has stopped stops neither the others nor its own
//     capture. Where each mark stood of late is published as its trail: prune keeps
//     what lies behind the place of a margin ago.
//  5. At the goal of --until, at a signal, or when nothing is left that could go
//     on, apply stops behind a whole batch and capture seals its segments. The
//     status files say how it ended.
//
// Caveats. A process killed by SIGKILL leaves its status file as it was: that
// counts as running for five seconds, or until its pid is gone. Offsets are
// compared within one epoch only; lag is null while capture and apply are in
// different ones. A spool that was copied without its job.json is taken over as
// it is, with groups but without their addresses.
package job
