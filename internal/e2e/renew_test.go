package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"tairlift/internal/held"
	"tairlift/internal/redistest"
)

// Keys that live for two seconds and are renewed every second are all there,
// however late apply began, and end when the source's do.
func TestShortLivedKeysSurviveALateApply(t *testing.T) {
	t.Parallel()
	source, target := redistest.Source(t, backlog), redistest.Target(t)
	const each = 20
	var keys []string
	for i := range each {
		for _, kind := range []string{"setex", "expire", "incr", "list"} {
			keys = append(keys, kind+strconv.Itoa(i))
		}
	}
	renew := func(seconds string) {
		for i := range each {
			n := strconv.Itoa(i)
			source.Do(t, "SETEX", "setex"+n, seconds, "v"+n)
			source.Do(t, "SET", "expire"+n, "v", "NX")
			source.Do(t, "EXPIRE", "expire"+n, seconds)
			source.Do(t, "INCR", "incr"+n)
			source.Do(t, "EXPIRE", "incr"+n, seconds)
			source.Do(t, "RPUSH", "list"+n, "a")
			source.Do(t, "EXPIRE", "list"+n, seconds)
		}
	}
	renew("2")
	dir := filepath.Join(t.TempDir(), "job")
	capture := start(t, "capture", "--dir", dir, "--group", "1="+source.Addr)
	capture.untilStatus("the full sync to be captured", dir, func(s status) bool {
		return len(s.Groups) == 1 && s.Groups[0].Captured != nil
	})
	stop := make(chan struct{})
	var writer sync.WaitGroup
	rounds := make(chan struct{})
	writer.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			renew("2")
			if n == 10 {
				close(rounds)
			}
		}
	})
	rest := sync.OnceFunc(func() { close(stop); writer.Wait() })
	defer rest()
	<-rounds
	apply := start(t, "apply", "--dir", dir, "--target", target.Addr)
	apply.untilStatus("exact deadlines", dir, func(s status) bool { return s.CaughtUp })
	rest()
	renew("1000")
	end, err := strconv.ParseInt(source.Info(t, "replication")["master_repl_offset"], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	apply.applied(dir, []int64{end})
	apply.untilStatus("exact deadlines in the end", dir, func(s status) bool { return s.CaughtUp })
	sameKeys(t, source, target, keys)
	apply.interrupt()
	capture.interrupt()
	run(t, exitOK, "verify", "--dir", dir, "--level", "full", "--group", "1="+source.Addr, "--target", target.Addr)
}

// Keys that are given a time to live while the RDB waits on a slow link end when
// the source's do.
func TestDeadlinesThatWaitForASlowRDB(t *testing.T) {
	t.Parallel()
	source, target := redistest.Source(t, backlog), redistest.Target(t)
	random := rand.NewChaCha8([32]byte{1})
	value := make([]byte, 20<<10)
	var keys []string
	for i := range 60 { // 1.2 MB that nothing compresses
		_, _ = random.Read(value)
		k := "k" + strconv.Itoa(i)
		source.Do(t, "SET", k, string(value))
		keys = append(keys, k)
	}
	slow := throttled(t, source.Addr, 200<<10)
	dir := filepath.Join(t.TempDir(), "job")
	p := start(t, "sync", "--dir", dir, "--group", "1="+slow, "--target", target.Addr, "--until", "caught-up")
	source.Wait(t, "the RDB on its way", func() bool { return source.Info(t, "replication")["connected_slaves"] == "1" })
	for i, k := range keys {
		switch i % 4 {
		case 0:
			source.Do(t, "EXPIRE", k, strconv.Itoa(100+i))
		case 1:
			source.Do(t, "PEXPIRE", k, strconv.Itoa(100_000+i))
		case 2:
			source.Do(t, "SETEX", k, strconv.Itoa(100+i), "v")
		}
	}
	p.wait(exitOK)
	sameKeys(t, source, target, keys)
	if s := statusOf(t, dir); !s.CaughtUp {
		t.Errorf("status: got %+v, want it caught up", s)
	}
}

// sameKeys compares values and deadlines.
func sameKeys(t *testing.T, source, target *redistest.Server, keys []string) {
	t.Helper()
	want, got := deadlines(t, source, keys), deadlines(t, target, keys)
	for _, k := range keys {
		off := time.Duration(held.Off(got[k], want[k])) * time.Millisecond
		if (got[k] <= 0 || want[k] <= 0) && got[k] != want[k] || off.Abs() > tolerance {
			t.Errorf("deadline of %q: got %d, want %d (0: none, -1: no such key), %s off", k, got[k], want[k], off)
		}
		ask := []string{"GET", k}
		if source.Do(t, "TYPE", k).String() == "list" {
			ask = []string{"LRANGE", k, "0", "-1"}
		}
		if g, w := fmt.Sprint(target.Do(t, ask...)), fmt.Sprint(source.Do(t, ask...)); g != w {
			t.Errorf("%v: got %.60s, want %.60s", ask, g, w)
		}
	}
}

// throttled relays connections to addr, so many bytes a second of each from there.
func throttled(t *testing.T, addr string, perSecond int) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	t.Cleanup(func() { close(done); l.Close(); wg.Wait() })
	relay := func(in net.Conn) {
		defer in.Close()
		out, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		defer out.Close()
		wg.Go(func() { <-done; in.Close(); out.Close() })
		wg.Go(func() { _, _ = io.Copy(out, in); out.Close() })
		const parts = 20 // of a second
		tick := time.NewTicker(time.Second / parts)
		defer tick.Stop()
		for range tick.C {
			if _, err := io.CopyN(in, out, int64(perSecond/parts)); err != nil {
				return
			}
		}
	}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { relay(c) })
		}
	})
	return l.Addr().String()
}
