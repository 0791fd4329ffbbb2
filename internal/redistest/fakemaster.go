package redistest

import (
	"crypto/sha1"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

// Script is how a fake master behaves. The zero Script with a Session is a
// Redis 3.2 master that saves to disk.
type Script struct {
	Session
	Password    string
	PSYNC2      bool // Redis >= 4: "+CONTINUE <replid>", master_replid in INFO
	Diskless    bool // $EOF:<mark> (the RDB's SHA-1) where the client announced it; then silent until the first ACK
	NewlinesPre int  // bare newlines before the PSYNC reply
	NewlinesRDB int  // bare newlines before "$"

	// Replica, if set, are lines in place of the master's in INFO's replication
	// section, such as "role:slave\r\nmaster_link_status:down\r\n".
	Replica string

	// Link is asked at every PSYNC, counted from 1, how that link goes wrong.
	Link func(n int) Fault

	// Cut is asked for every connection, counted from 1, after how many bytes
	// to the client, whatever they are, it is closed; 0 never. nil: never.
	Cut func(conn int) int64

	// Handle answers a command in place of the master; "" leaves it to the
	// master. conn counts connections from 1; the reply is RESP.
	Handle func(conn int, args []string) string
}

// Fault is how a link goes wrong; the zero Fault does not. Byte counts begin
// with the first byte of the PSYNC reply, newlines before it included.
type Fault struct {
	Reply    string // sent in place of the PSYNC reply, without the line end; the link stays open for another command
	Announce string // sent in place of "$" and the RDB's length, without the line end
	CutAt    int64  // close after that many bytes; 0 never
	SilentAt int64  // send nothing further after that many bytes; 0 never
	Silent   bool   // do not even answer PSYNC
	Drip     bool   // one byte per packet
}

// Master is a scripted master. Its methods may be called from any goroutine.
type Master struct {
	Addr string

	script Script
	ln     net.Listener
	wg     sync.WaitGroup

	mu     sync.Mutex // guards what follows
	cond   sync.Cond  // any of it changed
	hist   Session
	conns  map[net.Conn]bool
	count  int
	cuts   int
	links  int
	full   int
	live   int
	acks   []repl.Offset
	cmds   [][]string
	closed bool
}

// FakeMaster starts a master that follows the script; it ends with the test.
func FakeMaster(t testing.TB, s Script) *Master {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &Master{Addr: ln.Addr().String(), script: s, ln: ln, hist: s.Session, conns: map[net.Conn]bool{}}
	m.cond.L = &m.mu
	m.wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			m.mu.Lock()
			if m.closed {
				nc.Close()
				m.mu.Unlock()
				return
			}
			m.count++
			if s.Cut != nil {
				if n := s.Cut(m.count); n > 0 {
					nc = &cutConn{Conn: nc, m: m, left: n}
				}
			}
			c := &masterConn{m: m, nc: nc, id: m.count, authed: s.Password == ""}
			m.conns[nc] = true
			m.wg.Go(c.serve)
			m.mu.Unlock()
		}
	})
	t.Cleanup(m.Close)
	return m
}

// Close ends the master and waits for its goroutines. It may be called twice.
func (m *Master) Close() {
	m.ln.Close()
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.CutAll()
	m.wg.Wait()
}

// CutAll closes every connection.
func (m *Master) CutAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for nc := range m.conns {
		nc.Close()
		delete(m.conns, nc)
	}
	m.cond.Broadcast()
}

// Append adds bytes to the stream; links that are live get them.
func (m *Master) Append(b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hist.Stream = slices.Concat(m.hist.Stream, b)
	m.cond.Broadcast()
}

// SetSession gives the master another history, as a restart or a failover
// does, and cuts every connection. Without a replid in common the next PSYNC
// is a full sync.
func (m *Master) SetSession(s Session) {
	m.mu.Lock()
	m.hist = s
	m.mu.Unlock()
	m.CutAll()
}

// Position is the end of the stream so far.
func (m *Master) Position() repl.Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	return repl.Position{ReplID: m.hist.ReplID, Offset: m.hist.End()}
}

// Acks are the offsets acknowledged so far, in order.
func (m *Master) Acks() []repl.Offset {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.acks)
}

// LastAck is the newest acknowledged offset, -1 before the first.
func (m *Master) LastAck() repl.Offset {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.acks) == 0 {
		return -1
	}
	return m.acks[len(m.acks)-1]
}

// Links counts the PSYNCs so far, and those answered by a full sync.
func (m *Master) Links() (all, full int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.links, m.full
}

// Cuts is the number of connections that Script.Cut has closed.
func (m *Master) Cuts() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cuts
}

// Live is the number of links that are open and have begun their stream.
func (m *Master) Live() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.live
}

// Commands are the commands received so far but REPLCONF ACK, in order;
// the arguments of AUTH are left out.
func (m *Master) Commands() [][]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.cmds)
}

// cutConn closes itself after left bytes were written.
type cutConn struct {
	net.Conn
	m *Master

	mu   sync.Mutex // guards left
	left int64
}

func (c *cutConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if int64(len(p)) < c.left {
		c.left -= int64(len(p))
		return c.Conn.Write(p)
	}
	if c.left == 0 {
		return 0, net.ErrClosed
	}
	c.m.mu.Lock()
	c.m.cuts++
	c.m.mu.Unlock()
	n, _ := c.Conn.Write(p[:c.left])
	c.left = 0
	c.Conn.Close()
	return n, net.ErrClosed
}

// masterConn is one client of the master.
type masterConn struct {
	m      *Master
	nc     net.Conn
	id     int
	authed bool
	eof    bool // announced capa eof
	multi  bool
	queued [][]string
	acked  bool // guarded by m.mu
}

func (c *masterConn) serve() {
	defer func() {
		c.nc.Close()
		c.m.mu.Lock()
		delete(c.m.conns, c.nc)
		c.m.cond.Broadcast()
		c.m.mu.Unlock()
	}()
	parser := resp.NewParser(0)
	buf := make([]byte, 16<<10)
	linked := false
	for {
		n, err := c.nc.Read(buf)
		parser.Feed(buf[:n])
		for {
			cmd, ok, perr := parser.Next()
			if perr != nil {
				return
			}
			if !ok {
				break
			}
			args := make([]string, len(cmd.Args))
			for i, a := range cmd.Args {
				args[i] = string(a)
			}
			if c.ack(args) || linked {
				continue
			}
			c.record(args)
			if name := strings.ToUpper(args[0]); name == "PSYNC" && c.authed {
				linked = c.psync(args)
				continue
			}
			if _, err := c.nc.Write([]byte(c.reply(args))); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (c *masterConn) ack(args []string) bool {
	if len(args) < 3 || !strings.EqualFold(args[0], "REPLCONF") || !strings.EqualFold(args[1], "ACK") {
		return false
	}
	off, err := repl.ParseOffset(args[2])
	if err != nil {
		return false
	}
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.m.acks = append(c.m.acks, off)
	c.acked = true
	c.m.cond.Broadcast()
	return true
}

func (c *masterConn) record(args []string) {
	if strings.EqualFold(args[0], "AUTH") {
		args = args[:1]
	}
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.m.cmds = append(c.m.cmds, args)
	c.m.cond.Broadcast()
}

func (c *masterConn) reply(args []string) string {
	name := strings.ToUpper(args[0])
	s := &c.m.script
	if s.Handle != nil {
		if r := s.Handle(c.id, args); r != "" {
			return r
		}
	}
	switch {
	case name == "AUTH":
		switch {
		case s.Password == "":
			return "-ERR Client sent AUTH, but no password is set\r\n"
		case len(args) != 2:
			return "-ERR wrong number of arguments for 'auth' command\r\n"
		case args[1] != s.Password:
			return "-ERR invalid password\r\n"
		}
		c.authed = true
		return "+OK\r\n"
	case !c.authed:
		return "-NOAUTH Authentication required.\r\n"
	case name == "EXEC":
		if !c.multi {
			return "-ERR EXEC without MULTI\r\n"
		}
		out := fmt.Sprintf("*%d\r\n", len(c.queued))
		// One cut: time and offset belong together.
		c.m.mu.Lock()
		defer c.m.mu.Unlock()
		for _, q := range c.queued {
			out += c.execute(q)
		}
		c.multi, c.queued = false, nil
		return out
	case name == "DISCARD":
		c.multi, c.queued = false, nil
		return "+OK\r\n"
	case c.multi:
		c.queued = append(c.queued, args)
		return "+QUEUED\r\n"
	case name == "MULTI":
		c.multi = true
		return "+OK\r\n"
	}
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	return c.execute(args)
}

// execute answers one command; m.mu is held.
func (c *masterConn) execute(args []string) string {
	switch strings.ToUpper(args[0]) {
	case "PING":
		return "+PONG\r\n"
	case "SELECT", "CLIENT":
		return "+OK\r\n"
	case "REPLCONF":
		for i := 1; i+1 < len(args); i += 2 {
			if strings.EqualFold(args[i], "capa") && strings.EqualFold(args[i+1], "eof") {
				c.eof = true
			}
		}
		return "+OK\r\n"
	case "TIME":
		now := time.Now().UnixMicro()
		return string(resp.AppendCommandStrings(nil, strconv.FormatInt(now/1e6, 10), strconv.FormatInt(now%1e6, 10)))
	case "INFO":
		section := ""
		if len(args) > 1 {
			section = strings.ToLower(args[1])
		}
		return string(resp.AppendBulkString(nil, c.m.info(section)))
	}
	return fmt.Sprintf("-ERR unknown command '%s'\r\n", args[0])
}

// info is INFO's text; mu is held.
func (m *Master) info(section string) string {
	version := "3.2.11"
	if m.script.PSYNC2 {
		version = "7.0.15"
	}
	server := fmt.Sprintf("# Server\r\nredis_version:%s\r\nredis_mode:standalone\r\nrun_id:%s\r\n", version, m.hist.ReplID)
	role := m.script.Replica
	if role == "" {
		role = fmt.Sprintf("role:master\r\nconnected_slaves:%d\r\n", m.live)
	}
	replication := "# Replication\r\n" + role
	if m.script.PSYNC2 {
		replication += fmt.Sprintf("master_replid:%s\r\nmaster_replid2:%040d\r\n", m.hist.ReplID, 0)
	}
	replication += fmt.Sprintf("master_repl_offset:%d\r\nrepl_backlog_active:1\r\nrepl_backlog_first_byte_offset:%d\r\nrepl_backlog_histlen:%d\r\n",
		m.hist.End(), m.hist.Offset+1, len(m.hist.Stream))
	switch section {
	case "server":
		return server
	case "replication":
		return replication
	}
	return server + "\r\n" + replication
}

// psync answers PSYNC and, unless the answer is an error, starts the link.
func (c *masterConn) psync(args []string) (linked bool) {
	m := c.m
	m.mu.Lock()
	m.links++
	n := m.links
	m.mu.Unlock()
	var f Fault
	if m.script.Link != nil {
		f = m.script.Link(n)
	}
	if f.Reply != "" {
		c.nc.Write([]byte(f.Reply + "\r\n"))
		return false
	}
	if f.Silent {
		return true
	}
	m.wg.Go(func() { c.link(f, args) })
	return true
}

// link sends the reply, the RDB if it is a full sync, and the stream as it
// grows, until the connection ends.
func (c *masterConn) link(f Fault, args []string) {
	m := c.m
	w := &faultWriter{c: c, f: f}
	m.mu.Lock()
	h := m.hist
	next := h.Offset // everything up to here is sent
	full := true
	if len(args) == 3 && args[1] == string(h.ReplID) {
		if off, err := repl.ParseOffset(args[2]); err == nil && off > h.Offset && off <= h.End()+1 {
			next, full = off-1, false
		}
	}
	if full {
		m.full++
	}
	m.mu.Unlock()

	head := strings.Repeat("\n", m.script.NewlinesPre)
	silent := false // until the first ACK
	switch {
	case !full && m.script.PSYNC2:
		head += fmt.Sprintf("+CONTINUE %s\r\n", h.ReplID)
	case !full:
		head += "+CONTINUE\r\n"
	default:
		head += fmt.Sprintf("+FULLRESYNC %s %s\r\n%s", h.ReplID, h.Offset, strings.Repeat("\n", m.script.NewlinesRDB))
		if f.Announce != "" {
			head += fmt.Sprintf("%s\r\n%s", f.Announce, h.RDB)
		} else if m.script.Diskless && c.eof {
			mark := fmt.Sprintf("%x", sha1.Sum(h.RDB))
			head += "$EOF:" + mark + "\r\n" + string(h.RDB) + mark
			silent = true
		} else {
			head += fmt.Sprintf("$%d\r\n%s", len(h.RDB), h.RDB)
		}
	}
	if !w.write([]byte(head)) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for silent && !c.acked && m.conns[c.nc] {
		m.cond.Wait()
	}
	m.live++
	m.cond.Broadcast()
	defer func() {
		m.live--
		m.cond.Broadcast()
	}()
	for m.conns[c.nc] {
		if m.hist.ReplID != h.ReplID || m.hist.End() <= next {
			m.cond.Wait()
			continue
		}
		b := m.hist.Stream[next-m.hist.Offset:]
		next += repl.Offset(len(b))
		m.mu.Unlock()
		ok := w.write(b)
		m.mu.Lock()
		if !ok {
			return
		}
	}
}

// faultWriter writes a link's bytes and goes wrong as told.
type faultWriter struct {
	c    *masterConn
	f    Fault
	sent int64
}

// write returns false when the link sends nothing more.
func (w *faultWriter) write(b []byte) bool {
	for len(b) > 0 {
		n := int64(len(b))
		if w.f.Drip {
			n = 1
		}
		if w.f.CutAt > 0 {
			n = min(n, w.f.CutAt-w.sent)
		}
		if w.f.SilentAt > 0 {
			n = min(n, w.f.SilentAt-w.sent)
		}
		if n == 0 {
			if w.f.CutAt > 0 && w.sent == w.f.CutAt {
				w.c.nc.Close()
			}
			return false
		}
		if _, err := w.c.nc.Write(b[:n]); err != nil {
			return false
		}
		w.sent += n
		b = b[n:]
	}
	if w.f.CutAt > 0 && w.sent == w.f.CutAt {
		w.c.nc.Close()
		return false
	}
	return true
}
