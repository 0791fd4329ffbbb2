package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"tairlift/internal/redistest"
)

// rounds begin from different amounts of data: without any, the stream phase
// begins at once; with the most, each phase before it takes a second.
var rounds = []struct {
	keys  int // in each of the four databases
	kills int
}{
	{0, 7},
	{5_000, 10},
	{30_000, 13},
}

// part is one of the processes of a migration.
type part struct {
	args  []string
	needs func() bool // what must be there before it can be started
	p     *process
}

func TestKillLoop(t *testing.T) {
	killLoop(t, func(r *rig) ([]*part, func()) {
		return []*part{{args: r.syncArgs()}}, func() {
			run(r.t, exitOK, r.syncArgs("--until", "caught-up")...)
		}
	})
}

func TestKillLoopTwo(t *testing.T) {
	killLoop(t, func(r *rig) ([]*part, func()) {
		spooled := func() bool {
			segments, err := filepath.Glob(filepath.Join(r.dir, "spool", "group-*", "epoch-*", "*.seg"))
			return err == nil && len(segments) >= len(r.sources)
		}
		parts := []*part{{args: r.captureArgs()}, {args: r.applyArgs(r.dir), needs: spooled}}
		return parts, func() {
			for _, part := range parts {
				if part.p != nil {
					part.p.interrupt()
				}
			}
			run(r.t, exitOK, r.captureArgs("--until", "caught-up")...)
			run(r.t, exitOK, r.applyArgs(r.dir, "--until", "end")...)
		}
	})
}

// killLoop kills the parts of a migration at random moments, starting each with
// the same command again, and asserts that every total is exact.
func killLoop(t *testing.T, setup func(*rig) (parts []*part, finish func())) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("E2E_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("E2E_SEED: %v", err)
		}
	}
	t.Logf("E2E_SEED=%d repeats this run", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	kills, inRDB := 0, 0
	for _, round := range rounds {
		if testing.Short() {
			round.kills = 4
		}
		t.Run(fmt.Sprintf("%d keys", round.keys), func(t *testing.T) {
			r := newRig(t, 2)
			r.fill(round.keys)
			filled := 4 * round.keys
			r.write()
			parts, finish := setup(r)
			for i := range round.kills {
				begin(r, parts)
				what, due := moment(r, rng, i, filled)
				redistest.Eventually(t, what, func() bool {
					for _, part := range parts {
						part.p.alive()
					}
					return due()
				})
				victims := killSome(rng, parts)
				kills++
				n := keys(t, r.target)
				if marks <= n && n < filled {
					inRDB++
				}
				t.Logf("kill %d of %s: %s; %d keys on the target", i+1, victims, what, n)
			}
			r.exact(finish)
			run(t, exitOK, "spool", "check", "--dir", r.dir)
		})
	}
	if t.Failed() || testing.Short() {
		return
	}
	if kills < 20 || inRDB == 0 {
		t.Errorf("kills: got %d, of which %d while an RDB was being applied; want at least 20 and 1", kills, inRDB)
	}
}

// marks is more than the number of the program's own keys on the target.
const marks = 10

// begin starts what does not run.
func begin(r *rig, parts []*part) {
	for _, part := range parts {
		if part.p != nil {
			continue
		}
		if part.needs != nil {
			redistest.Eventually(r.t, "what is needed by `tairlift "+part.args[0]+"`", part.needs)
		}
		part.p = start(r.t, part.args...)
	}
}

// killSome kills one part, or all of them at once.
func killSome(rng *rand.Rand, parts []*part) (victims string) {
	only := rng.IntN(len(parts) + 1)
	for i, part := range parts {
		if only == i || only == len(parts) {
			part.p.kill()
			part.p = nil
			victims += " " + part.args[0]
		}
	}
	return victims[1:]
}

// moment is when kill number i of a round is due: the first one while the full
// sync arrives, two while it is applied, the others right after a start or some
// way into the stream.
func moment(r *rig, rng *rand.Rand, i, filled int) (what string, due func() bool) {
	switch {
	case i == 0:
		n := rng.Int64N(int64(4096 + 6*filled))
		return fmt.Sprintf("%d bytes in the spool", n), func() bool { return r.spooled() >= n }
	case i <= 2 && filled > 0:
		// The second one in what the first one left.
		n := marks + (filled-marks)*(i-1)/2 + rng.IntN(filled*2/5)
		return fmt.Sprintf("%d of %d keys on the target", n, filled), func() bool { return keys(r.t, r.target) >= n }
	case rng.IntN(3) == 0:
		d := time.Duration(rng.IntN(150)) * time.Millisecond
		begun := time.Now()
		return fmt.Sprintf("%s after the start", d), func() bool { return time.Since(begun) >= d }
	}
	w := r.writers[rng.IntN(len(r.writers))]
	n := 1 + rng.Int64N(300)
	from := r.counted(w)
	return fmt.Sprintf("%d more bursts of group %d in DB%d on the target", n, w.Group, w.DB), func() bool { return r.counted(w) >= from+n }
}
