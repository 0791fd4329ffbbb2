// Package resp speaks RESP2, the protocol of Redis clients and of its
// replication stream, where this program counts bytes or owns the connection.
//
// Conn is a client connection, made by Dial with its secret given in the three
// forms that Codis, Redis and Tair use. Reader reads replies: whole (ReadReply),
// or on a hot path only what matters of them (SkipReply, ReadBulk, ReadExec).
// Parser is the other direction, commands as a replication stream carries them,
// each with the offset of its last byte. The Append functions build commands.
//
// The life of a Conn:
//
//	c, err := resp.Dial(ctx, "10.0.0.7:6379", secret)
//	defer c.Close()
//	rep, err := c.Do(ctx, "GET", "k")         // one command, one reply
//
//	buf = resp.AppendCommandStrings(buf[:0], "MULTI")
//	...
//	c.Write(buf); c.Flush()                    // or many, pipelined
//	typ, err := c.SkipReply()                  // once per command
//	exec, err := c.ReadExec()
//
// The life of a Parser, which starts behind the offset that is already known:
//
//	p := resp.NewParser(at)
//	p.Feed(frame)
//	for {
//		cmd, ok, err := p.Next()
//		if err != nil || !ok {
//			break // !ok: Feed the next frame
//		}
//		use(cmd.Args, cmd.End)
//	}
//
// Caveats: a Command's bytes are the parser's and change at the next call. A
// Conn on which a reply broke off cannot be used again; a ServerError leaves it
// as it was. Lengths are bounded, and memory grows with the bytes that arrive,
// never with a length that was only announced. fmt cannot call methods on
// unexported fields, so a struct that keeps a Secret in one must not be printed
// with %v.
package resp
