package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/internal/selection"
)

// Level is how much is compared.
type Level string

// The levels.
const (
	LevelCounts Level = "counts"
	LevelKeys   Level = "keys"
	LevelSample Level = "sample"
	LevelFull   Level = "full"
)

// ParseLevel reads a level's name.
func ParseLevel(s string) (Level, error) {
	switch l := Level(s); l {
	case LevelCounts, LevelKeys, LevelSample, LevelFull:
		return l, nil
	}
	return "", fmt.Errorf("level %q is none of counts, keys, sample, full", s)
}

// Source is the server to read a group from.
type Source struct {
	Group  repl.GroupID
	Addr   string // HOST:PORT
	Secret resp.Secret
}

// Target is the server that should hold what the sources hold.
type Target struct {
	Addr   string
	Secret resp.Secret
}

// Options say what to compare. Sources and Target must be set.
type Options struct {
	Sources []Source
	Target  Target
	Level   Level // empty is full

	// Sample is how much of the keys level sample takes: up to 1 a share of
	// them, above 1 a number, 0 is 30,000 keys.
	Sample float64

	Batch        int           // keys asked for at a time; 0 is 128
	TTLTolerance time.Duration // how far apart deadlines may be; 0 is 1 s
	Rounds       int           // how often keys that differ are read again, at most; 0 is 5
	Interval     time.Duration // between the rounds; 0 is 2 s. It should exceed twice the lag of the copying
	Examples     int           // keys named per class; 0 is 10, negative is none
	Timeout      time.Duration // without any progress of a connection; 0 is 5 min, for a DUMP of 1 GiB may take most of one
	Seed         uint64        // of hashes and the choice of the sample; 0 is a random one

	// Selection is which keys are compared, and where they are on the target; nil is
	// all, in databases of the same number.
	Selection *selection.Selection

	// IsOurs tells which keys are not compared and not counted, in any db;
	// nil is Ours.
	IsOurs func(key []byte) bool

	// Progress is told of keys done and the total expected, from one
	// goroutine at a time. Total is an estimate.
	Progress func(done, total int64)
	Log      *slog.Logger // nil is none

	queueBytes int // of all queues of keys that differ; 0 is queueBytes
	holdBytes  int // of values that one answer of a side is held to; 0 is what bytesInFlight leaves each group
}

// Ours tells whether a key belongs to this tool or to a DTS heartbeat.
func Ours(key []byte) bool {
	for _, prefix := range ourPrefixes {
		if len(key) >= len(prefix) && string(key[:len(prefix)]) == prefix {
			return true
		}
	}
	return false
}

var ourPrefixes = []string{"tairlift:", "DTS_REDIS_TIMESTAMP_HEARTBEAT"}

// oursPattern matches all keys that Ours does (and a few more, in one SCAN).
const oursPattern = "[tD][aT][iS][r_][lR][iE][fD][tI][:S]*"

var errInterrupted = errors.New("interrupted")

// bytesInFlight bounds what is asked for at once, by the size of the values
// seen lately.
const bytesInFlight = 4 << 20

// leastHeld bounds from below what each of many groups holds of values.
const leastHeld = 256 << 10

// firstSize is what a value is taken to have before any was seen: a server that is
// asked for many large ones at once keeps all of them in its memory.
const firstSize = 64 << 10

// queueBytes is the memory of all queues of keys that differ.
const queueBytes = 16 << 20

// run is one call of Run.
type run struct {
	o       Options
	sources []*server
	target  *server
	tally   *tally
	seen    fingerprints
	probe   probe
	share   uint64 // sample: take hashes below; 0 is all
	begun   time.Time

	progressMu  sync.Mutex
	done, total int64
}

// Run compares. The report is valid whatever the error is: it says what was
// found until then. Errors are *Error, or the context's cause.
func Run(ctx context.Context, o Options) (Report, error) {
	r := &run{o: o, begun: time.Now(), probe: dumpProbe}
	if err := r.options(); err != nil {
		return Report{Verdict: Inconclusive, Level: r.o.Level, PerDB: []DBCounts{}, Taints: []string{}, Reason: err.Error()}, err
	}
	defer r.close()
	err := r.all(ctx)
	rep := r.tally.report(r.o.Level, time.Since(r.begun))
	if r.o.Level == LevelSample {
		rep.Sample = r.sample(&rep)
	}
	failed := err
	if ctx.Err() != nil {
		failed = errInterrupted
	}
	if r.o.Level == LevelCounts {
		rep.decideCounts(failed)
	} else {
		rep.decide(failed)
	}
	return rep, err
}

func (r *run) options() error {
	o := &r.o
	setDefault(&o.Level, LevelFull)
	setDefault(&o.Batch, 128)
	setDefault(&o.TTLTolerance, time.Second)
	setDefault(&o.Rounds, 5)
	setDefault(&o.Interval, 2*time.Second)
	setDefault(&o.Examples, 10)
	setDefault(&o.Timeout, 5*time.Minute)
	setDefault(&o.Sample, 30_000)
	setDefault(&o.queueBytes, queueBytes)
	setDefault(&o.holdBytes, max(bytesInFlight/max(len(o.Sources), 1), leastHeld))
	for o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	o.Examples = max(o.Examples, 0)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r.tally = newTally(o.Examples)
	r.tally.place = o.Selection.To
	if o.Level == LevelKeys {
		r.probe = typeProbe
	}
	if _, err := ParseLevel(string(o.Level)); err != nil {
		return &Error{What: err.Error(), Hint: "choose one of them with --level"}
	}
	if len(o.Sources) == 0 || o.Target.Addr == "" {
		return &Error{What: "nothing to compare", Hint: "name at least one source group and the target"}
	}
	if o.Sample < 0 {
		return &Error{What: fmt.Sprintf("sample of %g", o.Sample), Hint: "give a share up to 1, or a number of keys"}
	}
	for _, s := range o.Sources {
		r.sources = append(r.sources, newServer("source group "+s.Group.String(), s.Group, s.Addr, s.Secret, o.Timeout))
	}
	r.target = newServer("target", 0, o.Target.Addr, o.Target.Secret, o.Timeout)
	return nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (r *run) close() {
	for _, s := range r.servers() {
		s.close()
	}
}

func (r *run) servers() []*server { return append(slices.Clone(r.sources), r.target) }

// all opens both sides and compares by level.
func (r *run) all(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, s := range r.servers() {
		g.Go(func() error { return s.open(gctx) })
	}
	if err := waitCause(ctx, g); err != nil {
		return err
	}
	if err := r.introduce(); err != nil {
		return err
	}
	if r.o.Level == LevelCounts {
		return r.counts(ctx)
	}
	plan, err := r.plan(ctx)
	if err != nil {
		return err
	}
	_, before, err := r.target.snapshot(ctx)
	if err != nil {
		return err
	}
	g, gctx = errgroup.WithContext(ctx)
	for i := range r.sources {
		g.Go(func() error { return r.compareGroup(gctx, i, plan.dbs[i]) })
	}
	if err := waitCause(ctx, g); err != nil {
		return err
	}
	scan, err := r.unproven(ctx, plan.target, before)
	if err != nil || len(scan) == 0 {
		return err
	}
	return r.extras(ctx, scan)
}

// waitCause prefers the outer context's end to what it made the workers say.
func waitCause(ctx context.Context, g *errgroup.Group) error {
	err := g.Wait()
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// introduce refuses sides that are the same server and notes what a reader of
// the report should know.
func (r *run) introduce() error {
	known := map[string]*server{}
	for _, s := range r.servers() {
		if s.runID == "" {
			continue
		}
		if other := known[s.runID]; other != nil {
			return &Error{
				What: fmt.Sprintf("%s and %s are the same server (run id %s)", other.name, s.name, s.runID),
				Hint: "a comparison with itself proves nothing: check the addresses",
			}
		}
		known[s.runID] = s
	}
	if r.o.Selection != nil {
		r.tally.note("compared is what is selected: " + r.o.Selection.String())
	}
	for _, s := range r.servers() {
		if s.replica {
			r.tally.note(s.name + " is a replica: it may lag behind its master")
		}
		if s.evicts != "" && r.o.Level != LevelCounts && !s.noTouch {
			r.o.Log.Warn("reading makes keys look recently used", "server", s.name, "maxmemory_policy", s.evicts)
		}
	}
	for _, s := range r.sources {
		if d := s.ahead - r.target.ahead; d.Abs() > r.o.TTLTolerance {
			r.tally.note(fmt.Sprintf("the clock of %s is %s %s the target's; deadlines are compared by each server's own clock too",
				s.name, d.Abs().Round(time.Millisecond), aheadOrBehind(d)))
		}
	}
	return nil
}

func aheadOrBehind(d time.Duration) string {
	if d < 0 {
		return "behind"
	}
	return "ahead of"
}

// plan is which dbs to walk, all by the numbers of the sources.
type plan struct {
	dbs    [][]int // per source
	target []int   // those that the target has keys of
}

func (r *run) plan(ctx context.Context) (plan, error) {
	p := plan{dbs: make([][]int, len(r.sources))}
	var keys, targetKeys int64
	for i, s := range r.sources {
		sizes, err := s.keyspace(ctx)
		if err != nil {
			return p, err
		}
		for db, n := range sizes {
			if !r.o.Selection.DB(db) {
				continue
			}
			p.dbs[i] = append(p.dbs[i], db)
			keys += n.keys
		}
		slices.Sort(p.dbs[i])
	}
	sizes, err := r.target.keyspace(ctx)
	if err != nil {
		return p, err
	}
	for at, n := range sizes {
		db := r.o.Selection.From(at)
		if db == selection.None {
			continue
		}
		p.target = append(p.target, db)
		targetKeys += n.keys
	}
	slices.Sort(p.target)
	if r.o.Level == LevelSample {
		share := r.o.Sample
		if share > 1 {
			share /= float64(max(keys, 1))
		}
		if share < 1 {
			r.share = uint64(share * math.MaxUint64)
			r.share = max(r.share, 1)
		}
	}
	r.total = keys + targetKeys
	return p, nil
}

// chosen tells whether a key belongs to the sample: the same on both sides.
func (r *run) chosen(db int, key []byte) bool {
	return r.share == 0 || xxh3.HashSeed(key, ^r.o.Seed+uint64(db)) < r.share
}

func (r *run) ours(key []byte) bool {
	if r.o.IsOurs != nil {
		return r.o.IsOurs(key)
	}
	return Ours(key)
}

// leftOut tells whether a key, in a db that is selected, is not compared.
func (r *run) leftOut(key []byte) bool { return r.ours(key) || !r.o.Selection.Key(key) }

func (r *run) progress(n int) {
	if r.o.Progress == nil || n == 0 {
		return
	}
	r.progressMu.Lock()
	defer r.progressMu.Unlock()
	r.done += int64(n)
	r.total = max(r.total, r.done)
	r.o.Progress(r.done, r.total)
}

// pause waits d after since.
func pause(ctx context.Context, since time.Time, d time.Duration) error {
	t := time.NewTimer(time.Until(since.Add(d)))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// sample is what the sample allows to say.
func (r *run) sample(rep *Report) *Sample {
	s := &Sample{
		Share: 1, Keys: rep.Compared, Population: rep.SourceKeys, TargetAll: rep.TargetKeys,
		Different: rep.Missing + rep.Value + rep.Type + rep.TTL, TargetExtra: rep.Extra,
		TargetKeys: rep.Compared - rep.Missing + rep.Extra,
	}
	if r.share != 0 {
		s.Share = float64(r.share) / math.MaxUint64
	}
	s.TargetKeys = min(s.TargetKeys, s.TargetAll)
	s.complete()
	return s
}
