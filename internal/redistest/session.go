package redistest

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"

	"tairlift/internal/repl"
)

// Session is what a master answers to "PSYNC ? -1", in parts.
type Session struct {
	ReplID repl.ReplID
	Offset repl.Offset // of the FULLRESYNC line: Stream begins with byte Offset+1
	RDB    []byte
	Stream []byte
}

// End is the offset of the stream's last byte.
func (s Session) End() repl.Offset { return s.Offset + repl.Offset(len(s.Stream)) }

// RecordedSession is testdata/sessions/session.bin, recorded from codis-server
// 3.2.11; session.json beside it holds the keyspace at its end.
func RecordedSession(t testing.TB) Session {
	t.Helper()
	b, err := os.ReadFile(Testdata(t, "sessions/session.bin"))
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := bytes.Cut(b, []byte("\r\n"))
	size, body, _ := bytes.Cut(bytes.TrimLeft(rest, "\n"), []byte("\r\n"))
	f := strings.Fields(string(head))
	n, err := strconv.Atoi(strings.TrimPrefix(string(size), "$"))
	if err != nil || len(f) != 3 || f[0] != "+FULLRESYNC" || n > len(body) {
		t.Fatalf("session.bin begins with %q, %q", head, size)
	}
	id, err := repl.ParseReplID(f[1])
	if err != nil {
		t.Fatal(err)
	}
	off, err := repl.ParseOffset(f[2])
	if err != nil {
		t.Fatal(err)
	}
	return Session{ReplID: id, Offset: off, RDB: body[:n:n], Stream: body[n:]}
}
