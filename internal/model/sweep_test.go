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

// sweep is the next step of the phase.
func (t turn) sweep() bool {
	me := t.me
	all := uint8(1<<len(t.w.sources) - 1)
	switch me.step {
	case sweeping:
		if int(me.text.at) >= len(t.w.candidates(t.group, me.text)) {
			m := me.text
			m.phase, m.at, m.past = stream, 0, past{}
			return t.write(m)
		}
		watch, get := sent{op: opWatch, group: t.group, set: all}, t.cmd(opGet, mark{})
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
		k := t.w.candidates(t.group, me.text)[me.text.at]
		me.next = me.text
		me.next.at++
		dels := t.cmd(opQueueDels, me.next)
		dels.set = 1 << k
		for other := range uint8(len(t.w.sources)) {
			if marks[other].phase == gone && t.w.broken != sweepWithoutMark {
				return t.stop(markLost)
			}
			if other != t.group && t.w.holds(other, marks[other], t.s.captured[other], k) {
				dels.set = 0
			}
		}
		return t.to(deleting, dels, t.cmd(opExec, mark{}))
	}
	r, moved := t.read(t.lane(), 2)
	switch {
	case r == nil:
		return moved
	case r[1].answer == refused:
		return t.fail()
	case r[1].answer == null: // a mark moved: evaluated again
		me.next = mark{}
		me.step = sweeping
		return true
	}
	return t.committed()
}
