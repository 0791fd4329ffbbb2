package spool

import (
	"errors"
	"io"
	"slices"
	"testing"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

func TestCommandsAreReadWholeFromAnyToAnyOther(t *testing.T) {
	s := exampleSource()
	m := fsx.NewMem()
	o := options(m)
	o.SegmentBytes = 600
	w := s.write(t, o)
	g := group(t, m)
	read := func(r *CommandReader) (ends []int64, end error) {
		for {
			c, err := r.Next()
			if err != nil {
				return ends, err
			}
			if len(c.Args) == 0 || int64(c.End) != int64(r.Offset()) {
				t.Fatalf("got command %q that ends at %d, and the reader at %d", c.Args, c.End, r.Offset())
			}
			ends = append(ends, int64(c.End))
		}
	}
	for from := 0; from < len(s.ends); from += 7 {
		for to := from; to < len(s.ends); to += 5 {
			r := must(g.OpenCommands(1, repl.Offset(s.ends[from]), repl.Offset(s.ends[to])))(t)
			if got, end := read(r); end != io.EOF || !slices.Equal(got, s.ends[from+1:to+1]) {
				t.Errorf("commands %d to %d: got %d and %v, want %d and io.EOF", from+1, to, len(got), end, to-from)
			}
			ok(t, r.Close())
		}
	}

	start := testIdentity()
	start.Group, start.Start = 2, 0
	w2 := must(Create(testDir, start, o))(t)
	ok(t, w2.BeginRDB(1))
	ok(t, w2.AppendRDB([]byte("R"), testStart))
	ok(t, w2.EndRDB(0, false))
	ok(t, w2.AppendStream([]byte("*1\r\n$4\r\nPING\r\n"), testStart))
	must(w2.Sync())(t)
	zero := must(must(openGroup(m, testDir, testJob, 2))(t).OpenCommands(1, 0, 0))(t)
	if got, end := read(zero); got != nil || end != io.EOF {
		t.Errorf("up to offset 0: got %d commands and %v, want none and io.EOF", len(got), end)
	}
	ok(t, zero.Close())
	ok(t, w2.Close())

	// To the end, and on when there is more.
	r := must(g.OpenCommands(1, testIdentity().Start, -1))(t)
	defer r.Close()
	if got, end := read(r); end != ErrEnd || !slices.Equal(got, s.ends) {
		t.Errorf("all commands: got %d and %v, want %d and ErrEnd", len(got), end, len(s.ends))
	}
	const ping = "*1\r\n$4\r\nPING\r\n"
	last := s.ends[len(s.ends)-1]
	more := func(b string) ([]int64, error) {
		ok(t, w.AppendStream([]byte(b), testStart))
		must(w.Sync())(t)
		return read(r)
	}
	if got, end := more(ping[:5]); end != ErrEnd || got != nil || r.Rest() != 5 || int64(r.Offset()) != last {
		t.Errorf("a part of a command: got %d commands and %v, rest %d behind %d, want none and ErrEnd, 5 behind %d", len(got), end, r.Rest(), r.Offset(), last)
	}
	if got, end := more(ping[5:]); end != ErrEnd || !slices.Equal(got, []int64{last + int64(len(ping))}) || r.Rest() != 0 {
		t.Errorf("the rest of it: got %d and %v, rest %d, want one that ends at %d", got, end, r.Rest(), last+int64(len(ping)))
	}
	got, end := more("nonsense\x00*\r\n$\r\n*-x\r\n")
	var bad *resp.ParseError
	if !errors.As(end, &bad) {
		t.Errorf("nonsense: got %d and %v, want a ParseError", got, end)
	}
	if _, err := r.Next(); !errors.As(err, &bad) {
		t.Errorf("once more: got %v, want the same error", err)
	}
}
