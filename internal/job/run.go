package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"

	"tairlift/apply"
	"tairlift/capture"
	"tairlift/checkpoint"
	"tairlift/internal/pace"
	"tairlift/internal/repl"
	"tairlift/internal/selection"
	"tairlift/spool"
)

const (
	defaultSegment = 256 << 20
	leastSegment   = 1 << 20
	// leastQuota is what a group needs of --max-spool: what it has not sealed
	// cannot be pruned, and beside that the next segment must fit.
	leastQuota = 2 << 20
)

// Until is the goal at which a run ends.
type Until string

// The goals.
const (
	UntilStopped  Until = ""          // none
	UntilFull     Until = "full"      // the full phase of every group
	UntilCaughtUp Until = "caught-up" // what each source had when asked behind the full phase
	UntilEnd      Until = "end"       // of what is in the spool
)

// OnFlush says what a command of a source does that empties or swaps whole
// databases.
type OnFlush string

// The policies of --on-flush.
const (
	OnFlushStop   OnFlush = "stop"   // the group stops
	OnFlushScoped OnFlush = "scoped" // the group's keys are deleted, and no others
	OnFlushIgnore OnFlush = "ignore" // it is skipped, and the job tainted
)

// Options of sync, capture and apply. Dir is required; what DIR knows from
// earlier calls may be left out.
type Options struct {
	Dir    string
	State  string  // apply: where its own files lie, so that Dir is only read; empty: in Dir
	Groups []Group // sources; empty: those that DIR knows
	Target string  // HOST:PORT; empty: the one that DIR knows
	Only   Only    // zero: all groups
	Until  Until

	// Selection is which keys are applied, and to which database; zero: what DIR
	// remembers of the target, else all. A part that is given must be the same
	// each time.
	Selection selection.Spec

	ReplaceExisting  bool          // write to a target that holds foreign keys
	StopOnUnknown    bool          // a command that no table knows stops its group, and is not passed on
	ContinueOnReject bool          // a refused command makes its keys doubtful and stops nothing
	OnFlush          OnFlush       // what a flushed source does; empty: stop
	MaxDeletes       float64       // percent of a group's keys that may be deleted behind a new full sync
	DeletesAgreed    bool          // a person has named MaxDeletes
	Reseed           bool          // load the newest RDB again where a mark is lost
	Wait             time.Duration // bounds every wait for an endpoint; 0: none

	SourceSecret, TargetSecret Secret

	// NewEpoch begins with a full sync of every group of this call, also of one
	// whose stream could go on.
	NewEpoch bool

	SegmentBytes int64         // 0: 256 MiB
	SegmentAge   time.Duration // 0: one hour

	MaxSpool   int64         // bytes that the spool may have; 0: no quota
	Keep       Keep          // what of the spool stays while capture runs; empty: all
	KeepMargin time.Duration // see Keep

	// MaxFullSyncsPerHost and MaxFullSyncs are how many groups load their full
	// sync at a time. 0: 1 and 4.
	MaxFullSyncsPerHost, MaxFullSyncs int

	// What all groups together may do, per second. 0: no limit. They can be
	// changed while the run goes on (RunCtl), as can BackoffLatency, from which
	// latency of the target on apply slows down (0: never).
	MaxOps              int64 // commands that apply writes
	MaxBandwidth        int64 // bytes that apply writes
	CaptureMaxBandwidth int64 // bytes of full syncs that capture reads
	BackoffLatency      time.Duration

	// Resume is the command that goes on where this one stops.
	Resume  string
	Console *Console // nil: silent
}

// RunCapture brings the groups' data into the spool.
func RunCapture(ctx context.Context, o Options) error {
	return (&run{o: o, verb: "capture", withCapture: true}).run(ctx)
}

// RunApply drains the spool into the target.
func RunApply(ctx context.Context, o Options) error {
	return (&run{o: o, verb: "apply", withApply: true}).run(ctx)
}

// RunSync does both at once. Neither half stops the other: a target that is
// away does not stop capture.
func RunSync(ctx context.Context, o Options) error {
	return (&run{o: o, verb: "sync", withCapture: true, withApply: true}).run(ctx)
}

// run is one call of RunCapture, RunApply or RunSync.
type run struct {
	o                      Options
	verb                   string
	withCapture, withApply bool

	console   *Console
	log       *slog.Logger
	f         *folder
	groups    []Group
	target    string
	selection *selection.Selection
	known     bool // the target was reached under this DIR before

	captures *checkpoint.Capture
	applies  *checkpoint.Apply
	sessions []*session
	job      atomic.Pointer[apply.Job] // nil until the target was claimed
	before   *ApplyFile                // what the run before published
	// apartC and apartA are what earlier runs published of groups that are not
	// of this one.
	apartC []CaptureGroup
	apartA []ApplyGroup
	// epochsBefore are the newest epochs of groups that were asked for another.
	epochsBefore map[repl.GroupID]repl.Epoch
	doubts       doubtLists
	trails       trails
	room         *room // nil without capture
	capturing    *pace.Pacer
	applying     *pace.Pacer
	vouches      *vouches
	fatal        chan *Error   // cap 1: what ends the whole run
	claimed      chan struct{} // cap 1: the target is ours, which status should know at once

	mu   sync.Mutex // guards proc and done
	proc Process
	done map[repl.GroupID]bool // goal reached
}

// session is one group's capture within a run.
type session struct {
	*capture.Session
	done    atomic.Bool
	stopped atomic.Pointer[Error] // why it ended for good
	ended   atomic.Bool
}

func (r *run) run(ctx context.Context) error {
	r.console = r.o.Console
	if r.console == nil {
		r.console = NewConsole(nil, ConsoleOptions{})
	}
	r.log = r.console.Log
	r.fatal = make(chan *Error, 1)
	r.claimed = make(chan struct{}, 1)
	r.done, r.trails = map[repl.GroupID]bool{}, trails{}
	r.capturing, r.applying = r.o.pacers()
	defer r.close()
	if err := r.prepare(ctx); err != nil {
		if ctx.Err() != nil {
			err = interrupted(ctx.Err())
		}
		return r.last(explain(err))
	}
	defer boundHeap(len(r.groups))()
	return r.last(r.work(ctx))
}

// last completes the error of a run's end: how to go on.
func (r *run) last(e *Error) error {
	if e == nil {
		if r.o.Until == UntilFull && r.withApply {
			r.tellHeld()
		}
		r.console.done(r.o.Resume)
		return nil
	}
	switch e.Code {
	case Interrupted:
		e.Hint = "the same command goes on where it stopped"
		if r.o.NewEpoch {
			e.Hint = "the command below goes on where it stopped, in the old epoch where no new one has begun"
		}
		fallthrough
	case Stopped, Corrupt, Failed:
		out := *e
		out.Resume = r.o.Resume
		return &out
	}
	return e
}

// prepare finds out what to do, takes the locks, and writes nothing that a
// mistaken call could regret.
func (r *run) prepare(ctx context.Context) (err error) {
	if err := r.checkUntil(); err != nil {
		return err
	}
	if r.f, err = openJob(r.o.Dir, r.o.State); err != nil {
		return err
	}
	if err := r.f.merge(r.o.Groups, r.log); err != nil {
		return err
	}
	if !r.withCapture && len(r.f.rec.Groups) == 0 {
		return noSpool(r.f)
	}
	if len(r.f.rec.Groups) == 0 {
		return usage("add --group 1=HOST:PORT, once per group", "no group is given, and %s knows none", r.o.Dir)
	}
	if r.groups, err = r.o.Only.pick(r.f.rec.Groups); err != nil {
		return err
	}
	if r.withCapture {
		for _, g := range r.groups {
			if g.Addr == "" {
				return usage("add --group "+g.ID.String()+"=HOST:PORT", "no address is known for group %s", g.ID)
			}
		}
		if err := r.checkQuota(); err != nil {
			return err
		}
	}
	if r.withApply {
		if r.target, err = r.f.target(r.o.Target); err != nil {
			return err
		}
		if r.selection, err = r.f.selectFor(r.target, r.o.Selection); err != nil {
			return err
		}
	}
	if r.o.Until == UntilEnd {
		if !r.anySpool() {
			return noSpool(r.f)
		}
		if _, err := r.f.readCapture(); err != nil {
			return explain(err) // where the end is cannot be told
		}
	}
	if err := r.lock(); err != nil {
		return r.unwritable(err)
	}
	if err := r.refuseFinished(); err != nil {
		return err
	}
	if r.withCapture {
		if err := r.greetSources(ctx); err != nil {
			return err
		}
		if err := r.distinct(ctx); err != nil {
			return err
		}
	}
	// From here on the groups are the job's.
	if err := r.f.save(r.o.Groups, r.log); err != nil {
		return r.unwritable(err)
	}
	r.proc = newProcess(r.f.rec.Job, r.verb, r.o.Until)
	if r.withApply {
		r.doubts = doubtLists{store: r.applies, seen: map[repl.GroupID]doubtList{}}
		r.vouches = &vouches{f: r.f}
		if r.before, err = r.f.readApply(r.target); err != nil {
			r.log.Warn("last status cannot be read", "error", err)
		}
		if r.before != nil {
			for _, g := range r.before.Groups {
				p := &past{trail: g.Trail, seen: g.MarkSeen}
				if last, ok := g.mark(); ok { // where it stopped is a place like any other
					p.trail = p.trail.add(last)
				}
				r.trails[g.ID] = p
			}
		}
	}
	r.setApart()
	r.makeSessions()
	return r.noteEpochs()
}

// noteEpochs remembers, before capture begins, which epochs a new one is to be
// told from.
func (r *run) noteEpochs() error {
	if !r.o.NewEpoch {
		return nil
	}
	r.epochsBefore = map[repl.GroupID]repl.Epoch{}
	for _, group := range r.groups {
		g, err := spool.OpenGroup(r.f.spoolDir(), r.f.rec.Job, group.ID)
		if errors.Is(err, spool.ErrNoSpool) {
			r.epochsBefore[group.ID] = 0
			continue
		}
		if err == nil {
			r.epochsBefore[group.ID], err = g.Newest()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// setApart keeps what is known of groups that --only leaves out: above all
// how much of their spool is vouched for.
func (r *run) setApart() {
	mine := func(id repl.GroupID) bool { return find(r.groups, func(g Group) bool { return g.ID == id }) != nil }
	if r.withCapture {
		if c, err := r.f.readCapture(); err == nil && c != nil {
			for _, g := range c.Groups {
				if !mine(g.ID) {
					g.Apart = true
					r.apartC = append(r.apartC, g)
				}
			}
		}
	}
	if r.before != nil {
		for _, g := range r.before.Groups {
			if !mine(g.ID) {
				g.Apart = true
				r.apartA = append(r.apartA, g)
			}
		}
	}
}

func (r *run) checkUntil() error {
	allowed := []Until{UntilStopped, UntilFull, UntilCaughtUp}
	hint := "choose --until full or --until caught-up, or leave it out"
	if !r.withCapture {
		allowed, hint = []Until{UntilStopped, UntilEnd}, "choose --until end, or leave it out"
	}
	for _, u := range allowed {
		if r.o.Until == u {
			return nil
		}
	}
	return usage(hint, "--until %q is not a goal of %s", r.o.Until, r.verb)
}

// checkQuota refuses a quota at which the groups could wait for each other for
// ever, with nothing in the spool that may be pruned.
func (r *run) checkQuota() error {
	least := int64(len(r.groups)) * leastQuota
	if r.o.MaxSpool <= 0 || r.o.MaxSpool >= least {
		return nil
	}
	return usage(fmt.Sprintf("give --max-spool at least %dMiB, which is %d MiB a group; it must hold the largest RDB too", least>>20, leastQuota>>20),
		"--max-spool %s is too small for %d %s", humanize.IBytes(uint64(r.o.MaxSpool)), len(r.groups), plural(len(r.groups), "group"))
}

func (r *run) anySpool() bool {
	for _, g := range r.groups {
		if _, err := spool.OpenGroup(r.f.spoolDir(), r.f.rec.Job, g.ID); !errors.Is(err, spool.ErrNoSpool) {
			return true
		}
	}
	return false
}

// lock takes the stores of the halves that this run is.
func (r *run) lock() (err error) {
	if r.withCapture {
		if r.captures, err = r.f.lockCapture(); err != nil {
			return err
		}
	}
	if r.withApply {
		if r.applies, err = r.f.lockApply(r.target); err != nil {
			return err
		}
		before, err := r.applies.Target()
		if err != nil {
			return err
		}
		r.known = before != ""
	}
	return nil
}

func (r *run) makeSessions() {
	if !r.withCapture {
		return
	}
	perHost, total := r.o.MaxFullSyncsPerHost, r.o.MaxFullSyncs
	if perHost <= 0 {
		perHost = 1
	}
	if total <= 0 {
		total = 4
	}
	g := newGate(perHost, total)
	r.room = newRoom(r.f.spoolDir(), r.o.MaxSpool, r.log)
	segment := r.segmentBytes()
	published, err := r.f.vouched()
	if err != nil {
		r.log.Warn("last status cannot be read; only the record tells how much of the spool must be there", "error", err)
	}
	for _, group := range r.groups {
		r.sessions = append(r.sessions, &session{Session: capture.New(capture.Options{
			SpoolDir: r.f.spoolDir(), Job: r.f.rec.Job, Group: group.ID, Addr: group.Addr, Secret: r.o.SourceSecret,
			Store: r.captures, Published: published[group.ID], NewEpoch: r.o.NewEpoch, Log: r.log, FullSync: g, MaxWait: r.o.Wait, Room: r.room, Pace: r.capturing,
			Writer: spool.WriterOptions{SegmentBytes: segment, SegmentAge: r.o.SegmentAge, Log: r.log},
		})})
	}
}

// segmentBytes is the size of a segment: small enough, below a quota, that what
// is sealed and can be pruned is most of the spool.
func (r *run) segmentBytes() int64 {
	n := cmp.Or(r.o.SegmentBytes, defaultSegment)
	if r.o.MaxSpool > 0 {
		n = min(n, max(r.o.MaxSpool/int64(8*len(r.groups)), leastSegment))
	}
	return n
}

func (r *run) close() {
	if r.captures != nil {
		r.captures.Close()
	}
	if r.applies != nil {
		r.applies.Close()
	}
}

// process is what the status files of this moment say of the process.
func (r *run) process() Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.proc
	p.Updated = time.Now()
	return p
}

func (r *run) reached(g repl.GroupID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.done[g]
}

// view is the job as this process sees it.
func (r *run) view() *view {
	p := r.process()
	v := &view{job: r.f.rec.Job, groups: r.groups, target: r.target, now: time.Now()}
	if r.withCapture {
		v.capture = captureFile(p, r.sessions)
		v.capture.Spool, v.capture.Rate = r.room.state(), captureRate(r.capturing)
		v.capture.Groups = append(v.capture.Groups, r.apartC...)
	} else if c, err := r.f.readCapture(); err == nil {
		v.capture = c
	}
	switch j := r.apply(); {
	case !r.withApply:
	case j != nil:
		v.apply = applyFile(p, r.target, r.selection.Spec(), j, &r.doubts, func(g repl.GroupID) bool {
			return r.reached(g)
		})
		if r.o.Until == UntilEnd {
			for i := range v.apply.Groups {
				g := &v.apply.Groups[i]
				g.Done = g.State == string(apply.StateFinished)
			}
		}
	default:
		v.apply = r.connecting(p)
	}
	if v.apply != nil {
		v.apply.Rate = applyRate(r.applying)
		v.apply.Groups = append(v.apply.Groups, r.apartA...)
	}
	return v
}

// connecting stands in for apply until the target has answered.
func (r *run) connecting(p Process) *ApplyFile {
	a := &ApplyFile{Process: p, Target: r.target, Selection: r.selection.Spec()}
	if r.before != nil {
		a.Evictions = r.before.Evictions
	}
	for _, g := range r.groups {
		out := ApplyGroup{ID: g.ID}
		if r.before != nil {
			if b := find(r.before.Groups, func(b ApplyGroup) bool { return b.ID == g.ID }); b != nil {
				out = *b
			}
		}
		out.State, out.Reason, out.What, out.Hint, out.Pace, out.Done = string(apply.StateWaiting), "target-connecting", "", "", "", false
		a.Groups = append(a.Groups, out)
	}
	return a
}

func (r *run) show() {
	s := r.view().status()
	r.console.show(&s)
}

// vouches reads what the capture of another process, or of another machine,
// has published last.
type vouches struct {
	f *folder

	mu   sync.Mutex // guards what follows
	read time.Time
	last map[repl.GroupID]spool.Durable
}

// vouchEvery is how old an answer may be: it is asked for at every poll of
// the spool.
const vouchEvery = 200 * time.Millisecond

func (v *vouches) of(g repl.GroupID) (spool.Durable, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if now := time.Now(); now.Sub(v.read) >= vouchEvery {
		v.read = now
		if m, err := v.f.vouched(); err == nil && m != nil {
			v.last = m
		}
	}
	d, ok := v.last[g]
	return d, ok
}

// describe is for the log when a run begins.
func (r *run) describe() []any {
	attrs := []any{"dir", r.o.Dir}
	if r.o.State != "" {
		attrs = append(attrs, "state", r.o.State)
	}
	attrs = append(attrs, "job", r.f.rec.Job.String(), "groups", idList(r.groups))
	if r.target != "" {
		attrs = append(attrs, "target", r.target)
		if r.selection != nil {
			attrs = append(attrs, "selection", r.selection.String())
		}
	}
	if r.o.Until != UntilStopped {
		attrs = append(attrs, "until", string(r.o.Until))
	}
	return attrs
}
