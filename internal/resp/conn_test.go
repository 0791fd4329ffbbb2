package resp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDialAuthForms(t *testing.T) {
	const colon, plain, open = "us:er", "secret", ""
	for _, tt := range []struct {
		name, password string
		secret         resp.Secret
		ok             bool
	}{
		{"a plain password", plain, "secret", true},
		{"a password with a colon in it", colon, "us:er", true},
		{"the default user's name before the password", plain, "default:secret", true},
		{"a user of one's own", plain, "mover:its:pass", true},
		{"any password where there is none", open, "secret", true},
		{"any user and password where there is none", open, "no:body", true},
		{"no secret where there is no password", open, "", true},
		{"a wrong password", plain, "sesame", false},
		{"a wrong user", plain, "nobody:secret", false},
		{"the right user with a wrong password", plain, "default:sesame", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var o []redistest.Option
			if tt.password != "" {
				o = append(o, redistest.Password(tt.password))
			}
			s := redistest.Source(t, o...)
			major, _ := s.Version()
			if strings.HasPrefix(string(tt.secret), "mover:") || strings.HasPrefix(string(tt.secret), "default:secret") {
				if major < 6 { // has no users: both parts are no password there
					tt.ok = false
				} else {
					s.Do(t, "ACL", "SETUSER", "mover", "on", ">its:pass", "+@all", "~*")
				}
			}
			c, err := resp.Dial(context.Background(), s.Addr, tt.secret)
			if !tt.ok {
				var ae *resp.AuthError
				if !errors.As(err, &ae) || ae.Addr != s.Addr || strings.Contains(err.Error(), "wrong number") {
					t.Fatalf("got %v, want an AuthError about the secret", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if rep, err := c.Do(context.Background(), "PING"); err != nil || rep.String() != "PONG" {
				t.Errorf("PING: got %v, %v, want PONG", rep, err)
			}
			if c.Buffered() != 0 {
				t.Errorf("got %d bytes buffered, want 0", c.Buffered())
			}
		})
	}
}

func TestNoSecretWhereOneIsWanted(t *testing.T) {
	s := redistest.Source(t, redistest.Password("secret"))
	c, err := resp.Dial(context.Background(), s.Addr, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Do(context.Background(), "GET", "k"); !resp.IsNoAuth(err) {
		t.Errorf("got %v, want NOAUTH", err)
	}
}

func TestDialTellsTheServersStateFromARefusedSecret(t *testing.T) {
	reply := ""
	m := redistest.FakeMaster(t, redistest.Script{Handle: func(_ int, args []string) string {
		if len(args) > 2 {
			return "-ERR wrong number of arguments for 'auth' command\r\n"
		}
		return "-" + reply + "\r\n"
	}})
	for _, tt := range []struct {
		reply   string
		refused bool
	}{
		{"WRONGPASS invalid username-password pair or user is disabled.", true},
		{"ERR invalid password", true},
		{"NOPERM this user", true},
		{"LOADING Redis is loading the dataset in memory", false},
		{"ERR unknown command 'AUTH', with args beginning with: 'hunter:two'", true},
		{"ERR max number of clients reached", false},
	} {
		reply = tt.reply
		_, err := resp.Dial(context.Background(), m.Addr, "hunter:two")
		var ae *resp.AuthError
		if errors.As(err, &ae) != tt.refused || !tt.refused && !errors.As(err, new(resp.ServerError)) || strings.Contains(err.Error(), "two") {
			t.Errorf("%s: got %v (%T)", tt.reply, err, err)
		}
	}
}

func TestDialUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	var de *resp.DialError
	if _, err := resp.Dial(context.Background(), addr, "x"); !errors.As(err, &de) || de.Addr != addr || strings.Count(err.Error(), addr) != 1 {
		t.Errorf("got %v, want a DialError that names %s once", err, addr)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := resp.Dial(ctx, addr, ""); err != context.Canceled {
		t.Errorf("cancelled: got %v, want %v", err, context.Canceled)
	}
}

func TestDo(t *testing.T) {
	s := redistest.Source(t)
	c := s.Dial(t)
	ctx := context.Background()
	big := strings.Repeat("x", 1<<20)
	if _, err := c.Do(ctx, "SET", "k", big); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(ctx, "INCR", "k"); !resp.HasCode(err, "ERR") {
		t.Errorf("INCR: got %v, want ERR", err)
	}
	if rep, err := c.Do(ctx, "GET", "k"); err != nil || rep.String() != big {
		t.Errorf("after an error reply: got %d bytes, %v, want %d", len(rep.Str), err, len(big))
	}
	s.Kill()
	if _, err := c.Do(ctx, "GET", "k"); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, new(net.Error)) {
		t.Errorf("after the server's end: got %v", err)
	}
}

func TestExecReplies(t *testing.T) {
	s := redistest.Source(t)
	c := s.Dial(t)
	send := func(commands ...string) {
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
	skip := func(n int) {
		t.Helper()
		for range n {
			if typ, err := c.SkipReply(); err != nil || typ != '+' {
				t.Fatalf("got %q, %v, want a status", typ, err)
			}
		}
	}
	send("MULTI", "SET s x", "INCR s", "RPUSH l a b", "LRANGE l 0 -1", "EXEC")
	skip(5)
	if e, err := c.ReadExec(); err != nil || !e.Done() || e.N != 4 || len(e.Errors) != 1 || e.Errors[0].Index != 1 || e.Errors[0].Err.Code() != "ERR" {
		t.Errorf("an error inside: got %+v, %v", e, err)
	}
	send("MULTI", "nonsense", "EXEC")
	skip(1)
	if _, err := c.SkipReply(); !resp.HasCode(err, "ERR") {
		t.Errorf("nonsense: got %v, want ERR", err)
	}
	if e, err := c.ReadExec(); err != nil || e.Done() || e.Err.Code() != "EXECABORT" {
		t.Errorf("an error at queue time: got %+v, %v", e, err)
	}
	send("WATCH s")
	skip(1)
	s.Do(t, "SET", "s", "y")
	send("MULTI", "SET s z", "EXEC")
	skip(2)
	if e, err := c.ReadExec(); err != nil || e.Done() || !e.Null {
		t.Errorf("a watched key: got %+v, %v", e, err)
	}
}

func TestDoEndsWithItsContext(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	c := resp.NewConn(client)
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan struct{})
	go func() {
		buf := make([]byte, 100)
		server.Read(buf)
		close(got)
		io.Copy(io.Discard, server)
	}()
	go func() {
		<-got
		cancel()
	}()
	if _, err := c.Do(ctx, "PING"); err != context.Canceled {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if _, err := c.Do(context.Background(), "PING"); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("afterwards: got %v, want %v", err, io.ErrClosedPipe)
	}
}

func TestADeadlineBetweenRepliesHarmsNothing(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	defer client.Close()
	c := resp.NewConn(client)
	c.SetReadDeadline(time.Unix(1, 0))
	if _, err := c.ReadReply(); !isTimeout(err) {
		t.Fatalf("got %v, want a timeout", err)
	}
	c.SetReadDeadline(time.Time{})
	go fmt.Fprint(server, "+OK\r\n")
	if rep, err := c.ReadReply(); err != nil || rep.String() != "OK" {
		t.Errorf("got %v, %v, want OK", rep, err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
