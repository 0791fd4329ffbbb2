// Package redistest gives tests what they replicate from and write to: real
// servers, a scripted master, and a man in the middle. Only tests import it.
//
// Source and Target start a real server on a free loopback port, of the binary
// named by SOURCE_SERVER or TARGET_SERVER and else of redis-server; Server
// talks to it, kills it, restarts it on the same port and folder. FakeMaster
// serves a fixed Session to PSYNC and goes wrong as its Script tells. Proxy
// stands between a client and a real server and lets a Hook decide on every
// command. Eventually waits for a condition; no test sleeps.
//
// An EXEC that fails at queue time, and one whose reply is lost:
//
//	target := redistest.Target(t)
//	proxy := redistest.NewProxy(t, target.Addr, func(conn, n int, args [][]byte) redistest.Action {
//		switch {
//		case isThe5thINCR(args):
//			return redistest.Reject("OOM command not allowed") // the server's EXEC is -EXECABORT
//		case isThe9thEXEC(args):
//			return redistest.DropReply() // executed, and the client never knows
//		}
//		return redistest.Pass()
//	})
//
// A hung connection, whose bytes the server executes after the client has come
// back on another:
//
//	... return redistest.Hang()
//	redistest.Eventually(t, "client back", func() bool { return proxy.Hung() == 1 && proxy.Conns() == 2 })
//	... let the client work ...
//	if proxy.Release() == 0 { t.Fatal("the late commands never reached the server") }
//
// Caveats: a Hook must not call its Proxy's Release, Down or Close. Release
// reports 0 for a connection that the server closed meanwhile (CLIENT KILL):
// that is an outcome to assert, not a failure of the proxy. Everything ends
// with the test that started it, so a package with goleak in TestMain sees
// nothing of it. On Linux servers die with the test binary, however it dies.
package redistest
