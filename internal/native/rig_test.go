package native

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tairlift/internal/rdb"
	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

// fixtures are the entries of dumps of real servers, by file, database and key.
func fixtures(t testing.TB) map[string]rdb.Entry {
	t.Helper()
	names, err := filepath.Glob("../../testdata/rdb/*/dump-*.rdb")
	if err != nil || len(names) != 9 {
		t.Fatalf("got %d dumps (%v), want 9", len(names), err)
	}
	all := map[string]rdb.Entry{}
	for _, name := range names {
		for _, e := range entries(t, name) {
			all[fmt.Sprintf("%s/%d/%s", filepath.Base(name), e.DB, e.Key)] = e
		}
	}
	return all
}

// entries are those of one file.
func entries(t testing.TB, name string) []rdb.Entry { return read(t, name, rdb.Options{}) }

func read(t testing.TB, name string, o rdb.Options) (all []rdb.Entry) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	d := rdb.NewDecoder(bytes.NewReader(data), o)
	for {
		e, err := d.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		own := *e
		own.Key, own.Payload = bytes.Clone(e.Key), bytes.Clone(e.Payload)
		all = append(all, own)
	}
}

// body is the type and the encoded value of a payload.
func body(t testing.TB, payload []byte) (byte, []byte) {
	t.Helper()
	typ, b, _, err := rdb.ParseDump(payload)
	if err != nil {
		t.Fatal(err)
	}
	return typ, b
}

// canon is a value as text, whatever its encoding and the order that does not
// count.
func canon(t testing.TB, payload []byte) []string {
	t.Helper()
	typ, b := body(t, payload)
	kind := rdb.KindOf(typ)
	all := []string{kind.String()}
	if _, _, err := rdb.Elements(typ, b, func(e rdb.Element) error {
		all = append(all, text(kind, e))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if kind != rdb.KindList {
		slices.Sort(all)
	}
	return all
}

func text(kind rdb.Kind, e rdb.Element) string {
	switch kind {
	case rdb.KindStream:
		return streamText(*e.Stream)
	case rdb.KindHash:
		return fmt.Sprintf("%q=%q until %d", e.A, e.B, e.DeadlineMS)
	case rdb.KindZSet:
		return fmt.Sprintf("%q:%016x", e.A, math.Float64bits(e.Score+0)) // -0 is 0 to a server
	}
	return strconv.Quote(string(e.A))
}

// streamText leaves out what no command sets: when consumers were seen.
func streamText(e rdb.StreamElement) string {
	m := e.Meta
	m.SeenMS, m.ActiveMS = 0, 0
	if e.Part == rdb.StreamInfo && e.Count == 0 {
		m.FirstID = rdb.StreamID{} // RESTORE leaves the largest id there is
	}
	return fmt.Sprintf("%d %v %q %q %q x%d at %d %v", e.Part, e.ID, e.Fields, e.Group, e.Consumer, e.Count, e.TimeMS, m)
}

// withoutMeta is canon of a stream for servers before 7.0, which do not count
// entries.
func withoutMeta(lines []string) []string {
	out := slices.Clone(lines)
	for i, l := range out {
		if at := strings.LastIndex(l, " {"); at >= 0 && lines[len(lines)-1] == "stream" {
			out[i] = l[:at]
		}
	}
	return out
}

// eachTarget runs a test against each of the servers in TARGET_SERVERS, paths
// parted by commas, or else against the one that is the other tests' target.
func eachTarget(t *testing.T, test func(*testing.T, *pipe, Target)) {
	paths := os.Getenv("TARGET_SERVERS")
	if paths == "" {
		p := newPipe(t, redistest.Target(t))
		test(t, p, p.target())
		return
	}
	for path := range strings.SplitSeq(paths, ",") {
		t.Run(path, func(t *testing.T) {
			p := newPipe(t, redistest.Start(t, path))
			test(t, p, p.target())
		})
	}
}

// target is what the Writer is told about the server.
func (p *pipe) target() (o Target) {
	p.t.Helper()
	_, version, _ := strings.Cut(string(p.do("INFO", "server").Str), "redis_version:")
	if _, err := fmt.Sscanf(version, "%d.%d", &o.Major, &o.Minor); err != nil {
		p.t.Fatalf("version %.20q: %v", version, err)
	}
	_, err := p.c.Do(context.Background(), "HPEXPIREAT", "none", "1", "FIELDS", "1", "f")
	o.FieldTTL = err == nil
	return o
}

// rdbVersion is that of the payloads which the server makes.
func (p *pipe) rdbVersion() int {
	p.t.Helper()
	p.do("SET", "probe", "x")
	_, _, version, err := rdb.ParseDump(p.do("DUMP", "probe").Str)
	if err != nil {
		p.t.Fatal(err)
	}
	p.do("DEL", "probe")
	return version
}

// pipe sends chunks to a server over a connection of its own.
type pipe struct {
	t    testing.TB
	c    *resp.Conn
	dir  string // the server's
	owed int    // replies
}

func newPipe(t testing.TB, s *redistest.Server) *pipe { return &pipe{t: t, c: s.Dial(t), dir: s.Dir} }

func (p *pipe) send(c Chunk) error {
	if _, err := p.c.Write(c.Bytes); err != nil {
		return err
	}
	if p.owed += c.Commands; p.owed > 500 {
		return p.settle()
	}
	return nil
}

// settle reads the replies to all that was sent; the first error among them is
// its own.
func (p *pipe) settle() (first error) {
	if err := p.c.Flush(); err != nil {
		return err
	}
	for ; p.owed > 0; p.owed-- {
		_, err := p.c.ReadReply()
		var se resp.ServerError
		if err != nil && !errors.As(err, &se) {
			return err
		}
		if first == nil {
			first = err
		}
	}
	return first
}

func (p *pipe) do(args ...string) resp.Reply {
	p.t.Helper()
	r, err := p.c.Do(context.Background(), args...)
	if err != nil {
		p.t.Fatalf("%.200q: %v", args, err)
	}
	return r
}

// write gives all elements of a payload to w.
func write(w *Writer, key string, payload []byte) error {
	return writeAs(w, key, payload, func(e rdb.Element) rdb.Element { return e })
}

// writeAs is write with each element as another one.
func writeAs(w *Writer, key string, payload []byte, as func(rdb.Element) rdb.Element) error {
	typ, b, _, err := rdb.ParseDump(payload)
	if err != nil {
		return err
	}
	if err := w.Begin([]byte(key), rdb.KindOf(typ)); err != nil {
		return err
	}
	for _, walk := range []func(rdb.Element) error{w.Survey, w.Add} {
		if _, _, err := rdb.Elements(typ, b, func(e rdb.Element) error { return walk(as(e)) }); err != nil {
			return err
		}
	}
	return w.Finish()
}
