package model

import (
	"cmp"
	"os"
	"strconv"
	"testing"
)

type clients = []struct{ process, group uint8 }

// one is a group whose keys are wrong when a batch runs twice, not at all, or
// in another order.
var one = source{{
	rdb:    []command{{set, a, 1}, {set, b, 1}},
	stream: []batch{{{incr, a, 0}, {rpush, c, 1}}, {{rpush, c, 2}, {incr, b, 0}}, {{rpush, c, 3}, {del, b, 0}}},
}}

func (s source) cut(batches int) source {
	e := s[0]
	e.stream = e.stream[:batches]
	return source{e}
}

// small has one entry and one batch.
var small = source{{rdb: one[0].rdb[:1], stream: one[0].stream[:1]}}

// inStream is a target on which a group's RDB was restored.
func inStream(src source) *dataset {
	d := &dataset{keys: src[0].at(0)}
	d.marks[0] = mark{epoch: 1, phase: stream}
	return d
}

// resynced is a group whose source made two more full syncs: b, which it then
// deleted, and c, which a stream wrote, are ghosts of the first epoch.
var resynced = source{
	{rdb: []command{{set, a, 1}, {set, b, 1}}, stream: []batch{{{incr, a, 0}, {rpush, c, 1}}}},
	{rdb: []command{{set, a, 5}}, stream: []batch{{{incr, a, 0}, {rpush, b, 2}}}},
	{rdb: []command{{set, a, 7}}, stream: []batch{{{incr, a, 0}, {rpush, c, 3}}}},
}

// giver had a key that moved to taker, and a source that lost it, and b, in a
// gap. Taker gets it by its stream, or finds it in an RDB of its own.
var (
	giver = source{
		{rdb: []command{{set, a, 1}, {set, b, 1}, {set, moved, 1}}},
		{rdb: []command{{set, a, 5}}, stream: []batch{{{rpush, b, 2}}}},
	}
	taker = source{
		{rdb: []command{{set, c, 1}}, stream: []batch{{{set, moved, 2}}, {{incr, moved, 0}}}},
	}
	takerBack = source{ // and loses it again
		{rdb: []command{{set, c, 1}}, stream: []batch{{{set, moved, 2}}, {{del, moved, 0}}}},
	}
	takerSkips = source{ // finds it in an RDB that a newer one overtakes, perhaps unapplied
		{rdb: []command{{set, c, 1}}},
		{rdb: []command{{set, moved, 7}}},
		{rdb: []command{{set, c, 3}}},
	}
	takerLoses = source{ // gets it by its stream, and a newer RDB lacks it
		{rdb: []command{{set, c, 1}}, stream: []batch{{{set, moved, 2}}}},
		{rdb: []command{{set, c, 3}}},
	}
	takerByRDB = source{
		{rdb: []command{{set, c, 1}}},
		{rdb: []command{{set, moved, 7}}, stream: []batch{{{incr, moved, 0}}}},
	}
)

// bothInStream is a target that two groups share, with a key that was there
// before.
func bothInStream(x, y source) *dataset {
	d := &dataset{keys: keyset{foreign: 9}}
	for g, src := range []source{x, y} {
		for k, v := range src[0].at(0) {
			d.keys[k] |= v
		}
		d.marks[g] = mark{epoch: 1, phase: stream}
	}
	return d
}

// Worlds. In each the protocol holds.
var (
	streaming1  = world{sources: []source{one}, clients: alone, captured: 1, begun: inStream(one), faults: 3, may: loseConn | refuse}
	streaming2  = world{sources: []source{one.cut(2)}, clients: rivals, captured: 1, begun: inStream(one), faults: 1, may: loseConn | refuse}
	streamBack1 = world{sources: []source{one.cut(2)}, clients: alone, captured: 1, begun: inStream(one), faults: 2, may: loseConn | refuse | rollBack | crash}
	streamBack2 = world{sources: []source{one.cut(2)}, clients: rivals, captured: 1, begun: inStream(one), faults: 1, may: rollBack}
	restoring1  = world{sources: []source{one.cut(1)}, clients: alone, restorers: 2, captured: 1, faults: 1, may: loseConn | refuse}
	restoring2  = world{sources: []source{small}, clients: rivals, restorers: 1, captured: 1, may: loseConn}
	rdbBack     = world{sources: []source{one.cut(1)}, clients: alone, restorers: 1, captured: 1, faults: 1, may: loseConn | rollBack}
	lost        = world{sources: []source{small}, clients: alone, restorers: 1, captured: 1, faults: 2, may: loseConn | loseAll | loseMark | crash}
	reseeded    = world{sources: []source{resynced[:2]}, clients: alone, restorers: 1, captured: 1, begun: inStream(resynced), faults: 2, may: loseConn | loseMark, reseed: true}
	ended       = world{sources: []source{small}, clients: rivals, restorers: 1, captured: 1, finishes: 2}
	epochs1     = world{sources: []source{resynced}, clients: alone, restorers: 1, faults: 1, may: loseConn}
	epochs2     = world{sources: []source{resynced[:2]}, clients: rivals, restorers: 1, captured: 1, begun: inStream(resynced), may: loseConn}
	epochsBack  = world{sources: []source{resynced}, clients: alone, restorers: 1, captured: 1, faults: 1, may: rollBack}
	swept       = sharing(taker, 1, loseConn)
	sweptByRDB  = sharing(takerByRDB, 0, loseConn)
	sweptSkips  = sharing(takerSkips, 0, loseConn)
	sweptLosing = sharing(taker, 1, loseOther)
)

var (
	alone  = clients{{1, 0}}
	rivals = clients{{1, 0}, {2, 0}}
	both   = clients{{1, 0}, {1, 1}}
)

// sharing is giver beside another group, with a key of somebody else's.
func sharing(taker source, faults uint8, may fault) world {
	return world{
		sources: []source{giver, taker}, clients: both, restorers: 1, captured: 1, before: keyset{foreign: 9},
		begun: bothInStream(giver, taker), faults: faults, may: may,
	}
}

func TestProtocol(t *testing.T) {
	for _, tt := range []struct {
		name string
		w    world
	}{
		{"stream, one process", streaming1},
		{"stream, another process takes over", streaming2},
		{"stream, the target goes back", streamBack1},
		{"stream, the target goes back under two processes", streamBack2},
		{"RDB, one process", restoring1},
		{"RDB, another process takes over", restoring2},
		{"RDB, the target goes back", rdbBack},
		{"the target loses everything, or the mark", lost},
		{"the mark is lost, and written anew", reseeded},
		{"the job is ended beside a process that sleeps", ended},
		{"new epochs in any phase", epochs1},
		{"new epoch, another process takes over", epochs2},
		{"new epochs, the target goes back", epochsBack},
		{"sweep beside another group's stream", swept},
		{"sweep beside another group's stream, the target goes back", sharing(taker.cut(1), 1, rollBack)},
		{"sweep of a key that the other group deletes", sharing(takerBack, 1, refuse)},
		{"sweep beside another group's RDB", sweptByRDB},
		{"sweep beside another group's RDB that is overtaken", sweptSkips},
		{"sweep without another group's mark", sweptLosing},
		{"two sweeps", sharing(takerLoses, 0, loseConn)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := tt.w
			w.faults += moreFaults(t)
			f := w.explore()
			t.Logf("%d states, %d ends", f.states, f.ends)
			if f.broken != nil {
				t.Errorf("%v\n%s", f.broken, f)
			}
		})
	}
}

// moreFaults is MODEL_FAULTS, for a longer search: each one more makes it about
// ten times as long.
func moreFaults(t *testing.T) uint8 {
	t.Helper()
	n, err := strconv.ParseUint(cmp.Or(os.Getenv("MODEL_FAULTS"), "0"), 10, 4)
	if err != nil {
		t.Fatal(err)
	}
	return uint8(n)
}

// TestEachRuleIsNeeded breaks one rule of the protocol after the other, and
// wants the explorer to find keys that are wrong.
func TestEachRuleIsNeeded(t *testing.T) {
	for _, tt := range []struct {
		broken rule
		claim  string
		in     world
	}{
		{noGet, "EXEC does not wait for GET", streaming1},
		{noWatch, "GET without WATCH", streaming1},
		{noToken, "no owner token", restoring2},
		{multiUnanswered, "commands are sent before MULTI is answered", streaming1},
		{twoExecs, "two EXECs unanswered", streaming1},
		{markOutsideExec, "the mark outside EXEC", streaming1},
		{noKill, "older connections are not ended", restoring1},
		{killBeforeToken, "older connections are ended before the token is written", restoring2},
		{nameAfterGet, "a connection is named after it has read the mark", restoring2},
		{ownerProves, "a restorer looks at the token alone", epochsBack},
		{boundaryBeforeAnswer, "the boundary moves before the answer", restoring1},
		{streamBeforeAnswers, "the phase moves before the answers", restoring1},
		{claimUnwatched, "a claim does not watch what it has looked at", ended},
		{pastForgotten, "the mark does not hold earlier epochs", epochs1},
		{sweepWithoutProvenance, "what nobody delivered is deleted", swept},
		{sweepWithoutOthersWatch, "the sweep does not watch other groups' marks", swept},
		{sweepWithoutOwnWatch, "the sweep does not watch its own mark", swept},
		{sweepGetBeforeWatch, "the sweep reads marks before it watches them", swept},
		{sweepWithoutMark, "the sweep takes a missing mark for a group that holds nothing", sweptLosing},
		{sweepSparesForSpool, "the sweep spares a key for an RDB that is not begun", sweptSkips},
		{sweepOverlooksRDB, "the sweep overlooks what another group restores", sweptByRDB},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			t.Parallel()
			w := tt.in
			w.broken, w.dataOnly = tt.broken, true
			f := w.explore()
			if f.broken == nil {
				t.Fatalf("%d states: nothing is wrong in any", f.states)
			}
			t.Logf("%v\n%s", f.broken, f)
		})
	}
}

// TestEachAssumptionIsNeeded lets the target do what it is assumed not to do.
func TestEachAssumptionIsNeeded(t *testing.T) {
	for _, tt := range []struct {
		claim string
		may   fault
		in    world
	}{
		{"connections outlive a failover, RDB", rollBack | keepConns, rdbBack},
		{"connections outlive a failover, stream", rollBack | keepConns, streamBack2},
		{"a restart loses data and keeps the mark", rollBack | tearBack, streamBack1},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			t.Parallel()
			w := tt.in
			w.may = tt.may
			f := w.explore()
			if f.broken == nil {
				t.Fatalf("%d states: nothing is wrong in any", f.states)
			}
			t.Logf("%v\n%s", f.broken, f)
		})
	}
}
