package apply

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/resp"
)

// lookForEvictions is how often the target is asked how many keys it has
// evicted, beside what each session asks at its begin.
const lookForEvictions = 10 * time.Second

// evictions follows what the target evicts.
type evictions struct {
	store *checkpoint.Apply
	log   *slog.Logger
	now   func() time.Time

	mu     sync.Mutex // guards what follows
	rec    checkpoint.Evictions
	looked time.Time // what was asked before then is old
	warned string    // the policy that the log has told of
}

func openEvictions(o Options) (*evictions, error) {
	rec, err := o.Store.Evictions()
	return &evictions{store: o.Store, log: o.Log, now: o.Now, rec: rec}, err
}

// begin starts to count: nothing of the job is on the target.
func (e *evictions) begin(t target) error {
	e.mu.Lock()
	e.rec, e.looked = checkpoint.Evictions{}, time.Time{}
	e.mu.Unlock()
	return e.look(t)
}

// look brings what the target says of itself into the record.
func (e *evictions) look(t target) error {
	if t.evicted < 0 { // it does not tell
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.asked.Before(e.looked) { // another look was faster
		return nil
	}
	e.looked = time.Now()
	if t.policy != "noeviction" && t.policy != "" && t.policy != e.warned {
		e.warned = t.policy
		e.log.Warn("the target may evict keys once its memory is full", "maxmemory_policy", t.policy,
			"hint", "set its maxmemory-policy to noeviction: then it refuses writes instead, which apply waits out")
	}
	rec := e.rec.Look(t.runID, t.evicted, t.policy, e.now())
	if rec == e.rec {
		return nil
	}
	if rec.Count > 0 && e.rec.Count == 0 {
		e.log.Warn("the target evicts keys", "evicted", rec.Count, "maxmemory_policy", t.policy,
			"hint", "set its maxmemory-policy to noeviction and give it more memory; `tairlift verify --level full` tells what is missing")
	}
	if err := e.store.PutEvictions(rec); err != nil {
		return err
	}
	e.rec = rec
	return nil
}

// watch looks now and then until ctx ends, and then once more.
func (j *Job) watch(ctx context.Context) {
	tick := time.NewTicker(lookForEvictions)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hurryTime)
			defer cancel()
			j.look(ctx)
			return
		case <-tick.C:
			j.look(ctx)
		}
	}
}

// look asks the target. One that cannot be reached is the sessions' matter.
func (j *Job) look(ctx context.Context) {
	conn, err := j.dial(ctx)
	if err != nil {
		return
	}
	defer conn.Close()
	t, err := probe(ctx, conn)
	if err != nil {
		return
	}
	if err := j.evictions.look(t); err != nil {
		j.o.Log.Warn("what the target has evicted cannot be recorded", "error", err)
	}
}

// Evictions is what the target has evicted since the job began to write to it,
// as far as it was seen. It may be called at any time.
func (j *Job) Evictions() checkpoint.Evictions {
	j.evictions.mu.Lock()
	defer j.evictions.mu.Unlock()
	return j.evictions.rec
}

// LookForEvictions asks the target at addr, and brings the answer into a record
// of it.
func LookForEvictions(ctx context.Context, addr string, secret resp.Secret, rec checkpoint.Evictions) (checkpoint.Evictions, error) {
	conn, err := resp.Dial(ctx, addr, secret)
	if err != nil {
		return rec, err
	}
	defer conn.Close()
	t, err := probe(ctx, conn)
	if err != nil {
		return rec, err
	}
	if t.evicted < 0 {
		return rec, fmt.Errorf("target %s does not tell how many keys it has evicted", addr)
	}
	return rec.Look(t.runID, t.evicted, t.policy, time.Now()), nil
}
