package apply

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tairlift/internal/rdb"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// pen writes the spool of one group by hand.
type pen struct {
	t   *testing.T
	w   *spool.Writer
	end repl.Offset
}

const craftedStart = 1000

// craft begins an epoch with an RDB of the entries, each "key value".
func (r *rig) craft(id repl.GroupID, e repl.Epoch, entries ...string) *pen {
	r.t.Helper()
	p := r.craftBegin(id, e, spool.WriterOptions{})
	p.rdb(handRDB(entries...))
	return p
}

// craftBegin begins an epoch without an RDB.
func (r *rig) craftBegin(id repl.GroupID, e repl.Epoch, o spool.WriterOptions) *pen {
	r.t.Helper()
	w, err := spool.Create(filepath.Join(r.dir, "spool"), spool.Identity{
		Job: r.job, Group: id, Epoch: e, ReplID: repl.ReplID(strings.Repeat("ab", 20)), Start: craftedStart,
	}, o)
	p := &pen{t: r.t, w: w, end: craftedStart}
	p.check(err)
	r.t.Cleanup(func() { w.Close() })
	return p
}

func (p *pen) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *pen) rdb(body []byte) {
	p.t.Helper()
	p.check(p.w.BeginRDB(int64(len(body))))
	p.check(p.w.AppendRDB(body, time.Now()))
	p.check(p.w.EndRDB(rdb.CRC64(0, body[:len(body)-8]), true))
}

// write appends commands, each a line of words; a frame for all of them.
func (p *pen) write(lines ...string) *pen {
	p.t.Helper()
	var b []byte
	for _, l := range lines {
		b = resp.AppendCommandStrings(b, strings.Fields(l)...)
	}
	return p.bytes(b)
}

// command appends one command whose arguments hold spaces.
func (p *pen) command(args ...string) *pen {
	p.t.Helper()
	return p.bytes(resp.AppendCommandStrings(nil, args...))
}

func (p *pen) bytes(b []byte) *pen {
	p.t.Helper()
	p.check(p.w.AppendStream(b, time.Now()))
	_, err := p.w.Sync()
	p.check(err)
	p.end += repl.Offset(len(b))
	return p
}

func (p *pen) seal() {
	p.t.Helper()
	p.check(p.w.Seal())
}

// handRDB is an RDB of version 7 with plain strings; "n:key value" is in
// database n.
func handRDB(entries ...string) []byte {
	b := []byte("REDIS0007")
	for _, e := range entries {
		k, v, _ := strings.Cut(e, " ")
		db := byte(0)
		if n, name, ok := strings.Cut(k, ":"); ok {
			db, k = n[0]-'0', name
		}
		b = append(b, 0xFE, db, 0)
		b = append(append(b, byte(len(k))), k...)
		b = append(append(b, byte(len(v))), v...)
	}
	b = append(b, 0xFF)
	return binary.LittleEndian.AppendUint64(b, rdb.CRC64(0, b))
}

// end applies everything in the spool and wants the group to stop there.
func (r *rig) stopped(o Options, reason string) *StopError {
	r.t.Helper()
	o.UntilEnd = true
	a := r.start(o)
	err := a.wait()
	var stop *StopError
	if !errors.As(err, &stop) || stop.Reason != reason {
		r.t.Fatalf("run: got %v, want a stop with reason %s", err, reason)
	}
	if stop.What == "" || stop.Hint == "" || strings.Contains(stop.What+stop.Hint, "\n") {
		r.t.Errorf("stop %s: got what %q, hint %q, want one line each", reason, stop.What, stop.Hint)
	}
	st := a.job.Status()[0]
	if st.State != StateStopped || st.Reason != reason || st.What != stop.What || st.Hint != stop.Hint {
		r.t.Errorf("status: got %s %q %q %q, want it stopped as the error says", st.State, st.Reason, st.What, st.Hint)
	}
	return stop
}

func (r *rig) markText(id repl.GroupID) string {
	r.t.Helper()
	return r.target.Do(r.t, "GET", markKey(r.job, id)).String()
}

func (r *rig) mark(id repl.GroupID) Mark {
	r.t.Helper()
	m, err := ParseMark(r.markText(id))
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// setMark changes the mark of group 1 behind apply's back.
func (r *rig) setMark(change func(*Mark)) {
	r.t.Helper()
	m := r.mark(1)
	change(&m)
	r.target.Do(r.t, "SET", markKey(r.job, 1), m.String())
}

// want checks values on the target: "db command..." -> show1 of the reply.
func (r *rig) want(claim string, values map[string]string) {
	r.t.Helper()
	for q, want := range values {
		f := strings.Fields(q)
		if got := r.target.DoIn(r.t, int(f[0][0]-'0'), f[1:]...).String(); got != want {
			r.t.Errorf("%s: %s: got %s, want %s", claim, q, got, want)
		}
	}
}

// reaches waits until group 1 has applied up to the offset.
func (a *applying) reaches(t *testing.T, o repl.Offset) {
	t.Helper()
	redistest.Eventually(t, "offset "+o.String(), func() bool {
		st := a.job.Status()[0]
		if st.State == StateStopped {
			t.Fatalf("group stopped: %s: %s", st.Reason, st.What)
		}
		return st.Applied >= o
	})
}

// waitsFor waits until group 1 shows the reason.
func (a *applying) waitsFor(t *testing.T, reason string) {
	t.Helper()
	redistest.Eventually(t, "reason "+reason, func() bool {
		st := a.job.Status()[0]
		return st.Reason == reason && st.Hint != "" && st.What != ""
	})
}
