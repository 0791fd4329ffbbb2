package apply

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"tairlift/internal/repl"
)

// The mark tells of more than the spool's part of that epoch holds, and a newer
// epoch is there.
func TestAnEpochThatTheSpoolHasLostTheEndOf(t *testing.T) {
	r := bareRig(t, 1)
	r.firstEpoch().seal()
	r.applyAll(Options{})
	r.setMark(func(m *Mark) { m.Offset += 500; m.Start = m.Offset })
	r.secondEpoch().seal()
	r.stopped(Options{}, "mark-ahead")
	r.want("before the reseed", map[string]string{"0 EXISTS gone": "1"})
	r.applyAll(Options{Reseed: true})
	r.want("in the end", afterSecond)
}

// A process that saw its mark takes one that is gone for the end of the job.
func TestAMarkThatWasSeenIsNotReseeded(t *testing.T) {
	r := bareRig(t, 1)
	r.firstEpoch().seal()
	r.applyAll(Options{})
	o := r.options(Options{UntilEnd: true, Reseed: true})
	defer o.Store.Close()
	job, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	r.target.Do(t, "DEL", markKey(r.job, 1), jobsKey)
	r.target.Do(t, "SET", "counter", "999")
	err = job.Run(t.Context())
	var stop *StopError
	if !errors.As(err, &stop) || stop.Reason != "mark-missing" {
		t.Errorf("run: got %v, want a stop with reason mark-missing", err)
	}
	r.want("in the end", map[string]string{"0 GET counter": "999", "0 EXISTS " + markKey(r.job, 1): "0"})
}

// A reseed wants every epoch: its sweep is the last that knows of them.
func TestAReseedWaitsForTheWholeCopy(t *testing.T) {
	r := bareRig(t, 1)
	r.firstEpoch().seal()
	r.applyAll(Options{})
	r.craft(1, 2, "stays v").seal()
	r.target.Do(t, "DEL", markKey(r.job, 1))
	one := filepath.Join(r.dir, "spool", repl.GroupID(1).Dir(), repl.Epoch(1).Dir())
	away := filepath.Join(r.dir, "away")
	if err := os.Rename(one, away); err != nil {
		t.Fatal(err)
	}
	r.stopped(Options{Reseed: true}, "spool-missing")
	r.want("while an epoch is away", map[string]string{"0 EXISTS gone": "1", "0 EXISTS " + markKey(r.job, 1): "0"})
	if err := os.Rename(away, one); err != nil {
		t.Fatal(err)
	}
	r.applyAll(Options{})
	r.want("in the end", map[string]string{"0 GET stays": "v", "0 DBSIZE": "3", "1 DBSIZE": "0"})
}
