package resp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestReadReply(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     Reply
		text     string
	}{
		{"status", "+OK\r\n", Reply{Type: '+', Str: []byte("OK")}, "OK"},
		{"empty status", "+\r\n", Reply{Type: '+', Str: []byte{}}, ""},
		{"number", ":-9223372036854775808\r\n", Reply{Type: ':', Int: -1 << 63}, "-9223372036854775808"},
		{"bulk", "$6\r\na\r\nb\x00c\r\n", Reply{Type: '$', Str: []byte("a\r\nb\x00c")}, "a\r\nb\x00c"},
		{"empty bulk is not null", "$0\r\n\r\n", Reply{Type: '$', Str: []byte{}}, ""},
		{"null bulk", "$-1\r\n", Reply{Type: '$', Null: true}, "(nil)"},
		{"null array", "*-1\r\n", Reply{Type: '*', Null: true}, "(nil)"},
		{"RESP3 null", "_\r\n", Reply{Type: '_', Null: true}, "(nil)"},
		{"empty array", "*0\r\n", Reply{Type: '*', Elems: []Reply{}}, "[]"},
		{"nested array with an error in it", "*3\r\n:1\r\n*1\r\n$1\r\nx\r\n-ERR no\r\n", Reply{Type: '*', Elems: []Reply{
			{Type: ':', Int: 1},
			{Type: '*', Elems: []Reply{{Type: '$', Str: []byte("x")}}},
			{Type: '-', Str: []byte("ERR no")},
		}}, "[1 [x] ERR no]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, src := range sources(tt.in + "+next\r\n") {
				r := NewReader(src)
				got, err := r.ReadReply()
				if err != nil || got.String() != tt.text {
					t.Errorf("%s: got %q, error %v, want %q", name, got, err, tt.text)
				}
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Errorf("%s: want -, got +\n%s", name, d)
				}
				wantNext(t, r)
			}
			r := NewReader(strings.NewReader(tt.in + "+next\r\n"))
			if typ, err := r.SkipReply(); typ != tt.want.Type || err != nil {
				t.Errorf("SkipReply: got %q, %v, want %q", typ, err, tt.want.Type)
			}
			wantNext(t, r)
		})
	}
}

func TestErrorReply(t *testing.T) {
	const in = "-OOM command not allowed\r\n"
	reads := map[string]func(*Reader) error{
		"ReadReply": func(r *Reader) error { _, err := r.ReadReply(); return err },
		"SkipReply": func(r *Reader) error { _, err := r.SkipReply(); return err },
		"ReadBulk":  func(r *Reader) error { _, _, err := r.ReadBulk(nil); return err },
	}
	for name, read := range reads {
		r := NewReader(strings.NewReader(in + "+next\r\n"))
		err := read(r)
		if err != ServerError("OOM command not allowed") || !HasCode(fmt.Errorf("x: %w", err), "LOADING", "OOM") || HasCode(err, "ERR") {
			t.Errorf("%s: got %v", name, err)
		}
		wantNext(t, r)
	}
}

func TestReadBulk(t *testing.T) {
	big := strings.Repeat("0123456789", 100_000)
	r := NewReader(strings.NewReader(fmt.Sprintf("$%d\r\n%s\r\n$-1\r\n_\r\n$0\r\n\r\n:1\r\n", len(big), big)))
	if b, null, err := r.ReadBulk([]byte("<")); string(b) != "<"+big || null || err != nil {
		t.Errorf("big: got %d bytes, null %v, %v, want %d", len(b), null, err, 1+len(big))
	}
	for range 2 {
		if b, null, err := r.ReadBulk(nil); len(b) != 0 || !null || err != nil {
			t.Errorf("null: got %q, null %v, %v", b, null, err)
		}
	}
	if b, null, err := r.ReadBulk(nil); len(b) != 0 || null || err != nil {
		t.Errorf("empty: got %q, null %v, %v", b, null, err)
	}
	if _, _, err := r.ReadBulk(nil); !errors.Is(err, ErrProtocol) {
		t.Errorf("number: got %v, want an ErrProtocol", err)
	}
}

func TestReadBulkWithinKeepsNothingLarger(t *testing.T) {
	r := NewReader(iotest.OneByteReader(strings.NewReader("$5\r\n12345\r\n$4\r\n1234\r\n$-1\r\n-ERR no\r\n")))
	if b, null, size, err := r.ReadBulkWithin([]byte("<"), 4); string(b) != "<" || null || size != 5 || err != nil {
		t.Errorf("larger: got %q, null %v, size %d, %v, want nothing of 5 bytes", b, null, size, err)
	}
	if b, null, size, err := r.ReadBulkWithin([]byte("<"), 4); string(b) != "<1234" || null || size != 4 || err != nil {
		t.Errorf("as large: got %q, null %v, size %d, %v, want all of it", b, null, size, err)
	}
	if b, null, _, err := r.ReadBulkWithin(nil, 4); b != nil || !null || err != nil {
		t.Errorf("null: got %q, null %v, %v", b, null, err)
	}
	if _, _, _, err := r.ReadBulkWithin(nil, 4); !HasCode(err, "ERR") {
		t.Errorf("refused: got %v", err)
	}
}

func TestAnOpenBulkIsReadAsItArrives(t *testing.T) {
	const in = "$4\r\nkept\r\n$12\r\nread whole\r\n\r\n$5\r\nabcde\r\n$3\r\nxyz\r\n$-1\r\n-ERR no\r\n+next\r\n"
	for name, src := range sources(in) {
		r := NewReader(src)
		kept, _, open, err := r.ReadOrOpenBulk([]byte("<"), 4)
		if string(kept) != "<kept" || open != nil || err != nil {
			t.Fatalf("%s: as large as the limit: got %q, open %v, %v, want all of it", name, kept, open, err)
		}
		if _, _, open, err = r.ReadOrOpenBulk(nil, 4); open == nil || open.Size != 12 || err != nil {
			t.Fatalf("%s: larger: got %v, %v, want 12 bytes open", name, open, err)
		}
		if _, err := r.ReadReply(); err != errOpen {
			t.Errorf("%s: a reply from within a bulk: got %v, want %v", name, err, errOpen)
		}
		if b, err := io.ReadAll(open); string(b) != "read whole\r\n" || err != nil {
			t.Errorf("%s: read whole: got %q, %v", name, b, err)
		}
		for range 2 {
			if err := open.Close(); err != nil {
				t.Errorf("%s: close: %v", name, err)
			}
		}
		_, _, open, _ = r.ReadOrOpenBulk(nil, 4)
		var two [2]byte
		if _, err := io.ReadFull(open, two[:]); string(two[:]) != "ab" || err != nil {
			t.Errorf("%s: read in part: got %q, %v", name, two, err)
		}
		if err := open.Close(); err != nil {
			t.Errorf("%s: close in the middle: %v", name, err)
		}
		if b, null, open, err := r.ReadOrOpenBulk(nil, 4); string(b) != "xyz" || null || open != nil || err != nil {
			t.Errorf("%s: smaller: got %q, null %v, open %v, %v", name, b, null, open, err)
		}
		if _, null, open, err := r.ReadOrOpenBulk(nil, 4); !null || open != nil || err != nil {
			t.Errorf("%s: null: got %v, open %v, %v", name, null, open, err)
		}
		if _, _, open, err := r.ReadOrOpenBulk(nil, 4); !HasCode(err, "ERR") || open != nil {
			t.Errorf("%s: refused: got %v, open %v", name, err, open)
		}
		wantNext(t, r)
	}
}

// An opened bulk has no bound, and one that breaks off ends the connection.
func TestAnOpenBulkThatBreaksOff(t *testing.T) {
	for _, in := range []string{"$8589934592\r\nabc", "$5\r\nabcde", "$5\r\nabcdeXX+next\r\n"} {
		for _, readAll := range []bool{false, true} {
			r := NewReader(strings.NewReader(in))
			_, _, open, err := r.ReadOrOpenBulk(nil, 4)
			if open == nil || err != nil {
				t.Fatalf("%q: got %v, %v, want it open", in, open, err)
			}
			if readAll {
				_, _ = io.Copy(io.Discard, open)
			}
			want := io.ErrUnexpectedEOF
			if strings.Contains(in, "next") {
				want = ErrProtocol
			}
			if err := open.Close(); !errors.Is(err, want) {
				t.Errorf("%q: close: got %v, want %v", in, err, want)
			}
			if _, err := r.ReadReply(); !errors.Is(err, want) {
				t.Errorf("%q: a later reply: got %v, want %v", in, err, want)
			}
		}
	}
}

func TestReadExecIntsTellsIntegersAndThoseInArrays(t *testing.T) {
	for name, src := range sources("*6\r\n:7\r\n*4\r\n:-2\r\n$1\r\na\r\n*1\r\n:5\r\n:1\r\n*-1\r\n+OK\r\n*0\r\n" +
		"*4\r\n$10\r\n1790000000\r\n$-1\r\n$21\r\n111111111111111111111\r\n$2\r\n-5\r\n+next\r\n") {
		r := NewReader(src)
		var got []string
		rep, err := r.ReadExecInts(func(i int, n int64) { got = append(got, fmt.Sprintf("%d:%d", i, n)) })
		if want := "0:7 1:-2 1:1 5:1790000000 5:-5"; err != nil || rep.N != 6 || strings.Join(got, " ") != want {
			t.Errorf("%s: got %v of %d replies, %v, want %s", name, got, rep.N, err, want)
		}
		wantNext(t, r)
	}
}

func TestReadExec(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     ExecReply
	}{
		{"all good", "*3\r\n+OK\r\n:5\r\n$3\r\nabc\r\n", ExecReply{N: 3}},
		{"no commands", "*0\r\n", ExecReply{}},
		{"watch failed", "*-1\r\n", ExecReply{Null: true}},
		{"watch failed, RESP3", "_\r\n", ExecReply{Null: true}},
		{
			"refused", "-EXECABORT Transaction discarded because of previous errors.\r\n",
			ExecReply{Err: "EXECABORT Transaction discarded because of previous errors."},
		},
		{
			"errors inside", "*4\r\n-ERR a\r\n*2\r\n-ERR nested\r\n$-1\r\n:1\r\n-WRONGTYPE b\r\n",
			ExecReply{N: 4, Errors: []ExecError{{0, "ERR a"}, {3, "WRONGTYPE b"}}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, src := range sources(tt.in + "+next\r\n") {
				r := NewReader(src)
				got, err := r.ReadExec()
				if err != nil || !cmp.Equal(tt.want, got) {
					t.Errorf("%s: error %v, want -, got +\n%s", name, err, cmp.Diff(tt.want, got))
				}
				if got.Done() != (tt.want.Err == "" && !tt.want.Null) {
					t.Errorf("%s: got Done %v", name, got.Done())
				}
				wantNext(t, r)
			}
		})
	}
	if _, err := NewReader(strings.NewReader("+QUEUED\r\n")).ReadExec(); !errors.Is(err, ErrProtocol) {
		t.Errorf("+QUEUED: got %v, want an ErrProtocol", err)
	}
}

func TestReplyRefused(t *testing.T) {
	for _, in := range []string{
		"OK\r\n", "\r\n", "+OK\n", ":\r\n", ":1a\r\n", ":9223372036854775808\r\n", "$\r\n", "$-2\r\n", "$538968065\r\n",
		"*-2\r\n", "*16777217\r\n", "$1\r\nab\r\n", "_x\r\n", "%1\r\n", strings.Repeat("*1\r\n", maxDepth+1) + ":1\r\n",
		"+" + strings.Repeat("x", maxLine) + "\r\n",
	} {
		for name, read := range map[string]func(*Reader) error{
			"ReadReply": func(r *Reader) error { _, err := r.ReadReply(); return err },
			"SkipReply": func(r *Reader) error { _, err := r.SkipReply(); return err },
		} {
			r := NewReader(strings.NewReader(in + "+next\r\n"))
			err := read(r)
			if !errors.Is(err, ErrProtocol) {
				t.Errorf("%s of %.20q: got %v, want an ErrProtocol", name, in, err)
			}
			if again := read(r); again != err {
				t.Errorf("%s of %.20q: got %v afterwards, want the same error", name, in, again)
			}
		}
	}
}

func TestReplyCutAnywhere(t *testing.T) {
	const in = "*4\r\n$3\r\nabc\r\n:12\r\n*1\r\n-ERR x\r\n+OK\r\n"
	for cut := range len(in) {
		want := io.ErrUnexpectedEOF
		if cut == 0 {
			want = io.EOF
		}
		if _, err := NewReader(strings.NewReader(in[:cut])).ReadReply(); err != want {
			t.Errorf("ReadReply cut at %d: got %v, want %v", cut, err, want)
		}
		if _, err := NewReader(strings.NewReader(in[:cut])).SkipReply(); err != want {
			t.Errorf("SkipReply cut at %d: got %v, want %v", cut, err, want)
		}
		if _, err := NewReader(strings.NewReader(in[:cut])).ReadExec(); err != want {
			t.Errorf("ReadExec cut at %d: got %v, want %v", cut, err, want)
		}
	}
}

func TestReadReplyReservesNothingAhead(t *testing.T) {
	for _, in := range []string{"$536870912\r\nx", "*16777216\r\n:1\r\n"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := NewReader(strings.NewReader(in)).ReadReply(); err != io.ErrUnexpectedEOF {
			t.Errorf("%q: got %v, want %v", in, err, io.ErrUnexpectedEOF)
		}
		runtime.ReadMemStats(&after)
		if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(1<<20); got > limit {
			t.Errorf("%q: got %d bytes allocated, want at most %d", in, got, limit)
		}
	}
}

func TestHotReadsAllocateNothing(t *testing.T) {
	src := strings.Repeat("+QUEUED\r\n$5\r\nhello\r\n*3\r\n:1\r\n+OK\r\n$1\r\nx\r\n", 100)
	rd := strings.NewReader(src)
	r := NewReader(rd)
	buf := make([]byte, 0, grow)
	round := func() {
		rd.Reset(src)
		r.br.Reset(rd)
		for range 100 {
			r.SkipReply()
			buf, _, _ = r.ReadBulk(buf[:0])
			if rep, err := r.ReadExec(); rep.N != 3 || err != nil {
				t.Fatalf("got %+v, %v", rep, err)
			}
		}
	}
	if got := testing.AllocsPerRun(10, round); got != 0 {
		t.Errorf("got %v allocations per 300 replies, want 0", got)
	}
}

func TestReadLine(t *testing.T) {
	r := NewReader(iotest.OneByteReader(strings.NewReader("\n\r\n+FULLRESYNC x 1\r\nno end")))
	for _, want := range []string{"", "", "+FULLRESYNC x 1"} {
		if got, err := r.ReadLine(); string(got) != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	if _, err := r.ReadLine(); err != io.ErrUnexpectedEOF {
		t.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

func TestSecretNeverPrints(t *testing.T) {
	const text = "user:hunter2"
	s := Secret(text)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s, "in", struct{ S Secret }{s})
	js, err := json.Marshal(struct{ S Secret }{s})
	if err != nil {
		t.Fatal(err)
	}
	outs := []string{log.String(), string(js), s.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%c"} {
		outs = append(outs, fmt.Sprintf(verb, s), fmt.Sprintf(verb, &s), fmt.Sprintf(verb, struct{ S Secret }{s}), fmt.Sprintf(verb, []Secret{s}))
	}
	for _, out := range outs {
		if strings.Contains(out, "hunter2") || strings.Contains(out, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("the secret shows in %q", out)
		}
	}
	if got := Secret("").String(); got != "" {
		t.Errorf("no secret: got %q, want nothing", got)
	}
	if got, want := s.scrub("ERR unknown command 'AUTH', with args beginning with: 'user:hunter2' 'user' 'hunter2'"),
		"ERR unknown command 'AUTH', with args beginning with: '***' 'user' '***'"; got != want {
		t.Errorf("scrub: got %q, want %q", got, want)
	}
}

// sources are readers of the same bytes in other portions.
func sources(in string) map[string]io.Reader {
	return map[string]io.Reader{
		"whole":        strings.NewReader(in),
		"byte by byte": iotest.OneByteReader(strings.NewReader(in)),
		"data and EOF": iotest.DataErrReader(strings.NewReader(in)),
	}
}

func wantNext(t *testing.T, r *Reader) {
	t.Helper()
	if got, err := r.ReadReply(); string(got.Str) != "next" || err != nil {
		t.Errorf("next reply: got %q, %v, want next", got, err)
	}
	if _, err := r.ReadReply(); err != io.EOF {
		t.Errorf("at the end: got %v, want %v", err, io.EOF)
	}
}
