package job

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"tairlift/apply"
	"tairlift/capture"
	"tairlift/internal/repl"
	"tairlift/spool"
)

// work runs the halves until the goal, a signal, or until nothing is left that
// could go on; then it stops both cleanly.
func (r *run) work(ctx context.Context) *Error {
	defer r.listen()()
	r.log.Info(r.verb+" starts", r.describe()...)
	pub := &publisher{r: r, log: r.log, why: map[repl.GroupID]string{}, apart: map[string]bool{}}
	pubCtx, stopPub := context.WithCancel(context.WithoutCancel(ctx))
	var publishing sync.WaitGroup
	publishing.Go(func() { pub.loop(pubCtx) })
	if r.withCapture {
		p := &pruner{f: r.f, ids: idsOf(r.groups), keep: cmp.Or(r.o.Keep, KeepAll), margin: r.o.KeepMargin, room: r.room, log: r.log}
		publishing.Go(func() { p.loop(pubCtx) })
	}

	end := r.both(ctx)

	stopPub()
	publishing.Wait()
	r.finish(end)
	pub.publish()
	if end == nil || end.Code != NeverReached && end.Code != Refused { // else nothing was begun
		r.show()
	}
	r.console.Done()
	return end
}

// both starts the halves and returns when both have stopped.
func (r *run) both(ctx context.Context) *Error {
	captureCtx, stopCapture := context.WithCancel(ctx)
	defer stopCapture()
	applyCtx, stopApply := context.WithCancel(ctx)
	defer stopApply()

	if r.withApply && !r.known {
		// Nothing is captured for a target that is refused.
		if err := r.openApply(applyCtx); err != nil {
			return r.endOf(ctx, err)
		}
		r.claimed <- struct{}{}
	}
	var captured, applied sync.WaitGroup
	for _, s := range r.sessions {
		captured.Go(func() { r.captureGroup(captureCtx, s) })
	}
	applyErr := make(chan error, 1)
	applied.Go(func() { applyErr <- r.runApply(applyCtx) })
	over := make(chan struct{})
	var goal sync.WaitGroup
	goalCtx, stopGoal := context.WithCancel(ctx)
	defer stopGoal()
	goal.Go(func() {
		if r.reach(goalCtx) {
			close(over)
		}
	})

	var fatal *Error
	var ended error
	applyDone := false
	select {
	case <-ctx.Done():
	case fatal = <-r.fatal:
	case <-over:
	case ended = <-r.applyAlone(applyErr):
		applyDone = true
	}
	stopGoal()
	goal.Wait()
	stopApply()
	applied.Wait()
	if !applyDone {
		ended = <-applyErr
	}
	stopCapture()
	captured.Wait()
	switch {
	case fatal != nil:
		return fatal
	case ctx.Err() != nil:
		return interrupted(ctx.Err())
	}
	return join(append(r.captureErrors(), r.lost(applyErrors(ended))...))
}

// applyAlone is the end of apply where that is the whole run; nil never comes.
func (r *run) applyAlone(err chan error) chan error {
	if r.withCapture {
		return nil
	}
	return err
}

func (r *run) endOf(ctx context.Context, err error) *Error {
	if ctx.Err() != nil {
		return interrupted(ctx.Err())
	}
	return explain(err)
}

func (r *run) captureGroup(ctx context.Context, s *session) {
	err := s.Run(ctx)
	if err != nil && ctx.Err() == nil || isStop(err) {
		e := explain(err)
		s.stopped.Store(e)
		if e.Code == NeverReached || e.Code == Refused {
			r.die(e)
		}
	}
	s.ended.Store(true)
}

func isStop(err error) bool {
	var stop *capture.StopError
	return errors.As(err, &stop)
}

// die ends the whole run.
func (r *run) die(e *Error) {
	select {
	case r.fatal <- e:
	default: // another was first
	}
}

// openApply claims the target.
func (r *run) openApply(ctx context.Context) error {
	o := apply.Options{
		Selection: r.selection,
		SpoolDir:  r.f.spoolDir(), StateDir: r.f.applyDir(r.target), Job: r.f.rec.Job, Groups: idsOf(r.groups), Store: r.applies,
		Addr: r.target, Secret: r.o.TargetSecret, UntilEnd: r.o.Until == UntilEnd, MaxWait: r.o.Wait, Log: r.log,
		Vouched: r.vouches.of, MaxDeletes: r.o.MaxDeletes, DeletesAgreed: r.o.DeletesAgreed, Reseed: r.o.Reseed, NewEpoch: r.epochsBefore,
		Sources: map[repl.GroupID]apply.Source{}, Pace: r.applying,
	}
	for _, g := range r.groups {
		o.Sources[g.ID] = apply.Source{Addr: g.Addr, Secret: r.o.SourceSecret}
	}
	for _, g := range r.f.rec.Groups {
		o.JobGroups = append(o.JobGroups, g.ID)
	}
	if r.o.StopOnUnknown {
		o.OnUnknown = apply.UnknownStop
	}
	if r.o.ContinueOnReject {
		o.OnReject = apply.RejectContinue
	}
	switch r.o.OnFlush {
	case OnFlushScoped:
		o.OnFlush = apply.FlushScoped
	case OnFlushIgnore:
		o.OnFlush = apply.FlushIgnore
	}
	if r.o.ReplaceExisting {
		o.OnExisting = apply.ExistingReplace
	}
	if r.withCapture {
		byID := map[repl.GroupID]*session{}
		for _, s := range r.sessions {
			byID[s.Status().Group] = s
		}
		o.Changed = func(g repl.GroupID) <-chan struct{} { return byID[g].Changed() }
		o.Vouched = func(g repl.GroupID) (spool.Durable, bool) {
			d := byID[g].Status().Durable
			return d, !d.IsZero()
		}
	}
	j, err := apply.Open(ctx, o)
	if err != nil {
		return err
	}
	if err := r.f.rememberTarget(r.target, r.selection.Spec()); err != nil {
		return err
	}
	r.job.Store(j)
	return nil
}

// runApply returns when every group's apply has ended.
func (r *run) runApply(ctx context.Context) error {
	if !r.withApply {
		return nil
	}
	if r.apply() == nil {
		if err := r.openApply(ctx); err != nil {
			if ctx.Err() == nil {
				r.die(explain(err))
			}
			return nil
		}
	}
	err := r.apply().Run(ctx)
	if errors.Is(err, apply.ErrTaken) {
		r.die(explain(err))
		return nil
	}
	return err
}

func (r *run) apply() *apply.Job { return r.job.Load() }

func (r *run) captureErrors() []*Error {
	var out []*Error
	for _, s := range r.sessions {
		out = append(out, s.stopped.Load())
	}
	return out
}

// applyErrors takes apart what apply has joined.
func applyErrors(err error) []*Error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var out []*Error
		for _, e := range many.Unwrap() {
			out = append(out, applyErrors(e)...)
		}
		return out
	}
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return []*Error{explain(err)}
}

// lost makes a group whose spool is not there, but was captured, what it is:
// not nothing, but something that is gone.
func (r *run) lost(errs []*Error) []*Error {
	vouched, err := r.f.vouched()
	if err != nil {
		return errs
	}
	for _, e := range errs {
		var stop *apply.StopError
		if e.Code != NoSpool || !errors.As(e.Err, &stop) {
			continue
		}
		for _, st := range r.apply().Status() {
			if d, ok := vouched[st.Group]; ok && !d.IsZero() && st.What == stop.What {
				e.Code, e.Hint = Corrupt, spoolCheckHint
			}
		}
	}
	return errs
}

// groupsTell tells whether the groups' own states say why the run has ended: not
// when the target was refused before any of them began.
func (r *run) groupsTell() bool {
	return r.apply() != nil || slices.ContainsFunc(r.captureErrors(), func(e *Error) bool { return e != nil })
}

// finish notes how the run ended.
func (r *run) finish(end *Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.proc.Ended, r.proc.How, r.proc.Exit = &now, howFinished, int(OK)
	if end == nil {
		return
	}
	r.proc.Exit = int(end.Code)
	switch {
	case end.Code == Interrupted:
		r.proc.How = howInterrupted
	case (end.Code == Stopped || end.Code == Corrupt) && r.groupsTell():
		r.proc.How = howStopped
	default:
		r.proc.How, r.proc.What, r.proc.Hint = howFailed, end.What, end.Hint
	}
}
