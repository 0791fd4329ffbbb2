// Package model is a small model of how apply writes to a target, and an
// explorer that visits every state it can reach: every order in which clients,
// the target and the bytes between them can move, with faults at every point.
// There is no code in it but tests. What follows from it is told, as a proof, in
// docs/exactly-once.md.
//
//	source_test.go    what a group's source wrote: keys whose values tell when a
//	                  batch ran twice, not at all, or too late
//	target_test.go    the server: keys, marks, and for each connection WATCH,
//	                  MULTI, and the bytes under way in both directions
//	client_test.go    a process at work for one group: Lane.Open, Queue, Commit,
//	                  Answer, Write, claim, in the steps and the order of apply
//	snapshot_test.go  the RDB phase: killOlder, restorers, the boundary
//	sweep_test.go     a new epoch's deletions
//	world_test.go     faults, what must hold in every state, and in the end
//	explore_test.go   breadth first, so that what is found is told by the
//	                  shortest way to it
//	model_test.go     the worlds that are explored, the rules and the assumptions
//	                  that are broken one at a time
//
// A step of a client is what the code does between two waits: it reads the
// answers that are there and sends what follows. A connection that a client has
// given up lives on with the bytes in it, each of which may be executed at any
// later time or never; so a cut, a hung socket, a timeout and the death of a
// process are one fault, and a process that sleeps is one that does not move.
//
// What is left out: SELECT, the clock, errors inside EXEC's array, and the
// bytes within a command. A step that no other can tell the time of is taken at
// once, which does not change what can be reached.
//
// MODEL_FAULTS=1 go test ./internal/model allows one fault more in each world,
// and takes ten times as long.
package model
