package meter

import (
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"tairlift/internal/repl"
)

// View is the state of a job at one moment.
type View struct {
	Phase  string // such as "full-sync"
	Reason string // why the job as a whole waits; empty when it does not

	// Unit is what Done and Total count; empty is bytes of a replication, which
	// has a lag too.
	Unit        string
	Done, Total int64 // a Total of 0 or less is not known
	Commands    int64 // applied so far; 0 shows none

	LagBytes   int64   // below 0: not known
	LagSeconds float64 // below 0: not known

	Groups []GroupLine
}

// GroupLine is the state of one group.
type GroupLine struct {
	ID     repl.GroupID
	State  string
	Reason string // why the group waits or stopped; empty when it does neither

	Done, Total int64   // as in View
	LagBytes    int64   // as in View
	LagSeconds  float64 // as in View
}

const (
	defaultInterval = 10 * time.Second
	redraw          = 200 * time.Millisecond // on a terminal
	defaultWidth    = 120                    // of a terminal that does not tell
)

// Meter writes progress. Its methods may be called from several goroutines.
type Meter struct {
	terminal bool
	interval time.Duration
	now      func() time.Time
	width    func() int

	mu    sync.Mutex // guards the rest
	w     io.Writer
	drawn int // lines of the block on the terminal, the cursor standing below them
	last  View
	shown bool // last has been written
	next  time.Time
	soon  time.Time // from when on a change of phase or reason is written at once
	rates rates
	done  bool
}

// New makes a Meter that writes to w. On a terminal it draws in place; otherwise it
// writes a line every interval (0: 10 s), and a new phase or reason sooner.
func New(w io.Writer, terminal bool, interval time.Duration) *Meter {
	if interval <= 0 {
		interval = defaultInterval
	}
	return &Meter{w: w, terminal: terminal, interval: interval, now: time.Now, width: widthOf(w)}
}

func widthOf(w io.Writer) func() int {
	return func() int {
		if f, ok := w.(*os.File); ok {
			if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
				return n
			}
		}
		return defaultWidth
	}
}

// Show tells the meter the state of the job. It writes when something is due, and
// otherwise only remembers. A write that fails is not reported: progress is no reason
// to stop a job.
func (m *Meter) Show(v View) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.done {
		return
	}
	now := m.now()
	changed := v.Phase != m.last.Phase || v.Reason != m.last.Reason || groupReasons(v) != groupReasons(m.last)
	m.rates.add(now, v)
	m.last, m.shown = v, false
	if now.Before(m.next) && (!changed || now.Before(m.soon)) {
		return
	}
	m.write(now)
}

// Done writes the last state if it has not been written yet. What is shown afterwards
// is not written.
func (m *Meter) Done() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.done && !m.shown && m.last.Phase != "" {
		m.write(m.now())
	}
	m.done, m.drawn = true, 0
}

// LogWriter is for whatever else goes to the same place, in whole lines: on a terminal
// they appear above the bar.
func (m *Meter) LogWriter() io.Writer { return logWriter{m} }

type logWriter struct{ m *Meter }

func (l logWriter) Write(p []byte) (int, error) {
	m := l.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.drawn == 0 {
		return m.w.Write(p)
	}
	if _, err := io.WriteString(m.w, m.erase()); err != nil {
		return 0, err
	}
	n, err := m.w.Write(p)
	if err == nil {
		m.write(m.now())
	}
	return n, err
}

// write writes m.last. m.mu is held.
func (m *Meter) write(now time.Time) {
	m.shown = true
	if !m.terminal {
		m.next, m.soon = now.Add(m.interval), now.Add(m.interval/10)
		_, _ = io.WriteString(m.w, line(m.last, m.rates.now())+"\n")
		return
	}
	m.next, m.soon = now.Add(redraw), now.Add(redraw)
	lines := block(m.last, m.rates.now(), m.width()-1)
	text := m.erase() + strings.Join(lines, "\n") + "\n"
	m.drawn = len(lines)
	// One write, so that the terminal never shows a block half drawn.
	_, _ = io.WriteString(m.w, text)
}

// erase is what takes the block off the terminal. m.mu is held.
func (m *Meter) erase() string {
	// Up one line and clear it, for each line.
	text := strings.Repeat("\x1b[1A\x1b[2K", m.drawn)
	m.drawn = 0
	return text
}

// groupReasons changes whenever a group begins or ends to wait, or stops.
func groupReasons(v View) string {
	var b strings.Builder
	for _, g := range v.Groups {
		if g.Reason != "" {
			b.WriteString(g.ID.String() + "=" + g.Reason + " ")
		}
	}
	return b.String()
}
