package apply

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/internal/pace"
	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

// signs counts by which commands the connections of a proxy show themselves.
type signs struct {
	mu      sync.Mutex  // guards what follows
	outside map[int]int // PINGs by the connection, of those that write outside the mark
	big     int         // the connection that writes big values
	marks   int         // written
	chunks  int         // of big values
}

func (s *signs) see(conn int, args [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case isWord(args, "CLIENT") && strings.EqualFold(string(args[1]), "SETNAME"):
		s.outside[conn] = 0
	case isWord(args, "PING"):
		s.outside[conn]++
	case isWord(args, "SET") && strings.HasPrefix(string(args[1]), "tairlift:mark:"):
		s.marks++
	case len(args) > 2 && strings.HasPrefix(string(args[1]), "tairlift:tmp:"):
		s.big = conn
		s.chunks++
	}
}

// reset forgets what was counted.
func (s *signs) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks = 0
	for conn := range s.outside {
		s.outside[conn] = 0
	}
}

// alive tells whether the lane has shown itself three times, and so have n others.
// The one that writes big values counts if it may.
func (s *signs) alive(n int, big bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	pinged := 0
	for conn, count := range s.outside {
		if count >= 3 && (big || conn != s.big) {
			pinged++
		}
	}
	return s.marks >= 3 && pinged >= n
}

// TestNoConnectionIsIdleForLong: a target that closes those that are would end every
// session at the same place.
func TestNoConnectionIsIdleForLong(t *testing.T) {
	large := "large " + strings.Repeat("v", 60)
	var entries []string
	for i := range 50 {
		entries = append(entries, fmt.Sprintf("k%d v", i))
	}
	o := Options{beat: 20 * time.Millisecond, Timeout: time.Hour, chunkEntries: 1, heldBytes: 20, valueChunk: 1}
	begin := func(t *testing.T, seen *signs, hold func(args [][]byte), o Options, entries ...string) (*rig, *pen, *applying) {
		r := bareRig(t, 1)
		p := r.craft(1, 1, entries...)
		proxy := redistest.NewProxy(t, r.target.Addr, func(conn, _ int, args [][]byte) redistest.Action {
			seen.see(conn, args)
			hold(args)
			return redistest.Pass()
		})
		o.Addr = proxy.Addr
		return r, p, r.start(o)
	}
	none := func([][]byte) {}

	t.Run("while one value takes long", func(t *testing.T) {
		seen := &signs{outside: map[int]int{}}
		var held atomic.Bool
		done := make(chan struct{})
		release := sync.OnceFunc(func() { close(done) })
		first := sync.OnceFunc(func() {
			held.Store(true)
			<-done
		})
		o := o
		o.UntilEnd = true
		r, p, a := begin(t, seen, func(args [][]byte) {
			if isWord(args, "APPEND") {
				first()
			}
		}, o, large)
		t.Cleanup(release)
		p.seal()
		redistest.Eventually(t, "a large value half written", held.Load)
		seen.reset()
		redistest.Eventually(t, "the lane and the restorers to show themselves", func() bool { return seen.alive(snapshotConns, false) })
		release()
		if err := a.wait(); err != nil {
			t.Fatal(err)
		}
		r.want("at the end", map[string]string{"0 STRLEN large": "60"})
	})

	t.Run("while a large value waits for the pace", func(t *testing.T) {
		seen := &signs{outside: map[int]int{}}
		o := o
		o.UntilEnd, o.Pace = true, pace.New(pace.Limits{Bytes: 1}, 0)
		r, p, a := begin(t, seen, none, o, large)
		p.seal()
		redistest.Eventually(t, "all to show themselves", func() bool { return seen.alive(snapshotConns+1, true) })
		o.Pace.Set(pace.Limits{})
		if err := a.wait(); err != nil {
			t.Fatal(err)
		}
		r.want("at the end", map[string]string{"0 STRLEN large": "60"})
	})

	t.Run("of an answer, while a large value waits for the pace", func(t *testing.T) {
		seen := &signs{outside: map[int]int{}}
		o := o
		o.UntilEnd, o.Pace, o.beat = true, pace.New(pace.Limits{Bytes: 1}, 0), time.Hour
		_, p, a := begin(t, seen, none, o, large)
		p.seal()
		a.paced(t, StateRestoring)
		redistest.Eventually(t, "no answer due", func() bool { return a.job.groups[0].silence.since().IsZero() })
		o.Pace.Set(pace.Limits{})
		if err := a.wait(); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("while chunks and batches wait for the pace", func(t *testing.T) {
		seen := &signs{outside: map[int]int{}}
		o := o
		o.Pace = pace.New(pace.Limits{Bytes: 1}, 0)
		r, p, a := begin(t, seen, none, o, entries...)
		redistest.Eventually(t, "all to show themselves", func() bool { return seen.alive(snapshotConns, true) })
		o.Pace.Set(pace.Limits{})
		p.write("INCR n")
		redistest.Eventually(t, "the stream", func() bool { return r.target.Do(t, "GET", "n").String() == "1" })
		o.Pace.Set(pace.Limits{Bytes: 1})
		before := o.Pace.State().Waits
		p.write("INCR n").write("INCR n")
		redistest.Eventually(t, "a wait", func() bool {
			p.write("INCR n")
			return o.Pace.State().Waits > before
		})
		seen.reset()
		redistest.Eventually(t, "the lane to show itself", func() bool { return seen.alive(0, true) })
		o.Pace.Set(pace.Limits{})
		p.write("SET last 1")
		redistest.Eventually(t, "the end of the stream", func() bool { return r.target.Do(t, "GET", "last").String() == "1" })
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
		r.want("at the end", map[string]string{"0 GET k49": "v"})
	})
}

// TestAnAnswerHasItsOwnTime: the deadline of the answer before may have passed since.
func TestAnAnswerHasItsOwnTime(t *testing.T) {
	r := bareRig(t, 1)
	conn, err := resp.Dial(t.Context(), r.target.Addr, r.target.Secret)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := (control{conn, time.Hour}).Do(t.Context(), "PING"); err != nil {
		t.Error(err)
	}
}
