package apply

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/rdb"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// scriptRDB is an RDB that holds the body of a script and no key.
func scriptRDB(body string) []byte {
	b := append([]byte("REDIS0009\xFA\x03lua"), byte(len(body)))
	b = append(append(b, body...), 0xFF)
	return binary.LittleEndian.AppendUint64(b, rdb.CRC64(0, b))
}

// loseStore is what happens when somebody deletes DIR/apply.
func (r *rig) loseStore() {
	r.t.Helper()
	if err := os.RemoveAll(filepath.Join(r.dir, "apply")); err != nil {
		r.t.Fatal(err)
	}
}

func TestALostStoreIsRebuiltFromTheSpool(t *testing.T) {
	const inRDB, loaded, ran = "return redis.call('RPUSH', KEYS[1], 'r')", "return redis.call('RPUSH', KEYS[1], 'l')", "return redis.call('RPUSH', KEYS[1], 'e')"
	r := bareRig(t, 1)
	sha := func(body string) string { return r.target.Do(t, "SCRIPT", "LOAD", body).String() }
	shas := []string{sha(inRDB), sha(loaded), sha(ran)}
	r.target.Do(t, "SCRIPT", "FLUSH")
	p := r.craftBegin(1, 1, spool.WriterOptions{})
	p.rdb(scriptRDB(inRDB))
	p.command("SCRIPT", "LOAD", loaded).command("EVAL", ran, "1", "list")
	p.write("INCR n", "MULTI", "INCR n", "EXEC")
	if st := r.applyAll(Options{}).Status()[0]; st.Forgotten {
		t.Error("a store that was not lost: got forgotten")
	}

	r.loseStore()
	for _, s := range shas {
		p.write("EVALSHA " + s + " 1 list")
	}
	p.write("INCR n")
	st := r.applyAll(Options{}).Status()[0]
	r.want("behind the loss", map[string]string{"0 LRANGE list 0 -1": "[e r l e]", "0 GET n": "3"})
	if !st.Forgotten || st.Commands != 7 {
		t.Errorf("status: got forgotten %v, %d commands, want true, 7", st.Forgotten, st.Commands)
	}

	// It is not forgotten that something was, until a verify clears it.
	p.write("INCR n")
	if st := r.applyAll(Options{}).Status()[0]; !st.Forgotten {
		t.Error("the next process: got nothing forgotten")
	}
	store, err := checkpoint.OpenApply(filepath.Join(r.dir, "apply", "target", "apply.db"))
	if err != nil {
		t.Fatal(err)
	}
	rec, _, err := store.Group(1)
	if err == nil {
		err = store.ClearDoubts()
	}
	after, _, err2 := store.Group(1)
	if err != nil || err2 != nil || store.Close() != nil {
		t.Fatal(err, err2)
	}
	rec.Forgotten = false
	if after != rec {
		t.Errorf("record after a verify: got %+v, want %+v", after, rec)
	}
	if st := r.applyAll(Options{}).Status()[0]; st.Forgotten {
		t.Error("after a verify: got forgotten")
	}
}

func TestALostScriptThatTheSpoolCannotTellStops(t *testing.T) {
	const body = "return redis.call('INCR', KEYS[1])"
	r := bareRig(t, 1)
	sha := r.target.Do(t, "SCRIPT", "LOAD", body).String()
	r.target.Do(t, "SCRIPT", "FLUSH")
	p := r.craftBegin(1, 1, spool.WriterOptions{SegmentBytes: 1})
	p.rdb(handRDB())
	p.command("SCRIPT", "LOAD", body)
	p.write("INCR n")
	r.applyAll(Options{})
	r.loseStore()
	p.write("EVALSHA " + sha + " 1 n")
	g, err := spool.OpenGroup(filepath.Join(r.dir, "spool"), spool.JobID{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	// All but the newest segment goes: the RDB, and what is applied of the stream.
	if gone, err := g.Prune(t.Context(), spool.Floor{Epoch: 2}, spool.PruneOptions{}); err != nil || len(gone) != 3 {
		t.Fatalf("prune: got %d segments and %v, want 3", len(gone), err)
	}
	stop := r.stopped(Options{}, "script-unknown")
	if !strings.Contains(stop.What, "not to be found in the spool") {
		t.Errorf("stop: got %s, want it to say that the spool was asked", stop.What)
	}
	r.want("nothing behind the mark", map[string]string{"0 GET n": "1"})
}

func TestALostScriptIsWaitedForWhileItsSegmentIsBeingCopied(t *testing.T) {
	const body = "return redis.call('INCR', KEYS[1])"
	r := bareRig(t, 1)
	sha := r.target.Do(t, "SCRIPT", "LOAD", body).String()
	r.target.Do(t, "SCRIPT", "FLUSH")
	p := r.craftBegin(1, 1, spool.WriterOptions{SegmentBytes: 1})
	p.rdb(scriptRDB(body))
	p.write("INCR n")
	r.applyAll(Options{})
	r.loseStore()
	p.write("INCR n", "EVALSHA "+sha+" 1 n")
	segment := filepath.Join(r.dir, "spool", "group-0001", "epoch-0001", "00000001.seg")
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	move(segment, segment+".part")
	r.stopped(Options{}, "spool-missing") // --until end
	r.want("up to the script", map[string]string{"0 GET n": "2"})
	a := r.start(Options{})
	a.waitsFor(t, "spool-missing")
	move(segment+".part", segment)
	a.reaches(t, p.end)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	r.want("with the body", map[string]string{"0 GET n": "3"})
}

func TestOnlyWhatTheSpoolCannotTellIsAnUnknownScript(t *testing.T) {
	const sha = "0123456789012345678901234567890123456789"
	wait := &waitError{reason: "spool-missing", err: &spool.MissingError{Path: "x.seg"}}
	for _, c := range []struct {
		claim           string
		lost, err, want error // nil: a stop with script-unknown
	}{
		{"the end of a run passes", nil, context.Canceled, context.Canceled},
		{"so does a wait for a copy", nil, wait, wait},
		{"what was pruned is unknown for good", &spool.PrunedError{Path: "x.seg"}, nil, nil},
		{"so is what was nowhere", nil, nil, nil},
	} {
		t.Run(c.claim, func(t *testing.T) {
			tr := translator{
				clock: &offsetClock{}, held: &heldKeys{}, scripts: &scripts{}, proveDB: func(int) error { return nil },
				findScripts: func() (error, error) { return c.lost, c.err },
			}
			tr.start(&Batch{}, 0, 0)
			err := tr.add(resp.Command{Args: [][]byte{[]byte("EVALSHA"), []byte(sha), []byte("0")}}, time.Time{})
			var stop *StopError
			if c.want != nil && err != c.want || c.want == nil && (!errors.As(err, &stop) || stop.Reason != "script-unknown" || stop.Hint == "") {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}
