package model

// client is what one process does for one group: apply's group.run, its Lane
// and, in the RDB phase, its snapshot.
type client struct {
	step     step
	process  uint8 // a crash gives the group to another one
	lane     uint8 // its connection; 0 is none
	session  uint8
	taken    bool     // Lane.taken
	before   token    // Lane.before
	recorded phase    // in apply.db
	text     mark     // as this session knows it to be committed
	next     mark     // queued, or of the EXEC that Lane.Write waits for
	queued   bool     // a batch, and not its EXEC
	flights  [2]mark  // whose EXEC was sent; two only where a rule is broken
	inflight uint8    // flights
	restored restored // the RDB phase of this session
}

type step uint8

const (
	asleep    step = iota // not started yet
	opening               // Lane.Open
	taking                // WATCH is sent, and so on
	takeGot               // GET
	takeQueue             // MULTI SET mark
	takeExec              // EXEC
	claiming              // Job.claim: GET, SCAN
	claimQueue
	claimExec
	awaiting     // awaitRDB
	snapshotting // killOlder comes first
	killing
	restoring // snapshot.follow
	sweeping
	sweepGot
	deleting
	streaming // streamer.send, or what comes when there is nothing to send
	landing   // Lane.Answer
	committing
	marking // only where a rule is broken: the mark outside EXEC
	writing // Lane.Write
	written
	done
	takenOver // ErrTaken
	markLost  // StopError mark-missing
	refusedForeign
)

var stepNames = [...]string{
	"starts", "Lane.Open: dials, WATCH", "take: GET", "take: reads the mark", "take: EXEC", "take: reads the answer",
	"claim: reads what is there", "claim: EXEC", "claim: reads the answer",
	"awaitRDB: the newest epoch is whole", "killOlder", "killOlder: answered", "follow", "sweep: WATCH, GET", "sweep: DEL, EXEC", "sweep: reads the answer",
	"stream", "Lane.Answer", "Lane.Commit", "reads the answer to SET mark", "Lane.Write: Commit", "Lane.Write: Answer",
	"done", "ErrTaken", "mark-missing", "refused",
}

func (st step) ended() bool { return st >= done }

// reads tells whether the step does no more than to read what has arrived and
// to send what follows from it. When it is taken cannot be told from outside:
// what it sends may travel for as long as one likes.
func (st step) reads() bool {
	switch st {
	case asleep, opening, taking, takeGot, takeQueue, claiming, claimQueue, claimExec, killing, landing, committing, marking, writing, deleting:
		return true
	}
	return false
}

// turn is one client at its move.
type turn struct {
	w     *world
	s     *state
	me    *client
	group uint8
}

func (w *world) turn(s *state, i uint8) turn {
	return turn{w, s, &s.clients[i], w.clients[i].group}
}

func (t turn) lane() *conn { return t.s.conn(t.me.lane) }

// read takes n replies of a connection once they are there. Where it returns
// nil, moved tells whether the session has ended over it.
func (t turn) read(c *conn, n uint8) (r []reply, moved bool) {
	switch {
	case c.nout >= n:
		r = append(r, c.out[:n]...)
		c.drop(n)
		return r, true
	case c.life == severed:
		t.fail()
		return nil, true
	}
	return nil, false
}

// fail ends the session: the next one begins by Lane.Open.
func (t turn) fail() bool {
	t.hangUp()
	*t.me = client{step: opening, process: t.me.process, session: t.me.session, taken: t.me.taken, before: t.me.before, recorded: t.me.recorded}
	return true
}

func (t turn) stop(why step) bool {
	t.fail()
	*t.me = client{step: why}
	return true
}

func (t turn) hangUp() {
	if t.me.lane != 0 {
		t.lane().giveUp()
	}
	t.endRestorers()
}

// to sends and goes to the step that reads the answers.
func (t turn) to(next step, cmds ...sent) bool {
	t.lane().send(cmds...)
	t.me.step = next
	return true
}

func (t turn) watch() sent           { return sent{op: opWatch, group: t.group, set: 1 << t.group} }
func (t turn) cmd(o op, m mark) sent { return sent{op: o, group: t.group, mark: m} }

// act is the next step of a client. A choice above 0 is another way to go on
// than the first. It returns false where there is no such way now.
func (t turn) act(choice uint8) bool {
	me := t.me
	switch me.step {
	case snapshotting, sweeping, streaming:
		if choice == 1 {
			return t.turnToNewEpoch()
		}
	case restoring:
		if choice == 1 {
			return t.moveBoundary()
		}
	}
	if choice > 0 {
		return false
	}
	switch me.step {
	case asleep:
		me.step = opening
		return true
	case opening:
		me.lane = t.s.dial()
		return t.beginTake()
	case taking:
		n := uint8(1)
		if t.w.broken == killBeforeToken {
			n = 2
		}
		if r, moved := t.read(t.lane(), n); r == nil {
			return moved
		}
		return t.to(takeGot, t.cmd(opGet, mark{}))
	case takeGot:
		r, moved := t.read(t.lane(), 1)
		if r == nil {
			return moved
		}
		return t.take(r[0].marks[t.group])
	case takeQueue:
		r, moved := t.read(t.lane(), 1)
		switch {
		case r == nil:
			return moved
		case r[0].answer != ok:
			return t.fail()
		}
		return t.to(takeExec, t.cmd(opExec, mark{}))
	case takeExec:
		r, moved := t.read(t.lane(), 1)
		switch {
		case r == nil:
			return moved
		case r[0].answer == refused:
			return t.fail()
		case r[0].answer == null: // an older session's last EXEC came between
			return t.beginTake()
		}
		me.taken = true
		return t.committed()
	case claiming, claimQueue, claimExec:
		return t.claim()
	case awaiting:
		if t.s.captured[t.group] == 0 {
			return false
		}
		return t.newEpoch()
	case snapshotting:
		if t.w.broken == noKill || t.w.broken == killBeforeToken {
			t.beginRestore()
			return true
		}
		return t.to(killing, t.cmd(opKill, mark{}))
	case killing:
		if r, moved := t.read(t.lane(), 1); r == nil {
			return moved
		}
		t.beginRestore()
		return true
	case restoring:
		return t.endRestore()
	case sweeping, sweepGot, deleting:
		return t.sweep()
	case streaming, landing, committing, marking:
		return t.stream()
	case writing:
		if r, moved := t.gate(); r == nil {
			return moved
		}
		return t.to(written, t.cmd(opExec, mark{}))
	case written:
		r, moved := t.read(t.lane(), 1)
		switch {
		case r == nil:
			return moved
		case r[0].answer != ok:
			return t.fail()
		}
		me.recorded = me.next.phase
		return t.committed()
	}
	return false
}

func (t turn) beginTake() bool {
	if t.w.broken == killBeforeToken {
		return t.to(taking, t.cmd(opKill, mark{}), t.watch())
	}
	return t.to(taking, t.watch())
}

// take is Lane.take, once it has read the mark.
func (t turn) take(m mark) bool {
	me := t.me
	switch {
	case m.phase == gone && me.recorded == stream:
		return t.stop(markLost)
	case m.phase == gone:
		t.hangUp()
		me.lane = t.s.dial()
		return t.to(claiming, t.cmd(opScan, mark{}))
	case me.taken && !m.owner.of(me.process) && m.owner != me.before && t.w.broken != noToken:
		return t.stop(takenOver)
	}
	if !m.owner.of(me.process) {
		me.before = m.owner
	}
	if t.w.broken == pastForgotten {
		m.past = past{}
	}
	if t.w.broken == noToken {
		me.next = m
		return t.committed()
	}
	me.session++
	m.owner = tokenOf(me.process, me.session)
	me.next = m
	return t.to(takeQueue, t.cmd(opQueueOwner, m))
}

// claim is Job.claim.
func (t turn) claim() bool {
	r, moved := t.read(t.lane(), 1)
	switch {
	case r == nil:
		return moved
	case r[0].answer != ok:
		return t.fail()
	}
	switch t.me.step {
	case claiming:
		switch {
		case r[0].marks[t.group].phase != gone: // somebody else's claim
			return t.fail()
		case !r[0].empty:
			return t.stop(refusedForeign)
		}
		return t.to(claimQueue, t.cmd(opQueueClaim, mark{owner: tokenOf(t.me.process, 0), phase: none}))
	case claimQueue:
		return t.to(claimExec, t.cmd(opExec, mark{}))
	}
	return t.fail() // no more than the end of this connection
}

// gate reads what was answered to WATCH, GET and what is queued. It ends the
// session unless all of it was, and GET has shown the mark of this session.
func (t turn) gate() (r []reply, moved bool) {
	r, moved = t.read(t.lane(), 3)
	if r == nil {
		return nil, moved
	}
	if r[1].marks[t.group] != t.me.text || r[2].answer != ok {
		return nil, t.fail()
	}
	return r, true
}

// write is Lane.Write.
func (t turn) write(m mark) bool {
	t.me.next = m
	return t.to(writing, t.watch(), t.cmd(opGet, mark{}), t.cmd(opQueueMark, m))
}

// committed goes on behind a mark that was written.
func (t turn) committed() bool {
	me := t.me
	me.text, me.next = me.next, mark{}
	switch {
	case me.text.phase == none:
		me.step = awaiting
	case me.text.phase == stream:
		me.step = streaming
	case me.text.phase == sweep:
		me.step = sweeping
	case me.restored.begun:
		me.step = restoring
	default:
		me.step = snapshotting
	}
	return true
}

// newEpoch writes the mark that turns to the newest epoch.
func (t turn) newEpoch() bool {
	m := t.me.text
	switch m.phase {
	case rdb, sweep:
		m.past[m.epoch-1] = 1
	case stream:
		m.past[m.epoch-1] = 1 + m.at
	}
	m.epoch, m.phase, m.at = t.s.captured[t.group], rdb, 0
	return t.write(m)
}

// turnToNewEpoch leaves the epoch before its end.
func (t turn) turnToNewEpoch() bool {
	if t.s.captured[t.group] == t.me.text.epoch {
		return false
	}
	if t.me.inflight > 0 {
		t.me.step = landing
		return true
	}
	return t.newEpoch()
}

// stream is streamer.run: Queue, Answer of the batch before, Commit.
func (t turn) stream() bool {
	me := t.me
	// Where EXEC does not wait for GET, all of a batch is sent at once.
	blind := t.w.broken == noGet || t.w.broken == twoExecs
	switch me.step {
	case streaming:
		last := me.text
		if me.inflight > 0 {
			last = me.flights[me.inflight-1]
		}
		if int(last.at) < len(t.w.sources[t.group].epoch(last.epoch).stream) {
			last.at++
			return t.send(last, blind)
		}
		return t.idle()
	case landing:
		n := uint8(1)
		if blind {
			n = 4
		}
		r, moved := t.read(t.lane(), n)
		switch {
		case r == nil:
			return moved
		case r[n-1].answer != ok:
			return t.fail()
		}
		if t.w.broken == markOutsideExec {
			return t.to(marking, t.cmd(opSetMark, me.flights[0]))
		}
		t.landed()
		me.step = streaming
		if me.queued {
			me.step = committing
		}
		return true
	case marking:
		if r, moved := t.read(t.lane(), 1); r == nil {
			return moved
		}
		t.landed()
		me.step = streaming
		return true
	}
	if r, moved := t.gate(); r == nil {
		return moved
	}
	me.flights[0], me.inflight, me.queued, me.next = me.next, 1, false, mark{}
	return t.to(streaming, t.cmd(opExec, mark{}))
}

// send is Lane.Queue, and what must come before it where a rule is broken.
func (t turn) send(m mark, blind bool) bool {
	me := t.me
	out := []sent{t.watch(), t.cmd(opGet, mark{}), t.cmd(opQueueBatch, m)}
	switch {
	case t.w.broken == noGet && me.inflight > 0, t.w.broken == markOutsideExec && me.inflight > 0,
		t.w.broken == twoExecs && me.inflight > 1:
		me.step = landing
		return true
	case blind && t.lane().nin > 1:
		return false // the pipe of the model is short
	case blind:
		me.flights[me.inflight] = m
		me.inflight++
		return t.to(streaming, append(out, t.cmd(opExec, mark{}))...)
	}
	me.next, me.queued = m, true
	next := committing
	if me.inflight > 0 {
		next = landing
	}
	return t.to(next, out...)
}

func (t turn) landed() {
	t.me.text = t.me.flights[0]
	t.me.flights = [2]mark{t.me.flights[1]}
	t.me.inflight--
}

// idle is what a session does when it has sent all of its epoch.
func (t turn) idle() bool {
	switch {
	case t.me.inflight > 0:
		t.me.step = landing
		return true
	case t.lane().life == severed:
		return t.fail()
	case t.s.captured[t.group] > t.me.text.epoch:
		return t.newEpoch()
	case int(t.s.captured[t.group]) < len(t.w.sources[t.group]):
		return false // capture will bring more
	}
	if t.s.data.marks[t.group] == t.me.text && len(t.w.sources) == 1 && t.s.data.keys != t.w.final() {
		t.s.wrong = doneInexact
	}
	return t.stop(done)
}
