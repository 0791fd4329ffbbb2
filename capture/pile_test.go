package capture

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tairlift/internal/pace"
	"tairlift/internal/redistest"
)

func TestParseBufferLimit(t *testing.T) {
	const usual = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"
	tests := []struct {
		claim, text string
		want        bufferLimit
		fails       bool
	}{
		{claim: "of Redis", text: usual, want: bufferLimit{256 << 20, 64 << 20, time.Minute}},
		{claim: "by its new name", text: strings.Replace(usual, "slave", "replica", 1), want: bufferLimit{256 << 20, 64 << 20, time.Minute}},
		{claim: "none", text: "slave 0 0 0"},
		{claim: "an absurd span", text: "slave 1 1 9223372036854775807", want: bufferLimit{1, 1, 1e9 * time.Second}},
		{claim: "cut short", text: "normal 0 0 0 slave 268435456 67108864", fails: true},
		{claim: "below 0", text: "slave -1 0 0", fails: true},
		{claim: "no number", text: "slave 256mb 0 0", fails: true},
		{claim: "empty", text: "", fails: true},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			got, err := parseBufferLimit(tt.text)
			if got != tt.want || (err != nil) != tt.fails {
				t.Errorf("got %+v, %v, want %+v, an error: %t", got, err, tt.want, tt.fails)
			}
		})
	}
}

func TestSourceCutsWhatGathersTooMuch(t *testing.T) {
	const mib = 1 << 20
	usual := bufferLimit{256 * mib, 64 * mib, time.Minute}
	tests := []struct {
		claim string
		limit bufferLimit
		p     pile
		at    int64 // 0: it does not
	}{
		{"nothing is written", usual, pile{0, time.Minute, time.Hour}, 0},
		{"an hour at 1 MiB/s", usual, pile{10 * mib, 10 * time.Second, time.Hour}, 256 * mib},
		{"a minute at 1 MiB/s", usual, pile{10 * mib, 10 * time.Second, 50 * time.Second}, 0},
		{"above the soft limit, but not for long", usual, pile{10 * mib, 10 * time.Second, 110 * time.Second}, 0},
		{"above the soft limit for longer than that", usual, pile{10 * mib, 10 * time.Second, 120 * time.Second}, 64 * mib},
		{"above it already", usual, pile{100 * mib, 100 * time.Second, 60 * time.Second}, 64 * mib},
		{"no limit", bufferLimit{}, pile{1 << 40, time.Second, time.Hour}, 0},
		{"a hard one alone", bufferLimit{hard: mib}, pile{mib, time.Second, time.Second}, mib},
		{"a soft one alone", bufferLimit{soft: mib, span: time.Second}, pile{mib / 2, time.Second, 5 * time.Second}, mib},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			if at, cuts := tt.limit.cuts(tt.p); cuts != (tt.at > 0) || cuts && at != tt.at {
				t.Errorf("got %d, %t, want %d", at, cuts, tt.at)
			}
		})
	}
}

// bulk gives a source a MiB that does not compress.
func bulk(t *testing.T, s *redistest.Server) {
	t.Helper()
	s.Do(t, "EVAL", "redis.replicate_commands() for i=1,1024 do local v='' for j=1,26 do v=v..redis.sha1hex(i..':'..j) end redis.call('SET','bulk:'..i,v) end", "0")
}

// TestFullSyncIsReadAtItsPace: the source is acknowledged to meanwhile, what may go
// wrong is told, the stream is not held back, and a limit that is lifted is none.
func TestFullSyncIsReadAtItsPace(t *testing.T) {
	src := redistest.Source(t)
	bulk(t, src)
	// A replica that gathers more than 1 MiB is cut off.
	src.Do(t, "CONFIG", "SET", "client-output-buffer-limit", "slave 1048576 0 0")
	f := newFolder(t)
	o := f.options(t, src.Addr)
	o.Pace = pace.New(pace.Limits{Bytes: 8 << 10}, 0) // it would take minutes
	s := start(t, o)
	s.until("the full sync to be held back", func(st Status) bool {
		return st.State == FullSync && st.Pace == pace.ReasonLimited && st.Durable.RDBBytes > 0
	})
	src.Do(t, "SET", "more", strings.Repeat("x", 700<<10)) // which the source keeps for us
	s.until("the source's limit to be told", func(st Status) bool {
		return st.Reason == ReasonPile && strings.Contains(st.Detail, "cuts the link at 1.0 MiB")
	})
	if st := s.Status(); st.State != FullSync || st.Durable.RDBDone || st.Reconnects > 0 {
		t.Fatalf("got %+v, want the full sync to go on", st)
	}
	waits := o.Pace.State().Waits
	o.Pace.Set(pace.Limits{})
	s.untilStreaming(1)
	o.Pace.Set(pace.Limits{Bytes: 1}) // it is not for the stream
	src.Do(t, "SET", "evenmore", strings.Repeat("y", 400<<10))
	at := s.untilCaughtUp()
	if st := s.Status(); st.Pace != "" || st.Reason != "" {
		t.Errorf("in the stream: got pace %q, reason %q", st.Pace, st.Reason)
	}
	if got := o.Pace.State().Waits; waits < 2 || got > waits+1 {
		t.Errorf("waits: %d in the full sync, then %d; want some, and none in the stream", waits, got)
	}
	s.stop()
	epochs := f.read(t)
	if len(epochs) != 1 || !epochs[0].info.RDBDone || epochs[0].info.EndOffset != at {
		t.Fatalf("got %d epochs, want one up to offset %s", len(epochs), at)
	}
}

// TestPacedFullSyncCanBeStopped, and one whose source shows no configuration is not
// judged.
func TestPacedFullSyncCanBeStopped(t *testing.T) {
	src := redistest.Source(t, redistest.Arg("--rename-command", "CONFIG", fmt.Sprintf("C%d", time.Now().UnixNano())))
	bulk(t, src)
	f := newFolder(t)
	o := f.options(t, src.Addr)
	o.Pace = pace.New(pace.Limits{Bytes: 1}, 0) // it would take days
	s := start(t, o)
	s.until("the full sync to be held back", func(st Status) bool { return st.State == FullSync && st.Pace == pace.ReasonLimited })
	s.stop()
	if st := s.Status(); st.Reason != "" || st.Durable.RDBDone {
		t.Errorf("got %+v", st)
	}
}
