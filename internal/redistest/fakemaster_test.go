package redistest

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/resp"
)

// wantFull reads a full sync of s from c.
func wantFull(t *testing.T, c *resp.Conn, s Session) {
	t.Helper()
	wantBytes(t, c, fmt.Sprintf("+FULLRESYNC %s %s\r\n$%d\r\n%s%s", s.ReplID, s.Offset, len(s.RDB), s.RDB, s.Stream))
}

func wantBytes(t *testing.T, c *resp.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("got %d bytes beginning %.100q, %v, want %d beginning %.100q", n, got[:n], err, len(want), want)
	}
}

func dialMaster(t *testing.T, m *Master) *resp.Conn {
	t.Helper()
	return dialProxy(t, &Proxy{Addr: m.Addr})
}

func TestRecordedSession(t *testing.T) {
	s := RecordedSession(t)
	if s.ReplID != "c25abbf6265f81a1bb6ccfafe69752d472079d6d" || s.Offset != 1 || len(s.RDB) != 179 || len(s.Stream) != 69616 || s.End() != 69617 {
		t.Errorf("got %s, offset %d, RDB of %d, stream of %d", s.ReplID, s.Offset, len(s.RDB), len(s.Stream))
	}
	if !bytes.HasPrefix(s.RDB, []byte("REDIS0007")) || s.Stream[0] != '*' {
		t.Errorf("got an RDB beginning %.12q, a stream beginning %.12q", s.RDB, s.Stream)
	}
}

func TestFakeMasterServesASession(t *testing.T) {
	s := RecordedSession(t)
	m := FakeMaster(t, Script{Session: s})
	c := dialMaster(t, m)
	send(t, c, "PING", "REPLCONF listening-port 7777", "REPLCONF capa eof", "MULTI", "TIME", "INFO replication", "EXEC", "nonsense", "PSYNC ? -1")
	want(t, c, "PONG", "OK", "OK", "OK", "QUEUED", "QUEUED", "[[*", "-ERR unknown command*")
	wantFull(t, c, s)
	m.Append([]byte("more"))
	wantBytes(t, c, "more")
	if m.Live() != 1 || m.Position().Offset != s.End()+4 {
		t.Errorf("got %d live links at %s", m.Live(), m.Position())
	}

	again := dialMaster(t, m)
	send(t, again, fmt.Sprintf("PSYNC %s %d", s.ReplID, s.End()+3))
	wantBytes(t, again, "+CONTINUE\r\nre")
	all, full := m.Links()
	if all != 2 || full != 1 {
		t.Errorf("got %d links, %d full, want 2, 1", all, full)
	}
	for _, beyond := range []int{0, 1, int(s.End()) + 6} {
		c := dialMaster(t, m)
		send(t, c, fmt.Sprintf("PSYNC %s %d", s.ReplID, beyond))
		wantBytes(t, c, "+FULLRESYNC ")
	}
}

func TestFakeMasterAsRedis7(t *testing.T) {
	s := RecordedSession(t)
	m := FakeMaster(t, Script{Session: s, PSYNC2: true, Diskless: true, NewlinesPre: 2, Password: "secret"})
	c := dialMaster(t, m)
	send(t, c, "PING", "AUTH wrong", "AUTH secret", "REPLCONF capa eof capa psync2", "PSYNC ? -1")
	want(t, c, "-NOAUTH*", "-ERR invalid password", "OK", "OK")
	wantBytes(t, c, fmt.Sprintf("\n\n+FULLRESYNC %s 1\r\n$EOF:%x\r\n%s%x", s.ReplID, sha1.Sum(s.RDB), s.RDB, sha1.Sum(s.RDB)))
	send(t, c, "REPLCONF ACK 1")
	wantBytes(t, c, string(s.Stream))
	if d := cmp.Diff([][]string{{"PING"}, {"AUTH"}, {"AUTH"}, {"REPLCONF", "capa", "eof", "capa", "psync2"}, {"PSYNC", "?", "-1"}}, m.Commands()); d != "" {
		t.Errorf("commands: want -, got +\n%s", d)
	}
	again := dialMaster(t, m)
	send(t, again, "AUTH secret", fmt.Sprintf("PSYNC %s %d", s.ReplID, s.End()+1))
	want(t, again, "OK")
	wantBytes(t, again, fmt.Sprintf("\n\n+CONTINUE %s\r\n", s.ReplID))
	next := s
	next.ReplID = "0123456789012345678901234567890123456789"
	m.SetSession(next)
	wantEnd(t, again)
}

func TestFakeMasterFaults(t *testing.T) {
	s := RecordedSession(t)
	whole := fmt.Sprintf("+FULLRESYNC %s 1\r\n$179\r\n%s%s", s.ReplID, s.RDB, s.Stream)
	faults := map[int]Fault{
		1: {Reply: "-LOADING Redis is loading the dataset in memory"},
		2: {CutAt: 100},
		3: {SilentAt: 300},
		4: {CutAt: 250, Drip: true},
		5: {Silent: true},
	}
	m := FakeMaster(t, Script{Session: s, Link: func(n int) Fault { return faults[n] }, Handle: func(_ int, args []string) string {
		if args[0] == "ECHO" {
			return "+" + args[1] + "\r\n"
		}
		return ""
	}})
	c := dialMaster(t, m)
	send(t, c, "PSYNC ? -1")
	want(t, c, "-LOADING*")
	send(t, c, "ECHO x", "PSYNC ? -1")
	want(t, c, "x")
	wantBytes(t, c, whole[:100])
	if _, err := c.ReadLine(); err != io.EOF {
		t.Errorf("link 2: got %v, want %v", err, io.EOF)
	}
	c = dialMaster(t, m)
	send(t, c, "PSYNC ? -1")
	wantBytes(t, c, whole[:300])
	c = dialMaster(t, m)
	send(t, c, "PSYNC ? -1")
	wantBytes(t, c, whole[:250])
	if _, err := c.ReadLine(); err != io.EOF {
		t.Errorf("link 4: got %v, want %v", err, io.EOF)
	}
	c = dialMaster(t, m)
	send(t, c, "PSYNC ? -1", "REPLCONF ACK 7")
	Eventually(t, "the ACK", func() bool { return m.LastAck() == 7 })
	if c.Buffered() != 0 {
		t.Error("link 5: got an answer, want silence")
	}
	c = dialMaster(t, m)
	send(t, c, "PSYNC ? -1")
	wantFull(t, c, s)
	if got := strings.Join(m.Commands()[0], " "); got != "PSYNC ? -1" {
		t.Errorf("got first command %q", got)
	}
}
