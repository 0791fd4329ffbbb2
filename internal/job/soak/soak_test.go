package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"tairlift/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The short form of `make soak`, of a seed that has every fault in it. SOAK_SEED and
// SOAK_MINUTES make it another one.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("takes about a minute")
	}
	o := options{seed: 23, keys: 3000, lasts: 42 * time.Second, bin: filepath.Join(t.TempDir(), "tairlift"), out: t.Output()}
	if out, err := exec.Command("go", "build", "-o", o.bin, "tairlift/cmd/tairlift").CombinedOutput(); err != nil {
		t.Fatalf("build the program under test: %v\n%s", err, out)
	}
	if s := os.Getenv("SOAK_SEED"); s != "" {
		var err error
		if o.seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("SOAK_SEED: %v", err)
		}
	}
	if s := os.Getenv("SOAK_MINUTES"); s != "" {
		minutes, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatalf("SOAK_MINUTES: %v", err)
		}
		o.lasts = time.Duration(minutes * float64(time.Minute))
	}
	if code := soakOnce(t.Context(), o, false); code != exact {
		t.Errorf("soak: got exit code %d, want 0", code)
	}
}

func TestRoundsAreTheSeeds(t *testing.T) {
	if diff := cmp.Diff(acts(7, 3, nil), acts(7, 3, nil)); diff != "" {
		t.Errorf("one seed, twice (-first +second):\n%s", diff)
	}
	for _, other := range [][]act{acts(8, 3, nil), acts(7, 4, nil)} {
		if cmp.Equal(acts(7, 3, nil), other) {
			t.Errorf("another seed or round: got the same %v", other)
		}
	}
}

func TestEveryFaultHasItsTurn(t *testing.T) {
	seen := map[fault]bool{}
	for n := range 100 {
		for _, a := range acts(1, n, []fault{killSource}) {
			seen[a.Fault] = true
		}
	}
	for _, f := range faults {
		if seen[f.fault] != (f.fault != killSource) {
			t.Errorf("%s in 100 rounds without %s: got %v", f.fault, killSource, seen[f.fault])
		}
	}
}

func TestCommandsAreTheSeeds(t *testing.T) {
	commands := func(seed uint64, group, db int) (all [][]string) {
		l := newLedger(seed, group, db)
		for range 200 {
			for _, s := range l.burst().steps {
				all = append(all, s.commands...)
			}
		}
		return all
	}
	if diff := cmp.Diff(commands(7, 1, 0), commands(7, 1, 0)); diff != "" {
		t.Errorf("one seed, twice (-first +second):\n%s", diff)
	}
	if cmp.Equal(commands(7, 1, 0), commands(8, 1, 0)) || cmp.Equal(commands(7, 1, 0), commands(7, 1, 5)) {
		t.Error("another seed or database: got the same commands")
	}
}

// writerOn is a writer beside which the test writes nothing.
func writerOn(s *redistest.Server) *writer {
	return &writer{group: 1, db: 1, addr: s.Addr, ledger: newLedger(1, 1, 1)}
}

func TestLedgerIsWhatAServerHolds(t *testing.T) {
	s := redistest.Source(t)
	w := writerOn(s)
	defer w.close()
	for range 2000 {
		if err := w.write(t.Context(), w.ledger.burst()); err != nil {
			t.Fatal(err)
		}
	}
	compared(t, w, s)
	// Not for want of looking:
	for _, args := range [][]string{
		{"INCR", "s:1:n:0"},
		{"APPEND", "s:1:t:0", "e1;"},
		{"LPOP", "s:1:l:0"},
		{"HINCRBY", "s:1:h:0", "f1", "1"},
		{"ZINCRBY", "s:1:z:0", "0.5", "f1"},
		{"SADD", "s:1:m:0", "f99"},
		{"EXPIRE", "s:1:n:1", "99"},
		{"DEL", "s:1:n:2"},
	} {
		s.DoIn(t, 1, args...)
	}
	if d := differences(t, w, s); d.n != 8 {
		t.Errorf("after eight more commands: got %d differences, want 8: %v", d.n, d.lines)
	}
}

func compared(t *testing.T, w *writer, s *redistest.Server) {
	t.Helper()
	if d := differences(t, w, s); d.n != 0 {
		t.Errorf("got %d differences of %d keys, want none: %v", d.n, len(w.ledger.keys), d.lines)
	}
	if len(w.ledger.keys) < 100 {
		t.Errorf("keys in the ledger: got %d, want at least 100", len(w.ledger.keys))
	}
}

func differences(t *testing.T, w *writer, s *redistest.Server) (d diffs) {
	t.Helper()
	if err := w.compare(t.Context(), s.Addr, "source", &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// However much of a burst the source has done when the answers are lost, the
// writer finds out, and does the rest.
func TestLostBurstsAreResolved(t *testing.T) {
	s := redistest.Source(t)
	p := redistest.NewProxy(t, s.Addr, nil)
	w := writerOn(s)
	w.addr = p.Addr
	defer w.close()
	lost := 0
	for i := range 600 {
		b := w.ledger.burst()
		commands := 0
		for _, step := range b.steps {
			commands += len(step.commands)
		}
		var at atomic.Int64 // commands until it breaks
		at.Store(-1)
		if i >= 300 && i%2 == 0 { // with something in the ledger
			at.Store(int64(i / 2 % commands))
			lost++
		}
		p.SetHook(func(_, _ int, args [][]byte) redistest.Action {
			if name := string(args[0]); at.Load() < 0 || name == "SELECT" || name == "SCRIPT" || at.Add(-1) >= 0 {
				return redistest.Pass()
			}
			if i%4 == 0 {
				return redistest.DropReply() // executed
			}
			return redistest.Close()
		})
		if err := w.write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.resolved.Load(); got != int64(lost) {
		t.Errorf("lost bursts: got %d resolved, want %d", got, lost)
	}
	compared(t, w, s)
}
