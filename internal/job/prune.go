package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"tairlift/internal/repl"
	"tairlift/spool"
)

// Keep says what of the spool stays.
type Keep string

// The values of --keep.
const (
	KeepAll     Keep = "all"     // everything but RDBs that were cut short, as which nothing can be applied
	KeepEpoch   Keep = "epoch"   // each group's newest whole epoch: another target can be filled from it
	KeepApplied Keep = "applied" // what some target has not applied
)

// KeepMargin is how long ago something must have been applied to be removed,
// unless another time is given: a failover of the target may take a mark back.
const KeepMargin = 10 * time.Minute

// keeper decides what of a job's spool may go.
type keeper struct {
	f      *folder
	keep   Keep
	margin time.Duration
	now    time.Time
}

// kept is what must stay of one group. Floor is null when all of it must.
type kept struct {
	Floor *spool.Floor `json:"floor"`
	Why   string       `json:"why"`
}

func keepAll(format string, args ...any) kept { return kept{Why: fmt.Sprintf(format, args...)} }

// groups decides for each group. An error is one of reading what was published:
// then nothing is known, and nothing may go.
func (k *keeper) groups(ids []repl.GroupID) (map[repl.GroupID]kept, error) {
	out := map[repl.GroupID]kept{}
	if k.keep == KeepAll {
		for _, id := range ids {
			out[id] = keepAll("--keep all")
		}
		return out, nil
	}
	files, err := k.f.applyFiles()
	if err != nil {
		return nil, err
	}
	targets, err := k.f.targets()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if out[id], err = k.group(id, targets, files); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (k *keeper) group(id repl.GroupID, targets []string, files []*ApplyFile) (kept, error) {
	var lowest *kept
	lower := func(f spool.Floor, why string) {
		if lowest == nil || f.Before(*lowest.Floor) {
			lowest = &kept{Floor: &f, Why: why}
		}
	}
	if k.keep == KeepEpoch {
		e, err := k.wholeEpoch(id)
		if err != nil {
			return kept{}, err
		}
		if e == 0 {
			return keepAll("no epoch is whole yet"), nil
		}
		lower(spool.Floor{Epoch: e}, fmt.Sprintf("the newest whole epoch is %s", e))
	}
	for _, t := range targets {
		if !slices.ContainsFunc(files, func(a *ApplyFile) bool { return a.Target == t }) {
			return keepAll("what target %s has applied is not known", t), nil
		}
	}
	if k.keep == KeepApplied && len(files) == 0 {
		return keepAll("nothing was applied from this folder"), nil
	}
	for _, a := range files {
		g := find(a.Groups, func(g ApplyGroup) bool { return g.ID == id })
		if g == nil || g.Epoch == 0 {
			return keepAll("target %s has applied nothing of it", a.Target), nil
		}
		if g.Reason == "spool-pruned" {
			continue // it can never go on from here
		}
		margin := k.margin
		tomb, err := k.f.tombstone(a.Target)
		if err != nil {
			return kept{}, err
		}
		if tomb != nil && tomb.State == tombFinished {
			margin = 0 // a reopen goes on from the mark that was removed
		}
		f, ok := g.settled(k.now, margin)
		if !ok {
			return keepAll("where the mark on target %s stood %s before it was last seen is not known", a.Target, margin), nil
		}
		if k.keep == KeepEpoch {
			f = spool.Floor{Epoch: f.Epoch}
		}
		lower(f, fmt.Sprintf("target %s has applied it up to %s, %s ago or more", a.Target, floorText(f), margin))
	}
	if lowest == nil {
		return keepAll("no target can go on from this folder"), nil
	}
	return *lowest, nil
}

func floorText(f spool.Floor) string {
	if f.Stream {
		return fmt.Sprintf("offset %s of epoch %s", f.Offset, f.Epoch)
	}
	return fmt.Sprintf("the beginning of epoch %s", f.Epoch)
}

// wholeEpoch is the newest epoch whose RDB has arrived whole; 0 is none.
func (k *keeper) wholeEpoch(id repl.GroupID) (repl.Epoch, error) {
	g, err := spool.OpenGroup(k.f.spoolDir(), k.f.rec.Job, id)
	if errors.Is(err, spool.ErrNoSpool) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	e, _, err := g.Whole()
	return e.Epoch, err
}

// PrunedGroup is what a prune did to one group.
type PrunedGroup struct {
	ID repl.GroupID `json:"id"`
	kept
	Segments []spool.PrunedSegment `json:"segments"`
	Bytes    int64                 `json:"bytes"` // that are free again, less those of the keys
	Error    string                `json:"error,omitempty"`
}

// pruneGroups removes what may go of the groups. The other groups go on when
// one fails; the first error is returned.
func (k *keeper) pruneGroups(ctx context.Context, ids []repl.GroupID, o spool.PruneOptions) ([]PrunedGroup, error) {
	floors, err := k.groups(ids)
	if err != nil {
		return nil, err
	}
	out := []PrunedGroup{}
	var first error
	for _, id := range ids {
		p := PrunedGroup{ID: id, kept: floors[id], Segments: []spool.PrunedSegment{}}
		o.GivenUp = true
		err := p.prune(ctx, k.f, o)
		if ctx.Err() != nil {
			return append(out, p), ctx.Err()
		}
		if err != nil {
			p.Error = err.Error()
			first = errors.Join(first, err)
		}
		out = append(out, p)
	}
	return out, first
}

func (p *PrunedGroup) prune(ctx context.Context, f *folder, o spool.PruneOptions) error {
	g, err := spool.OpenGroup(f.spoolDir(), f.rec.Job, p.ID)
	if errors.Is(err, spool.ErrNoSpool) {
		return nil
	}
	if err != nil {
		return err
	}
	var floor spool.Floor // nothing lies before it
	if p.Floor != nil {
		floor = *p.Floor
	}
	done, err := g.Prune(ctx, floor, o)
	p.Segments = append(p.Segments, done...)
	for _, s := range done {
		p.Bytes += s.Bytes - s.KeyBytes
	}
	return err
}

const (
	pruneEvery = 10 * time.Second
	pruneShort = time.Second // while capture waits for room
)

// pruner prunes beside a capture.
type pruner struct {
	f      *folder
	ids    []repl.GroupID
	keep   Keep
	margin time.Duration
	room   *room
	log    *slog.Logger
	told   string // the error that was told last
}

// loop prunes until ctx ends.
func (p *pruner) loop(ctx context.Context) {
	tick := time.NewTicker(pruneShort)
	defer tick.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if now.Sub(last) < pruneEvery && !p.room.short() {
				continue
			}
			p.once(ctx, now)
			last = time.Now()
		}
	}
}

// once prunes unless another process does.
func (p *pruner) once(ctx context.Context, now time.Time) {
	unlock, err := tryLockDir(p.f.spoolDir())
	if err != nil || unlock == nil {
		return
	}
	defer unlock()
	k := &keeper{f: p.f, keep: p.keep, margin: p.margin, now: now}
	_, err = k.pruneGroups(ctx, p.ids, spool.PruneOptions{Log: p.log})
	text := ""
	if err != nil && ctx.Err() == nil {
		text = err.Error()
	}
	if text != "" && text != p.told {
		p.log.Warn("the spool cannot be pruned; the job goes on", "error", text,
			"hint", "`tairlift spool check` reads every byte of it")
	}
	p.told = text
}

// PruneOptions say what to prune. Dir is required.
type PruneOptions struct {
	Dir    string
	Only   Only
	Keep   Keep
	Margin time.Duration
	DryRun bool
	JSON   bool
	Out    io.Writer
}

// SpoolPrune removes from the spool what --keep does not name.
func SpoolPrune(ctx context.Context, o PruneOptions) error {
	f, ids, err := openSpool(SpoolOptions{Dir: o.Dir, Only: o.Only})
	if err != nil {
		return err
	}
	if !o.DryRun {
		unlock, err := tryLockDir(f.spoolDir())
		if err != nil {
			return explain(fmt.Errorf("lock the spool: %w", err))
		}
		if unlock == nil {
			return &Error{
				Code: InUse, What: f.spoolDir() + " is being pruned by another process",
				Hint: "let it finish, then start the same command again",
			}
		}
		defer unlock()
	}
	k := &keeper{f: f, keep: o.Keep, margin: o.Margin, now: time.Now()}
	groups, err := k.pruneGroups(ctx, ids, spool.PruneOptions{DryRun: o.DryRun})
	if groups != nil {
		show := pruneText
		if o.JSON {
			show = pruneJSON
		}
		if werr := show(o, groups); werr != nil {
			return explain(werr)
		}
	}
	return explainNil(err)
}

func pruneJSON(o PruneOptions, groups []PrunedGroup) error {
	sum := struct {
		Keep     Keep          `json:"keep"`
		Margin   string        `json:"margin"`
		DryRun   bool          `json:"dry_run"`
		Segments int           `json:"segments"`
		Bytes    int64         `json:"bytes"`
		Groups   []PrunedGroup `json:"groups"`
	}{Keep: o.Keep, Margin: o.Margin.String(), DryRun: o.DryRun, Groups: groups}
	for _, g := range groups {
		sum.Segments += len(g.Segments)
		sum.Bytes += g.Bytes
	}
	return json.NewEncoder(o.Out).Encode(sum)
}

// signedBytes is a size, below 0 too: the keys of tiny segments take more than
// they did.
func signedBytes(n int64) string {
	if n < 0 {
		return "-" + humanize.IBytes(uint64(-n))
	}
	return humanize.IBytes(uint64(n))
}

func pruneText(o PruneOptions, groups []PrunedGroup) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "group\tsegments\tfree again\tkept from")
	segments, bytes := 0, int64(0)
	for _, g := range groups {
		from := "all: " + g.Why
		if g.Floor != nil {
			from = floorText(*g.Floor) + ": " + g.Why
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", g.ID, len(g.Segments), signedBytes(g.Bytes), from)
		segments, bytes = segments+len(g.Segments), bytes+g.Bytes
	}
	t.Flush()
	verb := "removed"
	if o.DryRun {
		verb = "would be removed, less their keys"
	}
	if segments == 0 && strings.Contains(b.String(), "target ") {
		fmt.Fprintln(&b, "a target that is not used any more holds all back until its DIR/apply/TARGET and DIR/status/apply-TARGET.json are removed")
	}
	fmt.Fprintf(&b, "%d %s, %s, %s\n", segments, plural(segments, "segment"), signedBytes(bytes), verb)
	_, err := io.WriteString(o.Out, b.String())
	return err
}
