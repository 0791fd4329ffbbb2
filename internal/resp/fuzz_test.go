package resp

import (
	"bytes"
	"errors"
	"regexp"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/repl"
)

var betweenCommands = regexp.MustCompile(`^(\r?\n|\*(0|-1)\r\n)*$`)

// FuzzParser: any portions give the same commands, offsets and error; what was
// consumed is the commands' bytes and empty lines; an array re-encodes to its
// own bytes.
func FuzzParser(f *testing.F) {
	f.Add([]byte("*1\r\n$4\r\nPING\r\n"), 7, 100)
	f.Fuzz(func(t *testing.T, in []byte, first, later int) {
		want, off, err := parse(10, in, len(in))
		at := 10
		for i, c := range want {
			start := int(c.End) - len(c.Raw)
			if start < at || !betweenCommands.Match(in[at-10:start-10]) || string(in[start-10:c.End-10]) != c.Raw || len(c.Args) == 0 {
				t.Fatalf("command %d: %+v does not continue %d", i, c, at)
			}
			if c.Raw[0] == '*' && string(AppendCommandStrings(nil, c.Args...)) != c.Raw {
				t.Fatalf("command %d: %q is not %q", i, c.Args, c.Raw)
			}
			at = int(c.End)
		}
		if !betweenCommands.Match(in[at-10 : off-10]) {
			t.Fatalf("consumed %q behind the last command", in[at-10:off-10])
		}
		for _, sizes := range [][]int{{1}, {first, later}} {
			got, gotOff, gotErr := parse(10, in, sizes...)
			if d := cmp.Diff(want, got); d != "" || gotOff != off {
				t.Fatalf("portions %v: offset %d, want %d; want -, got +\n%s", sizes, gotOff, off, d)
			}
			if errorAt(gotErr) != errorAt(err) {
				t.Fatalf("portions %v: got error %v, want %v", sizes, gotErr, err)
			}
		}
	})
}

func errorAt(err error) repl.Offset {
	var pe *ParseError
	if errors.As(err, &pe) {
		return pe.Offset
	}
	return -1
}

// FuzzReply: every way to read a reply consumes the same bytes and fails alike,
// in whatever portions they come.
func FuzzReply(f *testing.F) {
	f.Add([]byte("*4\r\n$3\r\nabc\r\n:12\r\n*1\r\n-ERR x\r\n+OK\r\n+next\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		whole := NewReader(bytes.NewReader(in))
		bytewise := NewReader(iotest.OneByteReader(bytes.NewReader(in)))
		skipping := NewReader(bytes.NewReader(in))
		exec := NewReader(bytes.NewReader(in))
		for range len(in) + 1 {
			want, err := whole.ReadReply()
			got, err1 := bytewise.ReadReply()
			if d := cmp.Diff(want, got); d != "" || text(err) != text(err1) {
				t.Fatalf("byte by byte: error %v, want %v; want -, got +\n%s", err1, err, d)
			}
			typ, err2 := skipping.SkipReply()
			if typ != want.Type || text(err2) != text(err) {
				t.Fatalf("SkipReply: got %q, %v, want %q, %v", typ, err2, want.Type, err)
			}
			if exec != nil {
				rep, err3 := exec.ReadExec()
				var se ServerError
				switch isServer := errors.As(err, &se); {
				case want.Type == '*' || want.Null:
					if err3 != nil || rep.Null != want.Null || rep.N != len(want.Elems) {
						t.Fatalf("ReadExec: got %+v, %v of %v", rep, err3, want)
					}
				case isServer:
					if err3 != nil || rep.Err != se {
						t.Fatalf("ReadExec: got %+v, %v, want %v", rep, err3, se)
					}
				case err3 == nil:
					t.Fatalf("ReadExec: got %+v of %v", rep, want)
				default:
					exec = nil // it has failed, and stays failed
				}
			}
			var se ServerError
			if err != nil && !errors.As(err, &se) {
				return
			}
		}
		t.Fatal("more replies than bytes")
	})
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
