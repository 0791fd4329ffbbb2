package model

// The sweep: what this group's earlier epochs delivered, the new RDB lacks and
// no other group holds now is deleted, one candidate in one EXEC.

// candidates are what earlier epochs of the group delivered and the RDB of the
// mark's epoch lacks.
func (w *world) candidates(group uint8, m mark) (keys []key) {
	src := w.sources[group]
	kept := src.epoch(m.epoch).names(0)
	var put [nKeys]bool
	for i, n := range m.past {
		if n == 0 {
			continue
		}
		for k, yes := range src.epoch(uint8(i + 1)).names(n - 1) {
			put[k] = put[k] || yes
		}
	}
	for k := range key(nKeys) {
		if !kept[k] && (put[k] || w.broken == sweepWithoutProvenance) {
			keys = append(keys, k)
		}
	}
	return keys
}

// holds tells whether another group holds a key now, as its mark says. A newer
// RDB in its spool does not count: it may be overtaken before it is begun.
func (w *world) holds(group uint8, m mark, captured uint8, k key) bool {
	src := w.sources[group]
	if w.broken == sweepSparesForSpool && captured > m.epoch && src.epoch(captured).names(0)[k] {
		return true
	}
	switch m.phase {
	case rdb, sweep:
		return w.broken != sweepOverlooksRDB && src.epoch(m.epoch).names(0)[k]
	case stream:
		return src.epoch(m.epoch).at(m.at)[k] != 0
	}
	return false
}

// sweep is the next step of the phase: Lane.Exclusive for one candidate after
// the other. Where the mark stands says nothing of how far a sweep has come.
func (t turn) sweep() bool {
	me := t.me
	switch me.step {
	case sweeping:
		if int(me.swept) >= len(t.w.candidates(t.group, me.text)) {
			m := me.text
			m.phase, m.at, m.past = stream, 0, past{}
			me.swept = 0
			return t.write(m)
		}
		watch, get := sent{op: opWatch, group: t.group, set: 1<<len(t.w.sources) - 1}, t.cmd(opGet, mark{})
		switch t.w.broken {
		case sweepWithoutOthersWatch:
			watch.set = 1 << t.group
		case sweepWithoutOwnWatch:
			watch.set &^= 1 << t.group
		case sweepGetBeforeWatch:
			watch, get = get, watch
		}
		return t.to(sweepGot, watch, get)
	case sweepGot:
		r, moved := t.read(t.lane(), 2)
		if r == nil {
			return moved
		}
		marks := r[1].marks
		if t.w.broken == sweepGetBeforeWatch {
			marks = r[0].marks
		}
		if marks[t.group] != me.text {
			return t.fail()
		}
		k := t.w.candidates(t.group, me.text)[me.swept]
		for other := range uint8(len(t.w.sources)) {
			switch {
			case other == t.group:
			case marks[other].phase == gone && t.w.broken != sweepWithoutMark:
				return t.stop(markLost)
			case t.w.holds(other, marks[other], t.s.captured[other], k):
				return t.to(unwatching, t.cmd(opUnwatch, mark{}))
			}
		}
		return t.to(sweepMulti, t.cmd(opMulti, mark{}))
	case sweepMulti:
		if answered, moved := t.answered(); !answered {
			return moved
		}
		dels := t.cmd(opQueueDels, me.text)
		dels.set = 1 << t.w.candidates(t.group, me.text)[me.swept]
		return t.to(deleting, dels, t.cmd(opExec, mark{}))
	case unwatching:
		if r, moved := t.read(t.lane(), 1); r == nil {
			return moved
		}
		me.swept++
		me.step = sweeping
		return true
	}
	r, moved := t.read(t.lane(), 2)
	switch {
	case r == nil:
		return moved
	case r[1].answer == refused:
		return t.fail()
	case r[1].answer == null: // a mark moved: looked at again
		me.step = sweeping
		return true
	}
	me.swept++
	me.step = sweeping
	return true
}
