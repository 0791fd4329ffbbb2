package job

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/term"

	"tairlift/internal/meter"
	"tairlift/internal/repl"
)

// ConsoleOptions say what stderr looks like.
type ConsoleOptions struct {
	JSON     bool          // log lines as JSON
	Verbose  bool          // debug lines too
	Interval time.Duration // of progress; 0: 1 s on a terminal, else 5 s
}

// Console is where log and progress go: stderr.
type Console struct {
	Log *slog.Logger

	w        io.Writer
	meter    *meter.Meter
	interval time.Duration
	json     bool                  // stderr is read by a program
	bases    map[repl.GroupID]base // of one goroutine at a time
}

// NewConsole makes a console on w; nil is silent.
func NewConsole(w io.Writer, o ConsoleOptions) *Console {
	if w == nil {
		return &Console{Log: slog.New(slog.DiscardHandler), w: io.Discard, meter: meter.New(io.Discard, false, time.Hour), interval: time.Hour, bases: map[repl.GroupID]base{}}
	}
	f, ok := w.(*os.File)
	terminal := ok && term.IsTerminal(int(f.Fd()))
	interval := 5 * time.Second
	if terminal {
		interval = time.Second
	}
	interval = cmp.Or(o.Interval, interval)
	m := meter.New(w, terminal, interval)
	out := m.LogWriter()
	h := &slog.HandlerOptions{}
	if o.Verbose {
		h.Level = slog.LevelDebug
	}
	var handler slog.Handler = slog.NewTextHandler(out, h)
	if o.JSON {
		handler = slog.NewJSONHandler(out, h)
	}
	return &Console{Log: slog.New(handler), w: out, meter: m, interval: interval, json: o.JSON, bases: map[repl.GroupID]base{}}
}

// Done ends the progress.
func (c *Console) Done() { c.meter.Done() }

func (c *Console) print(line string) { fmt.Fprintln(c.w, line) }

// done says that the goal is reached, and how to go on all the same.
func (c *Console) done(resume string) {
	if c.json {
		c.Log.Info("done", "resume", resume)
		return
	}
	c.print("done; to go on: " + resume)
}

func (c *Console) show(s *Status) { c.meter.Show(c.progress(s)) }

// order is how far a state is; the slowest group names the phase.
var order = []State{Waiting, FullSync, ApplyingRDB, CatchingUp, InSync, Finished, StateStop}

func rankOf(s State) int {
	for i, o := range order {
		if s == o {
			return i
		}
	}
	return len(order)
}

// progress is a status as the meter shows it.
func (c *Console) progress(s *Status) meter.View {
	v := meter.View{LagBytes: 0, LagSeconds: 0}
	slowest := len(order)
	unknown := false
	for i := range s.Groups {
		g := &s.Groups[i]
		if n := rankOf(g.State); n < slowest {
			slowest = n
			v.Phase, v.Reason = string(g.State), g.Reason
		}
		line := meter.GroupLine{ID: g.ID, State: string(g.State), Reason: g.Reason, LagBytes: -1, LagSeconds: -1}
		line.Done, line.Total = c.bytes(g)
		if g.LagBytes != nil {
			line.LagBytes = *g.LagBytes
		}
		if g.LagSecs != nil {
			line.LagSeconds = *g.LagSecs
		}
		v.Groups = append(v.Groups, line)
		v.Done += line.Done
		v.Total += line.Total
		unknown = unknown || line.Total <= 0
		if g.Commands != nil {
			v.Commands += *g.Commands
		}
		v.LagBytes, v.LagSeconds = worse(v.LagBytes, line.LagBytes, true), worse(v.LagSeconds, line.LagSeconds, false)
	}
	if unknown {
		v.Total = 0
	}
	return v
}

// worse adds lags in bytes, takes the larger of lags in time, and knows
// nothing when one is not known.
func worse[T int64 | float64](sum, more T, add bool) T {
	switch {
	case sum < 0 || more < 0:
		return -1
	case add:
		return sum + more
	}
	return max(sum, more)
}

// base is the offset at which this process saw the stream of an epoch first:
// what was done before says nothing about how long the rest takes.
type base struct {
	epoch repl.Epoch
	at    repl.Offset
}

// bytes are the RDB's, and behind it those of the stream since the base.
func (c *Console) bytes(g *GroupStatus) (done, total int64) {
	done = g.RDB.Done
	if g.RDB.Total != nil {
		total = *g.RDB.Total
	}
	at := g.Captured
	if g.applied {
		at = g.Applied
	}
	if at == nil || g.Epoch == nil {
		return done, total
	}
	b, ok := c.bases[g.ID]
	if !ok || b.epoch != *g.Epoch || b.at > *at {
		b = base{*g.Epoch, *at}
		c.bases[g.ID] = b
	}
	done += int64(*at - b.at)
	if g.Source == nil {
		return done, 0
	}
	return done, total + max(int64(max(*g.Source, *at)-b.at), 0)
}
