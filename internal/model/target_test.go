package model

import "fmt"

// The bounds of the model. A world that needs more panics.
const (
	maxGroups  = 2
	maxClients = 2
	maxConns   = 8
	maxPipe    = 5 // commands, or replies, under way on one connection
)

// token is the owner in a mark. Session 0 is the process's claim.
type token struct{ process, session, generation uint8 }

func (t token) String() string { return fmt.Sprintf("%d.%d.%d", t.process, t.session, t.generation) }

// phase of a mark. The zero phase is no mark at all.
type phase uint8

const (
	gone phase = iota
	none
	rdb
	sweep
	stream
)

// mark is the code's Mark. at is the boundary in the RDB phase (chunks), the
// candidates behind us in the sweep, the offset in the stream phase (batches).
type mark struct {
	owner token
	epoch uint8
	phase phase
	at    uint8
	past  past
}

// past is what earlier epochs delivered that no sweep has looked at yet: for
// each epoch, 0 is nothing, else 1 and the number of batches.
type past [3]uint8

func (m mark) String() string {
	return fmt.Sprintf("owner=%s epoch=%d %s at=%d past=%v", m.owner, m.epoch,
		[]string{"gone", "none", "rdb", "sweep", "stream"}[m.phase], m.at, m.past)
}

// dataset is what the target holds: what a restart loses a suffix of.
type dataset struct {
	keys  keyset
	marks [maxGroups]mark
}

// op is a command as it travels to the target. SELECT is left out; what follows
// MULTI up to EXEC is one command.
type op uint8

const (
	opNone        op = iota
	opWatch          // the marks of groups
	opGet            // every mark
	opMulti          //
	opUnwatch        //
	opQueueOwner     // SET mark: a session takes over
	opQueueMark      // SET mark: Lane.Write
	opQueueBatch     // the batch that ends at mark.at, SET mark
	opQueueDels      // DEL of keys, SET mark
	opQueueClaim     // SET mark NX
	opQueueRemove    // DEL mark: finish
	opExec           //
	opSetName        //
	opRestore        // chunk mark.at of the RDB of mark.epoch
	opKill           // CLIENT LIST, CLIENT KILL of the group's named connections
	opScan           // claim: is there a mark, or a key?
	opSetMark        // outside MULTI: only where a rule is broken
)

var opNames = [...]string{
	"nothing", "WATCH", "GET", "MULTI", "UNWATCH", "SET mark (owner)", "SET mark", "batch, SET mark", "DEL, SET mark",
	"SET mark NX", "DEL mark", "EXEC", "CLIENT SETNAME", "RESTORE", "CLIENT LIST, CLIENT KILL", "GET, SCAN", "SET mark",
}

// joins tells whether the command is one for a transaction.
func (o op) joins() bool { return o >= opQueueOwner && o <= opQueueRemove }

// effective tells whether others can tell that the command was executed. One for
// a transaction is executed at once where there is none.
func (o op) effective() bool {
	return o == opExec || o == opRestore || o == opKill || o == opSetMark || o.joins()
}

type sent struct {
	op    op
	group uint8
	set   uint8 // of groups for opWatch, of keys for opQueueDels
	mark  mark
}

// answer of the target.
type answer uint8

const (
	ok answer = iota
	refused
	null
)

type reply struct {
	answer answer
	empty  bool // of opScan
	marks  [maxGroups]mark
}

// life of a connection.
type life uint8

const (
	unused   life = iota
	joined        // both ends hold it
	severed       // the target closed it; the client does not know
	orphaned      // the client gave it up; what it sent may still be executed
)

// conn is a connection with the bytes under way in it, in both directions, and
// what the target keeps for it.
type conn struct {
	life    life
	named   uint8 // the group that its name tells, from 1
	watched uint8 // groups
	dirty   bool  // a watched mark was written
	multi   bool
	queued  sent // in it
	failed  bool // a command was refused at queue time
	nin     uint8
	nout    uint8
	in      [maxPipe]sent
	out     [maxPipe]reply
}

func (c *conn) send(cmds ...sent) {
	for _, cmd := range cmds {
		if c.life == severed {
			return
		}
		c.in[c.nin] = cmd
		c.nin++
	}
}

// pending tells whether the target can execute a command of the connection.
func (c *conn) pending() bool {
	return (c.life == joined || c.life == orphaned) && c.nin > 0 && c.nout < maxPipe
}

// drop takes n replies.
func (c *conn) drop(n uint8) {
	copy(c.out[:], c.out[n:c.nout])
	clear(c.out[c.nout-n : c.nout])
	c.nout -= n
}

// close is the target's: nothing that is under way is executed any more.
// Replies that it has sent may still be read.
func (c *conn) close() {
	kept := conn{life: severed, nout: c.nout, out: c.out}
	if c.life == orphaned || c.life == unused {
		kept = conn{}
	}
	*c = kept
}

// giveUp is the client's. Of what is under way, only that matters behind which
// something has an effect.
func (c *conn) giveUp() {
	for c.nin > 0 && !c.in[c.nin-1].op.effective() {
		c.nin--
		c.in[c.nin] = sent{}
	}
	if c.life == severed || c.nin == 0 {
		*c = conn{}
		return
	}
	c.life, c.nout, c.out = orphaned, 0, [maxPipe]reply{}
}

// dial returns a new connection, counted from 1.
func (s *state) dial() uint8 {
	for i := range s.conns {
		if s.conns[i].life == unused {
			s.conns[i].life = joined
			return uint8(i + 1)
		}
	}
	panic("more connections than the model has room for")
}

func (s *state) conn(n uint8) *conn { return &s.conns[n-1] }

// serve executes the next command of a connection. With refuse it answers an
// error in place of queueing or executing (OOM, for one).
func (w *world) serve(s *state, c *conn, refuse bool) {
	cmd := c.in[0]
	copy(c.in[:], c.in[1:c.nin])
	c.nin--
	c.in[c.nin] = sent{}
	var r reply
	switch cmd.op {
	case opWatch:
		if w.broken != noWatch {
			c.watched |= cmd.set
		}
	case opGet:
		r.marks = s.data.marks
	case opMulti:
		c.multi = !refuse
		if refuse { // a script runs, and has come to its end at the next command
			r.answer = refused
		}
	case opUnwatch:
		c.watched, c.dirty = 0, false
	case opQueueOwner, opQueueMark, opQueueBatch, opQueueDels, opQueueClaim, opQueueRemove: // see joins
		switch {
		case refuse:
			c.failed = c.multi
			r.answer = refused
		case c.multi:
			c.queued = cmd
		default:
			w.execute(s, cmd)
		}
	case opExec:
		switch {
		case refuse, c.failed, !c.multi:
			r.answer = refused
		case c.dirty:
			r.answer = null
		default:
			c.watched = 0
			w.execute(s, c.queued)
		}
		c.multi, c.queued, c.failed, c.watched, c.dirty = false, sent{}, false, 0, false
	case opSetName:
		c.named = cmd.group + 1
	case opRestore:
		s.data.keys.execute(w.sources[cmd.group].epoch(cmd.mark.epoch).rdb[cmd.mark.at])
	case opKill:
		// The code lists first and then kills by id. A connection that takes its
		// name between the two finds the killer's token in the mark.
		for i := range s.conns {
			if s.conns[i].named == cmd.group+1 {
				s.conns[i].close()
			}
		}
	case opScan:
		r.marks = s.data.marks
		r.empty = s.data.keys == w.before
	case opSetMark:
		s.write(cmd.group, cmd.mark)
	}
	if c.life == orphaned {
		if c.nin == 0 {
			*c = conn{}
		}
		return
	}
	if c.life == joined { // it may have killed itself
		c.out[c.nout] = r
		c.nout++
	}
}

// execute is what EXEC does.
func (w *world) execute(s *state, t sent) {
	had := s.data.marks[t.group]
	switch t.op {
	case opQueueClaim:
		if had.phase != gone {
			return
		}
	case opQueueOwner:
	default:
		if had.owner != t.mark.owner {
			s.wrong = wroteUnowned
		}
	}
	switch t.op {
	case opQueueBatch:
		for _, c := range w.sources[t.group].epoch(t.mark.epoch).stream[t.mark.at-1] {
			s.data.keys.execute(c)
		}
		if w.broken == markOutsideExec {
			return
		}
	case opQueueDels:
		for g := range w.sources {
			if t.set != 0 && s.data.marks[g].phase == gone {
				s.wrong = sweptBlind
			}
		}
		for k := range key(nKeys) {
			if t.set&(1<<k) != 0 {
				s.data.keys[k] = 0
			}
		}
	}
	if t.op == opQueueRemove {
		s.ended, t.mark = true, mark{}
	}
	s.write(t.group, t.mark)
}

// write sets a mark, which whoever watches it will notice.
func (s *state) write(group uint8, m mark) {
	s.data.marks[group] = m
	for i := range s.conns {
		if s.conns[i].watched&(1<<group) != 0 {
			s.conns[i].dirty = true
		}
	}
}
