package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers with what it was asked.
func echo(r Request) Response {
	switch r.Verb {
	case "panic":
		panic("on purpose")
	case "refuse":
		return Refuse("do this", "%s is not done", r.Verb)
	case "long":
		return Result(strings.Repeat("x", maxLine))
	}
	return Result(r)
}

func listen(t *testing.T, path string) *Server {
	t.Helper()
	s, err := Listen(path, echo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// asks makes a call that must be answered.
func asks(t *testing.T, path string) {
	t.Helper()
	resp, err := Call(t.Context(), path, Request{Verb: "set", Set: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	var got Request
	if err := json.Unmarshal(resp.Result, &got); err != nil || got.Verb != "set" || got.Set["a"] != "b" {
		t.Errorf("got %s, %v", resp.Result, err)
	}
}

func TestCall(t *testing.T) {
	deep := t.TempDir()
	for len(deep) < 300 {
		deep = filepath.Join(deep, strings.Repeat("deep", 10))
	}
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"a path as others": t.TempDir(), "a path longer than a socket's name": deep} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, "ctl.sock")
			s := listen(t, path)
			asks(t, path)
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode: got %v, %v, want 0600", info.Mode(), err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 && dir == deep {
				t.Errorf("left behind: %v, %v", left, err)
			}
			if _, err := Call(t.Context(), path, Request{}); !errors.Is(err, ErrNobody) {
				t.Errorf("once it is closed: got %v, want ErrNobody", err)
			}
		})
	}
}

// A relative path is what --dir job makes of it.
func TestRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	dir := strings.Repeat("d", 120)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	listen(t, filepath.Join(dir, "ctl.sock"))
	asks(t, filepath.Join(dir, "ctl.sock"))
}

func TestWhatIsLeftIsReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[b") // no pattern
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "ctl.sock")
	// As a process leaves it that is killed: bound, and nobody listens; and another
	// one that was killed while it bound.
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	if err := os.Mkdir(filepath.Join(filepath.Dir(path), binding+"1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Call(t.Context(), path, Request{}); !errors.Is(err, ErrNobody) {
		t.Errorf("a dead socket: got %v, want ErrNobody", err)
	}
	first := listen(t, path)
	asks(t, path)
	second := listen(t, path) // the first one's lock was lost
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	asks(t, path) // that was not the first one's to remove
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := Listen(filepath.Join(path, "no", "folder"), echo); err == nil {
		t.Error("a folder that is not there: got no error")
	}
}

func TestRefusals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ctl.sock")
	listen(t, path)
	tests := []struct {
		verb, what string
	}{
		{"refuse", "refuse is not done"},
		{"panic", "internal error: on purpose"},
	}
	for _, tt := range tests {
		_, err := Call(t.Context(), path, Request{Verb: tt.verb})
		var e *Error
		if !errors.As(err, &e) || e.What != tt.what || e.Hint == "" {
			t.Errorf("%s: got %v, want %q with a hint", tt.verb, err, tt.what)
		}
	}
	if _, err := Call(t.Context(), path, Request{Verb: "long"}); err == nil {
		t.Error("an answer that cannot be sent: got no error")
	}
	if _, err := Call(t.Context(), path, Request{Verb: strings.Repeat("x", maxLine)}); !errors.Is(err, errLong) {
		t.Errorf("a request that cannot be sent: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Call(ctx, path, Request{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: got %v", err)
	}
}

// Connections that say nothing keep nobody waiting longer than Close.
func TestSilentCallers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ctl.sock")
	s := listen(t, path)
	for range atOnce - 1 {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	asks(t, path)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// exchange sends bytes to a server and returns its answer.
func exchange(t *testing.T, in []byte) []byte {
	t.Helper()
	s := &Server{answer: echo, slots: make(chan struct{}, 1), conns: map[net.Conn]bool{}}
	s.slots <- struct{}{}
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serve(server)
	}()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = client.Write(append(bytes.Clone(in), '\n')) // fails when it has heard enough
	}()
	out, err := io.ReadAll(client)
	if err != nil {
		t.Fatal(err)
	}
	<-done
	<-sent
	return out
}

func FuzzServer(f *testing.F) {
	for _, seed := range []string{
		`{"version":1,"verb":"show"}`, `{"version":1,"verb":"set","set":{"max-ops":"1"}}`, `{"version":2,"verb":"show"}`, `{"version":1,"verb":"panic"}`,
		``, `{`, `null`, `[]`, `"x"`, `{"version":"1"}`, `{"version":1,"set":[]}`, `{"version":1,"set":{"a":1}}`, `{"version":1e99}`, "\x00", `{"version":1}{"version":1}`,
		`{"version":1,"verb":"` + strings.Repeat("x", maxLine) + `"}`, strings.Repeat("[", 20_000),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out := exchange(t, in)
		if len(out) == 0 { // the answer would have been too long
			return
		}
		if len(out) > maxLine || out[len(out)-1] != '\n' {
			t.Fatalf("got %d bytes, want one line", len(out))
		}
		var resp Response
		if err := json.Unmarshal(out, &resp); err != nil || resp.Version != version || (resp.Error == nil) == (resp.Result == nil) {
			t.Fatalf("got %q, %v, want an answer", out, err)
		}
		if resp.Error != nil && (resp.Error.What == "" || resp.Error.Hint == "") {
			t.Fatalf("got %+v, want what and hint", resp.Error)
		}
	})
}
