package apply

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/internal/held"
	"tairlift/internal/rdb"
	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

// sameKeys compares every key of databases 0 and 1, TTLs included.
func sameKeys(t *testing.T, claim string, dst, src *redistest.Server) {
	t.Helper()
	for db := range 2 {
		keys := src.DoIn(t, db, "KEYS", "*").Strings()
		own := int64(0)
		for _, k := range dst.DoIn(t, db, "KEYS", "tairlift:*").Elems {
			if isOurs(k.Str) {
				own++
			}
		}
		if got := dst.DoIn(t, db, "DBSIZE").Int - own; got != int64(len(keys)) {
			t.Errorf("%s: keys in database %d: got %d, want %d", claim, db, got, len(keys))
		}
		for _, k := range keys {
			if got, want := value(t, dst, db, k), value(t, src, db, k); got != want {
				t.Fatalf("%s: %s in database %d: got %s, want %s", claim, k, db, got, want)
			}
			got, want := dst.DoIn(t, db, "PTTL", k).Int, src.DoIn(t, db, "PTTL", k).Int
			if d := held.Off(got, want); (got < 0) != (want < 0) || d < -2000 || d > 2000 {
				t.Fatalf("%s: PTTL of %s in database %d: got %d, want %d", claim, k, db, got, want)
			}
		}
	}
}

// value is a key's value, in an order that does not depend on the encoding.
func value(t *testing.T, s *redistest.Server, db int, key string) string {
	t.Helper()
	switch typ := s.DoIn(t, db, "TYPE", key).String(); typ {
	case "string":
		return s.DoIn(t, db, "GET", key).String()
	case "list":
		return s.DoIn(t, db, "LRANGE", key, "0", "-1").String()
	case "zset":
		return s.DoIn(t, db, "ZRANGE", key, "0", "-1", "WITHSCORES").String()
	case "set", "hash":
		cmd := map[string]string{"set": "SMEMBERS", "hash": "HKEYS"}[typ]
		parts := s.DoIn(t, db, cmd, key).Strings()
		slices.Sort(parts)
		if typ == "hash" {
			parts = append(parts, s.DoIn(t, db, append([]string{"HMGET", key}, parts...)...).String())
		}
		return strings.Join(parts, " ")
	case "stream":
		text := s.DoIn(t, db, "XRANGE", key, "-", "+").String() + s.DoIn(t, db, "XINFO", "GROUPS", key).String()
		for _, p := range s.DoIn(t, db, "XPENDING", key, "group", "-", "+", "1000").Elems {
			text += " " + p.Elems[0].String() + " " + p.Elems[1].String() + " " + p.Elems[3].String() // not for how long it is idle
		}
		return text
	default:
		return typ
	}
}

func TestTheRDBPhaseResumesFromItsMark(t *testing.T) {
	r := newRig(t, 1)
	s := r.sources[0]
	fill(t, s, "g:", 150)
	for i := range 100 {
		k := "ttl:" + strconv.Itoa(i)
		s.DoIn(t, i%2, "SET", k, "v", "EX", strconv.Itoa(1000+i))
		s.DoIn(t, i%2, "RPUSH", k+":l", "a")
		s.DoIn(t, i%2, "EXPIRE", k+":l", strconv.Itoa(1000+i))
	}
	r.capture()
	s.Do(t, "INCR", "g:after")
	r.stopCapture()
	entries := int64(2*150*5 + 200)
	writes := func(args [][]byte) int64 { // entries
		switch {
		case isWord(args, "MSET"):
			return int64(len(args) / 2)
		case (isWord(args, "RESTORE") || isWord(args, "SET")) && !isOurs(args[1]):
			return 1
		}
		return 0
	}

	t.Run("connections that break", func(t *testing.T) {
		r.t = t
		r.afresh()
		var sent, breaks atomic.Int64
		proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
			n := writes(args)
			now := sent.Add(n)
			for _, at := range []int64{20, 700, 1100, 1900, 2300} {
				if now-n < at && at <= now {
					breaks.Add(1)
					return redistest.Close()
				}
			}
			return redistest.Pass()
		})
		job := r.applyAll(Options{Addr: proxy.Addr, markEntries: 100, chunkEntries: 50})
		sameKeys(t, "after broken connections", r.target, s)
		if st := job.Status()[0]; st.Keys != entries || st.RDBDone != st.RDBTotal {
			t.Errorf("status: got %d keys, %d of %d bytes, want %d keys, all", st.Keys, st.RDBDone, st.RDBTotal, entries)
		}
		if breaks.Load() < 3 {
			t.Errorf("connections broken: got %d", breaks.Load())
		}
	})
	for _, fault := range []struct {
		claim  string
		action func() redistest.Action
	}{
		{"killed in the middle", redistest.Close},
		{"killed while connections hang", redistest.Hang},
	} {
		t.Run(fault.claim, func(t *testing.T) {
			r.t = t
			r.afresh()
			var sent, held atomic.Int64
			marked := make(chan struct{})
			mark := sync.OnceFunc(func() { close(marked) })
			proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
				switch {
				case writes(args) > 0 && sent.Add(writes(args)) > 1000:
					<-marked
					held.Add(1)
					return fault.action()
				case isWord(args, "SET") && bytes.Contains(args[2], []byte("phase=rdb")) && !bytes.Contains(args[2], []byte(" rdb=0 ")):
					mark()
				}
				return redistest.Pass()
			})
			a := r.start(Options{Addr: proxy.Addr, markEntries: 100, chunkEntries: 50, Timeout: time.Hour})
			redistest.Eventually(t, "a mark in the middle", func() bool {
				m, err := ParseMark(r.markText(1))
				return err == nil && m.Phase == "rdb" && m.RDB > 0 && held.Load() > 0
			})
			at := r.mark(1)
			if err := a.stop(); err != nil {
				t.Fatal(err)
			}
			m := r.mark(1)
			if m.RDB < at.RDB || m.Keys == 0 || m.Keys >= entries {
				t.Errorf("mark: got %d of %d entries", m.Keys, entries)
			}
			again := int64(0)
			direct := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
				atomic.AddInt64(&again, writes(args))
				return redistest.Pass()
			})
			r.applyAll(Options{Addr: direct.Addr})
			if got, want := atomic.LoadInt64(&again), entries-m.Keys; got != want {
				t.Errorf("entries restored after the mark: got %d, want %d", got, want)
			}
			// The old process's connections were ended: nothing late arrives.
			s.Do(t, "PING")
			r.target.Do(t, "DEL", "g:0:149:s", "g:0:0:l")
			proxy.Release()
			proxy.Close()
			if got := r.target.Do(t, "EXISTS", "g:0:149:s", "g:0:0:l").Int; got != 0 {
				t.Errorf("late bytes of an old connection: got %d keys back, want none", got)
			}
		})
	}
}

func TestAnEntryThatTheTargetRefuses(t *testing.T) {
	r := newRig(t, 1)
	s := r.sources[0]
	s.Do(t, "RPUSH", "bad", "x")
	s.Do(t, "RPUSH", "good", "x")
	s.Do(t, "SET", "string", "x")
	r.capture()
	r.stopCapture()
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if (isWord(args, "RESTORE") || isWord(args, "RPUSH")) && string(args[1]) == "bad" {
			return redistest.Reject("ERR Bad data format")
		}
		return redistest.Pass()
	})
	stop := r.stopped(Options{Addr: proxy.Addr}, "reject")
	if !strings.Contains(stop.What, `"bad"`) || !strings.Contains(stop.What, "RDB") {
		t.Errorf("stop: got %q, want the key and the phase named", stop.What)
	}
	job := r.applyAll(Options{Addr: proxy.Addr, OnReject: RejectContinue})
	if st := job.Status()[0]; st.Rejects != 1 || st.Doubtful != 1 || st.Keys != 3 {
		t.Errorf("status: got %d rejects, %d doubtful, %d keys, want 1, 1, 3", st.Rejects, st.Doubtful, st.Keys)
	}
	r.want("beside it", map[string]string{"0 EXISTS good": "1", "0 EXISTS string": "1", "0 EXISTS bad": "0"})
}

func TestTheTakeOverEndsOlderConnections(t *testing.T) {
	r := bareRig(t, 1)
	r.craft(1, 1, "k v")
	old := r.target.Dial(t)
	name := "tairlift-" + r.job.String()[:12] + "-1"
	if _, err := old.Do(t.Context(), "CLIENT", "SETNAME", name); err != nil {
		t.Fatal(err)
	}
	r.applyAll(Options{})
	if _, err := old.Do(t.Context(), "SET", "k", "late"); err == nil {
		t.Error("a write of an older session's connection: got through, want it closed")
	}
}

func TestAppendEntryByTarget(t *testing.T) {
	const at = int64(1_900_000_000_000)
	str := &rdb.Entry{Key: []byte("s"), IsString: true, String: []byte("v"), Payload: []byte("P")}
	strTTL := &rdb.Entry{Key: []byte("s"), IsString: true, String: []byte("v"), Payload: []byte("P"), ExpireMS: at}
	list := &rdb.Entry{Key: []byte("l"), Payload: []byte("P")}
	listTTL := &rdb.Entry{Key: []byte("l"), Payload: []byte("P"), ExpireMS: at}
	past := &rdb.Entry{Key: []byte("l"), Payload: []byte("P"), ExpireMS: 1}
	for _, tt := range []struct {
		major, minor int
		e            *rdb.Entry
		want         string
	}{
		{4, 0, str, "SET s v"},
		{4, 0, strTTL, "RESTORE s 0 P REPLACE; PEXPIREAT s 1900000000000"},
		{4, 0, list, "RESTORE l 0 P REPLACE"},
		{4, 0, listTTL, "RESTORE l 0 P REPLACE; PEXPIREAT l 1900000000000"},
		{4, 0, past, "RESTORE l 0 P REPLACE; PEXPIREAT l 1"},
		{5, 0, strTTL, "RESTORE s 1900000000000 P REPLACE ABSTTL"},
		{6, 0, listTTL, "RESTORE l 1900000000000 P REPLACE ABSTTL"},
		{6, 2, strTTL, "SET s v PXAT 1900000000000"},
		{7, 0, listTTL, "RESTORE l 1900000000000 P REPLACE ABSTTL"},
		{7, 0, past, "RESTORE l 1 P REPLACE ABSTTL"},
	} {
		out, n := appendEntry(nil, tt.e, target{major: tt.major, minor: tt.minor})
		p := resp.NewParser(0)
		p.Feed(out)
		var got []string
		for {
			c, ok, err := p.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			got = append(got, string(bytes.Join(c.Args, []byte(" "))))
		}
		if s := strings.Join(got, "; "); s != tt.want || n != len(got) {
			t.Errorf("to %d.%d: got %d commands, %s, want %s", tt.major, tt.minor, n, s, tt.want)
		}
	}
}

func TestLowWaterIsBelowEveryChunkNotAnswered(t *testing.T) {
	w := lowWater{boundary: rdb.Boundary{Offset: 9}, keys: 5, every: 25}
	due := w.due()
	for _, tt := range []struct {
		seq    int64
		offset int64
		keys   int64
	}{
		{2, 9, 5}, {1, 9, 5}, {0, 400, 35}, {4, 400, 35}, {3, 600, 55},
	} {
		w.done(&chunk{seq: tt.seq, entries: 10, seen: counts{expired: 1}, end: rdb.Boundary{Offset: 200 + 100*tt.seq}})
		if b, keys, _ := w.get(); b.Offset != tt.offset || keys != tt.keys {
			t.Errorf("chunk %d answered: got offset %d, %d keys, want %d, %d", tt.seq, b.Offset, keys, tt.offset, tt.keys)
		}
	}
	select {
	case <-due:
	default:
		t.Error("a mark is due: got not, want so after 25 entries")
	}
}
