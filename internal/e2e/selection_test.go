package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"tairlift/internal/redistest"
)

// A part of two sources, with databases that change places, is exact after kills,
// while every kind of command mixes what is selected with what is not. The names
// of keys tell their types, and begin with an o where they are left out.
func TestAPartOfTheSourcesSurvivesKills(t *testing.T) {
	r := newRig(t, 2)
	r.fill(500)
	r.write()
	stop := mix(t, r.sources)
	args := r.syncArgs("--db", "0,1,3", "--db-map", "1:5,3:1", "--exclude-prefix", "k:1:", "--exclude-regex", "^o")
	const kills = 4
	for i := range kills {
		beat := fmt.Sprint(i)
		r.sources[0].DoIn(t, 1, "SET", "s:beat", beat)
		p := start(t, args...)
		p.until(fmt.Sprintf("kill %d", i+1), func() bool {
			if i == 0 { // within the RDBs, or soon behind them
				return r.target.DoIn(t, 5, "DBSIZE").Int > 0
			}
			return r.target.DoIn(t, 5, "GET", "s:beat").String() == beat
		})
		p.kill()
	}
	stop()
	r.rest()
	run(t, exitOK, r.syncArgs("--until", "caught-up")...)
	r.identical()
	var st struct {
		Taints []string `json:"taints"`
	}
	p := start(t, "status", "--dir", r.dir, "--json")
	p.wait(exitOK)
	p.lastLine(&st)
	if len(st.Taints) > 0 {
		t.Errorf("status: got taints %q, want none", st.Taints)
	}
	for db, want := range map[int]bool{0: true, 1: true, 2: false, 3: false, 4: false, 5: true} {
		if n := r.target.DoIn(t, db, "DBSIZE").Int; n > 0 != want {
			t.Errorf("database %d of the target: got %d keys, want some: %v", db, n, want)
		}
		for _, pattern := range []string{"k:1:*", "o*"} {
			if got := r.target.DoIn(t, db, "KEYS", pattern).Strings(); len(got) > 0 {
				t.Errorf("database %d of the target has %d keys %s, want none", db, len(got), pattern)
			}
		}
	}
	r.target.DoIn(t, 5, "SET", "s:changed", "x")
	p = start(t, "verify", "--dir", r.dir, "--level", "keys")
	p.wait(exitFailed)
	if !strings.Contains(p.out.String(), "db1 s:changed") {
		t.Errorf("verify: got %s, want the key by the source's database, 1", p.out.String())
	}
}

// mix writes commands that name several keys, until it is stopped.
func mix(t *testing.T, sources []*redistest.Server) (stop func()) {
	end := make(chan struct{})
	var wg sync.WaitGroup
	for g, s := range sources {
		c := s.Dial(t)
		rng := rand.New(rand.NewPCG(uint64(g), 7))
		key := func(typ string) string {
			if rng.IntN(2) == 0 {
				typ = "o" + typ
			}
			return fmt.Sprintf("%s:%d:%d", typ, g, rng.IntN(4))
		}
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-end:
					return
				default:
				}
				var args []string
				switch n := fmt.Sprint(i); rng.IntN(20) {
				case 0:
					args = []string{"SELECT", fmt.Sprint(rng.IntN(4))}
				case 1:
					args = []string{"MSET", key("v"), n, key("v"), n, key("v"), n}
				case 2:
					args = []string{"RENAME", key("v"), key("v")}
				case 3:
					args = []string{"DEL", key("v"), key("l"), key("s"), key("z")}
				case 4, 5:
					args = []string{"SADD", key("s"), n, fmt.Sprint(rng.IntN(9))}
				case 6:
					args = []string{"SUNIONSTORE", key("s"), key("s"), key("s")}
				case 7:
					args = []string{"SMOVE", key("s"), key("s"), fmt.Sprint(rng.IntN(9))}
				case 8, 9:
					args = []string{"RPUSH", key("l"), n}
				case 10:
					args = []string{"RPOPLPUSH", key("l"), key("l")}
				case 11:
					args = []string{"SORT", key("l"), "STORE", key("l")}
				case 12:
					args = []string{"MOVE", key("v"), fmt.Sprint(rng.IntN(4))}
				case 13:
					args = []string{"ZADD", key("z"), n, "m" + fmt.Sprint(rng.IntN(9))}
				case 14:
					args = []string{"ZUNIONSTORE", key("z"), "2", key("z"), key("z")}
				case 15:
					args = []string{"EVAL", "return redis.call('RPOPLPUSH', KEYS[1], KEYS[2])", "2", key("l"), key("l")}
				case 16:
					args = []string{"EVAL", "redis.call('INCR', KEYS[1]) return redis.call('APPEND', KEYS[2], 1)", "2", key("v"), key("v")}
				case 17:
					args = []string{"RENAME", key("l"), key("l")}
				case 18:
					args = []string{"SET", key("v"), n}
				case 19:
					args = []string{"PEXPIRE", key("s"), "5000000"}
				}
				// A MOVE of nothing, a RENAME of no key, an INCR of what is too long: no matter.
				if _, err := c.Do(t.Context(), args...); err != nil && t.Context().Err() != nil {
					return
				}
			}
		})
	}
	return sync.OnceFunc(func() { close(end); wg.Wait() })
}
