package apply

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/held"
	"tairlift/internal/pace"
	"tairlift/internal/rdb"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// lagging is a clock for Options.Now by which apply may be late.
type lagging struct{ by atomic.Int64 }

func (l *lagging) now() time.Time { return time.Now().Add(time.Duration(l.by.Load())) }

func (l *lagging) set(by time.Duration) { l.by.Store(int64(by)) }

// deadlineOf is when a key of the target expires, in Unix milliseconds; 0 is never,
// -1 that it is not there. It is late by the time of asking, on older servers.
func deadlineOf(t *testing.T, s *redistest.Server, db int, key string) int64 {
	t.Helper()
	ttl := s.DoIn(t, db, "PTTL", key).Int
	switch {
	case ttl == -2:
		return -1
	case ttl == -1:
		return 0
	}
	return ttl + time.Now().UnixMilli()
}

// near tells whether a deadline of the target is that of the source, but for the
// margin and the time that passes while two servers are asked.
func near(target, source int64) bool {
	if target <= 0 || source <= 0 {
		return target == source
	}
	off := held.Off(target, source)
	return max(off, -off) < 2000
}

// sameDeadline wants a key to end on the target when it does on the source.
func (r *rig) sameDeadline(claim string, s *redistest.Server, db int, keys ...string) {
	r.t.Helper()
	for _, k := range keys {
		want, got := deadlineOf(r.t, s, db, k), deadlineOf(r.t, r.target, db, k)
		if !near(got, want) {
			r.t.Errorf("%s: deadline of %s in database %d: got %d, want %d", claim, k, db, got, want)
		}
	}
}

// wantDeadline wants a deadline on the target; held, if by is not 0.
func (r *rig) wantDeadline(claim string, db int, key string, by repl.GroupID, want int64) {
	r.t.Helper()
	got := deadlineOf(r.t, r.target, db, key)
	g, d, ok := held.Decode(got)
	if ok {
		got = d
	}
	if g != by || !near(got, want) {
		r.t.Errorf("%s: deadline of %s: got %d, held by group %d, want %d, held by %d", claim, key, got, g, want, by)
	}
}

// exact waits until the mark of a group says that deadlines are.
func (r *rig) exact(a *applying, id repl.GroupID) {
	r.t.Helper()
	redistest.Eventually(r.t, "exact deadlines", func() bool {
		st := a.job.Status()[id-1]
		if st.State == StateStopped {
			r.t.Fatalf("group stopped: %s: %s", st.Reason, st.What)
		}
		return st.TTL == DeadlinesExact && st.Phase == checkpoint.PhaseStream
	})
	if m := r.mark(id); m.TTL != DeadlinesExact {
		r.t.Errorf("mark of group %s: got ttl=%s, want exact, as the status says", id, m.TTL)
	}
}

// calls is how often the target has executed a command.
func (r *rig) calls(command string) int {
	r.t.Helper()
	for line := range strings.Lines(r.target.Do(r.t, "INFO", "commandstats").String()) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_"+command+":calls="); ok {
			n, _, _ := strings.Cut(rest, ",")
			calls, err := strconv.Atoi(n)
			if err != nil {
				r.t.Fatal(err)
			}
			return calls
		}
	}
	return 0
}

func at(ms int64) string { return strconv.FormatInt(ms, 10) }

// While apply is behind deadlines are held, what was written exact stays, and
// once it has caught up they are exact again: those that are known by name are
// not looked for.
func TestALagHoldsDeadlines(t *testing.T) {
	for claim, tt := range map[string]struct {
		names int64
		scans bool
	}{
		"few, known by name":      {0, false},
		"more than can be known":  {2, true},
		"exactly as many as that": {6, false},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			r := bareRig(t, 1)
			p := r.craft(1, 1)
			var clock lagging
			a := r.start(Options{Now: clock.now, heldNames: tt.names})
			d := time.Now().Add(time.Hour).UnixMilli()
			p.write("SET a v", "PEXPIREAT a "+at(d), "SELECT 1", "SET db1 v", "PEXPIREAT db1 "+at(d))
			a.reaches(t, p.end)
			r.exact(a, 1)
			r.wantDeadline("in sync", 0, "a", 0, d)

			scans := r.calls("scan")
			clock.set(time.Minute)
			p.write("SELECT 0", "SET b v", "PEXPIREAT b "+at(d), "RENAME b c", "SELECT 1", "SETEX e 3600 v", "PERSIST db1", "MOVE e 2")
			a.reaches(t, p.end)
			if m := r.mark(1); m.TTL != DeadlinesMixed {
				t.Errorf("mark behind a lag: got ttl=%s, want mixed", m.TTL)
			}
			r.wantDeadline("behind", 0, "a", 0, d)
			r.wantDeadline("behind", 0, "c", 1, d)
			r.wantDeadline("behind", 2, "e", 1, d)
			r.wantDeadline("behind", 1, "db1", 0, 0)

			clock.set(0)
			p.write("PUBLISH c m") // something that is fresh
			r.exact(a, 1)
			r.wantDeadline("caught up", 0, "a", 0, d)
			r.wantDeadline("caught up", 0, "c", 0, d)
			r.wantDeadline("caught up", 2, "e", 0, d)
			if got := r.calls("scan") > scans; got != tt.scans {
				t.Errorf("the target was scanned: got %v, want %v", got, tt.scans)
			}
		})
	}
}

// Keys that the source has renewed live on, whatever their old deadlines; those
// that it has not are gone at the end of the spool, and counted. Whoever does
// that may die at any command: nobody expires too early, and all ends exact.
func TestAnOfflineSpoolEndsExact(t *testing.T) {
	r := newRig(t, 1)
	s := r.sources[0]
	want := map[string]string{}
	for db := range 2 {
		s.DoIn(t, db, "SET", "rdb-long", "v", "EX", "5000")
		s.DoIn(t, db, "SET", "rdb-short", "v", "PX", "2500")
		s.DoIn(t, db, "SET", "rdb-renewed", "v", "PX", "2500")
		s.DoIn(t, db, "RPUSH", "list", "a", "b")
		s.DoIn(t, db, "EXPIRE", "list", "5000")
		s.DoIn(t, db, "SET", "none", "v")
	}
	r.capture()
	for db := range 2 {
		s.DoIn(t, db, "EXPIRE", "rdb-renewed", "5000")
		s.DoIn(t, db, "SET", "short", "v", "PX", "2500")
		s.DoIn(t, db, "SET", "n", "7", "PX", "2500")
		s.DoIn(t, db, "INCR", "n")
		s.DoIn(t, db, "EXPIRE", "n", "5000")
		s.DoIn(t, db, "SET", "renamed", "v", "EX", "5000")
		s.DoIn(t, db, "RENAME", "renamed", "other-name")
		if n := s.DoIn(t, db, "EXISTS", "rdb-renewed", "n", "short", "rdb-short").Int; n != 4 {
			t.Skipf("%d of 4 keys are left on the source: this machine is too slow for their deadlines", n)
		}
		for _, k := range []string{"n", "rdb-renewed", "rdb-long", "other-name"} {
			want[fmt.Sprintf("%d GET %s", db, k)] = s.DoIn(t, db, "GET", k).String()
		}
		want[fmt.Sprintf("%d EXISTS short rdb-short", db)] = "0"
		want[fmt.Sprintf("%d LLEN list", db)] = "2"
	}
	r.stopCapture()
	redistest.Eventually(t, "the short ones to be past", func() bool {
		return s.DoIn(t, 0, "EXISTS", "short", "rdb-short").Int+s.DoIn(t, 1, "EXISTS", "short", "rdb-short").Int == 0
	})
	ends := func(claim string) {
		t.Helper()
		r.want(claim, want)
		for db := range 2 {
			r.sameDeadline(claim, s, db, "n", "rdb-renewed", "rdb-long", "list", "other-name", "none")
		}
		if m := r.mark(1); m.TTL != DeadlinesExact {
			t.Errorf("%s: mark: got ttl=%s, want exact", claim, m.TTL)
		}
	}
	scans := r.calls("scan")
	j := r.applyAll(Options{})
	ends("undisturbed")
	if n := r.calls("scan") - scans; n != 0 {
		t.Errorf("scans of the target: got %d, want none, as the RDB named the keys", n)
	}
	if st := j.Status()[0]; st.Expired != 4 || st.Doubtful != 0 {
		t.Errorf("status: got %d expired, %d doubtful, want 4 expired in transit", st.Expired, st.Doubtful)
	}

	for _, scan := range []bool{false, true} {
		dies(r, scan, ends)
	}
}

// dies lets whoever applies the spool, and knows the held deadlines by name or by a
// scan, die at each command of the pass.
func dies(r *rig, scan bool, ends func(claim string)) {
	t := r.t
	t.Helper()
	n := int64(0)
	for died := true; died; n++ {
		r.afresh()
		var seen atomic.Int64
		var pass atomic.Bool
		stop := make(chan struct{})
		proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
			switch strings.ToUpper(string(args[0])) {
			case "PTTL", "PEXPIRETIME", "SCAN": // where the pass begins
				pass.Store(true)
			}
			if pass.Load() && seen.Add(1) == n+1 {
				close(stop)
				return redistest.Close()
			}
			return redistest.Pass()
		})
		a := r.start(Options{Addr: proxy.Addr, UntilEnd: true, firstWait: time.Hour, batch: 5, heldUnknown: scan})
		select {
		case <-stop:
			_ = a.stop()
		case <-a.done:
			a.done <- nil
			_ = a.wait()
			died = false
		}
		proxy.Close()
		if died {
			r.applyAll(Options{}) // another process
		}
		ends(fmt.Sprintf("killed at command %d of the pass, by a scan: %v", n+1, scan))
		if t.Failed() {
			return
		}
	}
	if n < 20 {
		t.Errorf("places to die at: got %d, want each command of the pass", n)
	}
}

// A target that fails over in the middle of a pass may hold again what was set
// exact a moment ago, and the mark does not tell.
func TestATargetThatGoesBackInAPassIsScanned(t *testing.T) {
	for claim, scan := range map[string]bool{"by name": false, "by a scan": true} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			r := bareRig(t, 1)
			p := r.craft(1, 1)
			d := time.Now().Add(time.Hour).UnixMilli()
			const n = 3000
			for i := range n {
				p.write(fmt.Sprintf("SET k%d v PXAT %d", i, d))
			}
			var passed atomic.Int64
			proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
				if isWord(args, "PEXPIREAT") && passed.Add(1) == 1500 {
					for i := range n {
						r.target.Do(t, "PEXPIREAT", "k"+strconv.Itoa(i), at(held.By(1).Hold(d)))
					}
					return redistest.Close()
				}
				return redistest.Pass()
			})
			r.applyAll(Options{Addr: proxy.Addr, heldUnknown: scan})
			if passed.Load() < 1500 {
				t.Fatalf("deadlines set: got %d, want the pass to be broken", passed.Load())
			}
			for i := range n {
				r.wantDeadline("in the end", 0, "k"+strconv.Itoa(i), 0, d)
			}
		})
	}
}

// Groups that begin together share one scan, whenever each of them catches up.
func TestGroupsShareAScan(t *testing.T) {
	const groups, keys = 3, 5000
	r := bareRig(t, groups)
	d := time.Now().Add(time.Hour).UnixMilli()
	var pens []*pen
	for g := range repl.GroupID(groups) {
		p := r.craft(g+1, 1)
		for i := range keys / groups {
			p.write(fmt.Sprintf("SET k%d:%d v PXAT %d", g+1, i, d))
		}
		pens = append(pens, p)
	}
	r.applyAll(Options{}) // the marks are there, and say exact
	for i, p := range pens {
		late := resp.AppendCommandStrings(nil, "SET", fmt.Sprintf("late%d", i+1), "v", "PXAT", at(d))
		p.check(p.w.AppendStream(late, time.Now().Add(-time.Hour)))
		_, err := p.w.Sync()
		p.check(err)
		p.end += repl.Offset(len(late))
	}
	a := r.start(Options{})
	for i, p := range pens {
		redistest.Eventually(t, "a group at its end", func() bool { return a.job.Status()[i].Applied >= p.end })
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	for i := range pens {
		r.wantDeadline("held", 0, fmt.Sprintf("late%d", i+1), repl.GroupID(i+1), d)
	}

	before := r.calls("scan")
	a = r.start(Options{}) // knows none of them
	redistest.Eventually(t, "all groups in their sessions", func() bool {
		give, err := a.job.scans.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer give()
		n := 0
		for _, f := range a.job.scans.found {
			if f.wants {
				n++
			}
		}
		return n == groups
	})
	for i, p := range pens {
		p.write("PUBLISH c m")
		r.exact(a, repl.GroupID(i+1))
		r.wantDeadline("caught up", 0, fmt.Sprintf("late%d", i+1), 0, d)
	}
	// A round gives about scanCount keys at a time.
	if got, most := r.calls("scan")-before, 2*keys/scanCount; got == 0 || got > most {
		t.Errorf("scans of the target: got %d, want those of one round, at most %d", got, most)
	}
}

// Keys that the account may not touch, ours that were rejected and those of others,
// do not keep the rest from being set exact.
func TestKeysThatAreRefusedAreNoMatterOfThePass(t *testing.T) {
	if major, _ := redistest.Target(t).Version(); major < 6 {
		t.Skip("no ACL before 6.0")
	}
	r := bareRig(t, 1)
	d := time.Now().Add(time.Hour).UnixMilli()
	r.craft(1, 1).write("SET k v PXAT "+at(d), "SET deny v PXAT "+at(d), "SET k2 v PXAT "+at(d))
	r.target.Do(t, "SET", "other", "v", "EX", "1000")
	r.target.Do(t, "ACL", "SETUSER", "u", "on", ">pw", "~k*", "~tairlift:*", "+@all")
	j := r.applyAll(Options{Secret: "u:pw", OnReject: RejectContinue, OnExisting: ExistingReplace})
	if st := j.Status()[0]; st.Rejects != 1 || st.TTL != DeadlinesExact {
		t.Errorf("status: got %d rejects, ttl %s, want 1, exact", st.Rejects, st.TTL)
	}
	r.wantDeadline("in the end", 0, "k", 0, d)
	r.wantDeadline("in the end", 0, "k2", 0, d)
}

// A script of an old source may rename keys that it does not name as its own: one
// more reason to scan.
func TestAScriptThatRenamesHasTheTargetScanned(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1)
	d := time.Now().Add(time.Hour).UnixMilli()
	var clock lagging
	clock.set(time.Minute)
	a := r.start(Options{Now: clock.now})
	p.write("SET a v", "PEXPIREAT a "+at(d), "EVAL redis.call('rename',KEYS[1],ARGV[1]) 1 a b")
	a.reaches(t, p.end)
	r.wantDeadline("behind", 0, "b", 1, d)
	clock.set(0)
	p.write("PUBLISH c m")
	r.exact(a, 1)
	r.wantDeadline("caught up", 0, "b", 0, d)
}

// Of two groups on a target the one that is behind holds its own.
func TestAGroupHoldsItsOwnDeadlines(t *testing.T) {
	r := bareRig(t, 2)
	d := time.Now().Add(time.Hour).UnixMilli()
	p1, p2 := r.craft(1, 1), r.craft(2, 1)
	late := resp.AppendCommandStrings(nil, "SET", "b", "v")
	late = resp.AppendCommandStrings(late, "PEXPIREAT", "b", at(d))
	p2.check(p2.w.AppendStream(late, time.Now().Add(-time.Hour)))
	_, err := p2.w.Sync()
	p2.check(err)
	p2.end += repl.Offset(len(late))
	a := r.start(Options{})
	redistest.Eventually(t, "group 2 at its end", func() bool { return a.job.Status()[1].Applied >= p2.end })
	p1.write("SET a v", "PEXPIREAT a "+at(d))
	a.reaches(t, p1.end)
	r.exact(a, 1)
	r.wantDeadline("of the group in sync", 0, "a", 0, d)
	r.wantDeadline("of the group behind", 0, "b", 2, d)
	if m := r.mark(2); m.TTL != DeadlinesHeld {
		t.Errorf("mark of the group behind: got ttl=%s, want held", m.TTL)
	}
	p2.write("PUBLISH c m")
	r.exact(a, 2)
	r.wantDeadline("of the group that caught up", 0, "b", 0, d)
}

// The pass works beside a source that renews, renames, copies and deletes: every
// key ends when the source's does.
func TestAPassBesideAWritingSource(t *testing.T) {
	for claim, scan := range map[string]bool{"by name": false, "by a scan": true} {
		t.Run(claim, func(t *testing.T) { passBesideAWritingSource(t, scan) })
	}
}

func passBesideAWritingSource(t *testing.T, scan bool) {
	r := newRig(t, 1)
	s := r.sources[0]
	const n = 4000
	key := func(i int) string { return "k" + strconv.Itoa(i%n) }
	var fill []string
	for i := range n {
		fill = append(fill, "SET", key(i), "v", "EX", strconv.Itoa(3000+i))
		s.Do(t, fill...)
		fill = fill[:0]
	}
	r.capture()
	stop := writing(t, s, func(i int) []string {
		switch i % 5 {
		case 0:
			return []string{"EXPIRE", key(i * 7), strconv.Itoa(4000 + i%1000)}
		case 1:
			return []string{"EVAL", "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end", "2", key(i * 3), key(i * 11)}
		case 2:
			return []string{"SETEX", key(i * 13), strconv.Itoa(5000 + i%1000), "v"}
		case 3:
			return []string{"PERSIST", key(i * 17)}
		}
		return []string{"SET", "live", strconv.Itoa(i), "EX", "3000"}
	})
	a := r.start(Options{heldUnknown: scan})
	r.exact(a, 1)
	stop()
	r.caughtUp(a)
	s.Do(t, "PUBLISH", "c", "m") // something fresh, should it have fallen behind
	r.exact(a, 1)
	if scan && r.calls("scan") == 0 {
		t.Error("the target was not scanned")
	}
	for i := range n {
		r.sameDeadline("in the end", s, 0, key(i))
	}
	if st := a.job.Status()[0]; st.TTLPass.Set < n/2 || st.TTLPass.Total == 0 {
		t.Errorf("status of the pass: got %+v, want most of %d keys set exact", st.TTLPass, n)
	}
}

// Deadlines were exact, and apply was away while the source renewed keys: those
// that the target has expired are doubtful when a command counts on them.
func TestKeysThatDiedWhileApplyWasAwayAreDoubtful(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1)
	var clock lagging
	a := r.start(Options{Now: clock.now})
	soon := time.Now().Add(300 * time.Millisecond).UnixMilli()
	for _, k := range []string{"n", "h", "l", "set", "txn", "expired", "persisted", "p"} {
		switch k {
		case "h":
			p.write("HSET h f 1")
		case "l":
			p.write("RPUSH l a")
		default:
			p.write("SET " + k + " 5")
		}
		if k != "p" {
			p.write("PEXPIREAT " + k + " " + at(soon))
		}
	}
	p.write("SET alive 5", "EXPIRE alive 1000")
	a.reaches(t, p.end)
	r.exact(a, 1)
	redistest.Eventually(t, "the deadlines to pass", func() bool {
		return r.target.Do(t, "EXISTS", "n", "h", "l", "set", "txn", "expired", "persisted").Int == 0
	})

	clock.set(time.Minute)
	p.write("INCR n", "EXPIRE n 1000", "HSET h g 2", "RPUSH l b", "SET set 6", "INCR set", "APPEND alive 1", "MULTI", "APPEND txn x", "INCR p", "EXEC", "DEL gone", "INCR gone",
		"EXPIRE expired 1000", "PERSIST persisted")
	a.reaches(t, p.end)
	if got, want := a.doubts(t), "gone:expired gone:h gone:l gone:n gone:persisted gone:txn"; got != want {
		t.Errorf("doubtful: got %s, want %s", got, want)
	}
	if m := r.mark(1); !m.Asked {
		t.Error("the mark does not say that its batch has asked")
	}
	r.want("what was not gone", map[string]string{"0 GET set": "7", "0 GET alive": "51", "0 GET p": "6"})
}

// A deadline that could be taken for a held one stops its group, in the stream and
// in the RDB, before it is written.
func TestADeadlineThatLooksHeldStopsTheGroup(t *testing.T) {
	r := bareRig(t, 1)
	r.craft(1, 1).write("SET k v", "PEXPIREAT k "+at(held.Base), "SET after v")
	r.stopped(Options{}, "deadline-too-late")
	r.want("before it", map[string]string{"0 EXISTS k after": "1"})

	r = r.again(t)
	body := binary.LittleEndian.AppendUint64([]byte("REDIS0007\xfe\x00\xfc"), uint64(held.Base))
	body = append(body, "\x00\x01k\x01v\xff"...)
	p := r.craftBegin(1, 1, spool.WriterOptions{})
	p.rdb(binary.LittleEndian.AppendUint64(body, rdb.CRC64(0, body)))
	r.stopped(Options{}, "deadline-too-late")
	r.want("of the RDB", map[string]string{"0 EXISTS k": "0"})
}

// A mark that an earlier version left within an RDB says nothing of deadlines: what
// is written from there on is held, and the mark says so first.
func TestAnRDBThatAnEarlierVersionBegan(t *testing.T) {
	r := bareRig(t, 1)
	d := time.Now().Add(time.Hour).UnixMilli()
	body := []byte("REDIS0007\xfe\x00")
	for _, k := range []string{"a", "b"} {
		body = binary.LittleEndian.AppendUint64(append(body, 0xfc), uint64(d))
		body = append(body, "\x00\x01"+k+"\x01v"...)
	}
	body = append(body, 0xff)
	p := r.craftBegin(1, 1, spool.WriterOptions{})
	p.rdb(binary.LittleEndian.AppendUint64(body, rdb.CRC64(0, body)))
	p.write("INCR n")
	var clock lagging
	clock.set(time.Minute)
	a := r.start(Options{Now: clock.now})
	a.reaches(t, p.end)
	r.wantDeadline("of the RDB", 0, "b", 1, d)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	r.setMark(func(m *Mark) {
		m.Phase, m.Offset, m.Start, m.RDB, m.Keys, m.TTL = checkpoint.PhaseRDB, craftedStart, craftedStart, 0, 0, DeadlinesExact
	})
	text := r.markText(1)
	r.target.Do(t, "SET", markKey(r.job, 1), strings.Replace(text, " ttl=exact", "", 1))
	r.target.Do(t, "DEL", "n")
	p.seal()
	r.applyAll(Options{})
	r.wantDeadline("in the end", 0, "a", 0, d)
	r.wantDeadline("in the end", 0, "b", 0, d)
	r.want("in the end", map[string]string{"0 GET n": "1"})
}

// Whoever knows that a group has all that its source holds says so: then the age
// of that does not matter.
func TestDeadlinesAreExactWhenTheSourceIsReached(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1)
	var clock lagging
	clock.set(time.Hour)
	d := time.Now().Add(time.Hour).UnixMilli()
	p.write("SET a v", "PEXPIREAT a "+at(d))
	a := r.start(Options{Now: clock.now})
	a.reaches(t, p.end)
	r.wantDeadline("reached", 0, "a", 1, d)
	a.job.Settle(1, 1, p.end+1)
	p.write("SET b v", "PEXPIREAT b "+at(d))
	r.exact(a, 1)
	r.wantDeadline("and told", 0, "a", 0, d)
	r.wantDeadline("and told", 0, "b", 0, d)
}

// timedKey is a target in sync that has a key with a deadline, so that others may
// have had one too.
func (r *rig) timedKey(o Options) (*pen, *applying) {
	r.t.Helper()
	p := r.craft(1, 1)
	a := r.start(o)
	p.write("SET alive 5", "EXPIRE alive 1000", "SET n 5", "RPUSH l a")
	a.reaches(r.t, p.end)
	r.exact(a, 1)
	return p, a
}

func (a *applying) doubts(t *testing.T) string {
	t.Helper()
	var got []string
	if err := a.store.Doubts(1, func(d checkpoint.Doubt) error { got = append(got, d.Why+":"+string(d.Key)); return nil }); err != nil {
		t.Fatal(err)
	}
	return strings.Join(got, " ")
}

// A batch that was fresh when it was sent, and is executed much later, has not
// asked: all that it counts on is doubtful.
func TestABatchThatIsExecutedLate(t *testing.T) {
	r := bareRig(t, 1)
	// By the target's clock every batch is late, by this machine's none.
	p, a := r.timedKey(Options{behindAge: time.Hour, lateAge: -1})
	p.write("INCR n", "SET other v", "RPUSH l b", "APPEND other w")
	a.reaches(t, p.end)
	if got, want := a.doubts(t), "late:l late:n"; got != want {
		t.Errorf("doubtful: got %s, want %s", got, want)
	}
}

// A batch has asked, and its answers are lost: what it counts on is doubtful, also
// where its type would prove that nothing failed.
func TestAnswersThatWereLostOfABatchThatAsked(t *testing.T) {
	r := bareRig(t, 1)
	var clock lagging
	var asked atomic.Bool
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		switch strings.ToUpper(string(args[0])) {
		case "EXISTS":
			asked.Store(len(args) == 2 && string(args[1]) == "n")
		case "EXEC":
			if asked.CompareAndSwap(true, false) {
				return redistest.DropReply()
			}
		}
		return redistest.Pass()
	})
	p, a := r.timedKey(Options{Addr: proxy.Addr, Now: clock.now})
	clock.set(time.Minute)
	p.write("SET other v", "INCR n")
	a.reaches(t, p.end)
	redistest.Eventually(t, "the doubt", func() bool { return a.doubts(t) == "unread:n" }) // the mark alone tells the position
	r.want("once", map[string]string{"0 GET n": "6"})
}

// The same of a batch that was fresh when it was sent, and hung: a target that
// executes it later may have expired a key before, and nobody reads that.
func TestAnswersThatWereLostOfABatchThatHung(t *testing.T) {
	for claim, tt := range map[string]struct {
		timed bool
		want  string
	}{
		"some key has a deadline": {true, "unread:k unread:n"},
		"none ever had one":       {false, ""},
	} {
		t.Run(claim, func(t *testing.T) {
			r := bareRig(t, 1)
			var armed atomic.Bool
			proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
				if strings.EqualFold(string(args[0]), "EXEC") && armed.CompareAndSwap(true, false) {
					r.target.Do(t, "DEL", "k", "n") // as their deadlines would
					return redistest.DropReply()
				}
				return redistest.Pass()
			})
			p := r.craft(1, 1)
			a := r.start(Options{Addr: proxy.Addr})
			p.write("SET k 5", "SET n 5", "SET other 5")
			if tt.timed {
				p.write("EXPIRE k 1000", "EXPIRE n 1000")
			}
			a.reaches(t, p.end)
			r.exact(a, 1)
			armed.Store(true)
			p.write("PERSIST k", "INCR n", "SET other 6")
			a.reaches(t, p.end)
			p.write("SET other 7") // behind what was lost, and looked at
			a.reaches(t, p.end)
			if armed.Load() {
				t.Fatal("no answer was lost")
			}
			if got := a.doubts(t); got != tt.want {
				t.Errorf("doubtful: got %q, want %q", got, tt.want)
			}
		})
	}
}

// Every key of the target that had a deadline has died while apply was away: that
// there were some is in the mark.
func TestEveryKeyWithADeadlineDiedWhileApplyWasAway(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1)
	p.write("SET n 5", "EXPIRE n 1000", "SET m 5")
	a := r.start(Options{})
	a.reaches(t, p.end)
	r.exact(a, 1)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	r.target.Do(t, "PEXPIREAT", "n", "1")
	var clock lagging
	clock.set(time.Minute)
	p.write("INCR n", "INCR m")
	a = r.start(Options{Now: clock.now})
	a.reaches(t, p.end)
	if got, want := a.doubts(t), "gone:n"; got != want {
		t.Errorf("doubtful: got %q, want %q", got, want)
	}
}

// A command that fails because its key died early is explained by the doubt.
func TestAFailureOnAKeyThatDiedIsNoReject(t *testing.T) {
	for _, policy := range []RejectPolicy{RejectStop, RejectContinue} {
		r := bareRig(t, 1)
		p := r.craft(1, 1)
		var clock lagging
		a := r.start(Options{Now: clock.now, OnReject: policy})
		soon := at(time.Now().Add(300 * time.Millisecond).UnixMilli())
		p.write("SET k 5", "PEXPIREAT k "+soon, "RPUSH l a", "PEXPIREAT l "+soon, "SET alive 5", "EXPIRE alive 1000")
		a.reaches(t, p.end)
		r.exact(a, 1)
		redistest.Eventually(t, "the deadlines to pass", func() bool { return r.target.Do(t, "EXISTS", "k", "l").Int == 0 })
		clock.set(time.Minute)
		p.write("EXPIRE k 1000", "RENAME k j", "LSET l 0 b", "SET after 1")
		a.reaches(t, p.end)
		redistest.Eventually(t, "the doubts", func() bool { return strings.HasSuffix(a.doubts(t), ":j gone:k gone:l") })
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// The source renames a key in the last moment of its life: here it is gone.
func TestARenameInTheLastMomentIsNoReject(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1)
	a := r.start(Options{})
	soon := at(time.Now().Add(300 * time.Millisecond).UnixMilli())
	p.write("SET k 5", "PEXPIREAT k "+soon, "SET alive 5", "EXPIRE alive 1000")
	a.reaches(t, p.end)
	r.exact(a, 1)
	redistest.Eventually(t, "the deadline to pass", func() bool { return r.target.Do(t, "EXISTS", "k").Int == 0 })
	p.write("RENAME k j", "SET after 1") // as fresh as can be
	a.reaches(t, p.end)
	redistest.Eventually(t, "the doubts", func() bool { return a.doubts(t) == "gone:j gone:k" })
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
}

// What stands of deadlines is known before the mark is read again.
func TestDeadlinesThatAreHeldAreTold(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1)
	p.write("SET k 5", "EXPIRE k 1000")
	var clock lagging
	clock.set(time.Hour)
	a := r.start(Options{Now: clock.now})
	a.reaches(t, p.end)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	o := r.options(Options{Now: time.Now, Pace: pace.New(pace.Limits{}, 0)})
	defer o.Store.Close()
	g, err := newGroup(&Job{o: o}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := g.status.get().TTL; got == DeadlinesExact {
		t.Errorf("deadlines of a group that has just begun: got %s, want held", got)
	}
}
