package apply

import (
	"errors"
	"sync"
	"testing"

	"tairlift/internal/redistest"
)

// TestAClaimThatSleepsIsNoClaim lets the whole job be done by another process, and
// ended, between a claim's look at the empty target and its marks.
func TestAClaimThatSleepsIsNoClaim(t *testing.T) {
	r := bareRig(t, 1)
	r.craft(1, 1, "k old").write("INCR n").seal()
	var (
		once  sync.Once
		other error
	)
	proxy := redistest.NewProxy(t, r.target.Addr, func(conn, _ int, args [][]byte) redistest.Action {
		if conn == 1 && isWord(args, "MULTI") {
			once.Do(func() {
				for _, cmd := range [][]string{
					{"SET", markKey(r.job, 1), "a mark"},
					{"SET", "k", "live"},
					{"DEL", markKey(r.job, 1)},
				} {
					if _, err := r.target.DoErr(cmd...); err != nil {
						other = err
					}
				}
			})
		}
		return redistest.Pass()
	})
	err := r.start(Options{Addr: proxy.Addr, UntilEnd: true}).wait()
	if other != nil {
		t.Fatal(other)
	}
	var refused *RefusedError
	if !errors.As(err, &refused) {
		t.Errorf("run: got %v, want the target refused, as it is not empty", err)
	}
	r.want("of the other process", map[string]string{"0 GET k": "live", "0 EXISTS n": "0", "0 EXISTS " + markKey(r.job, 1): "0"})
}

// TestTwoJobsThatClaimOneTargetAtOnce both find it empty; one of them gets it.
func TestTwoJobsThatClaimOneTargetAtOnce(t *testing.T) {
	r := bareRig(t, 1)
	r.craft(1, 1, "k v").seal()
	var (
		once  sync.Once
		other error
	)
	proxy := redistest.NewProxy(t, r.target.Addr, func(conn, _ int, args [][]byte) redistest.Action {
		if conn == 1 && isWord(args, "MULTI") {
			once.Do(func() { _, other = r.target.DoErr("SADD", jobsKey, "another") })
		}
		return redistest.Pass()
	})
	err := r.start(Options{Addr: proxy.Addr, UntilEnd: true}).wait()
	if other != nil {
		t.Fatal(other)
	}
	var refused *RefusedError
	if !errors.As(err, &refused) {
		t.Errorf("run: got %v, want it refused for the marks of another job", err)
	}
	r.want("one job", map[string]string{"0 EXISTS k": "0", "0 SCARD " + jobsKey: "1"})
}
