package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tairlift/internal/command"
	"tairlift/internal/redistest"
	"tairlift/internal/redistest/cmdtest"
	"tairlift/internal/resp"
)

// TestDifferential gives a source random commands of every row of the table, while
// tairlift is killed and held up at random: the target ends as a replica of the source
// does. DIFF_SEED repeats one run, DIFF_STEPS says how many commands it has, DIFF_RUNS
// how many runs there are from that seed on.
func TestDifferential(t *testing.T) {
	seed, steps, runs := redistest.EnvInt(t, "DIFF_SEED", 1), redistest.EnvInt(t, "DIFF_STEPS", 3000), redistest.EnvInt(t, "DIFF_RUNS", 2)
	for n := range runs {
		t.Run(fmt.Sprintf("seed %d", seed+n), func(t *testing.T) {
			d := newDifferential(t, uint64(seed+n))
			t.Logf("DIFF_SEED=%d DIFF_STEPS=%d DIFF_RUNS=1 repeats it", seed+n, steps)
			d.run(steps)
			d.compare()
		})
	}
}

// differential is one run.
type differential struct {
	*rig
	replica   *redistest.Server
	rand      *rand.Rand
	fill      *cmdtest.Filler
	conn      *resp.Conn
	rows      []*command.Spec
	alike     bool
	two       bool // capture and apply are processes of their own
	processes []*process
	accepted  map[string]int // templates of a row that the source took
}

func newDifferential(t *testing.T, seed uint64) *differential {
	d := &differential{rig: newRig(t, 1), rand: rand.New(rand.NewPCG(seed, 2)), accepted: map[string]int{}, two: seed%2 == 0}
	source := d.sources[0]
	d.replica = redistest.Source(t)
	d.replica.ReplicaOf(t, source)
	from, to := source.VersionNumber(), d.target.VersionNumber()
	d.alike = (from < 700) == (to < 700)
	d.conn = source.Dial(t)
	d.fill = cmdtest.NewFiller(seed, "k:")
	d.fill.Short = true
	d.fill.Elsewhere(t)
	codis := source.IsCodis()
	command.All(func(row *command.Spec) {
		switch {
		case len(cmdtest.Templates(row.Name, true)) == 0:
			t.Errorf("row %s has no template", row.Name)
		case row.Name == "SWAPDB": // stops the group
		case row.Class == command.Slots && !(codis && (row.Name == "SLOTSRESTORE" || row.Name == "SLOTSRESTORE-ASYNC" || row.Name == "SLOTSMGRT-EXEC-WRAPPER")):
		case strings.HasPrefix(row.Name, "RESTORE") && from > to:
		default:
			d.rows = append(d.rows, row)
		}
	})
	slices.SortFunc(d.rows, func(a, b *command.Spec) int { return strings.Compare(a.Name, b.Name) })
	return d
}

// do gives the source one command, which it may refuse.
func (d *differential) do(args ...string) error {
	_, err := d.conn.Do(d.t.Context(), args...)
	var se resp.ServerError
	if err != nil && !errors.As(err, &se) {
		d.t.Fatalf("%q: %v", args, err)
	}
	return err
}

// can tells whether the target has an equal of each command.
func (d *differential) can(cmds [][]string) bool {
	to := d.target.VersionNumber()
	caps := command.Caps{AbsTTL: to >= 500, Major: to / 100, Minor: to % 100}
	for _, args := range cmds {
		var words [][]byte
		for _, a := range args {
			words = append(words, []byte(a))
		}
		var old *command.TargetError
		if _, _, _, err := command.Lookup(words[0]).AppendRewrite(nil, nil, words, 1, caps); errors.As(err, &old) {
			return false
		}
	}
	return true
}

// step is a random command, or a few of them as one transaction.
func (d *differential) step() {
	row := d.rows[d.rand.IntN(len(d.rows))]
	if row.Class == command.Flush && d.rand.IntN(8) > 0 { // or there would be nothing to compare
		return
	}
	templates := cmdtest.Templates(row.Name, d.alike)
	cmds := d.fill.Fill(templates[d.rand.IntN(len(templates))])
	if !d.can(cmds) {
		return
	}
	switch d.rand.IntN(20) {
	case 0:
		_ = d.do("SELECT", strconv.Itoa(d.rand.IntN(3)))
	case 1, 2:
		if row.Class != command.Multi && row.Class != command.Exec && row.Class != command.Discard && row.Class != command.Select {
			cmds = slices.Concat([][]string{{"MULTI"}, {"INCR", "k:number0"}}, cmds, [][]string{{"EXEC"}})
		}
	}
	ok := true
	for _, args := range cmds {
		ok = d.do(args...) == nil && ok
	}
	_ = d.do("DISCARD") // of a transaction within another one, or one that failed
	if ok {
		d.accepted[row.Name]++
	}
}

// begin starts what is not running.
func (d *differential) begin() {
	for _, p := range d.processes {
		if !p.ended() {
			p.t.Fatalf("%s still runs", p)
		}
	}
	if d.two {
		d.processes = []*process{start(d.t, d.captureArgs()...)}
		if _, err := os.Stat(filepath.Join(d.dir, "job.json")); err != nil {
			redistest.Eventually(d.t, "the job's folder", func() bool {
				_, err := os.Stat(filepath.Join(d.dir, "job.json"))
				return err == nil
			})
		}
		d.processes = append(d.processes, start(d.t, d.applyArgs(d.dir, "--on-flush", "scoped")...))
		return
	}
	d.processes = []*process{start(d.t, d.syncArgs("--on-flush", "scoped")...)}
}

// trouble kills or holds up what runs; undo is to be called later.
func (d *differential) trouble() (undo func()) {
	p := d.processes[d.rand.IntN(len(d.processes))]
	switch d.rand.IntN(3) {
	case 0:
		p.alive()
		p.signal(syscall.SIGSTOP)
		return func() { p.signal(syscall.SIGCONT) }
	default:
		for _, p := range d.processes {
			p.alive()
			p.kill()
		}
		return d.begin
	}
}

func (d *differential) run(steps int) {
	d.t.Helper()
	populate := func() {
		for db := range 3 {
			_ = d.do("SELECT", strconv.Itoa(db))
			for _, args := range d.fill.Populate() {
				if d.can([][]string{args}) {
					_ = d.do(args...)
				}
			}
		}
		_ = d.do("SELECT", "0")
	}
	populate()
	d.begin()
	var undo func()
	next := 50 + d.rand.IntN(200)
	for i := range steps {
		if i%500 == 499 { // what was deleted comes back
			populate()
		}
		d.step()
		if i != next {
			continue
		}
		next += 50 + d.rand.IntN(300)
		if undo != nil {
			undo()
			undo = nil
		} else {
			undo = d.trouble()
		}
	}
	if undo != nil {
		undo()
	}
	d.t.Logf("%d rows", len(d.accepted))
}

// compare ends everything and compares the target with the replica.
func (d *differential) compare() {
	d.t.Helper()
	source := d.sources[0]
	if len(d.accepted) < 70 {
		d.t.Errorf("rows that the source took commands of: got %d, want at least 70", len(d.accepted))
	}
	// No more of it, whatever has expired.
	cmdtest.ShortOnesEnd(d.t, source, 3)
	end := d.offsets()[0]
	d.processes[len(d.processes)-1].applied(d.dir, []int64{end})
	if s := statusOf(d.t, d.dir).Groups[0]; s.Rejects == nil || *s.Rejects != 0 || s.State == "stopped" {
		d.t.Errorf("status: got %+v, want no rejects", s)
	}
	for _, p := range d.processes {
		p.interrupt()
	}
	run(d.t, exitOK, d.syncArgs("--on-flush", "scoped", "--until", "caught-up")...)
	cmdtest.ShortOnesEnd(d.t, d.target, 3)
	redistest.Eventually(d.t, "the replica to be as far as the source", func() bool {
		return d.replica.Info(d.t, "replication")["slave_repl_offset"] == source.Info(d.t, "replication")["master_repl_offset"]
	})
	if source.VersionNumber() == d.target.VersionNumber() {
		// What is ours would be in the digest. A doubt that only verify clears may be left.
		run(d.t, exitOK, "finish", "--dir", d.dir, "--force")
		if got, want := digestOfAll(d.target), digestOfAll(d.replica); got != want {
			d.t.Errorf("DEBUG DIGEST: got %s, want the replica's %s", got, want)
		}
	}
	idle := min(source.VersionNumber(), d.target.VersionNumber()) >= 700
	d.replica.Do(d.t, "CONFIG", "SET", "slave-read-only", "no")
	want, got := cmdtest.Keyspace(d.t, d.replica, 3, idle), cmdtest.Keyspace(d.t, d.target, 3, idle)
	slack := 2 * time.Second
	if source.VersionNumber() < 700 {
		// It propagates relative times, which a stopped capture dates between looks at the
		// source's clock that are up to 3 s apart.
		slack = 3500 * time.Millisecond
	}
	for _, line := range cmdtest.Differences(got, want, slack, 20) {
		d.t.Error(line)
	}
	if len(want) < 20 {
		d.t.Errorf("keys to compare: got %d, want at least 20", len(want))
	}
}

// digestOfAll is the server's own of all that it holds; empty where it does not tell.
func digestOfAll(s *redistest.Server) string {
	r, err := s.DoErr("DEBUG", "DIGEST")
	if err != nil {
		return ""
	}
	return r.String()
}
