package apply

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/command"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/internal/selection"
)

// translator turns a source's command stream into batches: it follows SELECT
// and MULTI, makes deadlines absolute, and drops what is not data.
type translator struct {
	group    repl.GroupID
	epoch    repl.Epoch
	clock    *offsetClock
	caps     command.Caps
	scripts  *scripts
	payloads *payloads            // nil: the target takes them all
	proveDB  func(db int) error   // checks once that the target has a database
	skip     map[repl.Offset]bool // ends of commands that were rejected for good
	existing *existing            // nil unless the target held keys of its own
	// selection leaves keys out; nil is none.
	selection *selection.Selection
	wall      func() time.Time
	onFlush   FlushPolicy
	// skipFlush counts a flush that is not carried out.
	skipFlush func(e repl.Epoch, db int, c resp.Command) error
	// began is where a SWAPDB begins that was begun to be carried out, or 0; turned
	// tells whether the last one was carried out.
	began  repl.Offset
	turned bool
	// findScripts looks for bodies that the store does not have; it is called
	// once at most. lost says why they are not to be found.
	findScripts func() (lost, err error)
	onUnknown   UnknownPolicy
	// alone tells whether no other group's keys can be on the target; why says what
	// speaks against it.
	alone func() (why string, err error)
	// refuse leaves a command out for good that cannot be sent (--on-reject continue),
	// and says what comes then; nil: it stops the group.
	refuse func(c resp.Command, args [][]byte, why error) error
	// knows asks the target whether it has a command that its version does not.
	knows func(name string) (bool, error)

	db      int // of the source, behind the last command read
	inMulti bool
	batch   *Batch // what is ready
	txn     Batch  // the source transaction being read
	keys    [][]byte

	seen     counts // up to batch.end
	reading  counts // of commands behind batch.end
	doubts   []checkpoint.Doubt
	doubtful *doubtSet // those that are stored
	derived  deriver
	unnoted  bool // there were more doubtful keys than are noted
	held     *heldKeys
	// behindAge is up to which age a command's deadline is written exact.
	behindAge time.Duration
}

// counts are what a stream was made of, beside the commands that were sent.
type counts struct {
	filtered int64         // commands and entries of keys that are not selected
	ignored  int64         // PUBLISH, PING, SCRIPT, heartbeats: never sent
	unknown  unknowns      // not in the command table, passed through
	expired  int64         // deadlines that had passed when they were translated
	native   int64         // values written by commands of their kind, as the target does not RESTORE them
	timed    bool          // some had deadlines: see Mark.Timed
	width    time.Duration // the widest uncertainty of a date
}

func (c *counts) add(o counts) {
	c.filtered += o.filtered
	c.ignored += o.ignored
	c.unknown.add(o.unknown)
	c.expired += o.expired
	c.native += o.native
	c.timed = c.timed || o.timed
	c.width = max(c.width, o.width)
}

// start sets the position: everything up to at is applied, db is selected.
func (t *translator) start(b *Batch, at repl.Offset, db int) {
	t.db, t.inMulti, t.batch = db, false, b
	t.reading = counts{}
	t.txn.selection = t.selection
	t.txn.reset(dbNone)
	b.begin(t.selection)
	b.end, b.endDB = at, db
}

// next goes on into another batch.
func (t *translator) next(b *Batch) {
	end, db := t.batch.end, t.batch.endDB
	t.batch = b
	b.begin(t.selection)
	b.end, b.endDB = end, db
}

// add translates one command received at recv. A *StopError says that the
// group cannot go past it; what is in the batch is unharmed.
func (t *translator) add(c resp.Command, recv time.Time) error {
	spec := command.Lookup(c.Args[0])
	switch spec.Class {
	case command.Select:
		db, err := strconv.Atoi(string(c.Args[len(c.Args)-1]))
		if err != nil || len(c.Args) != 2 || db < 0 {
			return t.stop("stream-corrupt", c, "is not a SELECT of a database", "report this with the source's version: the stream holds a command no server sends")
		}
		t.db = db // no more than that: a source selects for a PUBLISH too
	case command.Multi:
		t.inMulti = true
		return nil
	case command.Exec:
		t.inMulti = false
		t.batch.join(&t.txn)
		t.txn.reset(dbNone)
	case command.Discard:
		t.inMulti = false
		t.txn.reset(dbNone)
		t.reading = counts{}
	case command.Ignore:
		t.reading.ignored++
	case command.Script:
		t.reading.ignored++
		if len(c.Args) >= 3 && is(c.Args[1], "LOAD") {
			if err := t.scripts.keep(c.Args[2]); err != nil {
				return err
			}
		}
	case command.Flush:
		if t.passes(spec, c.Args) {
			t.reading.filtered++
			break
		}
		if err := t.clear(spec, c); err != nil {
			return err
		}
	case command.Slots:
		if t.passes(spec, c.Args) {
			t.reading.filtered++
			break
		}
		if spec.Empties() {
			return t.clear(spec, c)
		}
		if err := t.moved(spec, c, recv); err != nil {
			return err
		}
	case command.Function:
		if err := t.library(spec, c, recv); err != nil {
			return err
		}
	case command.Unsupported:
		if t.passes(spec, c.Args) {
			t.reading.filtered++
			break
		}
		return t.stop("unsupported-command", c, "is not supported",
			"this version cannot replay it faithfully: keep it off the source; then "+newEpochHint)
	default:
		if err := t.data(spec, c, recv); err != nil {
			return err
		}
	}
	if !t.inMulti {
		t.done(c.End)
	}
	return nil
}

// done moves the batch's position behind a command of the source.
func (t *translator) done(end repl.Offset) {
	t.batch.end, t.batch.endDB, t.batch.moved = end, t.db, true
	t.seen.add(t.reading)
	t.reading = counts{}
}

func (t *translator) data(spec *command.Spec, c resp.Command, recv time.Time) error {
	if t.skip[c.End] {
		t.reading.ignored++
		return nil
	}
	args, raw := c.Args, c.Raw
	if slices.ContainsFunc(args[1:], isOurs) { // perhaps only in a value
		var err error
		switch args, err = t.withoutOurs(spec, c); {
		case err != nil:
			return err
		case args == nil:
			t.reading.ignored++
			return nil
		case len(args) != len(c.Args):
			raw = nil
		}
	}
	if spec.Class == command.Eval {
		if err := t.scripts.keep(argOf(args, 1)); err != nil {
			return err
		}
	}
	if t.selection != nil {
		r, err := t.choose(spec, c, args)
		if err != nil || r.args == nil {
			return err
		}
		spec, args = r.spec, r.args
		if r.other {
			raw = nil
		}
	}
	b, err := t.into(t.db, c.End)
	if err != nil {
		return err
	}
	switch spec.Class {
	case command.EvalSHA:
		body, ok, lost, err := t.scriptBody(string(argOf(args, 1)))
		if err != nil {
			return err
		}
		if !ok {
			why := "names a script whose body was never seen"
			if lost != nil {
				why = "names a script whose body is not known, and not to be found in the spool: " + lost.Error()
			}
			return t.stop("script-unknown", c, why,
				newEpochHint)
		}
		args = append([][]byte{[]byte("EVAL"), body}, args[2:]...)
		spec, raw = command.Lookup(args[0]), nil
	case command.Unknown:
		if t.onUnknown == UnknownStop {
			return t.stop("unknown-command", c, "is not a command that this version knows",
				"pass such commands on to the target as they are, with the same command and --on-unknown pass; or keep them off the source; then "+newEpochHint)
		}
		t.reading.unknown.count(args[0])
	}
	if spec.Flushes(args) {
		return t.stop("flush-in-stream", c, "runs a script that may empty or swap whole databases, with keys of other groups in them",
			"such a script cannot be kept to this group's keys, nor be left out: keep it off the source; then "+newEpochHint)
	}
	if t.existing != nil {
		t.keys = spec.AppendKeys(t.keys[:0], args)
		for _, k := range t.keys {
			if t.existing.take(t.group, t.epoch, t.selection.To(t.db), k, c.End) {
				b.append(c.End, "DEL", k)
			}
		}
	}
	t.moves(spec, args)
	hidden := spec.HiddenTTL(args)
	if hidden || spec.Opaque() {
		b.timed = true
	}
	if spec.Doubtful(args) || hidden || t.held.any && spec.ReadsTTL(args) {
		t.keys = spec.AppendKeys(t.keys[:0], args)
		t.doubt(spec, t.keys, "nondeterministic", c.End)
	}
	t.derived.derive(spec, args, t.db, c.End, t.note)
	if t.selection != nil {
		if r := t.placed(remains{spec: spec, args: args}); r.other {
			args, raw = r.args, nil
		}
	}
	at, width := t.clock.at(c.End, recv)
	buf, n, info, err := t.rewrite(spec, c, b.buf, raw, args, at)
	exact, now := info.DeadlineMS != 0 && !t.holds(), time.Time{}
	if exact {
		now = t.wall()
		if t.clock.sourceAge(at, now)+width > t.behindAge { // from here on
			exact = false
			t.hold(true)
			buf, n, info, err = t.rewrite(spec, c, b.buf, raw, args, at)
		}
	}
	if err != nil {
		return err
	}
	if t.payloads != nil && spec.HasPayload(args) {
		var module *noModuleError
		switch buf, n, err = t.payloads.rewrite(buf, len(b.buf), n, spec, args); {
		case errors.As(err, &module):
			if t.refuse != nil {
				return t.refuse(c, args, module)
			}
			return t.stop("module-unsupported", c, "cannot be replayed: "+module.Error(),
				"load the module on the target, then start the same command again; or go on without the key by --on-reject continue, which lists it as doubtful")
		case err != nil:
			return err
		}
	}
	b.buf = buf
	b.added(n, c.End)
	last := &b.cmds[len(b.cmds)-1]
	last.renews, last.fields = spec.Renews(), spec.FieldTTL()
	if last.fields {
		b.timed = true
		t.late(spec, args, at-width.Milliseconds(), c.End)
	}
	b.sources++
	b.oldest = min(b.oldest, at-width.Milliseconds())
	if info.DeadlineMS != 0 {
		b.timed = true
		if width > fineWidth {
			t.wide(spec, raw, args, at, info, width, c.End)
		}
		switch {
		case t.caps.Hold.Holds(info.DeadlineMS):
			b.held = true
			t.keys = spec.AppendKeys(t.keys[:0], args)
			for _, k := range t.keys {
				t.held.note(t.selection.To(t.db), k)
			}
		case exact && info.DeadlineMS <= now.UnixMilli():
			t.reading.expired++
		}
	}
	return nil
}

// rewrite is what is sent for a command.
func (t *translator) rewrite(spec *command.Spec, c resp.Command, dst, raw []byte, args [][]byte, at int64) ([]byte, int, command.Info, error) {
	buf, n, info, err := spec.AppendRewrite(dst, raw, args, at, t.caps)
	if err == nil { // what errors.As is given costs an allocation
		return buf, n, info, nil
	}
	var old *command.TargetError
	switch {
	case errors.As(err, &old):
		return t.tooOld(spec, old, c, dst, raw, args, at)
	case errors.Is(err, command.ErrTooLate):
		err = t.stop("deadline-too-late", c, "has a deadline that cannot be told from one that is held back", tooLateHint)
	default:
		err = t.stop("stream-corrupt", c, "cannot be read: "+err.Error(), "report this with the source's version: the stream holds a command no server sends")
	}
	return dst, 0, command.Info{}, err
}

// into is the batch that is being filled, with a database of the source selected.
func (t *translator) into(db int, end repl.Offset) (*Batch, error) {
	b := t.batch
	if t.inMulti {
		b = &t.txn
	}
	if !t.selection.DB(db) { // of what belongs to no database
		db = t.selection.Any()
	}
	if b.db == db {
		return b, nil
	}
	if err := t.proveDB(db); err != nil {
		return nil, err
	}
	b.use(db, end)
	return b, nil
}

// scriptBody is the body of a script that is named by its SHA1. lost says why
// the spool, which was asked for it, cannot tell; with an err nobody knows yet.
func (t *translator) scriptBody(sha string) (body []byte, ok bool, lost, err error) {
	body, ok = t.scripts.body(sha)
	if find := t.findScripts; !ok && find != nil {
		t.findScripts = nil
		lost, err = find()
		// It may have been found before what ended the search.
		body, ok = t.scripts.body(sha)
	}
	if ok {
		return body, true, nil, nil
	}
	return nil, false, lost, err
}

const (
	// maxWide bounds the keys that are doubtful for their deadline.
	maxWide = 1 << 16
	// fineWidth is how late a deadline may be without that.
	fineWidth = time.Second
)

// wide notes a deadline that counts from a time which is not known closely: the
// command waited out a broken link. It may be late by width, which only the
// source can put right. Those beyond maxWide are not noted one by one.
func (t *translator) wide(spec *command.Spec, raw []byte, args [][]byte, at int64, info command.Info, width time.Duration, end repl.Offset) {
	if _, _, later, err := spec.AppendRewrite(nil, raw, args, at+1, t.caps); err != nil || later.DeadlineMS == info.DeadlineMS {
		return // an absolute one
	}
	t.reading.width = max(t.reading.width, width)
	if all, _ := t.doubtful.counts(); all+len(t.doubts) >= maxWide {
		t.unnoted = true
		return
	}
	t.keys = spec.AppendKeys(t.keys[:0], args)
	t.doubt(spec, t.keys, "deadline", end)
}

// doubt remembers copies of keys that may differ behind a command; they are
// recorded before the batch commits.
func (t *translator) doubt(spec *command.Spec, keys [][]byte, why string, at repl.Offset) {
	for i, k := range keys {
		t.note(checkpoint.Doubt{
			Group: t.group, Epoch: t.epoch, DB: t.db, Key: k, Why: why, Offset: at, Own: isOwn(spec, keys, i),
		})
	}
}

func (t *translator) note(d checkpoint.Doubt) {
	if !t.doubtful.renew(d) {
		d.Key = slices.Clone(d.Key)
		t.doubts = append(t.doubts, d)
		t.derived.noted(d)
	}
}

// taken forgets the doubts that were noted: they are stored.
func (t *translator) taken() {
	t.doubts = t.doubts[:0]
	clear(t.derived.fresh)
}

func (t *translator) stop(reason string, c resp.Command, why, hint string) error {
	return &StopError{
		Reason: reason,
		What:   fmt.Sprintf("group %s: command %s in database %d, ending at offset %s, %s", t.group, show(c.Args), t.db, c.End, why),
		Hint:   hint,
	}
}

func argOf(args [][]byte, i int) []byte {
	if i < len(args) {
		return args[i]
	}
	return nil
}

// scripts keeps the bodies of scripts, because a source names one by its SHA1
// once it believes that its replicas know it.
type scripts struct {
	store  *checkpoint.Apply
	bodies map[string][]byte // by SHA1 in lower-case hex
}

func openScripts(store *checkpoint.Apply) (*scripts, error) {
	bodies, err := store.Scripts()
	if err != nil {
		return nil, err
	}
	return &scripts{store: store, bodies: bodies}, nil
}

// keep returns once the body is on disk.
func (s *scripts) keep(body []byte) error {
	sum := sha1.Sum(body)
	var sha [2 * sha1.Size]byte
	hex.Encode(sha[:], sum[:])
	if _, ok := s.bodies[string(sha[:])]; ok {
		return nil
	}
	if err := s.store.PutScript(string(sha[:]), body); err != nil {
		return err
	}
	s.bodies[string(sha[:])] = append([]byte(nil), body...)
	return nil
}

func (s *scripts) body(sha string) ([]byte, bool) {
	b, ok := s.bodies[strings.ToLower(sha)]
	return b, ok
}
