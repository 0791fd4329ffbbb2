package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// fault is a kind of thing that goes wrong.
type fault string

const (
	killTairlift  fault = "kill-tairlift"  // SIGKILL of sync, or of capture, apply, or both
	stopTairlift  fault = "stop-tairlift"  // SIGINT, which must end with 130
	renewTairlift fault = "renew-tairlift" // SIGINT, and a start with --new-epoch: a full resync of all groups
	killTarget    fault = "kill-target"    // SIGKILL, and a start with all of its data
	loseTarget    fault = "lose-target"    // the same, and its last writes are lost
	freezeTarget  fault = "freeze-target"  // SIGSTOP, SIGCONT
	fillTarget    fault = "fill-target"    // OOM
	demoteTarget  fault = "demote-target"  // READONLY
	pauseTarget   fault = "pause-target"   // CLIENT PAUSE
	busyTarget    fault = "busy-target"    // a script that does not end
	lonelyTarget  fault = "lonely-target"  // NOREPLICAS
	cutTarget     fault = "cut-target"     // the link to the target
	hangTarget    fault = "hang-target"    //
	dribbleTarget fault = "dribble-target" //
	cutSource     fault = "cut-source"     // the link to a source
	hangSource    fault = "hang-source"    //
	dribbleSource fault = "dribble-source" //
	dropReplica   fault = "drop-replica"   // CLIENT KILL TYPE slave: a partial resync
	overrunSource fault = "overrun-source" // the same behind a backlog that is too short: a full resync
	killSource    fault = "kill-source"    // SIGKILL, and a start with all of its data: a full resync
)

// faults are all kinds, how often each comes and how long it lasts at most.
var faults = []struct {
	fault  fault
	weight int
	most   time.Duration
}{
	{killTairlift, 16, 500 * time.Millisecond},
	{stopTairlift, 5, 500 * time.Millisecond},
	{renewTairlift, 3, 500 * time.Millisecond},
	{killTarget, 6, time.Second},
	{loseTarget, 3, time.Second},
	{freezeTarget, 5, 4 * time.Second},
	{fillTarget, 4, 3 * time.Second},
	{demoteTarget, 3, 2 * time.Second},
	{pauseTarget, 3, 2 * time.Second},
	{busyTarget, 3, 2 * time.Second},
	{lonelyTarget, 2, 2 * time.Second},
	{cutTarget, 9, time.Second},
	{hangTarget, 5, 5 * time.Second},
	{dribbleTarget, 3, 3 * time.Second},
	{cutSource, 5, time.Second},
	{hangSource, 4, 4 * time.Second},
	{dribbleSource, 3, 3 * time.Second},
	{dropReplica, 4, 0},
	{overrunSource, 6, time.Second},
	{killSource, 7, time.Second},
}

// act is one fault at its time.
type act struct {
	After time.Duration // the act before it began
	Fault fault
	Lasts time.Duration
	Group int    // of a source's fault
	Dice  uint64 // for what the fault leaves open
}

func (a act) String() string {
	s := string(a.Fault)
	if strings.HasSuffix(s, "source") || a.Fault == dropReplica {
		s += fmt.Sprintf(" %d", a.Group)
	}
	return fmt.Sprintf("%s for %s", s, a.Lasts)
}

const (
	actsLeast = 4
	actsMost  = 12
	gapMost   = 1500 * time.Millisecond
)

// acts are what happens in a round, until everything is let come right and is
// compared. They depend on the seed and the number of the round alone, and on
// what is left out.
func acts(seed uint64, n int, without []fault) []act {
	rng := rand.New(rand.NewPCG(seed, uint64(1<<32+n)))
	var picks []int
	for i, f := range faults {
		if !slices.Contains(without, f.fault) {
			picks = append(picks, slices.Repeat([]int{i}, f.weight)...)
		}
	}
	all := make([]act, actsLeast+rng.IntN(actsMost-actsLeast+1))
	for i := range all {
		f := faults[picks[rng.IntN(len(picks))]]
		all[i] = act{
			// Often at once, so that faults meet.
			After: ms(rng, time.Duration(rng.IntN(2)+rng.IntN(2))*gapMost/2),
			Fault: f.fault,
			Lasts: ms(rng, f.most),
			Group: 1 + rng.IntN(groups),
			Dice:  rng.Uint64(),
		}
	}
	return all
}

// ms is a time up to most, in whole milliseconds.
func ms(rng *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(rng.Int64N(most.Milliseconds()+1)) * time.Millisecond
}
