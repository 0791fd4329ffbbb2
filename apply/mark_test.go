package apply

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tairlift/checkpoint"
	"tairlift/internal/repl"
	"tairlift/spool"
)

func TestMarkRoundTrip(t *testing.T) {
	id := repl.ReplID(strings.Repeat("0f", 20))
	for _, m := range []Mark{
		{Owner: "a.0"},
		{Owner: "a.1", Epoch: 1, Phase: checkpoint.PhaseRDB, ReplID: id, Offset: 9, RDB: 1 << 40, RDBDB: 15, Keys: 7, RunID: "r"},
		{Owner: "b.2", Epoch: 3, Phase: checkpoint.PhaseStream, ReplID: id, Offset: 1 << 60, Start: 1<<60 - 1, DB: 2, StartDB: 1, Commands: 5, RunID: string(id)},
		{Owner: "d.1", Epoch: 2, Phase: checkpoint.PhaseStream, ReplID: id, Offset: 5, Start: 5, TTL: DeadlinesHeld},
		{Owner: "d.1", Epoch: 2, Phase: checkpoint.PhaseStream, ReplID: id, Offset: 5, Start: 5, TTL: DeadlinesMixed, Timed: true, Asked: true},
		{Owner: "c.1", Epoch: 9, Phase: checkpoint.PhaseSweep, ReplID: id, Offset: 7, Past: []Delivered{{Epoch: 1, Until: spool.WalkRDB}, {Epoch: 3, Until: 8125}, {Epoch: 8, Until: spool.WalkAll}}},
		{Owner: "e.1", Epoch: 9, Phase: checkpoint.PhaseStream, ReplID: id, Offset: 7, Swap: Swap{Step: 2, A: 0, B: 15}, Turns: spool.Turns{3}},
		{Owner: "e.1", Epoch: 9, Phase: checkpoint.PhaseRDB, ReplID: id, Offset: 7, Past: []Delivered{
			{Epoch: 1, Until: 9, Turns: spool.Turns{3, 5}}, {Epoch: 2, Until: 7, Swap: Swap{Step: 1, A: 3, B: 1}}, {Epoch: 3, Until: 9, Turns: spool.Turns{1}, Swap: Swap{Step: 1, B: 1}},
		}},
	} {
		got, err := ParseMark(m.String())
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("ParseMark(%q): got %+v, %v, want %+v", m, got, err, m)
		}
	}
}

// turnsOf are the first n turns.
func turnsOf(n int) string {
	var t spool.Turns
	for i := range n {
		t = append(t, repl.Offset(i))
	}
	return turnsText(t, ",")
}

func TestParseMarkRefuses(t *testing.T) {
	good := Mark{Owner: "a.0"}.String()
	for claim, text := range map[string]string{
		"nothing":                "",
		"a newer version":        strings.Replace(good, "v=2", "v=3", 1),
		"a past that is no list": strings.Replace(good, "past=-", "past=1", 1),
		"a past out of order":    strings.Replace(good, "past=-", "past=2:rdb,1:rdb", 1),
		"a past without end":     strings.Replace(good, "past=-", "past="+strings.Repeat("1:rdb,", maxPast)+"1:rdb", 1),
		"a past before 0":        strings.Replace(good, "past=-", "past=1:-1", 1),
		"an unknown field":       good + " more=1",
		"a missing field":        strings.Replace(good, " db=0", "", 1),
		"a negative database":    strings.Replace(good, " db=0", " db=-1", 1),
		"an unknown phase":       strings.Replace(good, "phase=none", "phase=x", 1),
		"unknown deadlines":      strings.Replace(good, "ttl=exact", "ttl=late", 1),
		"a strange flag":         good + " asked=0",
		"another strange flag":   good + " timed=0",
		"text":                   "hello world",
		"turns out of order":     good + " turns=5,5",
		"a turn that is none":    good + " turns=",
		"turns without end":      good + " turns=" + turnsOf(maxTurns+1),
		"a step that is none":    good + " swap=4:0-1",
		"a step before them":     good + " swap=0:0-1",
		"a swap of one database": good + " swap=1:3-3",
		"a swap of no databases": good + " swap=1",
		"half a swap of none":    strings.Replace(good, "past=-", "past=1:5~0", 1),
		"a past with no turn":    strings.Replace(good, "past=-", "past=1:5@", 1),
	} {
		if m, err := ParseMark(text); err == nil {
			t.Errorf("%s: got %+v, want an error", claim, m)
		}
	}
}

func TestOwnKeys(t *testing.T) {
	for key, want := range map[string]bool{
		"tairlift:jobs": true, "tairlift:": true, "tairlift": false, "t": false, "": false,
		"DTS_REDIS_TIMESTAMP_HEARTBEAT": true, "DTS_REDIS_TIMESTAMP_HEARTBEAT3": true, "DTS_REDIS": false, "D": false,
	} {
		if got := isOurs([]byte(key)); got != want {
			t.Errorf("isOurs(%q): got %v, want %v", key, got, want)
		}
	}
}

func TestParseMarkReadsTheVersionBefore(t *testing.T) {
	m := Mark{Owner: "a.1", Epoch: 2, Phase: checkpoint.PhaseStream, ReplID: repl.ReplID(strings.Repeat("0f", 20)), Offset: 5, Start: 5}
	// Nor does the version before say how deadlines stand: they were exact.
	m.Timed = true
	if got, err := ParseMark(strings.Replace(strings.Replace(m.String(), " ttl=exact", "", 1), " timed=1", "", 1)); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("ParseMark without ttl: got %+v, %v, want %+v", got, err, m)
	}
	old := strings.Replace(strings.Replace(m.String(), "v=2", "v=1", 1), " past=-", "", 1)
	if got, err := ParseMark(old); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("ParseMark(%q): got %+v, %v, want %+v", old, got, err, m)
	}
}

// TestWhatAMarkLeavesBehindCanBeReadAgain: --reseed puts every epoch that is
// known into the past, one whose RDB is still arriving too.
func TestWhatAMarkLeavesBehindCanBeReadAgain(t *testing.T) {
	all := []Delivered{{Epoch: 1, Until: spool.WalkAll}, {Epoch: 2, Until: spool.WalkAll}}
	for _, tt := range []struct {
		claim string
		mark  Mark
		want  []Delivered
	}{
		{"nothing was begun", Mark{Past: all}, all},
		{"the first epoch", Mark{Epoch: 1, Phase: checkpoint.PhaseStream, Offset: 7}, []Delivered{{Epoch: 1, Until: 7}}},
		{"an RDB in part", Mark{Epoch: 1, Phase: checkpoint.PhaseRDB}, []Delivered{{Epoch: 1, Until: spool.WalkRDB}}},
		{"the last of the past, begun again", Mark{Epoch: 2, Phase: checkpoint.PhaseRDB, Past: all}, all},
		{"an earlier one, begun again", Mark{Epoch: 1, Phase: checkpoint.PhaseSweep, Past: all}, all},
		{"one behind the past", Mark{Epoch: 3, Phase: checkpoint.PhaseRDB, Past: all}, append(slices.Clone(all), Delivered{Epoch: 3, Until: spool.WalkRDB})},
	} {
		got := tt.mark.left()
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.claim, diff)
		}
		text := Mark{Owner: "a.1.1", Epoch: 4, Phase: checkpoint.PhaseRDB, Past: got}.String()
		if _, err := ParseMark(text); err != nil {
			t.Errorf("%s: %v", tt.claim, err)
		}
	}
}
