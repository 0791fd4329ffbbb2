package redistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"tairlift/internal/resp"
)

// on is a hook that acts on the first command of that name.
func on(name string, act Action) Hook {
	var once sync.Once
	return func(_, _ int, args [][]byte) (got Action) {
		if strings.EqualFold(string(args[0]), name) {
			once.Do(func() { got = act })
		}
		return got
	}
}

func dialProxy(t *testing.T, p *Proxy) *resp.Conn {
	t.Helper()
	c, err := resp.Dial(context.Background(), p.Addr, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// send pipelines commands given as words.
func send(t *testing.T, c *resp.Conn, commands ...string) {
	t.Helper()
	for _, cmd := range commands {
		if err := c.WriteCommand(strings.Fields(cmd)...); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}

// want reads replies and compares them, errors as "-text".
func want(t *testing.T, c *resp.Conn, replies ...string) {
	t.Helper()
	for i, w := range replies {
		rep, err := c.ReadReply()
		got := rep.String()
		var se resp.ServerError
		if errors.As(err, &se) {
			got = "-" + got
		} else if err != nil {
			t.Fatalf("reply %d: %v, want %q", i, err, w)
		}
		if got != w && !(strings.HasSuffix(w, "*") && strings.HasPrefix(got, w[:len(w)-1])) {
			t.Errorf("reply %d: got %q, want %q", i, got, w)
		}
	}
}

func wantEnd(t *testing.T, c *resp.Conn) {
	t.Helper()
	if rep, err := c.ReadReply(); err == nil {
		t.Errorf("got %v, want a closed connection", rep)
	}
}

func TestProxyPasses(t *testing.T) {
	s := Target(t)
	p := NewProxy(t, s.Addr, nil)
	c := dialProxy(t, p)
	big := strings.Repeat("x", 3<<20)
	var in, out []byte
	for i := range 2000 {
		in = resp.AppendCommandStrings(in, "RPUSH", "l", fmt.Sprint(i))
		out = fmt.Appendf(out, ":%d\r\n", i+1)
	}
	in = resp.AppendCommandStrings(in, "ECHO", big)
	out = resp.AppendBulkString(out, big)
	in = resp.AppendCommandStrings(in, "LRANGE", "l", "0", "1")
	out = resp.AppendArrayHeader(out, 2)
	out = resp.AppendBulkString(resp.AppendBulkString(out, "0"), "1")
	in = resp.AppendCommandStrings(in, "GET", "none")
	out = append(out, "$-1\r\n"...)
	if _, err := c.Write(in); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(out))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, out) {
		t.Errorf("got other replies than the server's, %v", err)
	}
	if p.Conns() != 1 || p.Hung() != 0 {
		t.Errorf("got %d connections, %d hung, want 1, 0", p.Conns(), p.Hung())
	}
}

func TestProxyActions(t *testing.T) {
	for _, tt := range []struct {
		name string
		hook Hook
		send []string
		want []string
		ends bool
		get  string // of x afterwards
	}{
		{
			"ReplyError is never heard of by the server", on("INCR", ReplyError("OOM no")),
			[]string{"SET x 1", "INCR x", "GET x"},
			[]string{"OK", "-OOM no", "1"},
			false, "1",
		},
		{
			"ReplyError first on an idle connection is delivered", on("INCR", ReplyError("OOM no")),
			[]string{"INCR x"},
			[]string{"-OOM no"},
			false, "(nil)",
		},
		{
			"Reject inside MULTI makes the server refuse EXEC", on("INCR", Reject("OOM no")),
			[]string{"MULTI", "SET x 1", "INCR x", "EXEC", "GET x"},
			[]string{"OK", "QUEUED", "-OOM no", "-EXECABORT*", "(nil)"},
			false, "(nil)",
		},
		{
			"AbortExec drops the transaction at the server", on("EXEC", AbortExec("EXECABORT test")),
			[]string{"WATCH x", "MULTI", "SET x 1", "EXEC", "MULTI", "SET x 2", "EXEC"},
			[]string{"OK", "OK", "QUEUED", "-EXECABORT test", "OK", "QUEUED", "[OK]"},
			false, "2",
		},
		{
			"DropReply executes the command and tells nobody", on("EXEC", DropReply()),
			[]string{"MULTI", "INCR x", "EXEC"},
			[]string{"OK", "QUEUED"},
			true, "1",
		},
		{
			"Close does not forward", on("EXEC", Close()),
			[]string{"MULTI", "INCR x", "EXEC"},
			nil, true, "(nil)",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := Target(t)
			p := NewProxy(t, s.Addr, tt.hook)
			c := dialProxy(t, p)
			send(t, c, tt.send...)
			want(t, c, tt.want...)
			if tt.ends {
				for {
					if _, err := c.ReadReply(); err != nil {
						break
					}
				}
			}
			if got := s.Do(t, "GET", "x").String(); got != tt.get {
				t.Errorf("got x=%s, want %s", got, tt.get)
			}
		})
	}
}

func TestProxyHangReleasesToTheServerAfterTheClientCameBack(t *testing.T) {
	s := Target(t)
	p := NewProxy(t, s.Addr, on("EXEC", Hang()))
	old := dialProxy(t, p)
	send(t, old, "SET x 1", "MULTI", "INCR x", "EXEC", "INCR x")
	want(t, old, "OK", "OK", "QUEUED")
	Eventually(t, "a hung connection", func() bool { return p.Hung() == 1 })
	if got := s.Do(t, "GET", "x").String(); got != "1" {
		t.Errorf("while it hangs: got x=%s, want 1", got)
	}
	old.Close()
	again := dialProxy(t, p)
	send(t, again, "INCRBY x 10")
	want(t, again, "11")
	if p.Hung() != 1 || p.Conns() != 2 {
		t.Errorf("got %d hung of %d connections, want 1 of 2", p.Hung(), p.Conns())
	}
	if got := p.Release(); got != 2 {
		t.Errorf("got %d commands released, want 2", got)
	}
	if got := s.Do(t, "GET", "x").String(); got != "13" {
		t.Errorf("after the release: got x=%s, want 13", got)
	}
	send(t, again, "GET x")
	want(t, again, "13")
	Eventually(t, "the old connection's end", func() bool {
		return !strings.Contains(s.Do(t, "CLIENT", "LIST").String(), "cmd=incr ")
	})
}

func TestProxyHangReleasesToAClientThatStayed(t *testing.T) {
	s := Target(t)
	p := NewProxy(t, s.Addr, on("INCR", Hang()))
	c := dialProxy(t, p)
	send(t, c, "INCR x", "INCR x")
	Eventually(t, "a hung connection", func() bool { return p.Hung() == 1 })
	Eventually(t, "both commands released", func() bool {
		p.Release()
		return s.Do(t, "GET", "x").String() == "2"
	})
	want(t, c, "1", "2")
}

func TestProxyHangEndsWithItsServerConnection(t *testing.T) {
	s := Target(t)
	p := NewProxy(t, s.Addr, on("INCR", Hang()))
	c := dialProxy(t, p)
	send(t, c, "CLIENT SETNAME old", "INCR x")
	want(t, c, "OK")
	Eventually(t, "a hung connection", func() bool { return p.Hung() == 1 })
	addr := ""
	for line := range strings.Lines(s.Do(t, "CLIENT", "LIST").String()) {
		if strings.Contains(line, " name=old ") {
			_, rest, _ := strings.Cut(line, "addr=")
			addr, _, _ = strings.Cut(rest, " ")
		}
	}
	s.Do(t, "CLIENT", "KILL", addr)
	wantEnd(t, c)
	if got := p.Release(); got != 0 {
		t.Errorf("got %d commands released, want 0", got)
	}
	if got := s.Do(t, "GET", "x").String(); got != "(nil)" {
		t.Errorf("got x=%s, want none", got)
	}
}

func TestProxyHangReplies(t *testing.T) {
	s := Target(t)
	p := NewProxy(t, s.Addr, on("INCR", HangReplies()))
	c := dialProxy(t, p)
	send(t, c, "SET x 1", "INCR x", "GET x")
	want(t, c, "OK")
	s.Wait(t, "the command executed", func() bool { return s.Do(t, "GET", "x").String() == "2" })
	Eventually(t, "held replies", func() bool { return p.Hung() == 1 })
	p.Release()
	want(t, c, "2", "2")
}

func TestProxyDownAndUp(t *testing.T) {
	s := Target(t)
	p := NewProxy(t, s.Addr, nil)
	c := dialProxy(t, p)
	send(t, c, "PING")
	want(t, c, "PONG")
	p.Down()
	wantEnd(t, c)
	var de *resp.DialError
	if _, err := resp.Dial(context.Background(), p.Addr, ""); !errors.As(err, &de) {
		t.Errorf("while down: got %v, want a DialError", err)
	}
	p.Up(t)
	c = dialProxy(t, p)
	send(t, c, "PING")
	want(t, c, "PONG")
}

func TestProxyTellsAtOnceThatTheServerHasGone(t *testing.T) {
	s := Target(t)
	p := NewProxy(t, s.Addr, nil)
	c := dialProxy(t, p)
	send(t, c, "PING")
	want(t, c, "PONG")
	s.Kill()
	wantEnd(t, c)
}

func TestProxyPassesAReplicationLink(t *testing.T) {
	m := FakeMaster(t, Script{Session: RecordedSession(t)})
	p := NewProxy(t, m.Addr, nil)
	c := dialProxy(t, p)
	sess := RecordedSession(t)
	send(t, c, "PING", "REPLCONF listening-port 1", "PSYNC ? -1")
	want(t, c, "PONG", "OK")
	wantFull(t, c, sess)
	send(t, c, "REPLCONF ACK 42")
	Eventually(t, "the ACK", func() bool { return m.LastAck() == 42 })
}
