package model

const maxRestorers = 2

// restored is what snapshot holds.
type restored struct {
	begun     bool  // older connections are ended
	handed    uint8 // chunks that restorers took
	answered  uint8 // lowWater: a bit for each chunk
	restorers [maxRestorers]restorer
}

// restorer is one named connection that writes outside the mark.
type restorer struct {
	step restorerStep
	conn uint8
	took uint8 // chunk
}

type restorerStep uint8

const (
	dialing restorerStep = iota
	naming
	proving // that the mark bears the session's token
	ready
	restoringChunk
)

// reads is step.reads.
func (st restorerStep) reads() bool { return st == naming || st == proving || st == restoringChunk }

var restorerNames = [...]string{"dials, CLIENT SETNAME", "named: GET", "reads the mark", "RESTORE", "reads the answer"}

func (t turn) chunks() uint8 {
	return uint8(len(t.w.sources[t.group].epoch(t.me.text.epoch).rdb))
}

func (t turn) beginRestore() {
	at := t.me.text.at
	t.me.restored = restored{begun: true, handed: at, answered: 1<<at - 1}
	t.me.step = restoring
}

func (t turn) endRestorers() {
	for _, r := range t.me.restored.restorers {
		if r.conn != 0 {
			t.s.conn(r.conn).giveUp()
		}
	}
	t.me.restored = restored{}
}

// boundary is lowWater.get.
func (t turn) boundary() (n uint8) {
	for t.me.restored.answered&(1<<n) != 0 {
		n++
	}
	return n
}

// moveBoundary writes the mark while the restorers work.
func (t turn) moveBoundary() bool {
	m := t.me.text
	m.at = t.boundary()
	return m.at > t.me.text.at && m.at < t.chunks() && t.write(m)
}

// endRestore goes on to the next phase once every chunk was answered.
func (t turn) endRestore() bool {
	m, n := t.me.text, t.boundary()
	if t.w.broken == streamBeforeAnswers {
		n = t.me.restored.handed
	}
	switch {
	case n < t.chunks():
		return false
	case n > m.at:
		m.at = n
		return t.write(m)
	}
	t.endRestorers()
	m.phase, m.at = stream, 0
	if m.past != (past{}) {
		m.phase = sweep
	}
	return t.write(m)
}

// restore is the next step of a restorer.
func (t turn) restore(i uint8) bool {
	rs := &t.me.restored
	if !rs.begun {
		return false
	}
	r := &rs.restorers[i]
	if r.step == dialing {
		if rs.handed == t.chunks() {
			return false
		}
		r.conn = t.s.dial()
		r.step = naming
		first := opSetName
		if t.w.broken == nameAfterGet {
			first = opGet
		}
		t.s.conn(r.conn).send(t.cmd(first, mark{}))
		return true
	}
	c := t.s.conn(r.conn)
	if r.step == ready {
		if rs.handed == t.chunks() {
			return false
		}
		r.took = rs.handed
		rs.handed++
		r.step = restoringChunk
		c.send(t.cmd(opRestore, mark{epoch: t.me.text.epoch, at: r.took}))
		if t.w.broken == boundaryBeforeAnswer {
			rs.answered |= 1 << r.took
		}
		return true
	}
	got, moved := t.read(c, 1)
	if got == nil {
		return moved
	}
	ours := t.w.proves(got[0].marks[t.group], t.me.text)
	switch r.step {
	case naming:
		second := opGet
		if t.w.broken == nameAfterGet {
			second = opSetName
			if !ours {
				return t.fail()
			}
		}
		r.step = proving
		c.send(t.cmd(second, mark{}))
	case proving:
		if t.w.broken != nameAfterGet && !ours {
			return t.fail()
		}
		r.step = ready
	case restoringChunk:
		rs.answered |= 1 << r.took
		r.took = 0
		r.step = ready
	}
	return true
}

// proves tells whether a restorer that has read m may write what its session,
// whose mark is ours, restores. The boundary may have moved.
func (w *world) proves(m, ours mark) bool {
	if w.broken == ownerProves {
		return m.owner == ours.owner
	}
	return m.owner == ours.owner && m.epoch == ours.epoch && m.phase == rdb
}
