package apply

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"tairlift/internal/held"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// A batch counts on what its keys held before it, and on what it has written itself
// where a deadline of its own may have ended that.
func TestWhatABatchCountsOn(t *testing.T) {
	now := time.Now().UnixMilli()
	soon, far, kept := strconv.FormatInt(now-1, 10), strconv.FormatInt(now+1e6, 10), strconv.FormatInt(held.By(1).Hold(now-1), 10)
	for _, tt := range []struct {
		claim, cmds, want string
	}{
		{"each key once", "INCR a;INCR b;INCR a", "0:a 1:b"},
		{"what was written before is there", "SET a 1;INCR a", ""},
		{"unless its deadline has passed", "SET a 1;PEXPIREAT a " + soon + ";INCR a;INCR a", "2:a"},
		{"the same of a key that was there", "INCR a;PEXPIREAT a " + soon + ";INCR a", "0:a 2:a"},
		{"of one that is restored", "RESTORE a " + soon + " x REPLACE ABSTTL;APPEND a x", "1:a"},
		{"of one that is set with it", "SET a 1 PXAT " + soon + ";APPEND a x", "1:a"},
		{"not of one that ends later", "SET a 1;PEXPIREAT a " + far + ";INCR a", ""},
		{"nor of one that is held back", "SET a 1;PEXPIREAT a " + kept + ";INCR a", ""},
		{"written anew behind it", "SET a 1;PEXPIREAT a " + soon + ";SET a 2;INCR a", ""},
	} {
		var b Batch
		b.begin(nil)
		for line := range strings.SplitSeq(tt.cmds, ";") {
			b.buf = resp.AppendCommandStrings(b.buf, strings.Fields(line)...)
			b.added(1, 1)
		}
		var got []string
		err := b.stateful(func(deadline int64) bool { return deadline <= now }, func(i int, a counted) {
			got = append(got, strconv.Itoa(i)+":"+string(a.key))
		})
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %s: got %q, %v, want %q", tt.claim, tt.cmds, got, err, tt.want)
		}
	}
}

// How old a batch was is the target's word, but for a clock that is far ahead.
func TestTheAgeOfABatch(t *testing.T) {
	const late, none = 700 * time.Millisecond, -1
	for claim, tt := range map[string]struct {
		ahead, skew, least, at, want time.Duration
	}{
		"all clocks alike":                  {0, 0, none, late, late},
		"a little ahead":                    {farAhead, 0, none, late, late},
		"behind":                            {-time.Minute, 0, none, late, late},
		"far ahead":                         {time.Minute, 0, none, time.Minute + 20*time.Millisecond, 20 * time.Millisecond},
		"far ahead, as it was":              {time.Minute, 0, time.Minute + 5*time.Millisecond, time.Minute + 20*time.Millisecond, 20 * time.Millisecond},
		"of a clock here that was set back": {time.Minute, 0, 5 * time.Millisecond, late, late},
		"of a clock here that is wrong, and capture's":      {time.Minute, time.Minute, none, late, late},
		"far ahead, and capture's is wrong":                 {time.Minute, -time.Hour, none, time.Minute + late, late},
		"as far ahead as the source, and both clocks wrong": {time.Minute, 2 * time.Minute, none, late, late},
	} {
		s := &streamer{lane: &Lane{ahead: &tt.ahead, target: target{runID: "r"}}}
		s.tr.clock = &offsetClock{samples: []spool.ClockSample{{SourceMicros: tt.skew.Microseconds()}}}
		if tt.least != none {
			s.noteBehind(&Batch{oldest: 1000, executed: 1000 + tt.least.Milliseconds()})
			s.noteBehind(&Batch{oldest: 1000, executed: 1000 + time.Hour.Milliseconds()})
		}
		b := &Batch{oldest: 1_790_000_000_100}
		executed := b.oldest + tt.at.Milliseconds()
		b.told(executed / 1000)
		b.told(executed % 1000 * 1000)
		if got := s.age(b); got != tt.want {
			t.Errorf("%s: executed %s later, by a clock %s ahead: got %s, want %s", claim, tt.at, tt.ahead, got, tt.want)
		}
	}
}

func TestWhichKeysACommandCountsOn(t *testing.T) {
	for line, want := range map[string]string{
		"INCR a": "a", "APPEND a x ; APPEND a y": "a", "HPERSIST a FIELDS 1 f": "a", "XTRIM a MAXLEN 5": "a",
		"SET a 1 ; INCR a": "", "SETNX a 1": "", "MSET a 1 b 2": "", "GETSET a 1": "", "DEL a b": "", "RESTORE a 0 p REPLACE": "",
		"PEXPIREAT a 1": "", "PERSIST a": "",
		"SUNIONSTORE d a b": "a b", "BITOP AND d a": "a", "ZUNIONSTORE d 1 a": "a", "RENAME a d": "a", "COPY a d REPLACE": "a",
		"SORT a STORE d": "a", "GEORADIUS a 1 1 1 m STORE d": "a", "PFMERGE d a": "d a", "EVAL x 2 a b": "a b", "NOSUCH a": "a",
	} {
		var b Batch
		b.begin(nil)
		b.use(0, 1)
		for command := range strings.SplitSeq(line, " ; ") {
			b.buf = resp.AppendCommandStrings(b.buf, strings.Fields(command)...)
			b.added(1, 1)
		}
		var got []string
		err := b.stateful(func(int64) bool { return false }, func(_ int, a counted) { got = append(got, string(a.key)) })
		if text := strings.Join(got, " "); err != nil || text != want {
			t.Errorf("%s: got %q, %v, want %q", line, text, err, want)
		}
	}
}
