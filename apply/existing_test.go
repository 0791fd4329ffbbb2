package apply

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"tairlift/checkpoint"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/spool"
)

// existingOf scans a target with these keys in database 0.
func existingOf(t *testing.T, dir string, job spool.JobID, s *redistest.Server) *existing {
	t.Helper()
	x, err := openExisting(dir, job)
	if err != nil {
		t.Fatal(err)
	}
	c := s.Dial(t)
	info, err := probe(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.scan(t.Context(), c, info, nil); err != nil {
		t.Fatal(err)
	}
	return x
}

func TestExistingKeysAreHandledOnceTheirMarkIsThere(t *testing.T) {
	s := redistest.Target(t)
	for _, k := range []string{"a", "b", "c", "d"} {
		s.Do(t, "SET", k, "old")
	}
	s.DoIn(t, 1, "SET", "a", "old")
	dir, job := t.TempDir(), spool.NewJobID()
	x := existingOf(t, dir, job, s)
	take := func(key string, at repl.Offset) bool { return x.take(1, 0, 0, []byte(key), at) }
	expect := func(claim string, want bool, got bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %v, want %v", claim, got, want)
		}
	}
	reopen := func() { // as after a kill: what was synced is there
		t.Helper()
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		var err error
		if x, err = openExisting(dir, job); err != nil {
			t.Fatal(err)
		}
	}
	x.replaced(1, 0, 0, []byte("a"), 50)
	x.replaced(1, 0, 0, []byte("b"), 90)
	x.rewind(1, Mark{Phase: checkpoint.PhaseRDB, RDB: 60})
	expect("an entry below the mark", false, take("a", 1))
	expect("an entry beyond it", true, take("b", 1100))
	expect("a key in another database", true, x.take(1, 0, 1, []byte("a"), 1100))
	expect("a key that was never there", false, take("x", 1100))
	expect("a second time", false, take("b", 1200))
	expect("another key", true, take("c", 1300))
	reopen()
	x.rewind(1, Mark{Phase: checkpoint.PhaseStream, Offset: 1250})
	expect("committed before the kill", false, take("b", 1400))
	expect("not committed before the kill", true, take("c", 1400))
	reopen()
	// The command at 1300 was left out the second time, and the mark is beyond
	// it: the first record must not count.
	x.rewind(1, Mark{Phase: checkpoint.PhaseStream, Offset: 1350})
	expect("taken back and not handled yet", true, take("c", 1400))
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}

	// Another scan, after the marks were lost in the RDB phase: an old record
	// says nothing about it.
	x = existingOf(t, dir, job, s)
	reopen()
	x.rewind(1, Mark{Phase: checkpoint.PhaseStream, Offset: 9999})
	expect("handled only in an earlier scan's life", true, take("b", 10000))
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := openExisting(dir, spool.NewJobID()); err == nil || !strings.Contains(err.Error(), "another job") {
		t.Errorf("open of another job's: got %v, want it refused", err)
	}
}

// TestReplaceEndsExactWhereverItBreaks breaks the connection at each command in
// turn; every key that the stream appends to was the target's own before.
func TestReplaceEndsExactWhereverItBreaks(t *testing.T) {
	base := bareRig(t, 1)
	for n, done := int64(1), false; !done; n += 2 {
		r := base.again(t)
		for i := range 5 {
			r.target.DoIn(t, i%2, "RPUSH", fmt.Sprintf("k%d", i), "old")
		}
		r.target.Do(t, "SET", "keep", "old")
		p := r.craft(1, 1, "0:k0 v", "1:k1 v")
		p.write("RPUSH k2 new", "APPEND k0 w", "SELECT 1", "MULTI", "RPUSH k3 new", "APPEND k1 w", "EXEC", "RPUSH k3 newer",
			"SELECT 0", "RPUSH k4 new", "RPUSH k2 newer", "RPUSH k4 newer")
		var seen atomic.Int64
		proxy := redistest.NewProxy(t, r.target.Addr, func(conn, _ int, _ [][]byte) redistest.Action {
			if conn > 1 && seen.Add(1) == n {
				return redistest.DropReply()
			}
			return redistest.Pass()
		})
		job := r.applyAll(Options{Addr: proxy.Addr, OnExisting: ExistingReplace, batch: 2})
		proxy.Close()
		r.want(fmt.Sprintf("command %d", n), map[string]string{
			"0 GET k0": "vw", "1 GET k1": "vw", "0 LRANGE k2 0 -1": "[new newer]", "1 LRANGE k3 0 -1": "[new newer]",
			"0 LRANGE k4 0 -1": "[new newer]", "0 GET keep": "old",
		})
		if st := job.Status()[0]; st.Commands != 8 {
			t.Errorf("command %d: got %d commands, want 8", n, st.Commands)
		}
		if t.Failed() {
			return
		}
		done = seen.Load() < n
	}
}

// The log is one for all groups: what one could not sync, another must not
// take for synced.
func TestAFailedSyncOfTheLogIsFinalForAllGroups(t *testing.T) {
	s := redistest.Target(t)
	s.Do(t, "MSET", "a", "old", "b", "old")
	x := existingOf(t, t.TempDir(), spool.NewJobID(), s)
	defer x.Close()
	r, w, err := os.Pipe() // which has no fsync
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	log := x.log
	x.log = w
	x.take(1, 0, 0, []byte("a"), 10)
	first := x.sync()
	if first == nil {
		t.Fatal("sync while fsync fails: got nil, want its error")
	}
	x.log = log
	x.take(2, 0, 0, []byte("b"), 10)
	if err := x.sync(); err != first {
		t.Errorf("the next sync: got %v, want the first error, %v", err, first)
	}
}

func TestFingerprintsOfShortKeysDiffer(t *testing.T) {
	seen := map[uint64]string{}
	for db := range 16 {
		for _, format := range []string{"%d", "k%d", "key:%d", "user:%08d", "session:%016d"} {
			for i := range 1000 {
				key := fmt.Sprintf(format, i)
				fp, name := fingerprint(db, []byte(key)), fmt.Sprintf("%s in database %d", key, db)
				if other, ok := seen[fp]; ok {
					t.Fatalf("%s has the fingerprint of %s", name, other)
				}
				seen[fp] = name
			}
		}
	}
}

// A session may have replaced keys beyond the boundary that its mark tells of,
// when a new epoch takes the place of the RDB that they are from.
func TestWhatAnRDBReplacedBeyondItsMarkIsSweptToo(t *testing.T) {
	r := bareRig(t, 1)
	r.target.Do(t, "MSET", "k", "foreign", "other", "foreign")
	r.craft(1, 1, "k source", "a b").seal()
	o := Options{OnExisting: ExistingReplace}
	r.applyAll(o)
	r.setMark(func(m *Mark) { m.Phase, m.RDB, m.Keys = checkpoint.PhaseRDB, 0, 0 })
	r.craft(1, 2, "a b").seal()
	r.applyAll(o)
	r.want("in the end", map[string]string{"0 EXISTS k": "0", "0 GET other": "foreign", "0 GET a": "b"})
}
