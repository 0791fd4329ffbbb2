package main

import (
	"context"
	"io"
	"testing"

	"tairlift/internal/job/workload"
	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

// throughLink is a server and a connection to it by a link.
func throughLink(t *testing.T) (*redistest.Server, *link, *resp.Conn) {
	t.Helper()
	s := redistest.Target(t)
	l, err := newLink(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	c, err := workload.Open(context.Background(), l.addr, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return s, l, c
}

func TestLinkDeliversLateWhatHung(t *testing.T) {
	s, l, c := throughLink(t)
	l.set(hanging)
	if err := c.WriteCommand("INCR", "n"); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if got := s.Do(t, "EXISTS", "n").Int; got != 0 {
		t.Fatalf("n while the link hangs: got %d, want 0", got)
	}
	l.set(dribbling)
	s.Wait(t, "the late command", func() bool { return s.Do(t, "GET", "n").String() == "1" })
}

func TestLinkKeepsAnswersBack(t *testing.T) {
	s, l, c := throughLink(t)
	l.set(muted)
	if err := c.WriteCommand("INCR", "n"); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	s.Wait(t, "the command", func() bool { return s.Do(t, "GET", "n").String() == "1" })
	l.set(cut)
	if rep, err := c.ReadReply(); err == nil {
		t.Errorf("the answer: got %s, want the end of the connection", rep)
	}
}

func TestLinkCutsAndComesBack(t *testing.T) {
	_, l, c := throughLink(t)
	l.set(cut)
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a connection that is cut: got %v, want EOF", err)
	}
	if c, err := workload.Open(context.Background(), l.addr, "", 0); err == nil {
		c.Close()
		t.Error("a new connection is made while the link is cut")
	}
	l.set(flowing)
	again, err := workload.Open(context.Background(), l.addr, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
