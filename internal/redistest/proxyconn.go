package redistest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"tairlift/internal/resp"
)

// due is a reply that the client waits for.
type due struct {
	do    action // pass, answer, substitute, dropReply, hangReplies
	reply []byte // of answer and substitute
}

// proxyConn is one client and its own connection to the server. Three
// goroutines serve it: commands (client to server), replies (server to out) and
// deliver (out to client). Like a server's, out is unbounded, so that a client
// may send a whole pipeline before it reads.
type proxyConn struct {
	p              *Proxy
	id             int
	client, server *net.TCPConn

	wmu sync.Mutex // writes to server; taken before mu

	mu    sync.Mutex // guards what follows
	cond  sync.Cond  // any of it changed
	queue []due
	taken int    // entries that have left queue
	out   []byte // to be delivered
	raw   bool   // after PSYNC: bytes, no replies

	hung  bool   // commands are held
	held  []byte // them
	heldN int
	mute  bool   // replies are held
	kept  []byte // them

	clientGone bool // nothing more comes from it
	serverGone bool // nothing more comes from it
	aborted    bool
}

func (c *proxyConn) commands() {
	parser := resp.NewParser(0)
	buf := make([]byte, 64<<10)
	n := 0
	for {
		k, err := c.client.Read(buf)
		parser.Feed(buf[:k])
		for {
			cmd, ok, perr := parser.Next()
			if perr != nil {
				c.abort()
			}
			if !ok {
				break
			}
			n++
			c.command(n, cmd)
		}
		if err != nil {
			break
		}
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clientGone = true
	if !c.hung {
		c.server.CloseWrite()
	}
	c.cond.Broadcast()
}

func (c *proxyConn) command(n int, cmd resp.Command) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.mu.Lock()
	if c.hung {
		c.hold(cmd)
		c.mu.Unlock()
		return
	}
	raw := c.raw
	c.mu.Unlock()
	if raw { // REPLCONF ACK has no reply
		c.server.Write(cmd.Raw)
		return
	}
	act := c.p.decide(c.id, n, cmd.Args)
	send := cmd.Raw
	c.mu.Lock()
	switch act.do {
	case cut:
		c.mu.Unlock()
		c.abort()
		return
	case hang:
		c.hung = true
		c.hold(cmd)
		c.cond.Broadcast()
		c.mu.Unlock()
		return
	case answer:
		send = nil
	case substitute:
		send = act.send
	case pass:
		if strings.EqualFold(string(cmd.Args[0]), "PSYNC") {
			c.raw = true
		}
	}
	if !c.raw {
		c.queue = append(c.queue, due{do: act.do, reply: act.reply})
	}
	c.answerHead()
	c.mu.Unlock()
	if send != nil {
		c.server.Write(send)
	}
}

// hold keeps a command for release; mu is held.
func (c *proxyConn) hold(cmd resp.Command) {
	c.held = append(c.held, cmd.Raw...)
	c.heldN++
}

// replies reads the server at all times, so that its end is seen at once.
func (c *proxyConn) replies() {
	br := bufio.NewReaderSize(c.server, 64<<10)
	var reply []byte
	for {
		_, err := br.Peek(1)
		c.mu.Lock()
		raw := c.raw && len(c.queue) == 0
		c.mu.Unlock()
		switch {
		case err != nil:
		case raw:
			reply = append(reply[:0], make([]byte, br.Buffered())...)
			_, err = io.ReadFull(br, reply)
		default:
			reply, err = readRaw(br, reply[:0])
		}
		c.mu.Lock()
		if err != nil {
			c.serverGone = true
			c.cond.Broadcast()
			c.mu.Unlock()
			return
		}
		if raw || len(c.queue) == 0 {
			for raw && len(c.out) > 1<<20 && !c.aborted { // a slow client slows its master
				c.cond.Wait()
			}
			c.put(reply)
			c.mu.Unlock()
			continue
		}
		d := c.queue[0]
		c.queue = c.queue[1:]
		c.taken++
		switch d.do {
		case substitute:
			reply = append(reply[:0], d.reply...)
		case dropReply:
			c.serverGone = true
			c.server.Close()
			c.cond.Broadcast()
			c.mu.Unlock()
			return
		case hangReplies:
			c.mute = true
		}
		c.put(reply)
		c.answerHead()
		c.mu.Unlock()
	}
}

// answerHead delivers the replies at the queue's head that are not the
// server's; mu is held.
func (c *proxyConn) answerHead() {
	for len(c.queue) > 0 && c.queue[0].do == answer {
		c.put(c.queue[0].reply)
		c.queue = c.queue[1:]
		c.taken++
	}
}

// put hands bytes to deliver; mu is held.
func (c *proxyConn) put(b []byte) {
	if c.mute {
		c.kept = append(c.kept, b...)
	} else {
		c.out = append(c.out, b...)
	}
	c.cond.Broadcast()
}

// deliver writes to the client until the server's side is at its end, and then
// closes both.
func (c *proxyConn) deliver() {
	var spare []byte
	for {
		c.mu.Lock()
		for len(c.out) == 0 && !c.serverGone && !c.aborted {
			c.cond.Wait()
		}
		b := c.out
		done := len(b) == 0
		c.out = spare[:0]
		c.cond.Broadcast()
		c.mu.Unlock()
		if done {
			break
		}
		c.client.Write(b) // a client that has gone does not stop the server
		spare = b
	}
	c.client.Close()
	c.server.Close()
	c.p.mu.Lock()
	delete(c.p.conns, c)
	c.p.mu.Unlock()
}

func (c *proxyConn) isHung() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hung || c.mute
}

func (c *proxyConn) release() (sent int) {
	c.wmu.Lock()
	c.mu.Lock()
	held, n := c.held, c.heldN
	for range n {
		c.queue = append(c.queue, due{})
	}
	c.held, c.heldN, c.hung = nil, 0, false
	c.mute = false
	c.put(c.kept)
	c.kept = nil
	goal := c.taken + len(c.queue) // a client that stayed may add to the queue
	gone, alive := c.clientGone, !c.serverGone && !c.aborted
	c.mu.Unlock()
	if alive && n > 0 {
		if _, err := c.server.Write(held); err == nil {
			sent = n
		}
	}
	if gone {
		c.server.CloseWrite()
	}
	c.wmu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	for n > 0 && c.taken < goal && !c.serverGone && !c.aborted {
		c.cond.Wait()
	}
	return sent
}

func (c *proxyConn) abort() {
	c.client.Close()
	c.server.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.aborted = true
	c.out, c.kept = nil, nil
	c.cond.Broadcast()
}

// readRaw appends the bytes of one reply to dst.
func readRaw(br *bufio.Reader, dst []byte) ([]byte, error) {
	line, err := br.ReadBytes('\n')
	if err != nil {
		return dst, err
	}
	dst = append(dst, line...)
	var n int
	switch line[0] {
	case '$':
		if _, err := fmt.Sscanf(string(line), "$%d\r\n", &n); err != nil {
			return dst, err
		}
		if n >= 0 {
			at := len(dst)
			dst = append(dst, make([]byte, n+2)...)
			_, err = io.ReadFull(br, dst[at:])
		}
	case '*':
		if _, err := fmt.Sscanf(string(line), "*%d\r\n", &n); err != nil {
			return dst, err
		}
		for i := 0; i < n && err == nil; i++ {
			dst, err = readRaw(br, dst)
		}
	}
	return dst, err
}
