package e2e

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/redistest"
)

// Keys that the source renews in the last moment of their life, by commands that
// silently begin a new one where there is none, live on behind a target that is as
// late as that: nothing of them is lost, also when the process is stopped meanwhile,
// and sees the commands when it is too late.
func TestKeysThatAreRenewedInTheLastMoment(t *testing.T) {
	t.Run("a late link", func(t *testing.T) { renewedInTheLastMoment(t, 4, 0) })
	t.Run("a process that stalls", func(t *testing.T) { renewedInTheLastMoment(t, 1, 800*time.Millisecond) })
}

func renewedInTheLastMoment(t *testing.T, rounds int, stall time.Duration) {
	t.Parallel()
	source, target := redistest.Source(t, backlog), redistest.Target(t)
	const (
		lag  = 250 * time.Millisecond
		last = 150 * time.Millisecond
	)
	link := redistest.NewProxy(t, target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if strings.EqualFold(string(args[0]), "EXEC") {
			time.Sleep(lag) // of the link
		}
		return redistest.Pass()
	})
	r := &rig{t: t, dir: t.TempDir() + "/job", sources: []*redistest.Server{source}, target: target}
	source.Do(t, "SET", "begin", "v", "EX", "1000")
	p := start(t, append([]string{"sync", "--dir", r.dir, "--target", link.Addr}, r.groups()...)...)
	conn := source.Dial(t)
	renew := func(n int, ttl string) (alive bool) {
		text := strconv.Itoa(n)
		cmds := [][]string{{"MULTI"}} // they are one batch, which no other one holds up
		for _, args := range [][]string{
			{"INCR", "counter"}, {"APPEND", "text", text}, {"RPUSH", "list", text}, {"HSET", "hash", text, "v"}, {"SADD", "set", text}, {"ZADD", "zset", text, text},
		} {
			cmds = append(cmds, args, []string{"PEXPIRE", args[1], ttl})
		}
		for _, args := range append(cmds, []string{"EXEC"}) {
			reply, err := conn.Do(t.Context(), args...)
			if err != nil {
				t.Fatalf("%q: %v", args, err)
			}
			if len(reply.Elems) > 0 {
				alive = reply.Elems[0].Int > 1
			}
		}
		return alive
	}
	n := 1
	renew(n, "600")
	p.settled(r.dir, r.offsets())
	for renewed := 0; renewed < rounds; n++ {
		source.Wait(t, "the last moment of the counter", func() bool {
			return source.Do(t, "PTTL", "counter").Int <= last.Milliseconds() // or it is gone, and begins anew on both
		})
		if stall > 0 {
			p.signal(syscall.SIGSTOP)
		}
		if renew(n, strconv.FormatInt((600*time.Millisecond+5*stall).Milliseconds(), 10)) {
			renewed++
		}
		if stall > 0 {
			time.Sleep(stall)
			p.signal(syscall.SIGCONT)
		}
		p.alive()
	}
	renew(n, "1000000")
	p.untilStatus("the end, without doubts", r.dir, func(s status) bool {
		return reached(s, r.offsets(), func(g groupStatus) *int64 { return g.Applied }) && *s.Groups[0].Doubtful == 0
	})
	want, got := keyspaces(t, source, target)
	if diff := cmp.Diff(want, got, within(tolerance)); diff != "" {
		t.Errorf("keyspace (-source +target):\n%s", diff)
	}
	p.interrupt()
}
