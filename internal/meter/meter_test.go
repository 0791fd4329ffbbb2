package meter

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// clock is moved by hand.
type clock struct{ at time.Time }

func (c *clock) step(d time.Duration) { c.at = c.at.Add(d) }

func newTest(terminal bool, width int) (*Meter, *bytes.Buffer, *clock) {
	var out bytes.Buffer
	c := &clock{at: time.UnixMilli(1_700_000_000_000)}
	m := New(&out, terminal, 10*time.Second)
	m.now = func() time.Time { return c.at }
	m.width = func() int { return width }
	return m, &out, c
}

// screen plays what was written on a terminal and returns its lines.
func screen(t *testing.T, text string) []string {
	t.Helper()
	lines, row := []string{""}, 0
	for len(text) > 0 {
		switch {
		case strings.HasPrefix(text, "\x1b[1A"):
			if row--; row < 0 {
				t.Fatalf("the cursor went above the first line")
			}
			text = text[4:]
		case strings.HasPrefix(text, "\x1b[2K"):
			lines[row] = ""
			text = text[4:]
		case text[0] == '\n':
			if row++; row == len(lines) {
				lines = append(lines, "")
			}
			text = text[1:]
		case text[0] == '\x1b' || text[0] == '\r':
			t.Fatalf("unexpected control code before %q", text)
		default:
			lines[row] += text[:1]
			text = text[1:]
		}
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

func TestLine(t *testing.T) {
	known := rate{bytes: 85 * mib, commands: 120_500, eta: 26*time.Second + 300*time.Millisecond}
	unknown := rate{bytes: -1, commands: -1, eta: -1}
	tests := []struct {
		claim string
		view  View
		rate  rate
		want  string
	}{
		{
			"everything known",
			View{Phase: "full-sync", Done: 12 * gib / 10, Total: 34 * gib / 10, LagBytes: 12 * mib, LagSeconds: 3.24},
			known, "full-sync 1.2 GiB/3.4 GiB 35%, 85 MiB/s, lag 12 MiB 3.2s, eta 26s",
		},
		{
			"nothing known is said so, part by part",
			View{Phase: "waiting", LagBytes: -1, LagSeconds: -1},
			unknown, "waiting 0 B/?, ?/s, lag ?, eta ?",
		},
		{
			"a reason to wait is named",
			View{Phase: "catching-up", Reason: "target-oom", Done: gib, LagBytes: 40 * mib, LagSeconds: 72.9},
			rate{bytes: 0, commands: -1, eta: -1},
			"catching-up 1.0 GiB/?, 0 B/s, lag 40 MiB 1m12s, eta ?, waiting: target-oom",
		},
		{
			"commands have a rate",
			View{Phase: "in-sync", Done: gib, Commands: 5, LagSeconds: 0.05},
			rate{bytes: kib, commands: 120_500},
			"in-sync 1.0 GiB/?, 1.0 KiB/s, 120,500 commands/s, lag 0 B 0.1s, eta 0s",
		},
		{
			"groups that wait or stopped are named",
			View{Phase: "catching-up", Groups: []GroupLine{{ID: 1, State: "in-sync"}, {ID: 2, State: "stopped", Reason: "flush-in-stream"}}},
			known, "catching-up 0 B/?, 85 MiB/s, lag 0 B 0.0s, eta 26s; group 2 stopped: flush-in-stream",
		},
		{
			"a lone group does not say its reason twice",
			View{Phase: "waiting", Reason: "target-oom", Groups: []GroupLine{{ID: 1, State: "waiting", Reason: "target-oom"}}},
			unknown, "waiting 0 B/?, ?/s, lag 0 B 0.0s, eta ?, waiting: target-oom",
		},
		{
			"more done than announced is 100%",
			View{Phase: "full-sync", Done: 3 * gib, Total: 2 * gib, LagBytes: -1, LagSeconds: 1e300},
			known, "full-sync 3.0 GiB/2.0 GiB 100%, 85 MiB/s, lag ? 277777h46m40s, eta 26s",
		},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, line(tt.view, tt.rate)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestBar(t *testing.T) {
	tests := []struct {
		done, total int64
		want        string
	}{
		{0, 100, "0% [....................]"},
		{35, 100, "35% [======>.............]"},
		{100, 100, "100% [====================]"},
		{150, 100, "100% [====================]"},
		{-5, 100, "0% [....................]"},
		{1 << 60, 1 << 62, "25% [====>...............]"},
	}
	for _, tt := range tests {
		if got := bar(tt.done, tt.total); got != tt.want {
			t.Errorf("bar of %d/%d: got %q, want %q", tt.done, tt.total, got, tt.want)
		}
	}
}

func TestLinesComeOncePerInterval(t *testing.T) {
	m, out, c := newTest(false, 0)
	for i := range 31 {
		m.Show(View{Phase: "full-sync", Done: int64(i) * mib, Total: 100 * mib, LagSeconds: -1})
		c.step(time.Second)
	}
	m.Done()
	want := "full-sync 0 B/100 MiB 0%, ?/s, lag 0 B ?, eta ?\n" +
		"full-sync 10 MiB/100 MiB 10%, 1.0 MiB/s, lag 0 B ?, eta 1m30s\n" +
		"full-sync 20 MiB/100 MiB 20%, 1.0 MiB/s, lag 0 B ?, eta 1m20s\n" +
		"full-sync 30 MiB/100 MiB 30%, 1.0 MiB/s, lag 0 B ?, eta 1m10s\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNewsComesBeforeTheInterval(t *testing.T) {
	m, out, c := newTest(false, 0)
	show := func(v View) int {
		out.Reset()
		c.step(time.Second)
		m.Show(v)
		return strings.Count(out.String(), "\n")
	}
	group := func(reason string) View {
		return View{Phase: "catching-up", Groups: []GroupLine{{ID: 1}, {ID: 2, Reason: reason}}}
	}
	steps := []struct {
		claim string
		view  View
		want  int
	}{
		{"the first view is written", View{Phase: "full-sync"}, 1},
		{"the same again is not", View{Phase: "full-sync", Done: 1}, 0},
		{"a new phase is", group(""), 1},
		{"a group's new reason is", group("target-oom"), 1},
		{"the same reason is not", group("target-oom"), 0},
		{"a reason that cleared is", group(""), 1},
	}
	for _, s := range steps {
		if got := show(s.view); got != s.want {
			t.Errorf("%s: got %d lines, want %d", s.claim, got, s.want)
		}
	}
}

func TestReasonThatFlapsDoesNotFlood(t *testing.T) {
	m, out, c := newTest(false, 0)
	for i := range 1000 {
		m.Show(View{Phase: "catching-up", Reason: []string{"", "target-oom"}[i%2]})
		c.step(10 * time.Millisecond)
	}
	if got := strings.Count(out.String(), "\n"); got > 11 {
		t.Errorf("10 s of flapping: got %d lines, want at most 11", got)
	}
}

func TestDoneWritesTheLastState(t *testing.T) {
	m, out, c := newTest(false, 0)
	m.Show(View{Phase: "full-sync", Done: 1 * mib, Total: 2 * mib})
	c.step(time.Second)
	m.Show(View{Phase: "full-sync", Done: 2 * mib, Total: 2 * mib})
	m.Done()
	m.Done()
	m.Show(View{Phase: "after the end"})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[1], "full-sync 2.0 MiB/2.0 MiB 100%") {
		t.Errorf("got %q, want two lines, the second at 100%%", lines)
	}
}

func TestDoneOfAMeterNeverShownWritesNothing(t *testing.T) {
	m, out, _ := newTest(true, 80)
	m.Done()
	if out.Len() != 0 {
		t.Errorf("got %q, want nothing", out)
	}
}

func TestTerminalIsDrawnInPlace(t *testing.T) {
	m, out, c := newTest(true, 200)
	view := func(done int64) View {
		return View{
			Phase: "full-sync", Done: done * mib, Total: 400 * mib, LagBytes: 12 * mib, LagSeconds: 3.2,
			Groups: []GroupLine{
				{ID: 1, State: "full-sync", Done: 100 * mib, Total: 100 * mib},
				{ID: 2, State: "full-sync", Done: 10 * mib, Total: 100 * mib, LagBytes: 8 * mib, LagSeconds: 3.2},
				{ID: 3, State: "stopped", Reason: "flush-in-stream", Done: 90 * mib, Total: 100 * mib, LagBytes: -1, LagSeconds: -1},
				{ID: 4, State: "full-sync", Done: 50 * mib, Total: 100 * mib, LagSeconds: 1},
				{ID: 5, State: "full-sync", Done: 60 * mib, Total: 100 * mib, LagSeconds: 1},
			},
		}
	}
	m.Show(view(0))
	c.step(time.Second)
	m.Show(view(100))
	want := []string{
		"full-sync 25% [====>...............] 100 MiB/400 MiB, 100 MiB/s, lag 12 MiB 3.2s, eta 3s",
		"  group 3 stopped 90 MiB/100 MiB, lag ?, waiting: flush-in-stream",
		"  group 2 full-sync 10 MiB/100 MiB, lag 8.0 MiB 3.2s",
		"  group 4 full-sync 50 MiB/100 MiB, lag 0 B 1.0s",
	}
	if diff := cmp.Diff(want, screen(t, out.String())); diff != "" {
		t.Errorf("screen (-want +got):\n%s", diff)
	}

	log := slog.New(slog.NewTextHandler(m.LogWriter(), &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	log.Info("segment sealed", "seq", 7)
	want = append([]string{`level=INFO msg="segment sealed" seq=7`}, want...)
	if diff := cmp.Diff(want, screen(t, out.String())); diff != "" {
		t.Errorf("screen after a log line (-want +got):\n%s", diff)
	}

	c.step(time.Second)
	m.Show(View{Phase: "in-sync", Done: gib, LagSeconds: 0.1, Groups: []GroupLine{{ID: 1}, {ID: 2}}})
	m.Done()
	log.Info("stopped")
	want = []string{want[0], "in-sync 1.0 GiB/?, ?/s, lag 0 B 0.1s, eta 0s", "level=INFO msg=stopped"}
	if diff := cmp.Diff(want, screen(t, out.String())); diff != "" {
		t.Errorf("screen at the end (-want +got):\n%s", diff)
	}
}

func TestTerminalLinesFitTheWidth(t *testing.T) {
	for width := 2; width < 120; width++ {
		m, out, _ := newTest(true, width)
		m.Show(View{Phase: "full-sync", Done: 1, Total: 2, Groups: []GroupLine{{ID: 1, Reason: "zähe"}, {ID: 2, Reason: "zähe"}}})
		for l := range strings.Lines(out.String()) {
			if got := len([]rune(strings.TrimSuffix(l, "\n"))); got >= width {
				t.Fatalf("width %d: got a line of %d columns", width, got)
			}
		}
	}
}

func TestTerminalRedrawsAtMostFiveTimesASecond(t *testing.T) {
	m, out, c := newTest(true, 80)
	for range 100 {
		m.Show(View{Phase: "full-sync", Total: 2})
		c.step(10 * time.Millisecond)
	}
	if got, want := strings.Count(out.String(), "full-sync"), 5; got != want {
		t.Errorf("one second: drawn %d times, want %d", got, want)
	}
}

func TestRate(t *testing.T) {
	type step struct {
		after time.Duration
		view  View
	}
	lagging := func(lag int64) View { return View{Phase: "catching-up", LagBytes: lag} }
	tests := []struct {
		claim string
		steps []step
		want  rate
	}{
		{"one view has no rate", []step{{0, View{Done: 5, Total: 9}}}, rate{-1, -1, -1}},
		{"two views have one", []step{{0, View{Total: 100}}, {2 * time.Second, View{Done: 20, Commands: 8, Total: 100}}}, rate{10, 4, 8 * time.Second}},
		{"what is older than the span is forgotten", []step{
			{0, View{Total: 2000}},
			{time.Second, View{Done: 1000, Total: 2000}},
			{10 * time.Second, View{Done: 1010, Total: 2000}},
		}, rate{1, 0, 990 * time.Second}},
		{"a phase begins anew", []step{{0, View{Phase: "a", Done: 5}}, {time.Second, View{Phase: "b", Done: 50, LagBytes: -1}}}, rate{-1, -1, -1}},
		{"a count that fell begins anew", []step{{0, View{Done: 50, LagBytes: -1}}, {time.Second, View{Done: 5, LagBytes: -1}}}, rate{-1, -1, -1}},
		{"without a total the time left is that of the lag", []step{{0, lagging(100)}, {time.Second, lagging(80)}}, rate{0, 0, 4 * time.Second}},
		{"a lag that grows has no end", []step{{0, lagging(100)}, {time.Second, lagging(120)}}, rate{0, 0, -1}},
		{"a lag that became known has no end yet", []step{{0, lagging(-1)}, {time.Second, lagging(20)}}, rate{0, 0, -1}},
		{"no lag is no time left", []step{{0, lagging(0)}}, rate{-1, -1, 0}},
		{"a time beyond reason is not known", []step{{0, lagging(1 << 60)}, {time.Second, lagging(1<<60 - 1)}}, rate{0, 0, -1}},
		{"a clock that stands still has no rate", []step{{0, View{Total: 9}}, {0, View{Done: 5, Total: 9}}}, rate{-1, -1, -1}},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			var r rates
			now := time.UnixMilli(1_700_000_000_000)
			for _, s := range tt.steps {
				now = now.Add(s.after)
				r.add(now, s.view)
			}
			if got := r.now(); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestRateKeepsFewSamples(t *testing.T) {
	var r rates
	now := time.UnixMilli(1_700_000_000_000)
	for i := range 100_000 {
		r.add(now, View{Done: int64(i), LagBytes: -1})
		now = now.Add(time.Millisecond)
	}
	if len(r.samples) > 250 {
		t.Errorf("got %d samples, want at most 250", len(r.samples))
	}
	if got := fmt.Sprintf("%.0f", r.now().bytes); got != "1000" {
		t.Errorf("rate: got %s, want 1000", got)
	}
}

func TestAUnitIsCountedPlainlyAndHasNoLag(t *testing.T) {
	v := View{Phase: "verify", Unit: "keys", Done: 3700, Total: 38000}
	want := "verify 3,700 keys/38,000 keys 9%, 12,000 keys/s, eta 3s"
	if got := line(v, rate{bytes: 12000, commands: -1, eta: 3 * time.Second}); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
