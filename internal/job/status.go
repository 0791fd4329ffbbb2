package job

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/repl"
	"tairlift/internal/selection"
	"tairlift/spool"
)

// State is what a group is doing, as status tells it.
type State string

// The states of a group.
const (
	Waiting     State = "waiting"
	FullSync    State = "full-sync"
	ApplyingRDB State = "applying-rdb"
	CatchingUp  State = "catching-up"
	InSync      State = "in-sync"
	StateStop   State = "stopped"
	Finished    State = "finished"
)

// Status is a job at one moment. What is not known is null.
type Status struct {
	Job      string        `json:"job"`
	CaughtUp bool          `json:"caught_up"`
	Taints   []string      `json:"taints"`
	Groups   []GroupStatus `json:"groups"`

	Running bool     `json:"running"`
	Target  *string  `json:"target"`
	Targets []string `json:"targets"` // all that this DIR was used with
	Capture *Side    `json:"capture"` // null: never ran here
	Apply   *Side    `json:"apply"`
	// Selection is what of the sources is applied to Target; left out: everything.
	Selection selection.Spec `json:"selection,omitzero"`
	// Finish is what a finish on this target has left; null: the job goes on.
	Finish *buried `json:"finish"`
	// SlotCoverage tells whether the groups are known to hold all slots of
	// their cluster: a written list cannot tell.
	SlotCoverage string `json:"slot_coverage"`
	// Spool is what capture has published of it; null: never ran here.
	Spool *SpoolFile `json:"spool"`
	// Rate is what the halves may do per second, and do or did last.
	Rate RateStatus `json:"rate"`
	// Notes are status files that cannot be read, and so are not in here.
	Notes []string `json:"notes,omitempty"`
}

// Side is one of the two halves of a job: capture or apply.
type Side struct {
	Running bool       `json:"running"`
	Verb    string     `json:"verb"`
	Until   string     `json:"until"`
	PID     int        `json:"pid"`
	Host    string     `json:"host"`
	Started time.Time  `json:"started"`
	Updated time.Time  `json:"updated"`
	Ended   *time.Time `json:"ended"`
	How     string     `json:"how"`
	Exit    *int       `json:"exit"`
}

// GroupStatus is one group at one moment.
type GroupStatus struct {
	ID       repl.GroupID `json:"id"`
	State    State        `json:"state"`
	Reason   string       `json:"reason"`
	Epoch    *repl.Epoch  `json:"epoch"`
	Source   *repl.Offset `json:"source_offset"`
	Captured *repl.Offset `json:"captured_offset"`
	Applied  *repl.Offset `json:"applied_offset"`
	LagBytes *int64       `json:"lag_bytes"`
	LagSecs  *float64     `json:"lag_seconds"`
	// TTL is held while deadlines are held back on the target, so that no key
	// expires there, and exact otherwise; TTLPass is the setting exact of those
	// that were held, null before one.
	TTL      *string   `json:"ttl"`
	TTLPass  *TTLPass  `json:"ttl_pass"`
	RDB      RDBStatus `json:"rdb"`
	Commands *int64    `json:"commands_applied"`
	Rejects  *int      `json:"rejects"`
	Doubtful *int      `json:"doubtful"`
	// Healed are keys that were doubtful, and were copied again.
	Healed *int `json:"healed"`
	// Rejected and Doubts are the first of those counted by Rejects and Doubtful.
	Rejected []Rejected `json:"reject_list"`
	Doubts   []Doubtful `json:"doubt_list"`

	Addr    string     `json:"addr"`
	What    string     `json:"what"`
	Hint    string     `json:"hint"`
	Since   *time.Time `json:"since"`
	ReplID  string     `json:"replid"`
	Unknown int64      `json:"unknown_commands"`
	// Unknowns are how many of Unknown have each name: up to 50 names, and "(others)".
	Unknowns map[string]int64 `json:"unknown_list"`
	Ignored  int64            `json:"ignored_commands"`
	Filtered int64            `json:"filtered"` // commands and RDB entries of keys that are not selected
	Expired  int64            `json:"expired_in_transit"`
	WidthMS  int64            `json:"ttl_width_ms"`
	// Flushes are the commands of the source that emptied databases and were
	// carried out by the last run, Flushed the keys that they deleted.
	Flushes        int64 `json:"flushes"`
	Flushed        int64 `json:"flushed_keys"`
	FlushesIgnored int64 `json:"flushes_ignored"` // skipped, by --on-flush ignore
	// Swaps are the SWAPDB that were carried out by the last run, Swapped the keys
	// that they moved.
	Swaps      int64 `json:"swaps"`
	Swapped    int64 `json:"swapped_keys"`
	Reconnects int   `json:"reconnects"`
	// Pace says that the group waits for a limit, or for a slow target, or did
	// within the last second; empty: neither.
	Pace string `json:"pace"`
	Skew Skew   `json:"skew_seconds"`

	caughtUp bool
	applied  bool // RDB counts what is on the target, not what is captured
}

// TTLPass is how far the setting exact of held deadlines is.
type TTLPass struct {
	Seen  int64 `json:"keys_seen"`
	Total int64 `json:"keys_total"` // of the scan; 0: none was needed
	Set   int64 `json:"set_exact"`  // deadlines
}

// The two words of ttl.
const (
	ttlExact = "exact"
	ttlHeld  = "held"
)

// RDBStatus is how far the full phase is: on the target where the job has one,
// else, and until the RDB has arrived, in the spool.
type RDBStatus struct {
	Done  int64  `json:"bytes_done"`
	Total *int64 `json:"bytes_total"`
	Keys  *int64 `json:"keys"`
	// Native are values that the target does not RESTORE, or that are large: they
	// are written by commands of their kind.
	Native int64 `json:"native"`
	// Writing is the large value that is being written, or null.
	Writing *Writing `json:"writing"`
}

// Writing is a large value that is being written.
type Writing struct {
	DB    int    `json:"db"`
	Key   string `json:"key"` // up to 64 bytes of it
	Kind  string `json:"type"`
	Bytes int64  `json:"bytes"` // of the RDB, read of it
}

// view is all that a status is made from.
type view struct {
	job     spool.JobID
	groups  []Group
	target  string // empty: capture only
	targets []string
	capture *CaptureFile
	apply   *ApplyFile
	tomb    *tombstone // of the target; nil: the job goes on
	// spooled stands in for capture where it left no status file.
	spooled map[repl.GroupID]spool.Durable
	now     time.Time
	notes   []string
}

// sides of one group.
type sides struct {
	c      *CaptureGroup
	a      *ApplyGroup
	cp, ap *Process
	cRun   bool
	aRun   bool
	spool  spool.Durable // durable, from either source
	toApp  bool          // the job has a target
	tomb   *tombstone    // it is at its end there
	now    time.Time

	evicted checkpoint.Evictions // by the target
}

// status puts a view together.
func (v *view) status() Status {
	s := Status{Job: v.job.String(), Taints: []string{}, Groups: []GroupStatus{}, Targets: v.targets, SlotCoverage: "unknown"}
	s.Notes = v.notes
	if s.Targets == nil {
		s.Targets = []string{}
	}
	if v.target != "" {
		s.Target = &v.target
	}
	var base sides
	base.now, base.toApp, base.tomb = v.now, v.target != "" || v.apply != nil, v.tomb
	if v.tomb != nil {
		s.Finish = v.tomb.told()
	}
	if v.capture != nil {
		base.cp = &v.capture.Process
		base.cRun = base.cp.running(v.now)
		s.Capture, s.Spool, s.Rate.Capture = side(base.cp, base.cRun), v.capture.Spool, v.capture.Rate
	}
	if v.apply != nil {
		base.ap = &v.apply.Process
		base.aRun = base.ap.running(v.now)
		base.evicted = v.apply.Evictions
		s.Apply, s.Rate.Apply = side(base.ap, base.aRun), v.apply.Rate
		s.Selection = v.apply.Selection
		if text := evictedText(base.evicted); text != "" {
			s.Taints = append(s.Taints, text+": "+evictedHint)
		}
	}
	s.Running = base.cRun || base.aRun
	s.CaughtUp = len(v.groups) > 0
	for _, g := range v.groups {
		d := base
		d.spool = v.spooled[g.ID]
		if v.capture != nil {
			d.c = find(v.capture.Groups, func(c CaptureGroup) bool { return c.ID == g.ID })
		}
		if v.apply != nil {
			d.a = find(v.apply.Groups, func(a ApplyGroup) bool { return a.ID == g.ID })
		}
		// A run with --only works on others than this group.
		d.cRun = d.cRun && d.c != nil && !d.c.Apart
		d.aRun = d.aRun && d.a != nil && !d.a.Apart
		if d.c != nil && !d.c.Durable.IsZero() {
			d.spool = d.c.Durable
		}
		gs := d.status(g)
		s.CaughtUp = s.CaughtUp && gs.caughtUp
		s.Taints = append(s.Taints, d.taints(g.ID)...)
		s.Groups = append(s.Groups, gs)
	}
	return s
}

func find[T any](list []T, is func(T) bool) *T {
	if i := slices.IndexFunc(list, is); i >= 0 {
		return &list[i]
	}
	return nil
}

func side(p *Process, running bool) *Side {
	s := &Side{Running: running, Verb: p.Verb, Until: p.Until, PID: p.PID, Host: p.Host, Started: p.Started, Updated: p.Updated, Ended: p.Ended, How: p.How}
	if p.Ended != nil {
		s.Exit = &p.Exit
	}
	return s
}

func (d *sides) status(g Group) GroupStatus {
	s := GroupStatus{ID: g.ID, Addr: g.Addr, Rejected: []Rejected{}, Doubts: []Doubtful{}, Unknowns: map[string]int64{}}
	d.numbers(&s)
	s.Skew = d.skew()
	d.state(&s)
	d.pace(&s)
	return s
}

// numbers fills in what is counted.
func (d *sides) numbers(s *GroupStatus) {
	if !d.spool.IsZero() {
		s.Epoch, s.ReplID = ptr(d.spool.Epoch), string(d.spool.ReplID)
		s.RDB.Done = d.spool.RDBBytes
		if d.spool.RDBDone {
			s.Captured, s.RDB.Total = ptr(d.spool.Offset), ptr(d.spool.RDBBytes)
		}
	}
	if c := d.c; c != nil {
		s.Source, s.Reconnects = c.Source, c.Reconnects
		if s.Source != nil && s.Captured != nil && c.Epoch == d.spool.Epoch && *s.Source < *s.Captured {
			s.Source = s.Captured // what came since the sample was the source's too
		}
		if s.RDB.Total == nil {
			s.RDB.Total = c.RDBTotal
		}
	}
	a := d.a
	if d.toApp {
		s.TTL, s.Commands, s.Rejects, s.Doubtful, s.Healed = nil, ptr(int64(0)), ptr(0), ptr(0), ptr(0)
	}
	if a != nil {
		s.Commands, s.Rejects, s.Doubtful, s.Healed = ptr(a.Commands), ptr(a.Rejects), ptr(a.Doubtful), ptr(a.Healed)
		s.Rejected, s.Doubts = append(s.Rejected, a.Rejected...), append(s.Doubts, a.Doubts...)
		s.Unknown, s.Ignored, s.Filtered, s.Expired, s.WidthMS = a.Unknown, a.Ignored, a.Filtered, a.Expired, a.WidthMS
		s.Flushes, s.Flushed, s.FlushesIgnored = a.Flushes, a.Flushed, a.FlushesIgnored
		s.Swaps, s.Swapped = a.Swaps, a.Swapped
		maps.Copy(s.Unknowns, a.Unknowns)
		if a.Epoch > 0 {
			s.applied = true
			s.Epoch, s.Applied, s.TTL, s.TTLPass = ptr(a.Epoch), a.Applied, ptr(a.ttl()), a.TTLPass
			s.RDB.Done, s.RDB.Keys = a.RDBDone, ptr(a.Keys)
			s.RDB.Native = a.Native
			if d.aRun {
				s.RDB.Writing = a.Writing
			}
			if a.RDBTotal != nil {
				s.RDB.Total = a.RDBTotal
			}
		}
	}
	d.lag(s)
}

// lag compares offsets of one history only.
func (d *sides) lag(s *GroupStatus) {
	reached, ms := s.Captured, int64(0)
	if d.toApp {
		reached = s.Applied
		if d.a == nil || d.a.Epoch != d.spool.Epoch {
			return
		}
		ms = d.a.AppliedMS
	}
	if s.Source == nil || reached == nil {
		return
	}
	s.LagBytes = ptr(max(int64(*s.Source-*reached), 0))
	switch {
	case *s.LagBytes == 0:
		s.LagSecs = ptr(0.0)
	case ms > 0 && d.c.SampledAt != nil:
		// Both by the source's clock: when the sample was taken, and when it
		// executed what was applied last.
		at := d.c.SampledAt.UnixMilli() + d.c.SkewMS
		s.LagSecs = ptr(max(float64(at-ms)/1000, 0))
	}
}

// freshSample is how old the source's offset may be to call a group in sync.
const freshSample = 2 * time.Second

// sampled tells whether the source's offset is as of now.
func (d *sides) sampled() bool {
	return d.cRun && d.c.SampledAt != nil && d.cp.Updated.Sub(*d.c.SampledAt) <= freshSample
}

func (s *GroupStatus) set(state State, reason, what, hint string, since *time.Time) {
	s.State, s.Reason, s.What, s.Hint, s.Since = state, reason, what, hint, since
}

// state says what the group is doing and why it waits.
func (d *sides) state(s *GroupStatus) {
	c, a := d.c, d.a
	switch {
	case d.tomb != nil && d.tomb.State == tombFinished:
		s.set(Finished, "", "", "", d.tomb.At)
	case d.tomb != nil:
		s.set(StateStop, "finishing", "a finish of this job was begun and is not through", "start `tairlift finish` again; or `tairlift finish --reopen` takes it back", &d.tomb.Began)
	case c != nil && c.State == "stopped" && c.Reason != "":
		s.set(StateStop, c.Reason, c.What, c.Hint, c.Since)
	case a != nil && a.State == "stopped" && a.Reason != "":
		s.set(StateStop, a.Reason, a.What, a.Hint, a.Since)
	case !d.cRun && !d.aRun:
		d.ended(s)
	case !d.toApp:
		d.capturing(s)
	case !d.aRun:
		d.applyGone(s)
	default:
		d.applying(s)
	}
	d.decideCaughtUp(s)
}

// failures are the reasons of runs that ended as a whole.
var failures = map[Code]string{NeverReached: "never-reached", Refused: "refused", InUse: "taken-over"}

// failed is the newest process if it ended by an error of the whole run.
func (d *sides) failed() *Process {
	p := d.cp
	if p == nil || d.ap != nil && d.ap.Updated.After(p.Updated) {
		p = d.ap
	}
	if p == nil || p.Ended == nil || p.How != howFailed || p.What == "" {
		return nil
	}
	return p
}

// ended is the state when no process works on the group.
func (d *sides) ended(s *GroupStatus) {
	if p := d.failed(); p != nil {
		s.set(StateStop, failures[Code(p.Exit)], p.What, p.Hint, p.Ended)
		if s.Reason == "" {
			s.Reason = "failed"
		}
		return
	}
	last, done, apart := d.cp, d.c != nil && d.c.Done, d.c != nil && d.c.Apart
	if d.toApp {
		last, done, apart = d.ap, d.a != nil && d.a.Done, d.a != nil && d.a.Apart
		if d.a == nil && d.c == nil {
			s.set(Waiting, "", "", "", nil)
			return
		}
		if d.a == nil { // captured, and not applied yet
			s.set(Waiting, "apply-not-running", "", "", nil)
			return
		}
	}
	switch {
	case last == nil && d.spool.IsZero():
		s.set(Waiting, "", "", "", nil)
	case last == nil:
		s.set(StateStop, "not-running", "", "", nil)
	case done && apart:
		s.set(Finished, "", "", "", nil)
	case apart:
		s.set(StateStop, "not-running", "", "leave --only out, or name this group too", nil)
	case done && last.Ended != nil:
		s.set(Finished, "", "", "", last.Ended)
	case last.Ended == nil:
		s.set(StateStop, "not-running",
			fmt.Sprintf("`tairlift %s` (pid %d%s) is gone without having ended", last.Verb, last.PID, onHost(last.Host)),
			"start the same command again: it goes on where it stopped", &last.Updated)
	case last.How == howInterrupted:
		s.set(StateStop, "interrupted", "", "start the same command again: it goes on where it stopped", last.Ended)
	default:
		s.set(StateStop, "not-running", "", "start the same command again: it goes on where it stopped", last.Ended)
	}
}

// capturing is the state of a job without a target.
func (d *sides) capturing(s *GroupStatus) {
	c := d.c
	switch c.State {
	case "full-sync":
		s.set(FullSync, c.Reason, c.What, c.Hint, c.Since)
	case "streaming":
		s.set(CatchingUp, "", "", "", nil)
		if s.LagBytes != nil && *s.LagBytes == 0 && d.sampled() {
			s.State = InSync
		}
	case "stopped": // not begun, or about to end
		s.set(Waiting, "", "", "", nil)
	default:
		s.set(Waiting, c.Reason, c.What, c.Hint, c.Since)
	}
}

// applyGone is the state when capture works and apply does not.
func (d *sides) applyGone(s *GroupStatus) {
	if d.c.State == "full-sync" && (d.a == nil || d.a.Epoch == 0) {
		s.set(FullSync, "", "", "", d.c.Since)
		return
	}
	if d.cp.Verb == "sync" && (d.ap == nil || d.ap.Started.Before(d.cp.Started)) {
		s.set(Waiting, "target-connecting", "", "", nil) // its apply publishes next
		return
	}
	s.set(StateStop, "apply-not-running", "capture goes on, but nothing is applied", "run `tairlift apply` or `tairlift sync`", nil)
	if d.ap != nil && d.ap.Ended != nil {
		s.Since = d.ap.Ended
	}
}

// applying is the state when apply works.
func (d *sides) applying(s *GroupStatus) {
	c, a := d.c, d.a
	// Why the source gives nothing, when apply has no reason of its own.
	why := func() {
		switch {
		case a.Reason != "":
			s.Reason, s.What, s.Hint, s.Since = a.Reason, a.What, a.Hint, a.Since
		case d.cRun && c.Reason != "":
			s.Reason, s.What, s.Hint, s.Since = c.Reason, c.What, c.Hint, c.Since
		}
	}
	doing := a.State
	if doing == "waiting" && a.Reason != "" {
		// It is at the target's door, and goes on in the phase it was in.
		switch a.Phase {
		case "rdb":
			doing = "applying-rdb"
		case "stream":
			doing = "streaming"
		}
	}
	switch doing {
	case "applying-rdb":
		s.State = ApplyingRDB
		if a.Reason != "" {
			why()
		}
	case "streaming", "finished":
		s.State = CatchingUp
		why()
		level := s.Applied != nil && s.Captured != nil && a.Epoch == d.spool.Epoch && *s.Applied >= *s.Captured
		switch {
		case s.Reason != "":
			if level && a.Reason == "" {
				s.State = Waiting
			}
		case level && !d.cRun:
			s.State, s.Reason = Waiting, "end-of-spool"
			if d.cp != nil && d.cp.Ended == nil {
				s.Reason = "capture-not-running"
			}
		case a.Doubtful > 0, a.Forgotten:
			s.Reason = "doubtful-keys"
			if a.Recopy != "" {
				s.What, s.Hint = "doubtful keys cannot be copied again now: "+a.Recopy, recopyHint
			}
		case a.FlushesIgnored > 0:
			s.Reason, s.What, s.Hint = "flush-ignored", skippedText(a.FlushesIgnored), skippedHint
		case d.evicting(s):
		case a.ttl() == ttlHeld:
			s.Reason = "ttl-held"
		case d.sampled() && s.LagBytes != nil && (*s.LagBytes == 0 || s.LagSecs != nil && *s.LagSecs < 1):
			s.State = InSync
		}
	default: // waiting for the spool, or for the target
		s.State = Waiting
		if d.cRun && c.State == "full-sync" {
			s.State = FullSync
		}
		why()
	}
	if s.State == FullSync && a.Epoch == 0 && a.Reason == "" && c.Reason == "" {
		s.What, s.Since = c.What, c.Since
	}
}

const recopyHint = "they are once the group's source, the master that capture reads from, can be asked: is its address right, and TAIRLIFT_SOURCE_PASSWORD or --source-password-file set for this process too? `tairlift verify --level full` that ends identical clears them as well"

// pace says why a group is slower than it could be. Where nothing else is to be
// said of a group that is behind, it is its reason too.
func (d *sides) pace(s *GroupStatus) {
	switch {
	case s.State == FullSync && d.cRun:
		s.Pace = d.c.Pace
	case d.aRun && s.State != StateStop && s.State != Finished:
		s.Pace = d.a.Pace
	}
	behind := s.State == FullSync || s.State == ApplyingRDB || s.State == CatchingUp
	if behind && s.Reason == "" {
		s.Reason = s.Pace
	}
}

// decideCaughtUp tells whether nothing is missing of what is known to exist.
func (d *sides) decideCaughtUp(s *GroupStatus) {
	reached, epoch := s.Captured, d.spool.Epoch
	if d.toApp {
		reached, epoch = s.Applied, 0
		if d.a != nil {
			epoch = d.a.Epoch
		}
	}
	if reached == nil || epoch != d.spool.Epoch || s.TTL != nil && *s.TTL != ttlExact {
		return
	}
	switch s.State {
	case InSync:
		s.caughtUp = true
	case Finished, Waiting:
		if s.State == Waiting && s.Reason != "end-of-spool" {
			return
		}
		p := d.cp
		if d.toApp {
			p = d.ap
		}
		if p.Until == string(UntilFull) {
			return
		}
		if p.Until == string(UntilCaughtUp) {
			s.caughtUp = true // it reached what the source had when asked
			return
		}
		// All of the spool is applied; that is all there is if capture had
		// reached its goal, or the source's last known offset.
		whole := s.Captured != nil && *reached >= *s.Captured
		source := s.Source == nil || *reached >= *s.Source || d.c != nil && d.c.Done && d.cp.Until == string(UntilCaughtUp)
		s.caughtUp = whole && source
	}
}

// taints are what keeps a job from being beyond doubt.
func (d *sides) taints(g repl.GroupID) []string {
	var out []string
	if d.a == nil {
		return nil
	}
	if n := d.a.Rejects; n > 0 {
		out = append(out, fmt.Sprintf("%d %s in group %s", n, plural(n, "reject"), g))
	}
	if n := d.a.Doubtful; n > 0 {
		text := fmt.Sprintf("%d doubtful %s in group %s", n, plural(n, "key"), g)
		if why := slices.Sorted(maps.Keys(d.a.DoubtWhy)); len(why) > 0 {
			text += " (" + strings.Join(why, ", ") + ")"
		}
		if d.a.Held > 0 {
			text += fmt.Sprintf(", %d of which cannot be copied again", d.a.Held)
		}
		out = append(out, text)
	}
	if d.a.Forgotten {
		out = append(out, fmt.Sprintf("not all that was rejected or doubtful in group %s is known: its apply.db was lost, or too many deadlines may be late", g))
	}
	if n := d.a.FlushesIgnored; n > 0 {
		out = append(out, fmt.Sprintf("group %s: %s", g, skippedText(n)))
	}
	return out
}

// skippedText says what --on-flush ignore has left.
func skippedText(n int64) string {
	return fmt.Sprintf("%d %s of the source not carried out (--on-flush ignore): the target may keep keys that the source has not, or has in another database", n, plural(int(n), "flush"))
}

const skippedHint = "`tairlift verify --level full` tells which keys differ, and clears this when none does; --new-epoch makes the target equal"

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	if strings.HasSuffix(word, "sh") {
		return word + "es"
	}
	return word + "s"
}

func ptr[T any](v T) *T { return &v }
