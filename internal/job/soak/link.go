package main

import (
	"net"
	"slices"
	"sync"
	"time"
)

// Manners of a link.
type manner uint8

const (
	flowing   manner = iota
	cut              // every connection is closed, and none is made
	hanging          // nothing arrives; what was sent may arrive later, even if its sender has gone
	dribbling        // it arrives, a few bytes at a time
	muted            // what the server sends does not arrive
)

const (
	drop      = 400 // bytes of a dribble
	dropEvery = time.Millisecond
)

// link is the network between tairlift and one server, as bytes.
type link struct {
	addr   string // where tairlift connects
	server string
	ln     net.Listener
	wg     sync.WaitGroup

	mu     sync.Mutex // guards what follows
	cond   sync.Cond  // any of it changed
	manner manner
	conns  map[net.Conn]bool // both ends of each connection
	closed bool
}

// newLink is a link to the server, which flows.
func newLink(server string) (*link, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &link{addr: ln.Addr().String(), server: server, ln: ln, conns: map[net.Conn]bool{}}
	l.cond.L = &l.mu
	l.wg.Go(l.accept)
	return l, nil
}

// set changes the manner, for connections that there are and those to come.
func (l *link) set(m manner) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.manner = m
	if m == cut {
		l.sever()
	}
	l.cond.Broadcast()
}

// close ends the link with all its connections.
func (l *link) close() {
	l.ln.Close()
	l.mu.Lock()
	l.closed = true
	l.sever()
	l.cond.Broadcast()
	l.mu.Unlock()
	l.wg.Wait()
}

// sever closes every connection; mu is held.
func (l *link) sever() {
	for c := range l.conns {
		c.Close()
	}
}

func (l *link) accept() {
	for {
		client, err := l.ln.Accept()
		if err != nil {
			return
		}
		l.wg.Go(func() { l.join(client.(*net.TCPConn)) })
	}
}

// join carries one connection until both of its ends have closed it.
func (l *link) join(client *net.TCPConn) {
	defer client.Close()
	c, err := net.Dial("tcp", l.server)
	if err != nil {
		return
	}
	server := c.(*net.TCPConn)
	defer server.Close()
	l.mu.Lock()
	if l.closed || l.manner == cut {
		l.mu.Unlock()
		return
	}
	l.conns[client], l.conns[server] = true, true
	l.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { l.carry(server, client, hanging) })
	both.Go(func() { l.carry(client, server, hanging, muted) })
	both.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, client)
	delete(l.conns, server)
}

// carry copies one direction to its end, and waits while the link is in some
// manners. That the receiver has gone does not end
// it: the sender may not know for a while, and its other direction lives on.
func (l *link) carry(to, from *net.TCPConn, still ...manner) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		for b := buf[:n]; len(b) > 0; {
			k := len(b)
			if l.pass(still) == dribbling {
				k = min(k, drop)
				time.Sleep(dropEvery)
			}
			_, _ = to.Write(b[:k])
			b = b[k:]
		}
		if err != nil {
			l.pass(still)
			_ = to.CloseWrite()
			return
		}
	}
}

// pass waits while nothing can pass.
func (l *link) pass(still []manner) manner {
	l.mu.Lock()
	defer l.mu.Unlock()
	for slices.Contains(still, l.manner) && !l.closed {
		l.cond.Wait()
	}
	return l.manner
}
