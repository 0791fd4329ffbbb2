package psync_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"tairlift/internal/psync"
	"tairlift/internal/rdb"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

var limits = psync.CutLimits{ValueBytes: 1 << 20, Elements: 1 << 20}

// text is a string's or a list's payload for a comparison.
func text(t *testing.T, v psync.Value) string {
	t.Helper()
	if v.Absent {
		return "absent"
	}
	typ, body, _, err := rdb.ParseDump(v.Payload)
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	if _, _, err := rdb.Elements(typ, body, func(e rdb.Element) error {
		b = append(append(b, e.A...), ' ')
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(b))
}

// Under load every cut has the values that the stream gives up to its offset.
func TestReadCutIsExactUnderLoad(t *testing.T) {
	s := redistest.Source(t)
	l := mustAttach(t, s.Addr, repl.Position{}, psync.Options{})
	readRDB(t, l)
	var keys [][]byte
	for i := range 4 {
		for _, name := range []string{"counter", "list", "short"} {
			keys = append(keys, fmt.Appendf(nil, "%s%d", name, i))
		}
	}
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for i := range 4 {
		c, n := s.Dial(t), strconv.Itoa(i)
		writers.Go(func() {
			for round := 0; ; round++ {
				select {
				case <-stop:
					return
				default:
				}
				for _, args := range [][]string{
					{"INCR", "counter" + n},
					{"RPUSH", "list" + n, strconv.Itoa(round)},
					{"LPOP", "list" + n},
					{"SET", "short" + n, strconv.Itoa(round), "PX", strconv.Itoa(1 + round%3)},
				} {
					if _, err := c.Do(ctx, args...); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	var stream []byte
	read := make(chan struct{})
	go func() {
		defer close(read)
		buf := make([]byte, 64<<10)
		for !bytes.Contains(stream, []byte("the-end")) {
			n, err := l.Read(buf)
			if err != nil {
				t.Error(err)
				return
			}
			stream = append(stream, buf[:n]...)
		}
	}()
	var cuts []psync.Cut
	torn := 0
	for c := s.Dial(t); len(cuts) < 300; {
		cut, err := psync.ReadCut(ctx, c, 0, keys, limits)
		if errors.Is(err, psync.ErrTorn) {
			torn++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		cuts = append(cuts, cut)
	}
	close(stop)
	writers.Wait()
	s.Do(t, "SET", "the-end", "x")
	<-read

	// The stream's own account of the keys.
	state := map[string]string{}
	lists := map[string][]string{}
	p := resp.NewParser(l.Start.Position.Offset)
	p.Feed(stream)
	at := l.Start.Position.Offset
	commands, inMulti := 0, false
	for _, cut := range cuts {
		if cut.At.ReplID != l.Start.Position.ReplID {
			t.Fatalf("cut at %s, want the history %s", cut.At, l.Start.Position.ReplID)
		}
		for at < cut.At.Offset {
			c, ok, err := p.Next()
			if err != nil || !ok {
				t.Fatalf("stream ends before %s: %v", cut.At, err)
			}
			at = c.End
			switch name := string(bytes.ToUpper(c.Args[0])); name {
			case "INCR":
				n, _ := strconv.Atoi(state[string(c.Args[1])])
				state[string(c.Args[1])] = strconv.Itoa(n + 1)
				commands++
			case "SET":
				state[string(c.Args[1])] = string(c.Args[2])
			case "RPUSH":
				lists[string(c.Args[1])] = append(lists[string(c.Args[1])], string(c.Args[2]))
			case "LPOP":
				lists[string(c.Args[1])] = lists[string(c.Args[1])][1:]
			case "DEL", "UNLINK":
				for _, k := range c.Args[1:] {
					delete(state, string(k))
				}
			case "MULTI":
				inMulti = true // 7.0: a SET and the end of the value before it
			case "EXEC":
				inMulti = false
			case "SELECT", "PING", "REPLCONF":
			default:
				t.Fatalf("%s in the stream: asking must leave nothing there", name)
			}
		}
		if at != cut.At.Offset || inMulti {
			t.Fatalf("cut at %s: the stream has a command that ends at %s (in a transaction: %v), want one there, behind any transaction", cut.At, at, inMulti)
		}
		for i, k := range keys {
			want, ok := state[string(k)]
			if list := lists[string(k)]; len(list) > 0 {
				want, ok = list[0], true
			}
			if !ok {
				want = "absent"
			}
			if got := text(t, cut.Values[i]); got != want {
				t.Fatalf("%s at %s: got %s, want %s", k, cut.At, got, want)
			}
		}
	}
	t.Logf("%d cuts within %d INCRs, %d were torn", len(cuts), commands, torn)
}

// between is a connection whose question reaches the server in two parts.
type between struct {
	net.Conn
	do func()
}

func (b between) Write(p []byte) (int, error) {
	at := bytes.Index(p, []byte("DUMP"))
	if at < 0 {
		return b.Conn.Write(p)
	}
	at -= len("*2\r\n$4\r\n")
	n, err := b.Conn.Write(p[:at])
	if err != nil {
		return n, err
	}
	b.do()
	m, err := b.Conn.Write(p[at:])
	return n + m, err
}

func TestReadCutTellsATornAnswer(t *testing.T) {
	s := redistest.Source(t)
	readRDB(t, mustAttach(t, s.Addr, repl.Position{}, psync.Options{}))
	s.Do(t, "SET", "k", "v")
	s.Do(t, "SET", "other", "v")
	for claim, do := range map[string]func(){
		"by a write of the key":     func() { s.Do(t, "APPEND", "k", "x") },
		"by a write of another one": func() { s.Do(t, "APPEND", "other", "x") },
	} {
		nc, err := net.Dial("tcp", s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		c := resp.NewConn(between{nc, do})
		defer c.Close()
		for range 2 { // the connection stays usable
			if _, err := psync.ReadCut(ctx, c, 0, [][]byte{[]byte("k")}, limits); !errors.Is(err, psync.ErrTorn) {
				t.Errorf("%s: got %v, want %v", claim, err, psync.ErrTorn)
			}
		}
	}
	// A key that dies because it is asked for is written to the stream.
	s.Do(t, "DEBUG", "SET-ACTIVE-EXPIRE", "0")
	s.Do(t, "SET", "k", "v", "PX", "1")
	begun := time.Now()
	redistest.Eventually(t, "its deadline", func() bool { return time.Since(begun) > 5*time.Millisecond })
	c := s.Dial(t)
	first, err := psync.ReadCut(ctx, c, 0, [][]byte{[]byte("k")}, limits)
	if err == nil { // TYPE, before the packet, was what removed it
		if !first.Values[0].Absent {
			t.Errorf("a key past its deadline: got %+v, want it absent", first.Values[0])
		}
	} else if !errors.Is(err, psync.ErrTorn) {
		t.Fatal(err)
	}
	again, err := psync.ReadCut(ctx, c, 0, [][]byte{[]byte("k")}, limits)
	if err != nil || !again.Values[0].Absent {
		t.Errorf("asked again: got %+v, %v, want it absent", again.Values, err)
	}
}

func TestReadCutReads(t *testing.T) {
	s := redistest.Source(t)
	readRDB(t, mustAttach(t, s.Addr, repl.Position{}, psync.Options{}))
	s.DoIn(t, 3, "SET", "k", "v", "PX", "100000")
	s.DoIn(t, 3, "SET", "long", string(bytes.Repeat([]byte("x0y"), 2000)))
	s.DoIn(t, 3, "SADD", "many", "1", "2", "3", "4", "5", "6")
	random := make([]byte, 600)
	rand.NewChaCha8([32]byte{}).Read(random) // not to be compressed
	s.DoIn(t, 3, "SET", "half", string(random))
	keys := [][]byte{[]byte("k"), []byte("none"), []byte("long"), []byte("many"), []byte("half"), []byte("half")}
	c := s.Dial(t)
	before := time.Now().UnixMilli()
	cut, err := psync.ReadCut(ctx, c, 3, keys, psync.CutLimits{ValueBytes: 900, Elements: 5})
	after := time.Now().UnixMilli()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := cut.At.Offset.String(), s.Info(t, "replication")["master_repl_offset"]; got != want {
		t.Errorf("offset: got %s, want %s", got, want)
	}
	v := cut.Values
	if d := v[0].DeadlineMS; text(t, v[0]) != "v" || d < before+99000 || d > after+100000 {
		t.Errorf("k: got %+v, want v until 100 s after it was written", v[0])
	}
	if !v[1].Absent || v[1].Payload != nil {
		t.Errorf("a key that is not there: got %+v", v[1])
	}
	for _, i := range []int{2, 3} {
		if !v[i].Large || v[i].Payload != nil {
			t.Errorf("%s: got %+v, want it to be too large", keys[i], v[i])
		}
	}
	if v[4].Payload == nil || v[4].DeadlineMS != 0 || !v[5].Left || v[5].Payload != nil {
		t.Errorf("two that do not fit together: got %+v, want the first alone", v[4:])
	}
	renamed := redistest.Source(t, redistest.Arg("--rename-command", "DUMP", ""))
	readRDB(t, mustAttach(t, renamed.Addr, repl.Position{}, psync.Options{}))
	renamed.Do(t, "SET", "k", "v")
	c = renamed.Dial(t)
	for range 2 { // it stays usable
		if _, err := psync.ReadCut(ctx, c, 0, keys[:1], limits); !resp.HasCode(err, "ERR") {
			t.Errorf("without DUMP: got %v, want what the server says", err)
		}
	}
}

func TestReadCutOfAServerThatCannot(t *testing.T) {
	master, replica := redistest.Source(t), redistest.Source(t)
	if _, err := psync.ReadCut(ctx, master.Dial(t), 0, [][]byte{[]byte("k")}, limits); !errors.Is(err, psync.ErrNoCut) {
		t.Errorf("a master without a backlog: got %v, want %v", err, psync.ErrNoCut)
	}
	replica.ReplicaOf(t, master)
	c := replica.Dial(t)
	for range 2 {
		if _, err := psync.ReadCut(ctx, c, 0, [][]byte{[]byte("k")}, limits); !errors.Is(err, psync.ErrNoCut) {
			t.Errorf("a replica: got %v, want %v", err, psync.ErrNoCut)
		}
	}
}
