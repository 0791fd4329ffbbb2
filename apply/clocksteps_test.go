package apply

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/internal/command"
	"tairlift/internal/redistest"
	"tairlift/internal/redistest/cmdtest"
	"tairlift/internal/resp"
)

// The clock of apply's machine is set back and forth, on odd seeds that of capture's
// with it, while the source gets random commands with times to live of a second and of
// hours, and the lane breaks, hangs and loses answers. When the clock is right again
// and the group has caught up, the target is what a replica of the source is:
// what differed meanwhile was called doubtful, and is copied again.
// STEPS_SEED repeats one run, STEPS_RUNS says how many there are from that seed on.
func TestClockSteps(t *testing.T) {
	seed, runs := redistest.EnvInt(t, "STEPS_SEED", 1), redistest.EnvInt(t, "STEPS_RUNS", 3)
	for n := range runs {
		t.Run(fmt.Sprintf("seed %d", seed+n), func(t *testing.T) {
			t.Parallel()
			t.Logf("STEPS_SEED=%d STEPS_RUNS=1 repeats it", seed+n)
			s := newStepping(t, uint64(seed+n))
			for range 6 {
				s.round()
			}
			s.compare()
		})
	}
}

// stepping is one run.
type stepping struct {
	*rig
	rand    *rand.Rand
	fill    *cmdtest.Filler
	conn    *resp.Conn // to the source
	replica *redistest.Server
	proxy   *redistest.Proxy // before the target
	clock   *lagging
	rows    []string
	alike   bool
	a       *applying
	down    bool
}

const steppingDBs = 2

func newStepping(t *testing.T, seed uint64) *stepping {
	t.Helper()
	s := &stepping{rig: newRig(t, 1), rand: rand.New(rand.NewPCG(seed, 3)), fill: cmdtest.NewFiller(seed, "k:"), clock: &lagging{}}
	source := s.sources[0]
	s.replica = redistest.Source(t)
	s.replica.ReplicaOf(t, source)
	s.proxy = redistest.NewProxy(t, s.target.Addr, nil)
	s.conn = source.Dial(t)
	s.fill.Short = true
	s.fill.Elsewhere(t)
	from, to := source.VersionNumber(), s.target.VersionNumber()
	s.alike = (from < 700) == (to < 700)
	command.All(func(row *command.Spec) {
		switch row.Class {
		case command.Flush, command.Slots, command.Unsupported:
			return
		}
		if strings.HasPrefix(row.Name, "RESTORE") && rdbOf(from) > rdbOf(to) {
			return
		}
		s.rows = append(s.rows, row.Name)
	})
	slices.Sort(s.rows)
	s.wall = &lagging{}
	// What an older source calls a second from now begins when capture received it: by a
	// clock that was set since its last sample of the source's, up to a second before.
	if seed%2 == 1 && from >= 700 {
		s.wall = s.clock
	}
	s.populate()
	s.capture()
	s.begin()
	return s
}

func (s *stepping) begin() {
	s.a = s.start(Options{Addr: s.proxy.Addr, Wall: s.clock.now, Sources: s.sourcesOf(), OnReject: RejectContinue, behindAge: behindAge, lateAge: lateAge})
}

// do gives the source commands, each of which it may refuse.
func (s *stepping) do(cmds ...[]string) {
	s.t.Helper()
	caps := s.caps()
	for _, args := range cmds {
		var words [][]byte
		for _, a := range args {
			words = append(words, []byte(a))
		}
		var old *command.TargetError
		if _, _, _, err := command.Lookup(words[0]).AppendRewrite(nil, nil, words, 1, caps); errors.As(err, &old) {
			return // the target has no equal
		}
	}
	for _, args := range cmds {
		_, err := s.conn.Do(s.t.Context(), args...)
		var se resp.ServerError
		if err != nil && !errors.As(err, &se) {
			s.t.Fatalf("%q: %v", args, err)
		}
	}
}

func (s *stepping) caps() command.Caps {
	v := s.target.VersionNumber()
	return target{major: v / 100, minor: v % 100}.caps()
}

func (s *stepping) populate() {
	for db := range steppingDBs {
		s.do([]string{"SELECT", strconv.Itoa(db)})
		for _, args := range s.fill.Populate() {
			s.do(args)
		}
	}
}

// round sets the clock or not, makes trouble or not, and then commands flow.
func (s *stepping) round() {
	switch s.rand.IntN(4) {
	case 0:
		s.clock.set(0)
	case 1:
		s.clock.set(-time.Duration(s.rand.IntN(10_000)) * time.Millisecond)
	case 2:
		s.clock.set(time.Duration(s.rand.IntN(600_000)) * time.Millisecond)
	}
	if s.down {
		s.proxy.Up(s.t)
		s.down = false
	}
	s.proxy.Release()
	s.proxy.SetHook(nil)
	stuck := true // the lane, until it is let go
	ends := s.rand.IntN(4) == 0
	switch s.rand.IntN(8) {
	case 0:
		stuck = false
		s.proxy.CloseAll()
	case 1:
		s.proxy.Down()
		s.down = true
	case 2, 3:
		acts := []redistest.Action{redistest.Hang(), redistest.HangReplies(), redistest.DropReply()}
		s.proxy.SetHook(firstExec(acts[s.rand.IntN(len(acts))]))
	case 4, 5:
		stuck = false
		s.lateSession()
	case 6:
		stuck = false
		s.clock.set(0) // a process that has seen nothing yet cannot tell that it is wrong
		if err := s.a.stop(); err != nil {
			s.t.Fatal(err)
		}
		s.begin()
	default:
		stuck = false
	}
	for range 100 {
		s.command()
	}
	switch {
	case ends: // wherever apply is
		cmdtest.ShortOnesEnd(s.t, s.sources[0], steppingDBs)
		s.populate()
	case !stuck && s.rand.IntN(3) == 0:
		s.caughtUp(s.a)
	}
}

// lateSession is one that begins with a clock by which it is not late. A key that the
// source has renewed is gone from the target by then. The process has seen before what
// the right time is.
func (s *stepping) lateSession() {
	s.clock.set(0)
	s.caughtUp(s.a)
	s.exact(s.a, 1)
	s.do([]string{"SELECT", "0"}, []string{"SET", "k:late", "5"}, []string{"PEXPIRE", "k:late", "700"})
	s.caughtUp(s.a)
	s.clock.set(-time.Duration(3000+s.rand.IntN(7000)) * time.Millisecond)
	s.proxy.Down()
	s.do([]string{"INCR", "k:late"}, []string{"EXPIRE", "k:late", "1000"})
	redistest.Eventually(s.t, "the deadline of the key to pass, unless it is held", func() bool {
		ttl := s.target.Do(s.t, "PTTL", "k:late").Int
		return ttl == -2 || ttl > time.Hour.Milliseconds()
	})
	s.proxy.Up(s.t)
	s.caughtUp(s.a)
}

// firstExec does something to the first EXEC from now on.
func firstExec(act redistest.Action) redistest.Hook {
	var seen atomic.Bool
	return func(_, _ int, args [][]byte) redistest.Action {
		if isWord(args, "EXEC") && seen.CompareAndSwap(false, true) {
			return act
		}
		return redistest.Pass()
	}
}

// command is one of a random row, or what renews a key in its last second.
func (s *stepping) command() {
	switch s.rand.IntN(12) {
	case 0:
		s.do([]string{"SELECT", strconv.Itoa(s.rand.IntN(steppingDBs))})
		return
	case 1:
		s.do(s.fill.Fill("PEXPIRE {any} 1000")...)
		return
	case 2:
		s.do(s.fill.Fill("INCR {number} ; EXPIRE {number} 1")...)
		return
	}
	templates := cmdtest.Templates(s.rows[s.rand.IntN(len(s.rows))], s.alike)
	s.do(s.fill.Fill(templates[s.rand.IntN(len(templates))])...)
	s.do([]string{"DISCARD"}) // of a transaction that is left open
}

func (s *stepping) compare() {
	t, source := s.t, s.sources[0]
	t.Helper()
	s.clock.set(0)
	s.proxy.SetHook(nil)
	if s.down {
		s.proxy.Up(t)
	}
	s.proxy.Release()
	cmdtest.ShortOnesEnd(t, source, steppingDBs)
	s.caughtUp(s.a)
	s.exact(s.a, 1)
	s.a.healed(t, 0)
	cmdtest.ShortOnesEnd(t, s.target, steppingDBs)
	redistest.Eventually(t, "the replica to be as far as the source", func() bool {
		return s.replica.Info(t, "replication")["slave_repl_offset"] == source.Info(t, "replication")["master_repl_offset"]
	})
	s.replica.Do(t, "CONFIG", "SET", "slave-read-only", "no")
	idle := min(source.VersionNumber(), s.target.VersionNumber()) >= 700
	want, got := cmdtest.Keyspace(t, s.replica, steppingDBs, idle), cmdtest.Keyspace(t, s.target, steppingDBs, idle)
	for _, line := range cmdtest.Differences(got, want, 2*time.Second, 20) {
		t.Error(line)
	}
	if len(want) < 10 {
		t.Errorf("keys to compare: got %d, want at least 10", len(want))
	}
	st := s.a.job.Status()[0]
	t.Logf("%d keys, %d were doubtful and copied again, %d expired in transit", len(want), st.Healed, st.Expired)
	if err := s.a.stop(); err != nil {
		t.Error(err)
	}
}
