package job

import (
	"context"
	"sync"
	"time"

	"tairlift/apply"
	"tairlift/checkpoint"
	"tairlift/internal/repl"
)

// lookEvery is the pace at which a run looks whether its goal is reached.
const lookEvery = 20 * time.Millisecond

// askTimeout bounds one question for a source's offset.
const askTimeout = 5 * time.Second

// standing is where one group is on the way to the goal.
type standing struct {
	stopped bool        // it will not get there
	drained bool        // capture has stopped, and what it left is applied
	full    bool        // its full phase is over
	epoch   repl.Epoch  // in which reached counts
	reached repl.Offset // applied; without a target: durable
	held    bool        // deadlines are held back on the target
	healing bool        // doubtful keys may be copied again yet
	passes  int         // over the doubtful keys
}

// goal is the end of a run. It is one goroutine's.
type goal struct {
	until Until
	n     int                  // groups
	look  func(i int) standing // of group i, now
	ask   func(context.Context, int) (repl.Epoch, repl.Offset, error)
	mark  func(i int) // group i has reached the goal
	// settle has the deadlines of group i set exact: it has reached what its source
	// held when it was asked.
	settle func(i int, at position)

	asked []*position
	since []int // passes when the group had reached its position
}

type position struct {
	epoch  repl.Epoch
	offset repl.Offset
}

// reach returns true once the goal is reached by every group that has not
// stopped, or nothing is left that could go on; false when ctx has ended.
func (r *run) reach(ctx context.Context) bool {
	if !r.withCapture {
		<-ctx.Done() // apply ends by itself
		return false
	}
	g := &goal{until: r.o.Until, n: len(r.sessions), look: r.standing, ask: r.askSource, mark: r.mark, settle: r.settle}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if g.step(ctx) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// step looks once.
func (g *goal) step(ctx context.Context) bool {
	if g.asked == nil {
		g.asked, g.since = make([]*position, g.n), make([]int, g.n)
		for i := range g.since {
			g.since[i] = never
		}
	}
	at := make([]standing, g.n)
	full, over := true, true
	for i := range at {
		at[i] = g.look(i)
		full = full && (at[i].stopped || at[i].full)
		over = over && at[i].drained
	}
	switch g.until {
	case UntilFull:
		for i, s := range at {
			if !s.stopped && s.full {
				g.mark(i)
			}
		}
		return full
	case UntilCaughtUp:
		// The sources are asked when the full phase of all is over, so that
		// the groups end close to one moment.
		return full && g.caughtUp(ctx, at)
	}
	return over
}

func (g *goal) caughtUp(ctx context.Context, at []standing) bool {
	var asking sync.WaitGroup
	for i, s := range at {
		if s.stopped || g.asked[i] != nil && g.asked[i].epoch >= s.epoch {
			continue // an answer of a newer epoch waits for apply to get there
		}
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			// A source that does not answer now is asked again.
			if epoch, offset, err := g.ask(ctx, i); err == nil {
				g.asked[i] = &position{epoch, offset}
			}
		})
	}
	asking.Wait()
	all := true
	for i, s := range at {
		switch p := g.asked[i]; {
		case s.stopped:
		case p == nil || p.epoch != s.epoch || s.reached < p.offset:
			all = false
		case s.held:
			g.settle(i, *p)
			all = false
		case !g.heals(i, s):
			g.mark(i)
		default:
			all = false
		}
	}
	return all
}

const never = -1 // in goal.since

// heals tells whether doubtful keys of a group, which has reached its position,
// are still to be copied again: all that were so then have had their turn when the
// pass after the one under way is over. Later ones do not hold the goal back.
func (g *goal) heals(i int, s standing) bool {
	if !s.healing {
		return false
	}
	if g.since[i] == never {
		g.since[i] = s.passes
	}
	return s.passes < g.since[i]+2
}

// standing of the group of session i.
func (r *run) standing(i int) standing {
	s := r.sessions[i]
	ended := s.ended.Load() // before the position: behind it nothing moves
	c := s.Status()
	whole := c.Durable.RDBDone && !c.EpochDue
	out := standing{stopped: ended, drained: ended, full: whole, epoch: c.Durable.Epoch, reached: c.Durable.Offset}
	if !r.withApply {
		return out
	}
	out.full, out.epoch, out.reached = false, 0, 0
	j := r.apply()
	if j == nil {
		out.drained = ended && !c.Durable.RDBDone
		return out
	}
	a := j.Status()[i]
	// An epoch that another has followed, or is to follow, is no goal; nor is what
	// an earlier process knew, for the target may have lost it since.
	streams := a.Current && a.Phase == checkpoint.PhaseStream && a.Epoch == c.Durable.Epoch
	out.full = streams && !c.EpochDue
	out.held = a.TTL != apply.DeadlinesExact
	out.healing, out.passes = a.Healing, a.Passes
	if out.full {
		out.epoch, out.reached = a.Epoch, a.Applied
	}
	stopped := a.State == apply.StateStopped
	out.stopped = out.stopped || stopped
	out.drained = ended && (stopped || !c.Durable.RDBDone ||
		streams && a.Applied >= c.Durable.Offset)
	return out
}

// askSource asks the source of group i for its offset now.
func (r *run) askSource(ctx context.Context, i int) (repl.Epoch, repl.Offset, error) {
	s := r.sessions[i]
	before := s.Status().Durable.Epoch
	offset, err := s.AskSource(ctx)
	if err == nil && s.Status().Durable.Epoch != before {
		err = context.Canceled // a new epoch came between: ask again
	}
	return before, offset, err
}

// settle asks apply for exact deadlines, however long the source's answer is ago.
func (r *run) settle(i int, at position) {
	r.apply().Settle(r.groups[i].ID, at.epoch, at.offset)
}

func (r *run) mark(i int) {
	s := r.sessions[i]
	s.done.Store(true)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done[r.groups[i].ID] = true
}
