package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/internal/held"
	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

// bigSize is how many MiB a big value has, and bigElement how many bytes one of
// its elements: BIG_VALUES=1024 makes it 1 GiB, of 5 million elements.
func bigSize(t *testing.T) (mib, element int) {
	text := os.Getenv("BIG_VALUES")
	if text == "" {
		return 64, 1000
	}
	mib, err := strconv.Atoi(text)
	if err != nil || mib < 64 {
		t.Fatalf("BIG_VALUES is %q, expected a number of MiB, from 64 on", text)
	}
	return mib, 200
}

// bigBound is what the process may take whatever the value.
const bigBound = 256 << 20

// A value of any kind and size comes over whole, though the process is killed in
// the middle of it: who reads its key sees it whole or not at all, and the
// process holds a small part of it at any time.
func TestBigValues(t *testing.T) {
	mib, element := bigSize(t)
	for _, kind := range []struct {
		name  string
		since int // the first version that has it
		add   func(i int, e string) []string
	}{
		{"list", 2, func(_ int, e string) []string { return []string{"RPUSH", "big", e} }},
		{"hash", 2, func(i int, e string) []string { return []string{"HSET", "big", "f" + strconv.Itoa(i), e} }},
		{"set", 2, func(_ int, e string) []string { return []string{"SADD", "big", e} }},
		{"zset", 2, func(i int, e string) []string { return []string{"ZADD", "big", strconv.Itoa(i*7919%10007) + ".25", e} }},
		{"stream", 5, func(i int, e string) []string { return []string{"XADD", "big", strconv.Itoa(i+1) + "-0", "f", e} }},
		{"string", 2, nil},
	} {
		t.Run(kind.name, func(t *testing.T) {
			r := newRig(t, 1)
			s := r.sources[0]
			for _, server := range []*redistest.Server{s, r.target} {
				if major, _ := server.Version(); major < kind.since {
					t.Skipf("version %d has no %s", major, kind.name)
				}
			}
			r.fill(100)
			if kind.add == nil {
				fillString(t, s, min(mib, 512))
			} else {
				fillBig(t, s, mib<<20/element, element, kind.add)
			}
			s.Do(t, "PEXPIREAT", "big", "1900000000000")
			want := bigLength(t, s)
			b := &bigMigration{r: r, kind: kind.name, want: want}
			b.run()
			if got, want := digest(t, r.target, "big"), digest(t, s, "big"); got != want {
				t.Errorf("digest of the value: got %s, want %s", got, want)
			}
			if got, want := r.target.Do(t, "PTTL", "big").Int, s.Do(t, "PTTL", "big").Int; got <= 0 || held.Off(got, want) > 2000 || held.Off(got, want) < -2000 {
				t.Errorf("time to live: got %d ms, want %d", got, want)
			}
		})
	}
}

// bigMigration is one that is killed once in the middle of a big value.
type bigMigration struct {
	r    *rig
	kind string
	want int64 // elements, or bytes of a string
	peak int64
}

// killAt is the command of a value at which the process is killed: in the middle
// of the first half of 64 MiB.
const killAt = 40

func (b *bigMigration) run() {
	r, t := b.r, b.r.t
	t.Helper()
	var seen, late atomic.Int64
	reached, killed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if len(args) < 2 || !strings.HasPrefix(string(args[1]), "tairlift:tmp:") {
			return redistest.Pass()
		}
		size := 0
		for _, a := range args {
			size += len(a)
		}
		if size > 4<<20 {
			late.Store(int64(size))
		}
		if string(args[0]) != "EXISTS" && seen.Add(1) == killAt {
			once.Do(func() { close(reached) })
			<-killed
			return redistest.Close()
		}
		return redistest.Pass()
	})
	args := append(append([]string{"sync", "--dir", r.dir}, r.groups()...), "--target", proxy.Addr)
	stop := b.read()

	p := start(t, args...)
	b.await("the middle of the value", p, func() bool {
		select {
		case <-reached:
			return true
		default:
			return false
		}
	})
	b.look(p)
	p.kill()
	close(killed)
	if n := r.target.Do(t, "EXISTS", "big").Int; n != 0 {
		t.Error("the key is there in the middle of its value, want it aside")
	}

	p = start(t, args...)
	b.await("the end of the full sync", p, func() bool {
		b.look(p)
		return bigLength(t, r.target) == b.want && len(r.target.Do(t, "KEYS", "tairlift:tmp:*").Elems) == 0
	})
	r.sources[0].Do(t, "SET", "behind", "v")
	b.await("what was written behind it", p, func() bool { b.look(p); return r.target.Do(t, "EXISTS", "behind").Int == 1 })
	stop()
	p.settled(r.dir, r.offsets())
	p.interrupt()
	if n := late.Load(); n > 0 {
		t.Errorf("the largest command: got %d bytes, want a few MiB at most", n)
	}
	t.Logf("%s of %d: peak of resident memory %d MiB", b.kind, b.want, b.peak>>20)
	if b.peak > bigBound {
		t.Errorf("peak of resident memory: got %d MiB, want %d at most", b.peak>>20, bigBound>>20)
	}
}

// await is process.until with a patience that fits a big value.
func (b *bigMigration) await(what string, p *process, cond func() bool) {
	b.r.t.Helper()
	for end := time.Now().Add(20 * time.Minute); !cond(); time.Sleep(time.Millisecond) {
		p.alive()
		if time.Now().After(end) {
			b.r.t.Fatalf("%s: not within 20 minutes", what)
		}
	}
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// look reads what the process has taken at most, where the system tells.
func (b *bigMigration) look(p *process) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if m := highWater.FindSubmatch(text); m != nil {
		kb, _ := strconv.ParseInt(string(m[1]), 10, 64)
		b.peak = max(b.peak, kb<<10)
	}
}

// read polls the key, as a client would, until stop.
func (b *bigMigration) read() (stop func()) {
	t := b.r.t
	conn := b.r.target.Dial(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- func() error {
			for ctx.Err() == nil {
				n, err := bigLengthOf(ctx, conn)
				if err == nil && n != 0 && n != b.want {
					return fmt.Errorf("a reader saw %d elements, want none or %d", n, b.want)
				}
			}
			return nil
		}()
	}()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		conn.Close()
	}
}

const lengthScript = `
local size = {string = 'STRLEN', list = 'LLEN', set = 'SCARD', zset = 'ZCARD', hash = 'HLEN', stream = 'XLEN', none = 'EXISTS'}
return redis.call(size[redis.call('TYPE', KEYS[1]).ok], KEYS[1])`

func bigLengthOf(ctx context.Context, c *resp.Conn) (int64, error) {
	r, err := c.Do(ctx, "EVAL", lengthScript, "1", "big")
	return r.Int, err
}

func bigLength(t *testing.T, s *redistest.Server) int64 {
	t.Helper()
	return s.Do(t, "EVAL", lengthScript, "1", "big").Int
}

// digest is a server's own, of one value.
func digest(t *testing.T, s *redistest.Server, key string) string {
	t.Helper()
	conn := s.Dial(t)
	defer conn.Close()
	r, err := conn.Do(t.Context(), "DEBUG", "DIGEST-VALUE", key)
	if err != nil {
		t.Fatalf("digest of %s: %v", key, err)
	}
	return r.String()
}

// noise is text that does not compress.
func noise(r *rand.ChaCha8, n int) string {
	b := make([]byte, n)
	_, _ = r.Read(b) // it never fails
	return string(b)
}

// fillBig gives the key its elements.
func fillBig(t *testing.T, s *redistest.Server, n, size int, add func(i int, e string) []string) {
	t.Helper()
	c := s.Dial(t)
	defer c.Close()
	seed := rand.NewChaCha8([32]byte{1})
	due := 0
	read := func() {
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		for ; due > 0; due-- {
			if _, err := c.SkipReply(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range n {
		if err := c.WriteCommand(add(i, noise(seed, size))...); err != nil {
			t.Fatal(err)
		}
		if due++; due == 1000 {
			read()
		}
	}
	read()
}

func fillString(t *testing.T, s *redistest.Server, mib int) {
	t.Helper()
	seed := rand.NewChaCha8([32]byte{2})
	s.Do(t, "SETRANGE", "big", strconv.Itoa(mib<<20-1), "x")
	for i := range mib {
		s.Do(t, "SETRANGE", "big", strconv.Itoa(i<<20), noise(seed, 1<<20))
	}
}
