package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/pace"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/internal/selection"
	"tairlift/spool"
)

// RejectPolicy says what a command that the target refuses for good does.
type RejectPolicy uint8

// The policies of --on-reject.
const (
	RejectStop     RejectPolicy = iota // the group stops
	RejectContinue                     // it goes on; the keys are doubtful
)

// ExistingPolicy says what keys on the target that are not ours do.
type ExistingPolicy uint8

// The policies of --on-existing.
const (
	ExistingRefuse  ExistingPolicy = iota // nothing is written
	ExistingReplace                       // a key of the source replaces them
)

// Options of an apply. SpoolDir, Job, Groups, Store and Addr are required.
type Options struct {
	SpoolDir string // DIR/spool
	StateDir string // DIR/apply/<target>: the folder of the store
	Job      spool.JobID
	Groups   []repl.GroupID
	Store    *checkpoint.Apply
	Addr     string // of the target, host:port
	Secret   resp.Secret

	// JobGroups are all groups of the job, of which Groups may be some.
	JobGroups []repl.GroupID
	// Selection is which keys are applied, and to which database; nil is all, to
	// their own. It is the same for the whole life of a job on a target.
	Selection *selection.Selection

	OnReject   RejectPolicy   // zero: stop
	OnExisting ExistingPolicy // zero: refuse
	OnFlush    FlushPolicy    // zero: stop
	OnUnknown  UnknownPolicy  // zero: pass
	// MaxDeletes is how many of a group's keys may be deleted behind a new full
	// sync, in percent, before a person has to agree; DeletesAgreed says that
	// one has named it, and so agrees also where another job shares the target.
	MaxDeletes    float64
	DeletesAgreed bool
	// Reseed loads the newest RDB again for groups whose mark is lost, or does
	// not belong to what the spool holds.
	Reseed bool
	// NewEpoch has, for each group whose capture was asked for a full sync, the
	// newest epoch before it: what stops the group before a later one is there is
	// waited out.
	NewEpoch map[repl.GroupID]repl.Epoch
	// UntilEnd ends a group when everything in the spool is applied; what is
	// missing there is an error then, and not waited for.
	UntilEnd bool
	// MaxWait bounds every wait for the target, and for bytes of the spool that
	// must exist and are not there; 0 is no bound.
	MaxWait time.Duration
	// Timeout bounds the wait for one answer of the target; 0 is 20 s.
	Timeout time.Duration
	// Changed gives the channel that capture closes when more of a group is
	// durable; nil, or a nil channel, polls the files.
	Changed func(repl.GroupID) <-chan struct{}
	// Vouched is capture's last published durable position of a group, so that
	// bytes missing below it are noticed; nil when nothing is published.
	Vouched func(repl.GroupID) (spool.Durable, bool)
	// Sources are the groups' servers, as far as they are known here: doubtful
	// keys are copied again from them. Whatever they answer, or if they do not, the
	// stream goes on.
	Sources map[repl.GroupID]Source
	// Pace is the budget that all groups share; nil has no limits.
	Pace *pace.Pacer
	Log  *slog.Logger     // nil is silent
	Now  func() time.Time // by which time is measured; nil is time.Now
	// Wall is what this machine's clock says, which is set now and then; nil is Now.
	Wall func() time.Time

	batch        int           // commands of a batch; 0 goes by the round trip
	chunkEntries int64         // entries of the RDB sent before replies are read
	markEntries  int64         // entries of the RDB between two marks
	heldBytes    int64         // of a value of the RDB; 0 is heldBytes
	valueChunk   int           // bytes of a chunk of a larger one; 0 is valueChunk
	firstWait    time.Duration // before the first session after a broken one; 0 is 100 ms
	beat         time.Duration // that a connection says nothing at most; 0 is beatEvery
	settle       time.Duration // before damage in a file of a copy is believed; 0 is settleTime
	hole         time.Duration // the same for zeros where bytes belong; 0 is holeTime
	copyBytes    int64         // of doubtful keys copied again at a time; 0 is copyBytes
	heldNames    int64         // keys of a group with held deadlines that are known by name; 0 is as many as a file takes
	heldUnknown  bool          // those of the RDB are not
	behindAge    time.Duration // 0 is behindAge
	lateAge      time.Duration // 0 is lateAge
}

// Job applies the spool of several groups to one target.
type Job struct {
	o         Options
	owner     owner
	groups    []*group
	existing  *existing
	newStore  bool // it knew no group when this process began
	evictions *evictions

	mu     sync.Mutex              // guards what follows, but claiming
	had    map[repl.GroupID]string // on which run of the target a mark was seen last
	dbs    map[int]bool            // databases known to exist on the target, by its numbers
	runID  string                  // of the target that dbs is about
	change chan struct{}

	probing   sync.Mutex // guards what follows
	probed    *accepts
	probedRun string // of the target that probed is about

	inPlace sync.Once // tells that the target has no RENAME

	scans    *heldScans
	claiming sync.Mutex   // one claim at a time
	gate     sync.RWMutex // see Lane.gate
}

// Open reads the store and makes sure that the target may be written to. If
// the target cannot be reached but was reached before under this folder, Open
// succeeds and Run waits for it.
//
// Errors: ErrNeverReached (wrapped), *RefusedError when the target is a cluster
// or holds keys or marks that are not this job's, *StopError when it refuses for
// good what apply cannot do without, else of the store or of ctx.
func Open(ctx context.Context, o Options) (*Job, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Wall == nil {
		o.Wall = o.Now
	}
	if o.Pace == nil {
		o.Pace = pace.New(pace.Limits{}, 0)
	}
	if o.Timeout == 0 {
		o.Timeout = 20 * time.Second
	}
	if o.firstWait == 0 {
		o.firstWait = firstWait
	}
	if o.beat == 0 {
		o.beat = beatEvery
	}
	if o.settle == 0 {
		o.settle = settleTime
	}
	if o.hole == 0 {
		o.hole = holeTime
	}
	if o.copyBytes == 0 {
		o.copyBytes = copyBytes
	}
	if o.heldNames == 0 {
		o.heldNames = math.MaxInt64
	}
	if o.behindAge == 0 {
		o.behindAge = behindAge
	}
	if o.lateAge == 0 {
		o.lateAge = lateAge
	}
	if o.chunkEntries == 0 {
		o.chunkEntries = chunkEntries
	}
	if o.heldBytes == 0 {
		o.heldBytes = heldBytes
	}
	if o.valueChunk == 0 {
		o.valueChunk = valueChunk
	}
	if o.markEntries == 0 {
		o.markEntries = markEntries
	}
	j := &Job{o: o, owner: newOwner(), had: map[repl.GroupID]string{}, dbs: map[int]bool{}, change: make(chan struct{})}
	j.scans = newHeldScans(j)
	for _, id := range o.Groups {
		g, err := newGroup(j, id)
		if err != nil {
			return nil, err
		}
		j.groups = append(j.groups, g)
	}
	var err error
	if j.existing, err = openExisting(o.StateDir, o.Job); err != nil {
		return nil, err
	}
	if j.evictions, err = openEvictions(o); err != nil {
		return nil, err
	}
	before, err := o.Store.Target()
	if err != nil {
		return nil, err
	}
	known, err := o.Store.Groups()
	if err != nil {
		return nil, err
	}
	j.newStore = len(known) == 0
	if err := j.firstClaim(ctx, before != ""); err != nil {
		return nil, errors.Join(err, j.existing.Close())
	}
	return j, nil
}

// firstTries is how long a target that was never reached is tried.
const firstTries = 2 * time.Second

func (j *Job) firstClaim(ctx context.Context, reached bool) error {
	until := time.Now().Add(firstTries)
	for {
		err := j.claim(ctx)
		var w *waitError
		err = connErr(err)
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &w), ctx.Err() != nil:
			return err
		case reached:
			j.o.Log.Warn("the target cannot be used now; apply waits for it", "reason", w.reason, "error", w.err)
			return nil
		case w.reason == "target-auth", w.reason == "target-protocol", w.reason == "target-unreachable" && time.Now().After(until):
			return fmt.Errorf("%w: %w", ErrNeverReached, err)
		case w.reason != "target-unreachable":
			// It was reached, and says that it will be of use later.
			j.o.Log.Warn("the target cannot be used now; apply waits for it", "reason", w.reason, "error", w.err, "hint", hintFor(w.reason))
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(firstWait):
		}
	}
}

// control is a connection whose every command is bounded by the job's timeout.
type control struct {
	*resp.Conn
	timeout time.Duration
}

func (j *Job) dial(ctx context.Context) (control, error) {
	ctx, cancel := context.WithTimeout(ctx, j.o.Timeout)
	defer cancel()
	conn, err := resp.Dial(ctx, j.o.Addr, j.o.Secret)
	return control{conn, j.o.Timeout}, err
}

// Do is resp.Conn's, bounded.
func (c control) Do(ctx context.Context, args ...string) (resp.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := c.SetDeadline(time.Now().Add(c.timeout)); err != nil { // that of the last answer may have passed
		return resp.Reply{}, err
	}
	return c.Conn.Do(ctx, args...)
}

// askEach asks the same about each of n keys, all at once, and gives fn the answers
// in their order. An error reply is an err of fn, which ends it if fn returns it;
// the connection is good for nothing then.
func (c control) askEach(ctx context.Context, command string, n int, key func(i int) []byte, fn func(i int, r resp.Reply, err error) error) error {
	release, err := c.CloseOn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = release() }()
	if err := c.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	var out []byte
	for i := range n {
		out = resp.AppendArrayHeader(out, 2)
		out = resp.AppendBulkString(out, command)
		out = resp.AppendBulk(out, key(i))
	}
	if _, err := c.Write(out); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return err
	}
	for i := range n {
		r, err := c.ReadReply()
		if err := fn(i, r, err); err != nil {
			return err
		}
	}
	return nil
}

// doer is what asks the target one thing at a time.
type doer interface {
	Do(ctx context.Context, args ...string) (resp.Reply, error)
}

// claim writes a mark for each group that has none and was never claimed
// before, after making sure that the target holds nobody else's keys.
func (j *Job) claim(ctx context.Context) error {
	j.claiming.Lock()
	defer j.claiming.Unlock()
	conn, err := j.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	t, err := probe(ctx, conn)
	if err != nil {
		return err
	}
	if t.cluster {
		return &RefusedError{
			What: fmt.Sprintf("target %s is a node of a cluster, which this version does not write to", j.o.Addr),
			Hint: "give the address of a standalone target",
		}
	}
	var missing []repl.GroupID
	for _, g := range j.groups {
		text, there, err := getMark(ctx, conn, markKey(j.o.Job, g.id))
		if err != nil {
			return err
		}
		if m, err := ParseMark(text); there && err == nil {
			if err := checkSelection(m, j.o.Selection); err != nil {
				return err
			}
		}
		if !there {
			missing = append(missing, g.id)
		} else {
			j.sawMark(g.id, t)
		}
	}
	if err := j.o.Store.PutTarget(j.o.Addr); err != nil {
		return err
	}
	if len(missing) == 0 {
		return nil
	}
	if err := j.watchMissing(ctx, conn, missing); err != nil {
		return err
	}
	strange, err := j.strange(ctx, conn)
	if err != nil || strange {
		return err
	}
	lost := false // a mark that was there is gone, with a stream behind it
	fresh := len(missing) == len(j.groups)
	if fresh { // unless another group of the job, not of this run, was here before
		var err error
		if fresh, err = j.firstHere(ctx, conn); err != nil {
			return err
		}
	}
	for _, id := range missing {
		rec, _, err := j.o.Store.Group(id)
		if err != nil {
			return err
		}
		lost = lost || rec.Filled()
	}
	if lost { // each group says so itself
		return nil
	}
	if fresh {
		if err := j.refuseForeign(ctx, conn, t); err != nil {
			return err
		}
		if err := j.evictions.begin(t); err != nil {
			return err
		}
	}
	return j.writeMarks(ctx, conn, t, missing)
}

// watchMissing makes writeMarks fail if anybody claims the target from here on,
// for this job or another, or has done so and ended it since. A process may
// sleep for as long as that takes between its look and its claim.
func (j *Job) watchMissing(ctx context.Context, conn doer, missing []repl.GroupID) error {
	watch := []string{"WATCH", jobsKey}
	for _, id := range missing {
		watch = append(watch, markKey(j.o.Job, id))
	}
	if _, err := conn.Do(ctx, watch...); err != nil {
		return fmt.Errorf("watch marks: %w", err)
	}
	for _, key := range watch[2:] {
		if _, there, err := getMark(ctx, conn, key); err != nil {
			return err
		} else if there {
			return errClaimed
		}
	}
	return nil
}

// errClaimed says that the target is to be looked at again.
var errClaimed = &waitError{reason: "target-mark-contended", err: errors.New("somebody else claimed the target, or ended a job there, while it was looked at")}

// shown is how many foreign keys a refusal names.
const shown = 5

// firstHere tells whether no group that this folder has applied before has its
// mark on the target.
func (j *Job) firstHere(ctx context.Context, conn doer) (bool, error) {
	known, err := j.o.Store.Groups()
	if err != nil {
		return false, err
	}
	for _, id := range known {
		r, err := conn.Do(ctx, "EXISTS", markKey(j.o.Job, id))
		if err != nil {
			return false, fmt.Errorf("look for the mark of group %s: %w", id, err)
		}
		if r.Int != 0 {
			return false, nil
		}
	}
	return true, nil
}

// strange tells whether the target knows the job and this folder knows nothing
// of it: then a mark that is not there may be one that was lost, and each group
// without says so.
func (j *Job) strange(ctx context.Context, conn doer) (bool, error) {
	if !j.newStore {
		return false, nil
	}
	r, err := conn.Do(ctx, "SISMEMBER", jobsKey, j.o.Job.String())
	return r.Int == 1, err
}

func (j *Job) refuseForeign(ctx context.Context, conn doer, t target) error {
	if j.o.OnExisting == ExistingReplace {
		return j.existing.scan(ctx, conn, t, j.o.Selection)
	}
	r, err := conn.Do(ctx, "SMEMBERS", jobsKey)
	if err != nil {
		return fmt.Errorf("look for other jobs on the target: %w", err)
	}
	names, total, err := foreignKeys(ctx, conn, t, j.o.Selection, shown)
	if err != nil {
		return err
	}
	held := fmt.Sprintf("about %d keys", total)
	if j.o.Selection.ByName() { // the rest was not counted
		held = "keys that are selected"
	}
	for _, other := range r.Elems {
		if string(other.Str) != j.o.Job.String() {
			what := fmt.Sprintf("target %s holds the marks of another job, %s; this folder's job is %s", j.o.Addr, other.Str, j.o.Job)
			if len(names) > 0 {
				what += fmt.Sprintf("; and %s, such as %s", held, strings.Join(names, ", "))
			}
			return &RefusedError{
				What: what,
				Hint: "use that job's --dir; or empty the target; or replace what it holds with --on-existing replace",
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	return &RefusedError{
		What: fmt.Sprintf("target %s is not empty: %s of somebody else's, such as %s", j.o.Addr, held, strings.Join(names, ", ")),
		Hint: "give an empty target, or replace keys of the same name with --on-existing replace",
	}
}

func (j *Job) writeMarks(ctx context.Context, conn doer, t target, missing []repl.GroupID) error {
	cmds := [][]string{{"SELECT", "0"}, {"MULTI"}, {"SADD", jobsKey, j.o.Job.String()}}
	for _, id := range missing {
		m := Mark{Owner: j.owner.token(0), RunID: t.runID, Selection: j.o.Selection.Digest()}
		cmds = append(cmds, []string{"SET", markKey(j.o.Job, id), m.String(), "NX"})
	}
	cmds = append(cmds, []string{"EXEC"})
	for _, args := range cmds {
		r, err := conn.Do(ctx, args...)
		if err != nil {
			var se resp.ServerError
			if errors.As(err, &se) && args[0] == "EXEC" {
				err = refusedExec(se)
			}
			return fmt.Errorf("write marks to the target: %w", err)
		}
		if args[0] == "EXEC" && r.Null {
			return errClaimed
		}
	}
	for _, id := range missing {
		j.sawMark(id, t)
	}
	return nil
}

// sawMark notes that a run of the target has a group's mark.
func (j *Job) sawMark(id repl.GroupID, t target) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.had[id] = t.runID
}

// hadMark is the run of the target that had a group's mark when this process
// last saw it.
func (j *Job) hadMark(id repl.GroupID) (run string, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	run, ok = j.had[id]
	return run, ok
}

// Run applies until ctx ends, every group is done (UntilEnd), or every group
// has stopped. It is called once. A stopped group stops no other; the error
// joins those of all that stopped, in the order of Options.Groups: a *StopError,
// or a *RefusedError of a target that could not be claimed before, else of the
// store. It is ErrTaken alone when another process took the target over, which
// ends every group. Once ctx has ended Run returns within about two seconds,
// also when the target hangs. After Run, Status says what each group did.
func (j *Job) Run(ctx context.Context) error {
	defer j.existing.Close()
	defer j.scans.close()
	var wg sync.WaitGroup
	errs := make([]error, len(j.groups))
	taken, cancel := context.WithCancel(ctx)
	defer cancel()
	var watching sync.WaitGroup
	watching.Go(func() { j.watch(taken) })
	for i, g := range j.groups {
		wg.Go(func() {
			errs[i] = g.run(taken)
			if errs[i] != nil {
				st := g.status.get()
				j.o.Log.Error("group stopped", "group", g.id.String(), "reason", st.Reason, "what", errs[i].Error(), "hint", st.Hint)
			}
			if errors.Is(errs[i], ErrTaken) { // not one group's matter
				cancel()
			}
			j.moved()
		})
	}
	wg.Wait()
	cancel()
	watching.Wait()
	for _, g := range j.groups {
		g.held.names.reset()
	}
	for _, err := range errs {
		if errors.Is(err, ErrTaken) {
			return err
		}
	}
	return errors.Join(errs...)
}

// Status is the state of every group, in the order of Options.Groups. It may
// be called at any time.
func (j *Job) Status() []Status {
	out := make([]Status, len(j.groups))
	for i, g := range j.groups {
		out[i] = g.status.get()
		g.silence.tell(&out[i])
		out[i].Pace = g.pace.Waiting()
	}
	return out
}

// Settle says that a group which has reached the offset has all that its source
// held a moment ago: its deadlines are to be exact, however old that is by now.
func (j *Job) Settle(id repl.GroupID, e repl.Epoch, o repl.Offset) {
	for _, g := range j.groups {
		if g.id == id {
			g.due.Store(&place{e, o})
		}
	}
}

// Changed is closed when a position or a state has moved.
func (j *Job) Changed() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.change
}

func (j *Job) moved() {
	j.mu.Lock()
	defer j.mu.Unlock()
	close(j.change)
	j.change = make(chan struct{})
}

// wrote tells which server a session begins on: one that restarted may have
// fewer databases than before.
func (j *Job) wrote(t target) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.runID != t.runID {
		j.runID, j.dbs = t.runID, map[int]bool{}
	}
}

// proveDB makes sure that the target has a place for a database of the source: a
// SELECT that fails inside EXEC would send what follows to another one.
func (j *Job) proveDB(ctx context.Context, source int) error {
	db := j.o.Selection.To(source)
	if db == 0 {
		return nil
	}
	j.mu.Lock()
	known := j.dbs[db]
	j.mu.Unlock()
	if known {
		return nil
	}
	conn, err := j.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Do(ctx, "SELECT", strconv.Itoa(db)); err != nil {
		var se resp.ServerError
		if errors.As(err, &se) {
			if c, _ := classify(se); c == classPermanent {
				what := fmt.Sprintf("the source uses database %d, which the target does not have", db)
				if db != source {
					what = fmt.Sprintf("database %d of the source goes to database %d, which the target does not have", source, db)
				}
				return &StopError{
					Reason: "target-database",
					What:   what + ": " + string(se),
					Hint:   "raise `databases` on the target, then start the same command again",
				}
			}
		}
		return err
	}
	j.mu.Lock()
	j.dbs[db] = true
	j.mu.Unlock()
	return nil
}
