// Command bench measures tairlift against the least that the same work can cost,
// on servers of its own, and writes docs/benchmarks.md. `make bench` runs it.
//
//	go run ./internal/job/bench [--runs 5] [--scale 1] [--only rdb,stream,...] [--out docs/benchmarks.md]
//
// A row is a ratio: the real binary on one side, on the other the raw work that
// no tool can do without (the same commands written down two sockets, the same
// PSYNC bytes thrown away, the same RDB only read). The two sides of a row take
// turns in one run, A B A B ..., so that whatever else the machine does hits
// both, and the row is the median of the pairs' ratios with its spread. Each
// side must prove that it did the work (keys and replies counted, the spool
// checked, the data verified), or the run fails.
//
// The parts: row.go is a row and its statistics, report.go the file, machine.go
// what it says of the machine; rig.go holds the servers, the binary and the
// folders; data.go makes keys and commands, dataset.go captures them, encode.go
// turns the spool into the commands that apply would send, raw.go writes them to
// the target, turn.go watches either side do it. One file for each kind of row:
// apply.go, resume.go, capture.go, decode.go, memory.go, frames.go, commit.go.
//
// Caveats: ratios travel between machines, absolute figures do not. Servers and
// tairlift share the machine's cores, as they do on both sides of a row.
package main
