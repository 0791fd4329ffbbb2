package job

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tairlift/checkpoint"
	"tairlift/internal/meter"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/internal/selection"
	"tairlift/verify"
)

// VerifyOptions say what to compare. DIR may be fresh when groups and target
// are given.
type VerifyOptions struct {
	Dir    string
	State  string // where apply keeps its files; empty: in Dir
	Groups []Group
	Target string
	Only   Only

	Selection    selection.Spec // as in Options
	Level        string         // counts | keys | sample | full
	Sample       float64        // share up to 1, or a number of keys; 0: 30,000 keys
	JSON         bool
	SourceSecret Secret
	TargetSecret Secret

	Console *Console
	Out     io.Writer
}

// RunVerify compares sources and target, and reads only. It returns an *Error
// whose code is the verdict's when that is not a good one.
func RunVerify(ctx context.Context, o VerifyOptions) error {
	level, err := verify.ParseLevel(o.Level)
	if err != nil {
		return usage("choose --level counts, keys, sample or full", "--%v", err)
	}
	f, err := openForReading(o.Dir, o.State, o.Groups)
	if err != nil {
		return err
	}
	groups, target, err := f.endpoints(o)
	if err != nil {
		return err
	}
	selected, err := f.selectFor(target, o.Selection)
	if err != nil {
		return err
	}
	console := o.Console
	if console == nil {
		console = NewConsole(nil, ConsoleOptions{})
	}
	vo := verify.Options{
		Target: verify.Target{Addr: target, Secret: o.TargetSecret}, Level: level, Sample: o.Sample, Selection: selected, Log: console.Log,
		Progress: console.keys(),
	}
	for _, g := range groups {
		vo.Sources = append(vo.Sources, verify.Source{Group: g.ID, Addr: g.Addr, Secret: o.SourceSecret})
	}
	var known checkpoint.Evictions
	var skipped []string
	if a, err := f.readApply(target); err == nil && a != nil {
		known, skipped = a.Evictions, a.skipped()
	}
	before := lookForEvictions(ctx, o, target, known)
	report, err := verify.Run(ctx, vo)
	after := lookForEvictions(ctx, o, target, before)
	taint(&report, before, after)
	for _, text := range skipped {
		report.Taint(text, false)
	}
	console.Done()
	if o.JSON {
		if e := json.NewEncoder(o.Out).Encode(&report); e != nil {
			return explain(e)
		}
	} else if err == nil || report.Compared > 0 {
		if e := report.Text(o.Out); e != nil {
			return explain(e)
		}
	}
	if end := verifyEnd(ctx, &report, err); end != nil {
		return end
	}
	if report.Verdict == verify.Identical && level == verify.LevelFull {
		f.clearTaints(groups, target, before, console)
	}
	return nil
}

// openForReading opens DIR for a verb that leaves no trace: any folder will do
// when it is not a job's.
func openForReading(dir, state string, groups []Group) (*folder, error) {
	f, err := openJob(dir, state)
	var e *Error
	if errors.As(err, &e) && e.Code == Refused && len(groups) > 0 {
		if _, statErr := os.Stat((&folder{dir: dir}).path(jobFile)); os.IsNotExist(statErr) {
			f := &folder{dir: dir, fresh: true, state: state}
			if state != "" {
				return f, f.openState()
			}
			return f, nil
		}
	}
	return f, err
}

// endpoints are the groups and the target to compare.
func (f *folder) endpoints(o VerifyOptions) ([]Group, string, error) {
	for _, g := range o.Groups {
		i := slices.IndexFunc(f.rec.Groups, func(k Group) bool { return k.ID == g.ID })
		if i < 0 {
			f.rec.Groups = append(f.rec.Groups, g)
		} else {
			f.rec.Groups[i] = g
		}
	}
	sortGroups(f.rec.Groups)
	groups, err := o.Only.pick(f.rec.Groups)
	if err != nil {
		return nil, "", err
	}
	if len(groups) == 0 {
		return nil, "", usage("add --group 1=HOST:PORT, once per group", "no group is given, and %s knows none", f.dir)
	}
	for _, g := range groups {
		if g.Addr == "" {
			return nil, "", usage("add --group "+g.ID.String()+"=HOST:PORT", "no address is known for group %s", g.ID)
		}
	}
	target, err := f.target(o.Target)
	return groups, target, err
}

// verifyEnd is the exit of a verify.
func verifyEnd(ctx context.Context, report *verify.Report, err error) *Error {
	var known *verify.Error
	var dial *resp.DialError
	switch {
	case err == nil:
	case ctx.Err() != nil:
		e := interrupted(ctx.Err())
		e.Hint = "start it again; it reads only"
		return e
	case !errors.As(err, &known):
		return explain(err)
	default:
		e := &Error{Code: Inconclusive, What: known.Error(), Hint: known.Hint, Err: err}
		var auth *resp.AuthError
		switch {
		case errors.As(err, &dial), errors.As(err, &auth), noAuth(err):
			e.Code = NeverReached
			if !errors.As(err, &dial) {
				e.Hint = secretHintFor(known.What)
			}
		case known.Err == nil: // a comparison that makes no sense
			e.Code = Refused
		case report.Verdict == verify.Different:
			e.Code = Failed
		}
		return e
	}
	if code := Code(report.Exit()); code != OK {
		e := &Error{Code: code, What: "verify: " + report.Line()}
		switch code {
		case Failed:
			e.Hint = "the report above names keys of each class; let the job catch up first if it still runs, then verify again"
		case Inconclusive:
			e.Hint = "let the job catch up, stop what writes to these keys, or use --level full; then verify again"
		}
		return e
	}
	return nil
}

func secretHintFor(what string) string {
	if strings.Contains(what, "target") {
		return targetSecretHint
	}
	return sourceSecretHint
}

// noAuth tells whether a server wanted a secret, whichever client asked it.
func noAuth(err error) bool {
	return resp.IsNoAuth(err) || strings.Contains(err.Error(), "NOAUTH ")
}

// clearTaints forgets doubtful keys, and what was evicted before they were
// looked at, once all keys of all groups were found equal. While apply runs it
// holds its store, and they stay.
func (f *folder) clearTaints(groups []Group, target string, evicted checkpoint.Evictions, console *Console) {
	for _, g := range f.rec.Groups {
		if !slices.Contains(groups, g) {
			return
		}
	}
	path := filepath.Join(f.applyDir(target), "apply.db")
	if _, err := os.Stat(path); err != nil || f.fresh && f.state == "" {
		return
	}
	store, err := checkpoint.OpenApply(path)
	if errors.Is(err, checkpoint.ErrInUse) {
		console.Log.Info("taints are kept while apply runs; verify once more when it has ended", "target", target)
		return
	}
	if err != nil {
		console.Log.Warn("taints cannot be cleared", "error", err)
		return
	}
	defer store.Close()
	if err := f.clearIn(store, target, evicted, idsOf(groups)); err != nil {
		console.Log.Warn("taints cannot be cleared", "error", err)
	}
}

func (f *folder) clearIn(store *checkpoint.Apply, target string, evicted checkpoint.Evictions, groups []repl.GroupID) error {
	n := 0
	for _, g := range groups {
		rec, _, err := store.Group(g)
		if err != nil {
			return err
		}
		if rec.Forgotten || rec.Flushes.Count > 0 {
			n++
		}
		if err := store.Doubts(g, func(checkpoint.Doubt) error { n++; return nil }); err != nil {
			return err
		}
	}
	if n == 0 && evicted.Count == 0 {
		return nil
	}
	if err := store.ClearDoubts(); err != nil {
		return err
	}
	evicted = evicted.Cleared()
	if err := store.PutEvictions(evicted); err != nil {
		return err
	}
	a, err := f.readApply(target)
	if a == nil || err != nil {
		return err
	}
	a.Evictions = evicted
	for i := range a.Groups {
		g := &a.Groups[i]
		g.Doubtful, g.DoubtWhy, g.Doubts, g.Held, g.Healed, g.Recopy, g.Forgotten = 0, nil, nil, 0, 0, "", false
		g.FlushesIgnored = 0
		// What was rejected is no more than its keys are.
		l := doubtList{rejects: g.Rejects}
		if err := l.read(store, g.ID); err != nil {
			return err
		}
		if g.Rejected = l.rejected; len(l.rejected) < maxListed {
			g.Rejects = len(l.rejected)
		}
	}
	return writeStatus(f.applyStatus(target), a)
}

// keys tells how far a verify is. The total is an estimate.
func (c *Console) keys() func(done, total int64) {
	return func(done, total int64) {
		c.meter.Show(meter.View{Phase: "verify", Unit: "keys", Done: done, Total: total})
	}
}
