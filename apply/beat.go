package apply

import (
	"context"
	"time"
)

// A server, or what stands before it, may close connections that say nothing, and
// a session that ends so after each long wait never gets behind it. So a connection
// shows itself now and then: the lane by its mark as it stands, others by a PING.

// beatEvery is how long a connection says nothing at most.
const beatEvery = 3 * time.Second

// beat is the lane's. Nothing is in flight on it.
func (g *group) beat() error {
	if err := g.lane.Write(g.lane.Mark()); err != nil {
		return err
	}
	g.markSeen()
	return nil
}

// beating runs f while the lane beats.
func (g *group) beating(ctx context.Context, f func(context.Context) error) error {
	return g.beside(ctx, g.beat, f)
}

// beside runs f on a goroutine of its own, and beat now and then on this one.
func (g *group) beside(ctx context.Context, beat func() error, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- g.guarded(func() error { return f(ctx) })() }()
	tick := time.NewTicker(g.job.o.beat)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			if err := beat(); err != nil {
				cancel()
				<-done //nolint:errcheck // the other error is the cause
				return err
			}
		}
	}
}

// paced waits until the pace lets a piece of work through, and beats meanwhile.
func (g *group) paced(ctx context.Context, ops, bytes int64, beat func() error) error {
	if ctx.Err() == nil && g.pace.Take(ops, bytes) {
		return nil
	}
	return g.beside(ctx, beat, func(ctx context.Context) error { return g.pace.Wait(ctx, ops, bytes) })
}
