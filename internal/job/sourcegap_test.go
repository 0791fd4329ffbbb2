package job

import (
	"strings"
	"testing"

	"tairlift/internal/psync"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
)

// What a source writes for its own replicas is not what was missed.
func TestWhatASourceHasBeyondAPosition(t *testing.T) {
	source, replica := redistest.Source(t, redistest.Arg("--repl-backlog-size", "16kb")), redistest.Target(t)
	replica.ReplicaOf(t, source)
	source.Do(t, "SET", "k", "v")
	sample := func() repl.Position {
		t.Helper()
		s, err := psync.Sample(t.Context(), source.Dial(t))
		if err != nil {
			t.Fatal(err)
		}
		return repl.Position{ReplID: s.ReplID, Offset: s.Offset}
	}
	full := source.Info(t, "stats")["sync_full"]
	for _, tt := range []struct {
		claim   string
		write   [][]string
		more    bool
		first   string
		any     bool // the first command may be told, or not
		history bool
		from    func(*repl.Position)
	}{
		{claim: "nothing"},
		{claim: "what is not data", write: [][]string{{"PUBLISH", "c", "m"}, {"SET", "DTS_REDIS_TIMESTAMP_HEARTBEAT", "1"}, {"PUBLISH", "c", "m"}}},
		{claim: "a command behind it", write: [][]string{{"PUBLISH", "c", "m"}, {"INCR", "n"}}, more: true, first: "INCR"},
		{claim: "a key beside ours", write: [][]string{{"MSET", "tairlift:x", "1", "k", "v"}}, more: true, first: "MSET"},
		{claim: "every key of a db", write: [][]string{{"FLUSHALL"}}, more: true, first: "FLUSHALL"},
		{claim: "more than the backlog should hold", write: [][]string{{"SET", "big", strings.Repeat("x", 60<<10)}}, more: true, any: true},
		{claim: "more than is looked at", write: [][]string{{"SET", "huge", strings.Repeat("x", gapMost)}}, more: true},
		{claim: "another history", history: true, from: func(p *repl.Position) { p.ReplID = repl.ReplID(strings.Repeat("ab", 20)) }},
		{claim: "less than was read from it", history: true, from: func(p *repl.Position) { p.Offset += 1000 }},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			from := sample()
			for _, args := range tt.write {
				source.Do(t, args...)
			}
			if tt.from != nil {
				tt.from(&from)
			}
			gap, err := beyond(t.Context(), source.Addr, source.Secret, from)
			if err != nil {
				t.Fatal(err)
			}
			if gap.bytes > 0 != tt.more || gap.first != tt.first && !tt.any || gap.history != tt.history {
				t.Errorf("got %+v, want data %v, first %q, another history %v", gap, tt.more, tt.first, tt.history)
			}
		})
	}
	if now := source.Info(t, "stats")["sync_full"]; now != full {
		t.Errorf("full syncs that the source was made to do: got %s, want %s", now, full)
	}
}
