package psync

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

// wire is a connection whose other end has said everything already.
type wire struct {
	io.Reader
	sent bytes.Buffer
}

func (w *wire) Write(p []byte) (int, error)      { return w.sent.Write(p) }
func (*wire) Close() error                       { return nil }
func (*wire) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (*wire) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (*wire) SetDeadline(time.Time) error        { return nil }
func (*wire) SetReadDeadline(time.Time) error    { return nil }
func (*wire) SetWriteDeadline(t time.Time) error { return nil }

// outcome is everything that a link gave.
type outcome struct {
	start  Start
	size   int64
	rdb    string
	stream string
	err    error // the first, io.EOF at the stream's end left out
}

// run attaches to what r says behind the answer to REPLCONF, and reads it to
// its end in portions of at most step bytes.
func run(r io.Reader, from repl.Position, step int) (o outcome, sent string) {
	w := &wire{Reader: io.MultiReader(strings.NewReader("+OK\r\n"), r)}
	l, err := Attach(context.Background(), resp.NewConn(w), from, Options{})
	sent = w.sent.String()
	if err != nil {
		o.err = err
		return o, sent
	}
	o.start = l.Start
	buf := make([]byte, step)
	if l.Start.Full {
		rdb, err := l.OpenRDB()
		if err != nil {
			o.err = err
			return o, sent
		}
		o.size = rdb.Size()
		o.rdb, err = drain(rdb, buf)
		if err != nil {
			o.err = err
			return o, sent
		}
	}
	o.stream, o.err = drain(l, buf)
	return o, sent
}

// drain reads to the end, which is no error.
func drain(r io.Reader, buf []byte) (string, error) {
	var all []byte
	for {
		n, err := r.Read(buf)
		all = append(all, buf[:n]...)
		if err == io.EOF {
			return string(all), nil
		}
		if err != nil {
			return string(all), err
		}
	}
}

const (
	idA = "c25abbf6265f81a1bb6ccfafe69752d472079d6d"
	idB = "0123456789abcdef0123456789abcdef01234567"
)

var (
	mark = fmt.Sprintf("%x", sha1.Sum([]byte("mark")))
	at99 = repl.Position{ReplID: idA, Offset: 99}
)

func TestAttachAnswers(t *testing.T) {
	full := Start{Full: true, Position: repl.Position{ReplID: idA, Offset: 5}}
	const fullLine = "+FULLRESYNC " + idA + " 5\r\n"
	tricky := mark[:39] + "x" + mark[:39] + mark[:1] + mark[:20]
	for _, tt := range []struct {
		name, in string
		from     repl.Position
		want     outcome
	}{
		{"a sized RDB and the stream", fullLine + "$3\r\nRDBstream", repl.Position{}, outcome{full, 3, "RDB", "stream", nil}},
		{"an empty RDB", fullLine + "$0\r\nstream", repl.Position{}, outcome{full, 0, "", "stream", nil}},
		{"newlines before the answer", "\n\n\n" + fullLine + "$3\r\nRDBs", repl.Position{}, outcome{full, 3, "RDB", "s", nil}},
		{"newlines before the length", fullLine + "\n\n\n$3\r\nRDBs", repl.Position{}, outcome{full, 3, "RDB", "s", nil}},
		{"newlines that belong to the RDB", fullLine + "$3\r\n\n\r\n\n", repl.Position{}, outcome{full, 3, "\n\r\n", "\n", nil}},
		{"a marked RDB", fullLine + "$EOF:" + mark + "\r\nRDB" + mark + "stream", repl.Position{}, outcome{full, -1, "RDB", "stream", nil}},
		{"newlines before everything of a marked RDB", "\n\n" + fullLine + "\n$EOF:" + mark + "\r\n\nRDB\n" + mark + "\n", repl.Position{}, outcome{full, -1, "\nRDB\n", "\n", nil}},
		{"a marked RDB full of the mark's beginning", fullLine + "$EOF:" + mark + "\r\n" + tricky + mark + "s", repl.Position{}, outcome{full, -1, tricky, "s", nil}},
		{"an empty marked RDB", fullLine + "$EOF:" + mark + "\r\n" + mark, repl.Position{}, outcome{full, -1, "", "", nil}},
		{"a full sync where a partial was asked for", fullLine + "$1\r\nRs", at99, outcome{full, 1, "R", "s", nil}},
		{"a continuation of Redis 3.2", "+CONTINUE\r\nstream", at99, outcome{Start{Position: at99}, 0, "", "stream", nil}},
		{
			"a continuation under a new replid", "\n+CONTINUE " + idB + "\r\n\nstream", at99,
			outcome{Start{Position: repl.Position{ReplID: idB, Offset: 99}}, 0, "", "\nstream", nil},
		},
		{"loading", "-LOADING Redis is loading the dataset in memory\r\n", at99, outcome{err: ErrLoading}},
		{"no master, Redis >= 4", "-NOMASTERLINK Can't SYNC while not connected with my master\r\n", at99, outcome{err: ErrMasterDown}},
		{"no master, Redis 3.2", "\n-ERR Can't SYNC while not connected with my master\r\n", at99, outcome{err: ErrMasterDown}},
		{"no master and no stale data", "-MASTERDOWN Link with MASTER is down and slave-serve-stale-data is set to 'no'.\r\n", at99, outcome{err: ErrMasterDown}},
		{"no password given", "-NOAUTH Authentication required.\r\n", at99, outcome{err: &resp.AuthError{}}},
		{"a proxy", "-ERR unknown command 'PSYNC'\r\n", at99, outcome{err: &RefusedError{}}},
		{"a failed fork", "-ERR Unable to perform background save\r\n", at99, outcome{err: &RefusedError{}}},
		{"a BGSAVE that fails later", fullLine + "\n\n-ERR BGSAVE failed, replication can't continue\r\n", at99, outcome{start: full, err: &RefusedError{}}},
		{"a continuation that was not asked for", "+CONTINUE\r\n", repl.Position{}, outcome{err: resp.ErrProtocol}},
		{"a continuation under no replid", "+CONTINUE x\r\n", at99, outcome{err: resp.ErrProtocol}},
		{"a full sync of no replid", "+FULLRESYNC x 5\r\n", at99, outcome{err: resp.ErrProtocol}},
		{"a full sync at no offset", "+FULLRESYNC " + idA + " -5\r\n", at99, outcome{err: resp.ErrProtocol}},
		{"a full sync at the last offset", "+FULLRESYNC " + idA + " 9223372036854775807\r\n", at99, outcome{err: resp.ErrProtocol}},
		{"another answer", "+OK\r\n", at99, outcome{err: resp.ErrProtocol}},
		{"a negative length", fullLine + "$-1\r\n", at99, outcome{start: full, err: resp.ErrProtocol}},
		{"a length beyond all memory", fullLine + "$9223372036854775807\r\nRDB", at99, outcome{start: full, err: resp.ErrProtocol}},
		{"no length", fullLine + "3\r\n", at99, outcome{start: full, err: resp.ErrProtocol}},
		{"a mark too short", fullLine + "$EOF:abc\r\n", at99, outcome{start: full, err: resp.ErrProtocol}},
		{"nothing", "", at99, outcome{err: io.ErrUnexpectedEOF}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, step := range []int{1, 3, 39, 41, 1 << 16} {
				for name, r := range map[string]io.Reader{
					"whole":        strings.NewReader(tt.in),
					"byte by byte": iotest.OneByteReader(strings.NewReader(tt.in)),
					"halves":       iotest.HalfReader(strings.NewReader(tt.in)),
				} {
					got, _ := run(r, tt.from, step)
					if !sameError(got.err, tt.want.err) {
						t.Fatalf("%s, steps of %d: got error %v, want %v", name, step, got.err, tt.want.err)
					}
					got.err = tt.want.err
					if got != tt.want {
						t.Fatalf("%s, steps of %d: got %+v, want %+v", name, step, got, tt.want)
					}
				}
			}
		})
	}
}

// sameError compares kinds.
func sameError(got, want error) bool {
	switch want.(type) {
	case *resp.AuthError:
		return errors.As(got, new(*resp.AuthError))
	case *RefusedError:
		return errors.As(got, new(*RefusedError))
	}
	return errors.Is(got, want)
}

func TestAttachCutAnywhere(t *testing.T) {
	for name, in := range map[string]string{
		"sized":  "\n+FULLRESYNC " + idA + " 5\r\n\n$10\r\n0123456789",
		"marked": "\n+FULLRESYNC " + idA + " 5\r\n\n$EOF:" + mark + "\r\n0123456789" + mark,
	} {
		whole := "0123456789"
		for cut := range len(in) {
			for _, r := range []io.Reader{strings.NewReader(in[:cut]), iotest.OneByteReader(strings.NewReader(in[:cut]))} {
				got, _ := run(r, repl.Position{}, 4)
				if !errors.Is(got.err, io.ErrUnexpectedEOF) || !strings.HasPrefix(whole, got.rdb) {
					t.Errorf("%s, cut at %d: got RDB %q, error %v, want a beginning of %q and %v", name, cut, got.rdb, got.err, whole, io.ErrUnexpectedEOF)
				}
			}
		}
	}
}

func TestAttachAsks(t *testing.T) {
	for _, tt := range []struct {
		name string
		from repl.Position
		o    Options
		want string
	}{
		{"for everything", repl.Position{}, Options{}, "REPLCONF capa eof capa psync2; PSYNC ? -1"},
		{"for the byte behind the position", at99, Options{}, "REPLCONF capa eof capa psync2; PSYNC " + idA + " 100"},
		{
			"under a port and without a mark", at99,
			Options{ListeningPort: 7777, NoEOF: true},
			"REPLCONF listening-port 7777; REPLCONF capa psync2; PSYNC " + idA + " 100",
		},
	} {
		w := &wire{Reader: strings.NewReader("-ERR Unrecognized REPLCONF option: capa\r\n+OK\r\n+CONTINUE\r\n")}
		if tt.o.ListeningPort == 0 {
			w.Reader = strings.NewReader("-ERR Unrecognized REPLCONF option: capa\r\n+FULLRESYNC " + idA + " 1\r\n")
		}
		if _, err := Attach(context.Background(), resp.NewConn(w), tt.from, tt.o); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		var got []string
		p := resp.NewParser(0)
		p.Feed(w.sent.Bytes())
		for {
			cmd, ok, err := p.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			got = append(got, string(bytes.Join(cmd.Args, []byte(" "))))
		}
		if got := strings.Join(got, "; "); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestAProxyThatHangsUpIsNamedByItsObjection(t *testing.T) {
	w := &wire{Reader: strings.NewReader("-ERR handle request, command 'REPLCONF' is not allowed\r\n")}
	_, err := Attach(context.Background(), resp.NewConn(w), repl.Position{}, Options{})
	var re *RefusedError
	if !errors.As(err, &re) || !re.Permanent() {
		t.Errorf("got %v, want a permanent RefusedError", err)
	}
}

func TestRefusedErrorPermanent(t *testing.T) {
	for reply, want := range map[string]bool{
		"ERR unknown command 'PSYNC'":                                            true,
		"ERR handle request, command 'PSYNC' is not allowed":                     true,
		"NOPERM this user has no permissions to run the 'psync' command":         true,
		"ERR Unable to perform background save":                                  false,
		"ERR max number of clients reached":                                      false,
		"BUSY Redis is busy running a script. You can only call SCRIPT KILL or":  false,
		"ERR BGSAVE failed, replication can't continue":                          false,
		"DENIED Redis is running in protected mode because protected mode is on": true,
	} {
		if got := (&RefusedError{Reply: reply}).Permanent(); got != want {
			t.Errorf("%s: got %v, want %v", reply, got, want)
		}
	}
}

func TestStreamBeforeItsRDBIsRefused(t *testing.T) {
	w := &wire{Reader: strings.NewReader("+OK\r\n+FULLRESYNC " + idA + " 5\r\n$3\r\nRDBstream")}
	l, err := Attach(context.Background(), resp.NewConn(w), repl.Position{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2)
	if n, err := l.Read(buf); err == nil {
		t.Errorf("before OpenRDB: got %d bytes", n)
	}
	rdb, err := l.OpenRDB()
	if err != nil {
		t.Fatal(err)
	}
	rdb.Read(buf)
	if n, err := l.Read(buf); err == nil {
		t.Errorf("within the RDB: got %d bytes", n)
	}
	if _, err := l.OpenRDB(); err == nil {
		t.Error("a second OpenRDB works")
	}
}

// FuzzPSYNC: whatever a source answers, in whatever portions it arrives, gives
// the same RDB, stream and kind of error; all bytes are handed out in order.
func FuzzPSYNC(f *testing.F) {
	f.Add([]byte("+FULLRESYNC "+idA+" 5\r\n$3\r\nRDBstream"), false, 7)
	f.Fuzz(func(t *testing.T, in []byte, partial bool, step int) {
		var from repl.Position
		if partial {
			from = at99
		}
		want, _ := run(bytes.NewReader(in), from, 1<<16)
		if tail := want.rdb + want.stream; want.rdb == "" || want.size >= 0 {
			if !strings.HasSuffix(string(in), tail) {
				t.Fatalf("got RDB and stream %.80q, not the end of %.80q", tail, in)
			}
		} else if !strings.Contains(string(in), want.rdb) || !strings.HasSuffix(string(in), want.stream) {
			t.Fatalf("got RDB %.80q and stream %.80q of %.80q", want.rdb, want.stream, in)
		}
		for name, r := range map[string]io.Reader{"whole": bytes.NewReader(in), "byte by byte": iotest.OneByteReader(bytes.NewReader(in))} {
			got, _ := run(r, from, 1+max(0, step%100))
			if fmt.Sprint(got.err) != fmt.Sprint(want.err) {
				t.Fatalf("%s: got error %v, want %v", name, got.err, want.err)
			}
			got.err = want.err
			if got != want {
				t.Fatalf("%s: got %+v, want %+v", name, got, want)
			}
		}
	})
}
