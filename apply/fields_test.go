package apply

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/command"
	"tairlift/internal/rdb"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

// A command of times to live of fields makes its hash doubtful if it comes late:
// a field, or the hash, may have died before.
func TestLateCommandsOfFieldsMakeTheirHashDoubtful(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	var known doubtSet
	known.clear()
	b := &Batch{}
	tr := translator{
		clock: &offsetClock{}, scripts: &scripts{}, caps: command.Caps{Major: 8}, held: &heldKeys{},
		proveDB: func(int) error { return nil }, doubtful: &known, wall: func() time.Time { return now },
	}
	tr.derived = deriver{known: &known}
	tr.start(b, 0, 0)
	offset := repl.Offset(0)
	add := func(age time.Duration, lines ...string) {
		for _, line := range lines {
			offset++
			if err := tr.add(resp.Command{Args: bytes.Fields([]byte(line)), End: offset}, now.Add(-age)); err != nil {
				t.Fatal(err)
			}
		}
	}
	add(0, "HPEXPIREAT fresh 1700000100000 FIELDS 1 f", "HPERSIST fresh FIELDS 1 f")
	if len(tr.doubts) != 0 {
		t.Errorf("doubtful of what is fresh: got %d, want none", len(tr.doubts))
	}
	add(time.Minute, "HSET plain f 1", "HPEXPIREAT h1 1700000100000 FIELDS 1 f", "HPERSIST h2 FIELDS 1 f", "HEXPIRE h3 100 FIELDS 1 f",
		"HSETEX h4 EX 100 FIELDS 1 f v", "HGETEX h5 PERSIST FIELDS 1 f")
	var got []string
	for _, d := range tr.doubts {
		got = append(got, fmt.Sprintf("%s:%s:%v", d.Why, d.Key, d.Own))
	}
	if want := "fields:h1:true fields:h2:true fields:h3:true fields:h4:true fields:h5:true"; strings.Join(got, " ") != want {
		t.Errorf("doubtful: got %v, want %s", got, want)
	}
	if !b.timed {
		t.Error("the batch does not say that something may have a deadline")
	}
}

// An entry of the RDB is doubtful if a field of it has died, or may before the group
// has caught up.
func TestEntriesWhoseFieldsEndSoonAreDoubtful(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	payload := func(typ byte, first time.Duration) []byte {
		return binary.LittleEndian.AppendUint64([]byte{typ}, uint64(now.Add(first).UnixMilli()))
	}
	s := &snapshot{g: &group{id: 1, wall: func() time.Time { return now }}, epoch: 3}
	c := &chunk{}
	for _, e := range []rdb.Entry{
		{Key: []byte("past"), Type: rdb.TypeHashFieldTTL, Payload: payload(rdb.TypeHashFieldTTL, -time.Minute)},
		{Key: []byte("soon"), Type: rdb.TypeHashFieldTTLPacked, Payload: payload(rdb.TypeHashFieldTTLPacked, time.Hour)},
		{Key: []byte("later"), Type: rdb.TypeHashFieldTTL, Payload: payload(rdb.TypeHashFieldTTL, 48*time.Hour)},
		{Key: []byte("unread"), Type: rdb.TypeHashFieldTTL, Unread: true},
		{Key: []byte("valkey"), Type: rdb.TypeHashValkey, Payload: payload(rdb.TypeHashValkey, 48*time.Hour)},
		{Key: []byte("plain"), Type: rdb.TypeHash, Payload: payload(rdb.TypeHash, 0)},
	} {
		s.fields(c, &e)
	}
	var got []string
	for _, d := range c.doubts {
		if d.Why != "fields" || d.Epoch != 3 || !d.Own {
			t.Errorf("got %+v, want one of its fields", d)
		}
		got = append(got, string(d.Key))
	}
	if want := "past soon unread valkey"; strings.Join(got, " ") != want {
		t.Errorf("doubtful: got %v, want %s", got, want)
	}
	if !c.seen.timed {
		t.Error("the chunk does not say that something in it has a deadline")
	}
}

// Fields that the source renews while apply waits are right in the end, once
// their hashes were copied again. It takes servers from 7.4 on.
func TestFieldsThatDiedWhileApplyWasAway(t *testing.T) {
	r := newRig(t, 1)
	s := r.sources[0]
	if s.VersionNumber() < 704 || r.target.VersionNumber() < 704 {
		t.Skip("source or target has no deadlines of fields")
	}
	for _, k := range []string{"renewed", "persisted", "only", "named"} {
		s.Do(t, "HSET", k, "f", "1")
		if k != "only" {
			s.Do(t, "HSET", k, "g", "2")
		}
		s.Do(t, "HPEXPIRE", k, "2500", "FIELDS", "1", "f")
	}
	s.Do(t, "EXPIRE", "only", "5000")
	r.capture()
	s.Do(t, "HINCRBY", "renewed", "f", "1")
	s.Do(t, "HEXPIRE", "renewed", "1000", "FIELDS", "1", "f")
	s.Do(t, "HPERSIST", "persisted", "FIELDS", "1", "f")
	s.Do(t, "HSET", "only", "g", "2") // has a time to live, unless it died before
	s.Do(t, "HPERSIST", "named", "FIELDS", "1", "f")
	s.Do(t, "RENAME", "named", "other-name")
	if s.Do(t, "HLEN", "other-name").Int+s.Do(t, "HLEN", "persisted").Int+s.Do(t, "HLEN", "renewed").Int != 6 {
		t.Skip("this machine is too slow for the deadlines")
	}
	redistest.Eventually(t, "the field that is not renewed to end", func() bool { return s.Do(t, "HLEN", "only").Int == 1 })
	a := r.start(Options{Sources: r.sourcesOf()})
	r.caughtUp(a)
	redistest.Eventually(t, "every hash to have been copied again", func() bool {
		st := a.job.Status()[0]
		return st.Doubtful == 0 && st.Healed > 0
	})
	sameKeys(t, "copied again", r.target, s)
	r.sameDeadline("copied again", s, 0, "only")
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}

	var clock lagging // deadlines are exact now, and the answer tells
	s.Do(t, "HSET", "late", "f", "1", "g", "2")
	a = r.start(Options{Now: clock.now})
	r.caughtUp(a)
	r.target.Do(t, "HDEL", "late", "f")
	s.Do(t, "HEXPIRE", "late", "1000", "FIELDS", "1", "f")
	r.caughtUp(a)
	if got, want := a.doubts(t), "gone:late"; got != want {
		t.Errorf("doubtful: got %q, want %q", got, want)
	}
	var own bool
	err := a.store.Doubts(1, func(d checkpoint.Doubt) error { own = d.Own; return nil })
	if err != nil || !own {
		t.Errorf("the doubt: got %v, its own %v, want it to be", err, own)
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
}
