package redistest

import (
	"net"
	"sync"
	"testing"

	"tairlift/internal/resp"
)

// Hook decides what becomes of a command. conn counts the proxy's connections
// and n the commands of one connection, both from 1; args are valid during the
// call only. It is called in order for one connection, but by several at once.
type Hook func(conn, n int, args [][]byte) Action

// Action is what a Hook answers; the zero Action is Pass.
type Action struct {
	do    action
	reply []byte
	send  []byte
}

type action uint8

const (
	pass action = iota
	answer
	substitute
	dropReply
	cut
	hang
	hangReplies
)

// Pass forwards the command and its reply.
func Pass() Action { return Action{} }

// Reply answers in place of the server, which gets nothing: by the bytes of a
// reply, as RESP has them.
func Reply(raw string) Action { return Action{do: answer, reply: []byte(raw)} }

// ReplyError answers the command by "-text" and does not forward it: the server
// never hears of it. Inside MULTI that is no error to the server, whose EXEC
// would then run the other commands; use Reject there.
func ReplyError(text string) Action { return Action{do: answer, reply: []byte("-" + text + "\r\n")} }

// Answer answers the command by these bytes, whatever they are, and does not
// forward it.
func Answer(bytes string) Action { return Action{do: answer, reply: []byte(bytes)} }

// Reject answers the command by "-text" and sends the server, in its place, a
// command that it does not know. Inside MULTI the server so marks the
// transaction as failed, and answers the EXEC by its own -EXECABORT: what a
// command refused at queue time (OOM, READONLY, ...) does, server state included.
func Reject(text string) Action {
	return Action{do: substitute, reply: []byte("-" + text + "\r\n"), send: resp.AppendCommandStrings(nil, "tairlift-test-reject")}
}

// AbortExec stands for an EXEC: the server gets DISCARD, which drops the
// transaction and its watches, and the client "-text".
func AbortExec(text string) Action {
	return Action{do: substitute, reply: []byte("-" + text + "\r\n"), send: resp.AppendCommandStrings(nil, "DISCARD")}
}

// DropReply forwards the command, waits for its reply, so that the server has
// executed it, and closes both connections without it. Earlier replies are
// delivered.
func DropReply() Action { return Action{do: dropReply} }

// Close closes both connections in place of forwarding the command. Earlier
// commands are executed, their replies may be lost.
func Close() Action { return Action{do: cut} }

// Hang holds this command and all later ones of the connection. To the client
// they are sent: nothing refuses them and nothing answers. Replies to earlier
// commands are delivered. The server connection stays open even when the client
// has gone, and Release lets the server execute what was held.
func Hang() Action { return Action{do: hang} }

// HangReplies forwards this command and the later ones, and holds their replies
// until Release.
func HangReplies() Action { return Action{do: hangReplies} }

// Proxy is a man in the middle between clients and a real server, which
// understands RESP2 in both directions. From PSYNC on a connection is passed
// through as bytes. SUBSCRIBE and MONITOR are not supported.
type Proxy struct {
	Addr string // where clients connect

	server string
	wg     sync.WaitGroup

	mu     sync.Mutex // guards what follows
	hook   Hook
	ln     net.Listener
	conns  map[*proxyConn]bool
	count  int
	closed bool
}

// NewProxy starts a proxy before the server at addr; it ends with the test. A
// nil hook passes everything.
func NewProxy(t testing.TB, addr string, hook Hook) *Proxy {
	t.Helper()
	p := &Proxy{server: addr, hook: hook, conns: map[*proxyConn]bool{}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.Addr = ln.Addr().String()
	p.serve(ln)
	t.Cleanup(p.Close)
	return p
}

// SetHook replaces the hook, for commands that come from now on.
func (p *Proxy) SetHook(h Hook) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = h
}

// Conns is the number of connections that clients have made so far.
func (p *Proxy) Conns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Hung is the number of connections that hang now, by Hang or HangReplies.
func (p *Proxy) Hung() int {
	n := 0
	for _, c := range p.list() {
		if c.isHung() {
			n++
		}
	}
	return n
}

// Release lets go of all that hangs and returns when the server has answered
// every command held, or has closed the connection. It returns the number of
// commands that had been held and were written to the server. Clients still
// connected get the replies.
func (p *Proxy) Release() (sent int) {
	for _, c := range p.list() {
		sent += c.release()
	}
	return sent
}

// CloseAll closes every connection, what hangs included: it is never executed.
func (p *Proxy) CloseAll() {
	for _, c := range p.list() {
		c.abort()
	}
}

// Down closes every connection and refuses new ones until Up.
func (p *Proxy) Down() {
	p.mu.Lock()
	ln := p.ln
	p.ln = nil
	p.mu.Unlock()
	if ln != nil {
		ln.Close()
	}
	p.CloseAll()
}

// Up accepts connections again, at the same address.
func (p *Proxy) Up(t testing.TB) {
	t.Helper()
	var ln net.Listener
	err := poll(func() (bool, error) {
		var err error
		ln, err = net.Listen("tcp", p.Addr)
		return err == nil, nil
	})
	if err != nil {
		t.Fatalf("listen at %s again: %v", p.Addr, err)
	}
	p.serve(ln)
}

// Close ends the proxy and waits for its goroutines. It may be called twice.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Down()
	p.wg.Wait()
}

func (p *Proxy) list() []*proxyConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*proxyConn, 0, len(p.conns))
	for c := range p.conns {
		list = append(list, c)
	}
	return list
}

func (p *Proxy) serve(ln net.Listener) {
	p.mu.Lock()
	p.ln = ln
	p.mu.Unlock()
	p.wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.join(ln, client) })
		}
	})
}

// join connects a client to the server and starts the goroutines of the pair.
func (p *Proxy) join(ln net.Listener, client net.Conn) {
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		client.Close()
		return
	}
	c := &proxyConn{p: p, client: client.(*net.TCPConn), server: server.(*net.TCPConn)}
	c.cond.L = &c.mu
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.ln != ln { // Down came between
		client.Close()
		server.Close()
		return
	}
	p.count++
	c.id = p.count
	p.conns[c] = true
	p.wg.Go(c.commands)
	p.wg.Go(c.replies)
	p.wg.Go(c.deliver)
}

func (p *Proxy) decide(conn, n int, args [][]byte) Action {
	p.mu.Lock()
	h := p.hook
	p.mu.Unlock()
	if h == nil {
		return Pass()
	}
	return h(conn, n, args)
}
