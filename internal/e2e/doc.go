// Package e2e holds the tests of the finished program: the real binary, built
// once, between real servers. There is no code in it but tests.
//
// A test starts sources and a target (internal/redistest), writers that keep
// their own tally (internal/job/workload), and tairlift processes, which it
// kills, interrupts or waits for. What it asserts in the end is always the
// same: every total equal to the writers' own to the unit, and `verify --level
// full` saying identical.
//
//	TestKillLoop          sync, killed at random moments of every phase
//	TestKillLoopTwo       the same, of capture and apply as two processes
//	TestTargetDies        capture goes on without a target, apply resumes
//	TestTargetForgets     a target that comes back empty
//	TestTargetFull        a target out of memory, in both phases
//	TestTargetFaults      every state of a target, and of the way to it, that passes
//	TestTargetFaultsInTheFullPhase  some of them while an RDB is restored
//	TestTargetGoesBack    a target that comes back with what it saved earlier
//	TestRateIsChangedWhileItRuns, TestApplyBacksOffFromASlowTarget  limits, and a slow target
//	TestEvictionsAreATaint  keys that the target evicts, in status and verify
//	TestOwner             two processes for one target, with bytes of the first on the way
//	TestLateApply         deadlines are the source's, however late they are applied
//	TestDifferential      random commands of every row, between kills: the target is a replica
//	TestRecordedSession   a recorded codis-server 3.2.11 as the source, to its end
//	TestRecordedDumps     RDBs of nine servers, by RESTORE and by native commands
//	TestVersions          any version to any version, written in every way meanwhile
//	TestCopiesUnderWay    copies made all the time, in every manner, each followed by an apply
//	TestReadOnlySpool     --state: nothing is written under --dir
//	TestOneSpoolSeveralTargets  a sync and two applies from one folder
//	TestInUse             one process at a time in a folder
//	TestSecondApply       a copied folder takes the target over; the older apply stops
//
// The sources and the target are the servers that SOURCE_SERVER and
// TARGET_SERVER name, by default redis-server; only commands that a Redis 2.8
// knows are used on the source. The moments of the kills come from a seed,
// which is logged; E2E_SEED repeats one. The moments themselves depend on
// progress that is seen (bytes in the spool, keys on the target, a counter
// there), so that the same seed kills in the same phases on any machine.
//
// TestVersions takes lists of servers, SOURCE_SERVERS and TARGET_SERVERS, and
// logs a table of what came of each pair (`make matrix`). It writes what both
// servers of a pair know, and compares all of it by client commands, not only by
// verify.
//
// Caveats: the same seed does not stop a process at the same instruction. The
// tests take about a minute on two cores, and -short leaves out most of
// the kills.
package e2e
