// Package ctl lets one process ask another on the same machine: a line of JSON each
// way over a Unix socket.
//
// A [Server] listens at a path and hands each [Request] to a function; [Call] asks
// one. What the verbs and their results mean is for those two to know.
//
// The life of a call:
//
//	s, err := ctl.Listen("job/capture/ctl.sock", func(r ctl.Request) ctl.Response { ... })
//	defer s.Close()
//
//	resp, err := ctl.Call(ctx, "job/capture/ctl.sock", ctl.Request{Verb: "show"})
//
// On the wire, the second line being the answer, after which the connection is closed:
//
//	{"version":1,"verb":"set","set":{"max-ops":"1000"}}
//	{"version":1,"result":{"max_ops":1000}}
//	{"version":1,"error":{"what":"max-ops=-1 is below 0","hint":"0 is no limit"}}
//
// A socket belongs to its owner alone (mode 0600). One that a killed process left is
// replaced: whoever calls Listen must hold a lock under which nobody else does. The
// path may be longer than the 108 bytes that a socket's name may have.
//
// Caveats. Nothing is encrypted and nobody is named: the file's mode is what keeps
// others away. A file system that knows no sockets has none.
package ctl
