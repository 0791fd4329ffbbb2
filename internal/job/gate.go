package job

import (
	"context"
	"sync"
)

// gate lets perHost groups of one host and total groups in all load their
// full sync at a time, in the order in which they asked. It is a
// capture.FullSyncGate.
type gate struct {
	perHost, total int

	mu      sync.Mutex // guards what follows
	running map[string]int
	count   int
	waiting []*waiter
}

type waiter struct {
	host  string
	ready chan struct{} // closed when its turn has come
}

func newGate(perHost, total int) *gate {
	return &gate{perHost: perHost, total: total, running: map[string]int{}}
}

// Acquire waits for its turn to load a full sync from host.
func (g *gate) Acquire(ctx context.Context, host string) (release func(), err error) {
	w := &waiter{host, make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, w)
	g.admit()
	g.mu.Unlock()
	select {
	case <-w.ready:
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		select {
		case <-w.ready: // both at once: the turn goes to the next
			g.leave(host)
		default:
			for i, o := range g.waiting {
				if o == w {
					g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
					break
				}
			}
		}
		return nil, ctx.Err()
	}
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.leave(host)
	}), nil
}

// admit gives turns to whoever may have one; mu is held. A host that is full
// holds up nobody of another host.
func (g *gate) admit() {
	kept := g.waiting[:0]
	for _, w := range g.waiting {
		if g.count < g.total && g.running[w.host] < g.perHost {
			g.count++
			g.running[w.host]++
			close(w.ready)
			continue
		}
		kept = append(kept, w)
	}
	clear(g.waiting[len(kept):])
	g.waiting = kept
}

func (g *gate) leave(host string) {
	g.count--
	if g.running[host]--; g.running[host] == 0 {
		delete(g.running, host)
	}
	g.admit()
}
