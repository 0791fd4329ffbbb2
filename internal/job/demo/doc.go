// Command demo is a whole migration in about a minute, on servers of its own:
// two sources with data in DB0 and DB1 and writers on them, and one target.
// `make demo` runs it.
//
// It starts the real binary, kills it with SIGKILL while the full sync is being
// applied and again in the stream, and starts the very same command each time.
// In the end the writers stop, and every counter, list, hash and text on the
// target is compared with what the writers know to have written, then every
// key by `tairlift verify`.
//
// The exit code is 0 only if everything is exact; 130 after an interrupt.
//
//	go run ./internal/job/demo [-bin bin/tairlift] [-keys 300000]
//
// SOURCE_SERVER and TARGET_SERVER name other servers than redis-server.
//
// The parts: internal/job/launch starts a server on a free port, makes sure that it
// is its own, and stops it by its pid; child.go runs the binary; main.go is the story.
// What is written and compared is internal/job/workload.
//
// Caveats: everything lies in a temporary folder and is gone afterwards, unless
// -keep is given. The writers are paced, so that servers, writers and tairlift
// get along on two cores: the rates shown are no benchmark.
package main
