package model

// client is what one process does for one group: apply's group.run, its Lane
// and, in the RDB phase, its snapshot.
type client struct {
	step     step
	process  uint8 // a crash gives the group to another one
	lane     uint8 // its connection; 0 is none
	session  uint8
	taken    uint8    // Lane.taken: a generation
	filled   bool     // ApplyRecord.Filled, in apply.db
	text     mark     // as this session knows it to be committed
	next     mark     // queued, or of the EXEC that Lane.Write waits for
	had      bool     // Job.hadMark: on this run of the target
	closes   bool     // finish
	begun    bool     // Lane.begun
	swept    uint8    // candidates behind this session's sweep
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
	takeMulti             // MULTI
	takeQueue             // SET mark
	takeExec              // EXEC
	claiming              // Job.claim: GET, SCAN
	claimMulti
	claimQueue
	claimExec
	awaiting     // awaitRDB
	snapshotting // killOlder comes first
	killing
	restoring // snapshot.follow
	sweeping
	sweepGot // Lane.Exclusive
	sweepMulti
	deleting
	unwatching
	streaming  // streamer.send, or what comes when there is nothing to send
	landing    // Lane.Answer
	queueing   // Lane.opened
	committing // Lane.Commit
	marking    // only where a rule is broken: the mark outside EXEC
	writing    // Lane.Write
	writeCommit
	written
	closing // apply.Closing, behind the end: the take-over is this session's own
	closeRemove
	closeExec
	closed
	done
	takenOver // ErrTaken
	markLost  // StopError mark-missing
	refusedForeign
)

var stepNames = [...]string{
	"starts", "Lane.Open: dials, WATCH", "take: GET", "take: reads the mark, MULTI", "take: SET mark", "take: EXEC", "take: reads the answer",
	"claim: reads what is there, MULTI", "claim: SET mark NX", "claim: EXEC", "claim: reads the answer",
	"awaitRDB: the newest epoch is whole", "killOlder", "killOlder: answered", "follow", "sweep: WATCH, GET", "Lane.Exclusive: decides", "Lane.Exclusive: DEL, SET mark, EXEC", "Lane.Exclusive: reads the answer", "Lane.Exclusive: nothing to delete",
	"stream", "Lane.Answer", "Lane.Queue: opened", "Lane.Commit", "reads the answer to SET mark", "Lane.Write: Queue", "Lane.Write: Commit", "Lane.Write: Answer",
	"finish: WATCH, GET, MULTI", "finish: DEL mark", "finish: EXEC", "finish: reads the answer",
	"done", "ErrTaken", "mark-missing", "refused",
}

func (st step) ended() bool { return st >= done }

// reads tells whether the step does no more than to read what has arrived and
// to send what follows from it. When it is taken cannot be told from outside:
// what it sends may travel for as long as one likes.
func (st step) reads() bool {
	switch st {
	case asleep, opening, taking, takeGot, takeMulti, takeQueue, claiming, claimMulti, claimQueue, claimExec, killing,
		closeRemove, closeExec, closed, landing, queueing, committing, marking, writing, writeCommit, sweepMulti, deleting, unwatching:
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

// answered reads one answer on the lane, without which, or by any but a good one,
// the step does not go on: moved is what it comes to then.
func (t turn) answered() (answered, moved bool) {
	r, moved := t.read(t.lane(), 1)
	switch {
	case r == nil:
		return false, moved
	case r[0].answer != ok:
		return false, t.fail()
	}
	return true, true
}

// fail ends the session: the next one begins by Lane.Open.
func (t turn) fail() bool {
	t.hangUp()
	*t.me = client{step: opening, process: t.me.process, session: t.me.session, taken: t.me.taken, filled: t.me.filled, had: t.me.had, closes: t.me.closes}
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

// begin is Lane.begin.
func (t turn) begin() []sent {
	return []sent{t.watch(), t.cmd(opGet, mark{}), t.cmd(opMulti, mark{})}
}

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
	case takeMulti:
		if answered, moved := t.answered(); !answered {
			return moved
		}
		return t.to(takeQueue, t.cmd(opQueueOwner, me.next))
	case takeQueue:
		if answered, moved := t.answered(); !answered {
			return moved
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
		me.taken, me.had = me.next.owner.generation, true
		return t.committed()
	case claiming, claimMulti, claimQueue, claimExec:
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
	case sweeping, sweepGot, sweepMulti, deleting, unwatching:
		return t.sweep()
	case streaming, landing, queueing, committing, marking:
		return t.stream()
	case closing, closeRemove, closeExec, closed:
		return t.finish()
	case writing:
		if opened, moved := t.opened(); !opened {
			return moved
		}
		return t.to(writeCommit, t.cmd(opQueueMark, me.next))
	case writeCommit:
		if answered, moved := t.answered(); !answered {
			return moved
		}
		return t.to(written, t.cmd(opExec, mark{}))
	case written:
		if answered, moved := t.answered(); !answered {
			return moved
		}
		me.filled = me.filled || me.next.phase >= sweep || me.next.past != (past{})
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
	case m.phase == gone && t.reseeds():
		m = mark{phase: none}
		for i, e := range t.w.sources[t.group] {
			if i < int(t.s.captured[t.group]) { // all that they ever named
				m.past[i] = 1 + uint8(len(e.stream))
			}
		}
	case m.phase == gone && (me.filled || me.had):
		return t.stop(markLost)
	case m.phase == gone:
		t.hangUp()
		me.lane = t.s.dial()
		if t.w.broken == claimUnwatched {
			return t.to(claiming, t.cmd(opScan, mark{}))
		}
		return t.to(claiming, t.watch(), t.cmd(opScan, mark{}))
	case me.taken > 0 && m.owner.generation > me.taken && m.owner.process != me.process && t.w.broken != noToken:
		return t.stop(takenOver)
	}
	if t.w.broken == pastForgotten {
		m.past = past{}
	}
	if t.w.broken == noToken {
		me.next = m
		return t.committed()
	}
	me.session++
	m.owner = token{me.process, me.session, max(m.owner.generation, me.taken) + 1}
	me.next = m
	return t.to(takeMulti, t.cmd(opMulti, mark{}))
}

// reseeds tells whether the mark is written anew, as --reseed does. That it is
// written in the take-over, and not behind it, makes no difference.
func (t turn) reseeds() bool { return t.w.reseed && t.me.filled }

// claim is Job.claim.
func (t turn) claim() bool {
	n := uint8(1)
	if t.me.step == claiming && t.w.broken != claimUnwatched {
		n = 2
	}
	r, moved := t.read(t.lane(), n)
	switch {
	case r == nil:
		return moved
	case r[n-1].answer != ok:
		return t.fail()
	}
	switch t.me.step {
	case claiming:
		switch {
		case r[n-1].marks[t.group].phase != gone: // somebody else's claim
			t.me.had = true
			return t.fail()
		case !r[n-1].empty:
			return t.stop(refusedForeign)
		}
		return t.to(claimMulti, t.cmd(opMulti, mark{}))
	case claimMulti:
		return t.to(claimQueue, t.cmd(opQueueClaim, mark{owner: token{process: t.me.process}, phase: none}))
	case claimQueue:
		return t.to(claimExec, t.cmd(opExec, mark{}))
	}
	t.me.had = true
	return t.fail() // no more than the end of this connection
}

// finish is apply.Closing, of a job that is at its end.
func (t turn) finish() bool {
	switch t.me.step {
	case closing:
		if r, moved := t.read(t.lane(), 1); r == nil { // CLIENT KILL
			return moved
		}
		t.me.begun = true
		return t.to(closeRemove, t.begin()...)
	case closeRemove:
		if opened, moved := t.opened(); !opened {
			return moved
		}
		return t.to(closeExec, t.cmd(opQueueRemove, t.me.text))
	case closeExec:
		if r, moved := t.read(t.lane(), 1); r == nil {
			return moved
		}
		return t.to(closed, t.cmd(opExec, mark{}))
	}
	r, moved := t.read(t.lane(), 1)
	switch {
	case r == nil:
		return moved
	case r[0].answer != ok:
		return t.fail()
	}
	return t.stop(done)
}

// opened is Lane.opened: it reads what was answered to begin, and ends the
// session unless MULTI was answered well and GET has shown the mark of this
// session.
func (t turn) opened() (opened, moved bool) {
	r, moved := t.read(t.lane(), 3)
	if r == nil {
		return false, moved
	}
	t.me.begun = false
	if r[1].marks[t.group] != t.me.text || r[2].answer != ok {
		return false, t.fail()
	}
	return true, true
}

// write is Lane.Write.
func (t turn) write(m mark) bool {
	t.me.next = m
	if t.me.begun {
		return t.to(writing)
	}
	t.me.begun = true
	return t.to(writing, t.begin()...)
}

// committed goes on behind a mark that was written.
func (t turn) committed() bool {
	me := t.me
	me.text, me.next = me.next, mark{}
	switch {
	case me.closes:
		return t.to(closing, t.cmd(opKill, mark{}))
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
	if m.phase != none { // Mark.left
		d := uint8(1)
		if m.phase == stream {
			d += m.at
		}
		m.past[m.epoch-1] = max(m.past[m.epoch-1], d)
	}
	m.epoch, m.phase, m.at = t.s.captured[t.group], rdb, 0
	t.me.swept = 0
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

// stream is streamer.run: Answer of the batch before, Queue, Commit.
func (t turn) stream() bool {
	me := t.me
	switch me.step {
	case streaming:
		last := me.text
		if me.inflight > 0 {
			last = me.flights[me.inflight-1]
		}
		if int(last.at) < len(t.w.sources[t.group].epoch(last.epoch).stream) {
			last.at++
			return t.send(last)
		}
		return t.idle()
	case landing:
		n := uint8(1)
		if t.blind() {
			n = 5
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
		return true
	case marking:
		if r, moved := t.read(t.lane(), 1); r == nil {
			return moved
		}
		t.landed()
		me.step = streaming
		return true
	case queueing:
		if opened, moved := t.opened(); !opened {
			return moved
		}
		if t.w.broken == multiUnanswered {
			me.step = committing
			return true
		}
		return t.to(committing, t.cmd(opQueueBatch, me.next))
	}
	r, moved := t.read(t.lane(), 1)
	switch {
	case r == nil:
		return moved
	case r[0].answer != ok:
		return t.fail()
	}
	me.flights[0], me.inflight, me.next = me.next, 1, mark{}
	out := []sent{t.cmd(opExec, mark{})}
	if t.w.broken != markOutsideExec && t.w.broken != multiUnanswered {
		out, me.begun = append(out, t.begin()...), true
	}
	return t.to(streaming, out...)
}

// blind tells of a rule that is broken: all of a batch is sent at once.
func (t turn) blind() bool { return t.w.broken == noGet || t.w.broken == twoExecs }

// send is streamer.send.
func (t turn) send(m mark) bool {
	me := t.me
	switch {
	case me.inflight > 1, me.inflight == 1 && t.w.broken != twoExecs:
		me.step = landing
		return true
	case t.blind() && t.lane().nin > 0:
		return false // the pipe of the model is short
	case t.blind():
		me.flights[me.inflight] = m
		me.inflight++
		return t.to(streaming, append(t.begin(), t.cmd(opQueueBatch, m), t.cmd(opExec, mark{}))...)
	}
	me.next = m
	switch {
	case t.w.broken == multiUnanswered:
		return t.to(queueing, append(t.begin(), t.cmd(opQueueBatch, m))...)
	case me.begun:
		return t.to(queueing)
	}
	me.begun = true
	return t.to(queueing, t.begin()...)
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
	if t.w.finishes == t.me.process {
		t.me.closes = true
		return t.fail()
	}
	return t.stop(done)
}
