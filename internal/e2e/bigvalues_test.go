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

// bigBound is what a process may take whatever the value, and commandBound what
// one command may have: chunks are of 512 KiB.
const (
	bigBound     = 256 << 20
	commandBound = 1 << 20
)

// A value of any kind and size comes over whole, though the process is killed in
// the middle of it: who reads its key sees it whole or not at all, the process
// holds a small part of it at any time, and no other key is written twice. Verify
// compares it in as little memory.
func TestBigValues(t *testing.T) {
	mib, element := bigSize(t)
	for _, kind := range []struct {
		name  string
		since int // the first version that has it
		add   func(i int, e string) []string
		other []string // makes it another value
	}{
		{"list", 2, func(_ int, e string) []string { return []string{"RPUSH", "big", e} }, []string{"LSET", "big", "40000", "another"}},
		{"hash", 2, func(i int, e string) []string { return []string{"HSET", "big", "f" + strconv.Itoa(i), e} }, []string{"HSET", "big", "f40000", "another"}},
		{"set", 2, func(_ int, e string) []string { return []string{"SADD", "big", e} }, []string{"SADD", "big", "another"}},
		{"zset", 2, func(i int, e string) []string { return []string{"ZADD", "big", strconv.Itoa(i*7919%10007) + ".25", e} }, []string{"ZADD", "big", "1.25", "another"}},
		{"stream", 5, func(i int, e string) []string { return []string{"XADD", "big", strconv.Itoa(i+1) + "-0", "f", e} }, []string{"XADD", "big", "*", "f", "another"}},
		{"string", 2, nil, []string{"SETRANGE", "big", "40000000", "another"}},
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
			b := &bigMigration{r: r, kind: kind.name, bytes: int64(mib) << 20}
			if kind.add == nil {
				b.bytes = min(b.bytes, 512<<20) // the largest that there is
				fillString(t, s, int(b.bytes>>20))
			} else {
				fillBig(t, s, mib<<20/element, element, kind.add)
			}
			s.Do(t, "PEXPIREAT", "big", "1900000000000")
			b.want = bigLength(t, s)
			b.run()
			b.compare()
			if os.Getenv("BIG_VALUES") != "" {
				r.target.Do(t, kind.other...)
				if out := b.verify(exitFailed); !strings.Contains(out, "1 value") || !strings.Contains(out, "big") {
					t.Errorf("verify of another value: got %s, want the key named", out)
				}
			}
			b.tell()
		})
	}
}

// bigMigration is one that is killed once in the middle of a big value.
type bigMigration struct {
	r     *rig
	kind  string
	bytes int64 // of all elements
	want  int64 // elements, or bytes of a string

	peak     int64 // of the memory of sync
	verified int64 // and of verify
	took     time.Duration
	sent     atomic.Int64 // bytes of commands that make the value
	largest  atomic.Int64 // of those
	touched  touches
}

// touches are the keys that each process has written, but for the big one.
type touches struct {
	mu  sync.Mutex
	dbs map[int]string // that connections have selected
	by  []map[string]bool
}

// makesValue are commands that give keys their values.
var makesValue = map[string]bool{"SET": true, "MSET": true, "RESTORE": true, "HSET": true, "HMSET": true, "RPUSH": true, "SADD": true, "ZADD": true}

func (c *touches) see(conn int, args [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch name := strings.ToUpper(string(args[0])); {
	case name == "SELECT":
		c.dbs[conn] = string(args[1])
	case makesValue[name] && len(args) > 1 && strings.HasPrefix(string(args[1]), "k:"):
		for i := 1; i < len(args) && (i == 1 || name == "MSET"); i += 2 {
			c.by[len(c.by)-1][c.dbs[conn]+" "+string(args[i])] = true
		}
	}
}

// next begins another process.
func (c *touches) next() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dbs, c.by = map[int]string{}, append(c.by, map[string]bool{})
}

func (c *touches) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.by[len(c.by)-1])
}

// twice is how many keys more than one process has written.
func (c *touches) twice() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.by[0] {
		if c.by[1][key] {
			n++
		}
	}
	return n
}

func (b *bigMigration) run() {
	r, t := b.r, b.r.t
	t.Helper()
	reached, killed := make(chan struct{}), make(chan struct{})
	reach, release := sync.OnceFunc(func() { close(reached) }), sync.OnceFunc(func() { close(killed) })
	proxy := redistest.NewProxy(t, r.target.Addr, func(conn, _ int, args [][]byte) redistest.Action {
		b.touched.see(conn, args)
		if len(args) < 2 || !strings.HasPrefix(string(args[1]), "tairlift:tmp:") {
			return redistest.Pass()
		}
		size := int64(0)
		for _, a := range args {
			size += int64(len(a))
		}
		for had := b.largest.Load(); size > had && !b.largest.CompareAndSwap(had, size); had = b.largest.Load() {
		}
		select {
		case <-killed:
			return redistest.Pass()
		default:
		}
		if b.sent.Add(size) < b.bytes/2 {
			return redistest.Pass()
		}
		reach()
		<-killed
		return redistest.Close()
	})
	t.Cleanup(release) // before the proxy ends, which waits for what it holds
	args := append(append([]string{"sync", "--dir", r.dir}, r.groups()...), "--target", proxy.Addr)
	stop := b.read()
	begun := time.Now()

	b.touched.next()
	p := start(t, args...)
	b.await("the middle of the value", p, func() bool {
		highWater(p, &b.peak)
		select {
		case <-reached:
			return true
		default:
			return false
		}
	})
	// What was written before it is vouched for by the mark within a second.
	p.untilStatus("the mark to come to the value", r.dir, func(s status) bool {
		n := s.Groups[0].RDB.Keys
		return n != nil && int(*n) == b.touched.count()
	})
	highWater(p, &b.peak)
	p.kill()
	release()
	if n := r.target.Do(t, "EXISTS", "big").Int; n != 0 {
		t.Error("the key is there in the middle of its value, want it aside")
	}

	b.touched.next()
	p = start(t, args...)
	b.await("the end of the full sync", p, func() bool {
		highWater(p, &b.peak)
		return bigLength(t, r.target) == b.want && len(r.target.Do(t, "KEYS", "tairlift:tmp:*").Elems) == 0
	})
	r.sources[0].Do(t, "SET", "behind", "v")
	b.await("what was written behind it", p, func() bool {
		highWater(p, &b.peak)
		return r.target.Do(t, "EXISTS", "behind").Int == 1
	})
	stop()
	b.took = time.Since(begun)
	s := p.settled(r.dir, r.offsets())
	p.interrupt()
	if got := s.Groups[0].Epoch; got != 1 {
		t.Errorf("epoch: got %d, want the value restarted from the spool's first", got)
	}
	if n := b.touched.twice(); n > 0 {
		t.Errorf("other keys that were written again: got %d", n)
	}
	if n := b.largest.Load(); n > commandBound {
		t.Errorf("the largest command: got %d bytes, want %d at most", n, commandBound)
	}
}

// compare compares the value with the source's.
func (b *bigMigration) compare() {
	r, t := b.r, b.r.t
	t.Helper()
	if out := b.verify(exitOK); !strings.Contains(out, "IDENTICAL") {
		t.Errorf("verify: got %s, want identical", out)
	}
	if got, want := r.target.Do(t, "PTTL", "big").Int, r.sources[0].Do(t, "PTTL", "big").Int; got <= 0 || got > want+2000 || got < want-2000 {
		t.Errorf("time to live: got %d ms, want %d", got, want)
	}
	// By what the servers themselves say, where they say it alike.
	major, minor := r.sources[0].Version()
	if other, second := r.target.Version(); major < 5 || major != other || minor != second {
		return
	}
	if got, want := digest(t, r.target, "big"), digest(t, r.sources[0], "big"); got != want {
		t.Errorf("digest of the value: got %s, want %s", got, want)
	}
}

// verify compares all keys, and is what it says.
func (b *bigMigration) verify(want int) string {
	t := b.r.t
	t.Helper()
	p := start(t, "verify", "--dir", b.r.dir, "--target", b.r.target.Addr, "--level", "full")
	for end := time.Now().Add(bigPatience); !p.ended(); time.Sleep(time.Millisecond) {
		highWater(p, &b.verified)
		if time.Now().After(end) {
			t.Fatalf("verify: has not ended within %s", bigPatience)
		}
	}
	p.wait(want)
	return p.out.String()
}

// tell tells the figures and holds them to their bounds.
func (b *bigMigration) tell() {
	b.r.t.Helper()
	b.r.t.Logf("%s of %d MiB, %d elements: over in %s; sync took %d MiB of memory, verify %d; the largest command had %d KiB",
		b.kind, b.bytes>>20, b.want, b.took.Round(time.Second), b.peak>>20, b.verified>>20, b.largest.Load()>>10)
	for what, peak := range map[string]int64{"sync": b.peak, "verify": b.verified} {
		if peak > bigBound {
			b.r.t.Errorf("peak of resident memory of %s: got %d MiB, want %d at most", what, peak>>20, bigBound>>20)
		}
	}
}

// bigPatience bounds each wait for a big value.
const bigPatience = 20 * time.Minute

// await is process.until with a patience that fits a big value.
func (b *bigMigration) await(what string, p *process, cond func() bool) {
	b.r.t.Helper()
	for end := time.Now().Add(bigPatience); !cond(); time.Sleep(time.Millisecond) {
		p.alive()
		if time.Now().After(end) {
			b.r.t.Fatalf("%s: not within %s", what, bigPatience)
		}
	}
}

var highWaterLine = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// highWater raises peak to what the process has taken at most, where the system
// tells.
func highWater(p *process, peak *int64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if m := highWaterLine.FindSubmatch(text); m != nil {
		kb, _ := strconv.ParseInt(string(m[1]), 10, 64)
		*peak = max(*peak, kb<<10)
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
