package apply

import (
	"testing"
	"time"

	"tairlift/internal/repl"
	"tairlift/spool"
)

func TestOffsetClockDatesByTheSource(t *testing.T) {
	const second = int64(1e6)
	base := int64(1_700_000_000) * second // source; capture's host is 5 s ahead
	sample := func(sec float64, o repl.Offset) spool.ClockSample {
		us := base + int64(sec*1e6)
		return spool.ClockSample{SourceMicros: us, Offset: o, LocalMicros: us + 5*second}
	}
	recv := func(sec float64) time.Time { return time.UnixMicro(base + 5*second + int64(sec*1e6)) }
	setBack := func(s spool.ClockSample) spool.ClockSample {
		s.LocalMicros -= 600 * second
		return s
	}
	steady := []spool.ClockSample{sample(0, 1000), sample(1, 2000), sample(2, 2000), sample(3, 4000)}
	for _, tt := range []struct {
		claim   string
		samples []spool.ClockSample
		offset  repl.Offset
		recv    time.Time
		sec     float64
		width   time.Duration
	}{
		{"no sample: the time it was received", nil, 5, time.UnixMicro(base), 0, 0},
		{"half way between two samples", steady, 1500, recv(60), 0.5, 500 * time.Millisecond},
		{"at a sample", steady, 4000, recv(60), 3, time.Second},
		{"after a pause, never before the pause's end", steady, 2001, recv(60), 2, time.Millisecond},
		{"bytes that waited in the source's buffer keep their own time", steady, 1500, recv(300), 0.5, 500 * time.Millisecond},
		{"bytes that came when the sample behind them did are not older", steady, 1500, recv(1.05), 1, time.Second},
		{"nor is that told of, when it is no more than a link takes", []spool.ClockSample{sample(0, 1000), sample(0.2, 2000)}, 1500, recv(0.25), 0.2, 0},
		{"received before it was interpolated to have been written", steady, 3900, recv(2.1), 2.1, 0},
		{"behind the last sample: as received, by the source's clock", steady, 5000, recv(3.2), 3.2, 0},
		{"unless there should have been another one", steady, 5000, recv(3.4), 3.4, 400 * time.Millisecond},
		{"before the first sample: not after it", steady, 10, recv(60), 0, 0},
		{"between samples of a broken link: the later one", []spool.ClockSample{sample(0, 1000), sample(60, 2000)}, 1500, recv(61), 60, 60 * time.Second},
		{"the same of a short break", []spool.ClockSample{sample(0, 1000), sample(2, 2000)}, 1500, recv(2.1), 2, 2 * time.Second},
		{"received before the later one", []spool.ClockSample{sample(0, 1000), sample(60, 2000)}, 1500, recv(0.4), 0.4, 400 * time.Millisecond},
		{"as they came, where samples are late", []spool.ClockSample{sample(0, 1000), sample(2, 2000)}, 1500, recv(1.9), 1.9, 1900 * time.Millisecond},
		{"the old master's samples beyond the new one's are dropped", []spool.ClockSample{sample(0, 1000), sample(1, 9000), sample(2, 1100), sample(3, 2100)}, 1600, recv(9), 2.5, 500 * time.Millisecond},
		{"capture's clock was set back by ten minutes", append(steady[:3:3], setBack(sample(3, 4000)), setBack(sample(4, 5000))), 5100, recv(4.2 - 600), 4.2, 0},
	} {
		var c offsetClock
		c.add(tt.samples)
		ms, width := c.at(tt.offset, tt.recv)
		want := (base + int64(tt.sec*1e6)) / 1000
		if d := ms - want; d < -1 || d > 1 || width.Round(time.Millisecond) != tt.width {
			t.Errorf("%s: got %d ms (%+d), width %s, want %d, width %s", tt.claim, ms, d, width, want, tt.width)
		}
	}
}

func TestOffsetClockForgetsWhatIsApplied(t *testing.T) {
	var c offsetClock
	for i := range int64(1000) {
		c.add([]spool.ClockSample{{SourceMicros: 1e6 * (i + 1), Offset: repl.Offset(i * 10), LocalMicros: 1e6 * (i + 1)}})
	}
	want, _ := c.at(9005, time.UnixMicro(1e12))
	c.forget(9000)
	if got, _ := c.at(9005, time.UnixMicro(1e12)); got != want {
		t.Errorf("date after forget: got %d, want %d", got, want)
	}
	if len(c.samples) > 150 {
		t.Errorf("samples kept: got %d, want those around and behind the position", len(c.samples))
	}
}
