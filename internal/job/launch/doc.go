// Package launch starts processes that do not outlive the one that started
// them: servers of one's own, and runs of the binary. The demo, the soak
// and the benchmarks use it.
//
// A [Process] is anything that runs; a [Server] is a Redis server on a free port
// of this machine, which has proved to be its own by the process id that it
// tells, and is stopped by that id:
//
//	s, err := launch.Start(ctx, launch.Options{Variable: "SOURCE_SERVER", Dir: dir})
//	defer s.Stop()
//	n, err := s.Keys(ctx, 0)
//
// Caveats: only Linux ends a child whose parent was killed by SIGKILL; elsewhere
// Stop must be reached. A Server's connection belongs to one goroutine. For tests
// there is internal/redistest.
package launch
