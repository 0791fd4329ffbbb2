package job

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"tairlift/internal/resp"
)

// greetFor is how long a source that was never reached is tried.
const greetFor = 2 * time.Second

// greetSources makes sure that the sources which were never reached under
// this DIR are there and take the secret, before anything is claimed on the
// target or written to job.json: a mistyped address leaves nothing behind.
func (r *run) greetSources(ctx context.Context) error {
	errs := make([]*Error, len(r.groups))
	var wg sync.WaitGroup
	for i, g := range r.groups {
		_, known, err := r.captures.Group(g.ID)
		if err != nil {
			return err
		}
		if !known {
			wg.Go(func() { errs[i] = greet(ctx, g, r.o.SourceSecret) })
		}
	}
	wg.Wait()
	if err := join(errs); err != nil {
		return err
	}
	return nil
}

func greet(ctx context.Context, g Group, secret Secret) *Error {
	ctx, cancel := context.WithTimeout(ctx, greetFor)
	defer cancel()
	for {
		// What this one try gets is what is told: the limit itself says nothing.
		err := hello(context.WithoutCancel(ctx), g.Addr, secret)
		var auth *resp.AuthError
		e := &Error{Code: NeverReached, Err: err}
		switch {
		case err == nil:
			return nil
		case errors.As(err, &auth):
			e.What, e.Hint = fmt.Sprintf("group %s: source %s refused the password: %s", g.ID, g.Addr, auth.Reply), sourceSecretHint
			return e
		case resp.IsNoAuth(err):
			e.What, e.Hint = fmt.Sprintf("group %s: source %s wants a password: %v", g.ID, g.Addr, err), sourceSecretHint
			return e
		}
		select {
		case <-ctx.Done():
			var dial *resp.DialError
			if errors.As(err, &dial) {
				err = dial.Err
			}
			e.What = fmt.Sprintf("group %s: source %s was never reached: %v", g.ID, g.Addr, err)
			e.Hint = "is it up, is its address right, and may this machine connect to it?"
			return e
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// hello connects, authenticates and asks for one answer.
func hello(ctx context.Context, addr string, secret Secret) error {
	ctx, cancel := context.WithTimeout(ctx, greetFor)
	defer cancel()
	c, err := resp.Dial(ctx, addr, secret)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Do(ctx, "PING")
	var se resp.ServerError
	if errors.As(err, &se) && !resp.IsNoAuth(err) {
		return nil // LOADING, MASTERDOWN: it is there; capture waits for it
	}
	return err
}
