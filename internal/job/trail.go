package job

import (
	"encoding/json"
	"slices"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/repl"
	"tairlift/spool"
)

// TrailPoint is where the mark of a group stood at a time. A target that fails
// over may lose its last writes, and the mark goes back with them: what prune
// may remove is what was applied a while ago.
type TrailPoint struct {
	At     time.Time
	Epoch  repl.Epoch
	Phase  string      // rdb | stream
	Offset repl.Offset // in the stream phase
}

// trailJSON is a point in a status file, which has up to trailMax of them for
// each group and is written once a second.
type trailJSON struct {
	At     time.Time    `json:"at"` // to the second
	Epoch  repl.Epoch   `json:"epoch"`
	Offset *repl.Offset `json:"offset,omitempty"` // absent in the RDB phase
	Phase  string       `json:"phase,omitempty"`  // of older files, which have it beside an offset of 0
}

// MarshalJSON rounds the time up: a mark that was there earlier than it says
// costs a second of spool, one that was there later could cost what a target
// still needs.
func (p TrailPoint) MarshalJSON() ([]byte, error) {
	out := trailJSON{At: p.At.UTC().Truncate(time.Second), Epoch: p.Epoch}
	if out.At.Before(p.At) {
		out.At = out.At.Add(time.Second)
	}
	if p.Phase == string(checkpoint.PhaseStream) {
		out.Offset = &p.Offset
	}
	return json.Marshal(out)
}

// UnmarshalJSON is the inverse.
func (p *TrailPoint) UnmarshalJSON(raw []byte) error {
	var in trailJSON
	if err := json.Unmarshal(raw, &in); err != nil {
		return err
	}
	*p = TrailPoint{At: in.At, Epoch: in.Epoch, Phase: in.Phase}
	if in.Phase == "" {
		p.Phase = string(checkpoint.PhaseRDB)
		if in.Offset != nil {
			p.Phase = string(checkpoint.PhaseStream)
		}
	}
	if in.Offset != nil {
		p.Offset = *in.Offset
	}
	return nil
}

const (
	trailEvery = time.Second
	trailMax   = 100
	// trailGap is how far apart two points may be, as a part of their age: what
	// was true ten minutes ago is known to a minute or so.
	trailGap = 8
)

// trail is the recent past of a mark, oldest first.
type trail []TrailPoint

// add notes where the mark stands at a time, if it moved. Old points grow
// sparse.
func (t trail) add(p TrailPoint) trail {
	if n := len(t); n > 0 {
		last := t[n-1]
		moved := p.floor() != last.floor()
		if back := p.floor().Before(last.floor()); !moved || !back && p.At.Sub(last.At) < trailEvery {
			return t
		}
	}
	all := append(slices.Clip(t), p)
	thin := all[:1:1]
	for i := 1; i < len(all)-1; i++ {
		next := all[i+1]
		// One that went back must be remembered for as long as the others.
		back := all[i].floor().Before(all[i-1].floor())
		if next.At.Sub(thin[len(thin)-1].At)*trailGap > p.At.Sub(next.At) || back {
			thin = append(thin, all[i])
		}
	}
	if len(all) > 1 {
		thin = append(thin, p)
	}
	return thin[max(0, len(thin)-trailMax):]
}

// trails are those of all groups of a run. They belong to the publisher.
type trails map[repl.GroupID]*past

// past is what is known of where a mark stood.
type past struct {
	trail trail
	seen  *time.Time
}

func (t trails) of(id repl.GroupID) *past {
	if t[id] == nil {
		t[id] = &past{}
	}
	return t[id]
}

// follow notes where the marks are now and puts the trails into what is
// published.
func (t trails) follow(a *ApplyFile) {
	for i := range a.Groups {
		g := &a.Groups[i]
		if g.Apart {
			continue // as the run before left it
		}
		p := t.of(g.ID)
		if g.MarkSeen == nil {
			g.MarkSeen = p.seen // by the run before
		}
		p.seen = g.MarkSeen
		if last, ok := g.mark(); ok {
			p.trail = p.trail.add(last)
		}
		g.Trail = p.trail
	}
}

// mark is where the mark was when it was last seen on the target.
func (g *ApplyGroup) mark() (p TrailPoint, ok bool) {
	if g.MarkSeen == nil || g.Epoch == 0 {
		return p, false
	}
	p = TrailPoint{At: *g.MarkSeen, Epoch: g.Epoch, Phase: g.Phase}
	switch {
	case g.Marked != nil:
		p.Offset = *g.Marked
	case g.Phase == string(checkpoint.PhaseSweep): // until that is over the RDB is needed
		p.Phase = string(checkpoint.PhaseRDB)
	case g.Phase != string(checkpoint.PhaseRDB):
		return p, false
	}
	return p, true
}

func (p TrailPoint) floor() spool.Floor {
	f := spool.Floor{Epoch: p.Epoch, Stream: p.Phase == string(checkpoint.PhaseStream)}
	if f.Stream {
		f.Offset = p.Offset
	}
	return f
}

// settled is the place behind which everything must be kept of what a group
// has applied: where its mark stood a margin before it was last seen, or where it
// has stood since if that is earlier. Time in which nobody has seen the target
// does not count: it may have failed over in it. ok is false when the mark was
// nowhere then.
func (g *ApplyGroup) settled(now time.Time, margin time.Duration) (f spool.Floor, ok bool) {
	last, ok := g.mark()
	if !ok {
		return spool.Floor{}, false
	}
	if last.At.Before(now) {
		now = last.At
	}
	points := append(slices.Clone(g.Trail), last)
	for i, p := range slices.Backward(points) {
		if pf := p.floor(); i == len(points)-1 || pf.Before(f) {
			f = pf
		}
		if now.Sub(p.At) >= margin {
			return f, true
		}
	}
	return spool.Floor{}, false
}
