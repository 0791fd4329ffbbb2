package resp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/repl"
)

// parsed is a Command copied out of the parser's buffer.
type parsed struct {
	Args []string
	Raw  string
	End  repl.Offset
}

// parse feeds stream in portions of the sizes given (the last one repeats) and
// returns every command, the consumed offset and the error at the end.
func parse(at repl.Offset, stream []byte, sizes ...int) ([]parsed, repl.Offset, error) {
	p := NewParser(at)
	var out []parsed
	for i := 0; ; i++ {
		for {
			cmd, ok, err := p.Next()
			if err != nil {
				return out, p.Offset(), err
			}
			if !ok {
				break
			}
			c := parsed{Raw: string(cmd.Raw), End: cmd.End}
			for _, a := range cmd.Args {
				c.Args = append(c.Args, string(a))
			}
			out = append(out, c)
		}
		if len(stream) == 0 {
			return out, p.Offset(), nil
		}
		n := max(1, min(sizes[min(i, len(sizes)-1)], len(stream)))
		p.Feed(stream[:n])
		stream = stream[n:]
	}
}

func TestParser(t *testing.T) {
	const ping = "*1\r\n$4\r\nPING\r\n"
	const set = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n"
	for _, tt := range []struct {
		name, in string
		want     []parsed
		consumed repl.Offset
	}{
		{"nothing yields nothing", "", nil, 100},
		{"an array is a command", ping, []parsed{{[]string{"PING"}, ping, 114}}, 114},
		{"an empty argument is an argument", set, []parsed{{[]string{"SET", "k", ""}, set, 126}}, 126},
		{"commands follow each other", ping + set, []parsed{{[]string{"PING"}, ping, 114}, {[]string{"SET", "k", ""}, set, 140}}, 140},
		{"an argument may hold anything", "*1\r\n$4\r\n\r\n*1\r\n", []parsed{{[]string{"\r\n*1"}, "*1\r\n$4\r\n\r\n*1\r\n", 114}}, 114},
		{"newlines before a command count in its end", "\n\n\r\n" + ping, []parsed{{[]string{"PING"}, ping, 118}}, 118},
		{"newlines behind a command move the offset", ping + "\n\n", []parsed{{[]string{"PING"}, ping, 114}}, 116},
		{"empty arrays are skipped as a replica does", "*0\r\n*-1\r\n" + ping, []parsed{{[]string{"PING"}, ping, 123}}, 123},
		{"an inline command is a command", "PING\r\n", []parsed{{[]string{"PING"}, "PING\r\n", 106}}, 106},
		{"an inline command may end in a bare newline", "\nset  a\tb \n", []parsed{{[]string{"set", "a", "b"}, "set  a\tb \n", 111}}, 111},
		{"half a command waits", ping + set[:9], []parsed{{[]string{"PING"}, ping, 114}}, 114},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 1000} {
				got, off, err := parse(100, []byte(tt.in), size)
				if err != nil || off != tt.consumed {
					t.Errorf("portions of %d: got offset %d, error %v, want offset %d", size, off, err, tt.consumed)
				}
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Errorf("portions of %d: want -, got +\n%s", size, d)
				}
			}
		})
	}
}

func TestParserRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		at       repl.Offset
	}{
		{"what is no command", "$3\r\nfoo\r\n", 0},
		{"an error line", "-ERR x\r\n", 0},
		{"binary", "\x00\x01", 0},
		{"an array header without a number", "*\r\n", 1},
		{"a number with a leading zero", "*01\r\n", 2},
		{"a negative number of arguments", "*-2\r\n", 2},
		{"more arguments than the limit", "*16777217\r\n", 8},
		{"an argument that is no bulk", "*1\r\n+OK\r\n", 4},
		{"a null argument", "*1\r\n$-1\r\n", 5},
		{"an argument longer than the limit", "*1\r\n$99999999999999999999\r\n", 13},
		{"a carriage return alone", "\rx", 1},
		{"a header without its newline", "*1\rx", 3},
		{"an argument longer than announced", "*1\r\n$1\r\nab\r\n", 9},
		{"an argument without its newline", "*1\r\n$1\r\na\rb", 10},
		{"an inline command with a quote", "set a \"b\"\r\n", 6},
		{"an inline command with a byte that does not print", "set \x80\r\n", 4},
		{"an inline command with a carriage return inside", "set\ra\n", 4},
		{"an endless inline command", strings.Repeat("a", MaxInline+1), MaxInline},
		{"garbage behind a good command", "*1\r\n$4\r\nPING\r\nSE\x00", 16},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 7, 1 << 20} {
				_, _, err := parse(50, []byte(tt.in), size)
				var pe *ParseError
				if !errors.As(err, &pe) || !errors.Is(err, ErrProtocol) || pe.Offset != 50+tt.at {
					t.Fatalf("portions of %d: got %v, want a ParseError at %d", size, err, 50+tt.at)
				}
			}
		})
	}
}

func TestParserErrorStays(t *testing.T) {
	p := NewParser(0)
	p.Feed([]byte("!"))
	_, _, first := p.Next()
	p.Feed([]byte("*1\r\n$4\r\nPING\r\n"))
	if _, ok, err := p.Next(); ok || err != first {
		t.Errorf("got ok=%v, %v, want %v again", ok, err, first)
	}
}

func TestParserReadsTheRecordedSession(t *testing.T) {
	stream, commands := sessionStream(t)
	want, off, err := parse(1, stream, len(stream))
	if err != nil || len(want) != commands || off != 1+repl.Offset(len(stream)) {
		t.Fatalf("got %d commands, offset %d, error %v, want %d commands and offset %d", len(want), off, err, commands, 1+len(stream))
	}
	for size := range 70 {
		got, _, err := parse(1, stream, size+1)
		if err != nil || !cmp.Equal(want, got) {
			t.Fatalf("portions of %d: error %v, diff\n%s", size+1, err, cmp.Diff(want, got))
		}
	}
}

func TestParserCutAnywhere(t *testing.T) {
	stream, _ := sessionStream(t)
	stream = stream[:2000]
	want, _, err := parse(0, stream, len(stream))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range stream {
		got, off, err := parse(0, stream[:cut], cut)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		for i, c := range got {
			if !cmp.Equal(want[i], c) {
				t.Fatalf("cut at %d: command %d: want -, got +\n%s", cut, i, cmp.Diff(want[i], c))
			}
		}
		if len(got) < len(want) && int(want[len(got)].End) <= cut {
			t.Fatalf("cut at %d: got %d commands, but the next ends at %d", cut, len(got), want[len(got)].End)
		}
		rest, _, err := parse(off, stream[off:], 13)
		if err != nil || !slices.EqualFunc(want[len(got):], rest, func(a, b parsed) bool { return cmp.Equal(a, b) }) {
			t.Fatalf("cut at %d and on from %d: error %v, diff\n%s", cut, off, err, cmp.Diff(want[len(got):], rest))
		}
	}
}

func TestParserAllocatesNothingInTheSteadyState(t *testing.T) {
	stream, _ := sessionStream(t)
	p := NewParser(0)
	round := func() {
		for b := stream; len(b) > 0; {
			n := min(8191, len(b))
			p.Feed(b[:n])
			b = b[n:]
			for {
				_, ok, err := p.Next()
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
			}
		}
	}
	round()
	if got := testing.AllocsPerRun(20, round); got != 0 {
		t.Errorf("got %v allocations per %d bytes, want 0", got, len(stream))
	}
}

func TestParserGivesMemoryBack(t *testing.T) {
	p := NewParser(0)
	drain := func() {
		t.Helper()
		for {
			if _, ok, err := p.Next(); err != nil {
				t.Fatal(err)
			} else if !ok {
				return
			}
		}
	}
	many := make([][]byte, 4*keepArgs)
	p.Feed(AppendCommand(nil, many...))
	drain()
	p.Feed(AppendCommand(nil, make([]byte, 4*keepBuffer)))
	drain()
	for range 3 {
		p.Feed([]byte("*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPI"))
		drain()
		p.Feed([]byte("NG\r\n"))
		drain()
	}
	if cap(p.buf) > keepBuffer || cap(p.spans) > 2*keepArgs || cap(p.args) > 2*keepArgs {
		t.Errorf("got a buffer of %d, %d spans, %d args kept after small commands", cap(p.buf), cap(p.spans), cap(p.args))
	}
}

func TestParserReservesNothingAhead(t *testing.T) {
	p := NewParser(0)
	p.Feed([]byte("*1048576\r\n$536870912\r\nx"))
	if _, ok, err := p.Next(); ok || err != nil {
		t.Fatalf("got ok=%v, %v", ok, err)
	}
	if cap(p.buf) > minBuffer || cap(p.args) > 64 || cap(p.spans) > 64 {
		t.Errorf("got a buffer of %d, %d args, %d spans for 23 bytes", cap(p.buf), cap(p.args), cap(p.spans))
	}
}

func TestAppendCommandIsWhatTheParserReads(t *testing.T) {
	args := [][]byte{[]byte("SET"), {}, []byte("\r\n$1\r\n"), bytes.Repeat([]byte("x"), 12345)}
	var strs []string
	for _, a := range args {
		strs = append(strs, string(a))
	}
	raw := AppendCommand([]byte{}, args...)
	if got := AppendCommandStrings(nil, strs...); !bytes.Equal(got, raw) {
		t.Errorf("AppendCommandStrings: got %.40q, want %.40q", got, raw)
	}
	got, _, err := parse(0, raw, 100)
	if err != nil || len(got) != 1 || !cmp.Equal(got[0].Args, strs) || got[0].Raw != string(raw) {
		t.Errorf("got %d commands, error %v", len(got), err)
	}
	if got, want := string(AppendBulkInt(nil, -123)), "$4\r\n-123\r\n"; got != want {
		t.Errorf("AppendBulkInt: got %q, want %q", got, want)
	}
}

func sessionStream(t testing.TB) (stream []byte, commands int) {
	t.Helper()
	const base = "../../testdata/sessions/session"
	bin, err := os.ReadFile(base + ".bin")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(base + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var meta struct {
		Session struct {
			StreamOffset int `json:"stream_offset"`
			StreamLen    int `json:"stream_len"`
			Commands     int `json:"commands"`
		} `json:"session"`
	}
	if err := json.Unmarshal(text, &meta); err != nil {
		t.Fatal(err)
	}
	s := meta.Session
	return bin[s.StreamOffset : s.StreamOffset+s.StreamLen], s.Commands
}

func BenchmarkParser(b *testing.B) {
	for _, size := range []int{16, 128, 4096} {
		b.Run(fmt.Sprintf("SET of %d bytes", size), func(b *testing.B) {
			var frame []byte
			value := bytes.Repeat([]byte("v"), size)
			n := 0
			for ; len(frame) < 512<<10; n++ {
				frame = AppendCommand(frame, []byte("SET"), []byte("key:000000123456"), value)
			}
			p := NewParser(0)
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				p.Feed(frame)
				for range n {
					if _, ok, _ := p.Next(); !ok {
						b.Fatal("no command")
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/command")
		})
	}
}
