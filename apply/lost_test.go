package apply

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tairlift/internal/redistest"
	"tairlift/spool"
)

// TestAMarkThatIsLostWhileItRuns is deleted, or evicted, in either phase, with
// the data left where it is.
func TestAMarkThatIsLostWhileItRuns(t *testing.T) {
	rig := bareRig(t, 1)
	stops := func(t *testing.T, a *applying) {
		t.Helper()
		var stop *StopError
		if err := a.wait(); !errors.As(err, &stop) || stop.Reason != "mark-missing" {
			t.Fatalf("run: got %v, want mark-missing", err)
		}
	}
	t.Run("in the stream", func(t *testing.T) {
		r := rig.again(t)
		p := r.craft(1, 1, "k v").write("INCR n")
		a := r.start(Options{})
		a.reaches(t, p.end)
		r.target.Do(t, "DEL", markKey(r.job, 1))
		p.write("INCR n")
		stops(t, a)
		r.want("behind the loss", map[string]string{"0 GET n": "1", "0 GET k": "v"})
	})
	t.Run("evicted in the stream", func(t *testing.T) {
		r := rig.again(t)
		p := r.craft(1, 1, "k v").write("INCR n")
		a := r.start(Options{})
		a.reaches(t, p.end)
		r.target.Do(t, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
		r.target.Do(t, "CONFIG", "SET", "maxmemory", "1")
		redistest.Eventually(t, "all keys to be evicted", func() bool { return r.target.Do(t, "DBSIZE").Int == 0 })
		r.target.Do(t, "CONFIG", "SET", "maxmemory", "0")
		r.target.Do(t, "CONFIG", "SET", "maxmemory-policy", "noeviction")
		p.write("INCR n")
		stops(t, a)
		r.want("behind the loss", map[string]string{"0 EXISTS n": "0"})
		if e := a.job.Evictions(); e.Count < 3 || e.Since().IsZero() {
			t.Errorf("evictions: got %+v, want the mark, n and k", e)
		}
	})
	t.Run("in the RDB phase", func(t *testing.T) {
		r := rig.again(t)
		var body []string
		for i := range 40 {
			body = append(body, "k"+string(rune('a'+i%26))+string(rune('a'+i/26))+" v")
		}
		p := r.craftBegin(1, 1, spool.WriterOptions{})
		p.rdb(handRDB(body...))
		sets := 0
		proxy := redistest.NewProxy(t, r.target.Addr, func(conn, _ int, args [][]byte) redistest.Action {
			if slices.ContainsFunc(args, func(a []byte) bool { return string(a) == "kab" }) {
				if sets++; sets == 1 {
					if _, err := r.target.DoErr("DEL", markKey(r.job, 1)); err != nil {
						t.Error(err)
					}
					return redistest.Close()
				}
			}
			return redistest.Pass()
		})
		stops(t, r.start(Options{Addr: proxy.Addr, chunkEntries: 5}))
	})
}

// TestAReplicaWithoutTheMarkIsWaitedFor fails over to a server that has nothing
// yet, as a replica does that its new master has not filled.
func TestAReplicaWithoutTheMarkIsWaitedFor(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "k v").write("INCR n")
	a := r.start(Options{})
	a.reaches(t, p.end)
	master := redistest.Target(t)
	r.target.Do(t, "SAVE")
	dump := filepath.Join(r.target.Dir, "dump.rdb")
	saved, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	r.target.ReplicaOf(t, master) // which empties it
	p.write("INCR n")
	a.waitsFor(t, "target-readonly")
	if got := r.target.Do(t, "DBSIZE").Int; got != 0 {
		t.Fatalf("keys of the replica: got %d, want none", got)
	}
	r.target.Kill()
	if err := os.WriteFile(dump, saved, 0o644); err != nil {
		t.Fatal(err)
	}
	r.target.Restart(t)
	a.reaches(t, p.end)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	r.want("in the end", map[string]string{"0 GET n": "2"})
}
