// Command soak is a migration in which everything goes wrong, again and again, on
// servers of its own: two sources with writers on several databases, and one
// target. `make soak MINUTES=10` runs it, and `make test` a short form.
//
// A seed decides on the faults and on every command of the writers. It is printed
// first and last, and repeats both; only the instants differ, and with them how
// far the writers come.
//
// The parts:
//
//   - ledger.go: what one writer writes, and what every key must hold then. The
//     commands are those that show when they are lost or executed twice: INCR,
//     APPEND, RPUSH and LPOP, ZINCRBY, HINCRBY, SADD and SREM, EXPIRE and
//     PERSIST, SET, DEL, RENAME, EVAL, MULTI/EXEC. Most keys come and go, so that
//     a full resync finds some that were deleted in the gap.
//   - writer.go: sends it in bursts. A source that is killed over a burst keeps
//     what it has acknowledged, in its append-only file; of the rest the writer
//     reads how much was done, and goes on with what was not. So ledgers are exact.
//   - schedule.go, faults.go, link.go: the faults. Several last at a time, but one
//     on each thing: a server, the link before it, tairlift.
//   - tairlift.go: the real binary, as sync or as capture and apply, started again
//     with the same flags. A process that ends by itself fails the soak.
//   - settle.go, compare.go: the faults come in rounds. Behind each nothing is
//     helped: tairlift must by itself bring everything to the target, which is
//     then compared with the ledgers, key by key, and as a whole: no key is
//     missing, none is too many, and what the target held before is untouched.
//
// At the end the writers stop, `sync --until caught-up` must end with 0, and
// `verify --level full` must find every key identical, by the ledgers' count.
//
//	go run ./internal/job/soak -minutes 10 [-seed 42] [-keys 10000] [-without kill-source,...]
//
// SOURCE_SERVER and TARGET_SERVER name other servers than redis-server. The exit
// code is 0 only if everything is exact; 130 after an interrupt. When something
// is not, the folder with the logs, the spool and the servers' files is kept.
//
// Caveats: a seed replays what is done, not how it meets: a failure may need
// several runs to be seen again. -without helps to find the fault that it is about.
package main
