// Package client makes go-redis clients, all of them: New is the only place of
// this project that calls redis.NewClient.
//
// One place, because go-redis's defaults are made for caches and are wrong for
// a tool that must know what it has done:
//
//   - It repeats a command whose reply was lost, up to three times: an INCR then
//     counts four times. Clients of New never repeat anything: an error after
//     the command was sent means "unknown", and the caller decides.
//   - It dials five times before it says so, and then goes on behind the
//     caller's back. Here an address that does not answer is an error after one
//     try, and the caller's backoff is the only one.
//   - It asks for RESP3, sends CLIENT SETINFO and maintenance notifications,
//     which a Codis-Group's Redis 3.2 answers with errors that show up in
//     somebody's error statistics. Here it speaks RESP2 and announces nothing.
//     The one HELLO 2 it still sends on a new connection is refused by servers
//     before 6.0, which go-redis takes well.
//   - It ignores a context's deadline on the socket. Here the deadline counts.
//   - It logs to stderr by itself. Here it is silent: errors are returned.
//
// Connecting and AUTH are internal/resp's Dial, so a secret is tried in the same
// forms as on every other connection, and the errors are the same:
// *resp.DialError and *resp.AuthError, for errors.As.
//
// # Caveats
//
// After the context's deadline or a lost reply the connection is dropped and the
// next command dials again. Whether a command took effect whose reply was lost
// is unknown here; only the marks in the target tell.
package client
