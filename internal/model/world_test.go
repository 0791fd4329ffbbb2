package model

import (
	"errors"
	"fmt"
)

// world is what does not change in one exploration.
type world struct {
	sources   []source
	clients   []struct{ process, group uint8 }
	restorers uint8  // of one session
	captured  uint8  // epochs that every spool holds from the start
	before    keyset // on the target before the job
	begun     *dataset
	faults    uint8 // how many may happen
	may       fault
	broken    rule
	finishes  uint8 // the process that ends the job when it is at its end
	reseed    bool  // a mark that is lost is written anew
	dataOnly  bool  // a write by a session that does not own the mark is no error by itself
}

// fault is a set of what may happen to a run, each time for one of the world's
// faults.
type fault uint16

const (
	loseConn  fault = 1 << iota // a session gives its connections up: cut, hung, timed out
	crash                       // its process too; another one goes on with the same apply.db
	refuse                      // an error at queue time, or in place of EXEC's array
	rollBack                    // the target restarts, or fails over, without a suffix of what it did
	loseAll                     // the target is flushed; connections live on
	loseMark                    // only the mark goes
	loseOther                   // only that of group 2
	keepConns                   // an assumption that does not hold: connections outlive rollBack
	tearBack                    // an assumption that does not hold: rollBack loses data, and no mark
)

// rule is one that the code keeps and a run may break, to see what it is for.
type rule uint8

const (
	kept                    rule = iota // all of them
	noGet                               // EXEC does not wait for GET: WATCH alone
	noWatch                             // GET alone
	noToken                             // a session does not write who it is
	multiUnanswered                     // commands are sent behind a MULTI that may be refused
	twoExecs                            // an EXEC is sent before the one before it is answered
	markOutsideExec                     // the mark follows its batch
	noKill                              // older connections are not ended
	killBeforeToken                     // they are, and then the token is written
	nameAfterGet                        // a connection takes its name when it has read the mark
	ownerProves                         // the token alone, not the epoch, tells a restorer that it may write
	boundaryBeforeAnswer                // the boundary moves over what was only sent
	streamBeforeAnswers                 // so does the phase
	pastForgotten                       // the mark does not say what earlier epochs delivered
	claimUnwatched                      // the look whether there is a mark, or a key, is not watched
	sweepWithoutProvenance              // what the RDB lacks is deleted, whoever put it there
	sweepWithoutOthersWatch             // another group may write between its look and its DEL
	sweepWithoutOwnWatch                // a late DEL meets what the stream has written since
	sweepGetBeforeWatch                 // as the first
	sweepWithoutMark                    // a group whose mark is missing holds nothing
	sweepSparesForSpool                 // another group holds what a newer RDB in its spool holds
	sweepOverlooksRDB                   // another group holds what its mark's stream says, and no more
)

// state is all that changes.
type state struct {
	data     dataset
	saved    dataset // what rollBack goes back to
	isSaved  bool
	conns    [maxConns]conn
	clients  [maxClients]client
	captured [maxGroups]uint8 // epochs in the spool
	faults   uint8
	wrong    wrong
	ended    bool // by finish
}

// wrong is what only a step, not a state, shows.
type wrong uint8

const (
	nothing wrong = iota
	wroteUnowned
	doneInexact
	sweptBlind
)

func (w *world) first() state {
	s := state{data: dataset{keys: w.before}, faults: w.faults}
	if w.begun != nil {
		s.data = *w.begun
	}
	for i, c := range w.clients {
		s.clients[i].process, s.clients[i].filled = c.process, w.reseed
		s.captured[c.group] = w.captured
	}
	return s
}

// move is one thing that can happen.
type move struct {
	what what
	who  uint8 // a connection, a client, a group
	how  uint8 // a choice, a restorer
}

type what uint8

const (
	acts what = iota
	restores
	served
	servedRefusing
	captures
	losesConn
	crashes
	saves
	rollsBack
	losesAll
	losesMark
	losesOther
)

// optional tells whether a run may end where only this is left.
func (m move) optional() bool { return m.what >= losesConn || m.what == servedRefusing }

// moves are all that can happen now; where one of them commutes with all
// others, that one is enough.
func (w *world) moves(s *state) (ms []move) {
	if m, ok := w.commutes(s); ok {
		return []move{m}
	}
	for i := range uint8(len(w.clients)) {
		for choice := range uint8(2) {
			ms = w.try(s, ms, move{acts, i, choice})
		}
		for r := range w.restorers {
			ms = w.try(s, ms, move{restores, i, r})
		}
	}
	for i := range s.conns {
		c := &s.conns[i]
		if !c.pending() {
			continue
		}
		ms = append(ms, move{served, uint8(i), 0})
		if o := c.in[0].op; w.can(s, refuse) && (o == opExec || o == opMulti || o.joins()) {
			ms = append(ms, move{servedRefusing, uint8(i), 0})
		}
	}
	for g := range uint8(len(w.sources)) {
		if int(s.captured[g]) < len(w.sources[g]) {
			ms = append(ms, move{captures, g, 0})
		}
	}
	return w.faultMoves(s, ms)
}

func (w *world) try(s *state, ms []move, m move) []move {
	next := *s
	if w.do(&next, m) {
		ms = append(ms, m)
	}
	return ms
}

// commutes finds a move whose time makes no difference.
func (w *world) commutes(s *state) (move, bool) {
	for i := range uint8(len(w.clients)) {
		if s.clients[i].step.reads() && w.goesOn(s, move{acts, i, 0}) {
			return move{acts, i, 0}, true
		}
		for r := range w.restorers {
			if s.clients[i].restored.restorers[r].step.reads() && w.goesOn(s, move{restores, i, r}) {
				return move{restores, i, r}, true
			}
		}
	}
	for i := range s.conns {
		c := &s.conns[i]
		if !c.pending() || w.can(s, refuse) {
			continue
		}
		if o := c.in[0].op; o == opMulti || o == opUnwatch || c.multi && o.joins() {
			return move{served, uint8(i), 0}, true
		}
	}
	return move{}, false
}

// goesOn tells whether a client's move is possible and does not end its
// session, and with it what its other connections may send.
func (w *world) goesOn(s *state, m move) bool {
	next := *s
	return w.do(&next, m) && (s.clients[m.who].step <= opening || next.clients[m.who].step != opening)
}

func (w *world) can(s *state, f fault) bool { return w.may&f != 0 && s.faults > 0 }

func (w *world) faultMoves(s *state, ms []move) []move {
	for i := range uint8(len(w.clients)) {
		if st := s.clients[i].step; st <= opening || st.ended() {
			continue
		}
		if w.can(s, loseConn) {
			ms = append(ms, move{losesConn, i, 0})
		}
		if w.can(s, crash) {
			ms = append(ms, move{crashes, i, 0})
		}
	}
	for i := range w.clients {
		if s.clients[i].step == done {
			return ms // what the target loses later is not apply's
		}
	}
	if w.can(s, rollBack) {
		if s.isSaved {
			ms = append(ms, move{what: rollsBack})
		} else {
			ms = append(ms, move{what: saves})
		}
	}
	if w.can(s, loseAll) && s.data.marks[0].phase != gone {
		ms = append(ms, move{what: losesAll})
	}
	if w.can(s, loseMark) && s.data.marks[0].phase != gone {
		ms = append(ms, move{what: losesMark})
	}
	if w.can(s, loseOther) {
		ms = append(ms, move{what: losesOther})
	}
	return ms
}

// do makes a move; false is one that cannot be made now.
func (w *world) do(s *state, m move) bool {
	switch m.what {
	case acts:
		return w.turn(s, m.who).act(m.how)
	case restores:
		return w.turn(s, m.who).restore(m.how)
	case served:
		w.serve(s, &s.conns[m.who], false)
	case captures:
		s.captured[m.who]++
	case saves:
		s.saved, s.isSaved = s.data, true
	default:
		s.faults--
		w.fail(s, m)
	}
	return true
}

func (w *world) fail(s *state, m move) {
	switch m.what {
	case servedRefusing:
		w.serve(s, &s.conns[m.who], true)
	case losesConn:
		w.turn(s, m.who).fail()
	case crashes:
		t := w.turn(s, m.who)
		t.fail()
		*t.me = client{step: opening, process: t.me.process + 2, filled: t.me.filled}
	case rollsBack:
		for i := range s.clients { // another run of the target
			s.clients[i].had = false
		}
		marks := s.data.marks
		s.data, s.saved, s.isSaved = s.saved, dataset{}, false
		if w.may&tearBack != 0 {
			s.data.marks = marks
		}
		for i := range s.conns {
			c := &s.conns[i]
			if w.may&keepConns == 0 {
				c.close()
			} else { // another server is behind them, which knows nothing of them
				c.named, c.watched, c.dirty, c.multi, c.queued, c.failed = 0, 0, false, false, sent{}, false
			}
		}
	case losesOther:
		s.write(1, mark{})
	case losesAll:
		s.data.keys = keyset{}
		fallthrough
	case losesMark:
		for g := range uint8(len(w.sources)) {
			s.write(g, mark{})
		}
	}
}

// final is what the target must hold in the end.
func (w *world) final() keyset {
	ks := w.before
	for _, src := range w.sources {
		for k, v := range src.final() {
			if v != 0 {
				ks[k] = v
			}
		}
	}
	return ks
}

// knows is what a group's mark says of a key: the value that the target must
// have; or that it may have one of two, while an RDB is restored.
func (w *world) knows(g int, m mark, k key) (v value, open bool) {
	if m.epoch == 0 {
		return 0, false
	}
	e := w.sources[g].epoch(m.epoch)
	switch m.phase {
	case rdb:
		for i, c := range e.rdb {
			if c.key == k && i < int(m.at) {
				return c.value, false
			}
		}
		return 0, true // what is not restored yet may be what an earlier epoch left
	case sweep:
		return e.at(0)[k], false
	case stream:
		return e.at(m.at)[k], false
	}
	return 0, false
}

// check is what must be so in every state.
func (w *world) check(s *state) error {
	switch s.wrong {
	case wroteUnowned:
		if !w.dataOnly {
			return errors.New("a session wrote that did not own the mark")
		}
	case sweptBlind:
		return errors.New("a sweep deleted while it could not know what another group holds")
	case doneInexact:
		return fmt.Errorf("done, and the target holds %s, want %s", s.data.keys, w.final())
	}
	if s.ended {
		if s.data.marks[0].phase != gone || s.data.keys != w.final() {
			return fmt.Errorf("the job is ended, and the target has %s and the mark %s, want %s", s.data.keys, s.data.marks[0], w.final())
		}
		return nil
	}
	swept := true // no group has ghosts to sweep
	for g := range w.sources {
		m := s.data.marks[g]
		if m.phase == gone {
			return nil // lost with what it vouched for: what is left is not exact, nor said to be
		}
		swept = swept && m.phase == stream
	}
	for k := range key(nKeys) {
		got := s.data.keys[k]
		var want value
		owners, unsure := 0, false
		for g := range w.sources {
			v, open := w.knows(g, s.data.marks[g], k)
			unsure = unsure || open
			if v != 0 {
				want = v
				owners++
				// What it gave away may be the taker's by now, though its mark is behind.
				unsure = unsure || k == moved && g < len(w.sources)-1
			}
		}
		switch {
		case w.before[k] != 0:
			if got != w.before[k] {
				return fmt.Errorf("%s, which was there before the job, is gone", k)
			}
		case owners == 1 && !unsure && got != want:
			return fmt.Errorf("%s is %d, want %d as the mark says", k, got, want)
		case owners == 0 && swept && len(w.sources) == 1 && got != 0:
			return fmt.Errorf("%s is %d, which no source holds", k, got)
		}
	}
	return nil
}

// end is what must be so where only faults can happen.
func (w *world) end(s *state) error {
	doneGroups := map[uint8]bool{}
	lost := false
	for i, c := range w.clients {
		switch s.clients[i].step {
		case done:
			doneGroups[c.group] = true
		case markLost, refusedForeign:
			lost = lost || s.ended || w.may&(loseAll|loseMark|loseOther|rollBack) != 0
		case takenOver: // where the mark was lost, perhaps by a late claim
			lost = lost || w.may&(loseAll|loseMark) != 0
		default:
			return fmt.Errorf("client %d does not go on: %s", i+1, stepNames[s.clients[i].step])
		}
	}
	switch {
	case lost:
		return nil
	case len(doneGroups) < len(w.sources):
		return errors.New("a group is not done, and nobody works on it")
	case s.data.marks[0].phase <= none && w.may&(loseAll|loseMark) != 0:
		return nil // lost when everything was answered
	case s.data.keys != w.final():
		return fmt.Errorf("the target ends as %s, want %s", s.data.keys, w.final())
	}
	return nil
}

// describe says what a move does in a state.
func (w *world) describe(s *state, m move) string {
	who := func(i uint8) string {
		return fmt.Sprintf("process %d, group %d", s.clients[i].process, w.clients[i].group+1)
	}
	switch m.what {
	case acts:
		st := stepNames[s.clients[m.who].step]
		if m.how == 1 {
			st += ", and turns to the newer epoch"
			if s.clients[m.who].step == restoring {
				st = "follow: Lane.Write of the boundary"
			}
		}
		return who(m.who) + ": " + st
	case restores:
		return fmt.Sprintf("%s: restorer %d: %s", who(m.who), m.how+1, restorerNames[s.clients[m.who].restored.restorers[m.how].step])
	case served, servedRefusing:
		c := s.conns[m.who]
		text := fmt.Sprintf("target, connection %d: %s", m.who+1, opNames[c.in[0].op])
		if c.life == orphaned {
			text += " (late: its client has given it up)"
		}
		if m.what == servedRefusing {
			text += ": refused"
		}
		return text
	case captures:
		return fmt.Sprintf("capture: epoch %d of group %d is whole", s.captured[m.who]+1, m.who+1)
	case losesConn:
		return who(m.who) + ": loses its connections"
	case crashes:
		return who(m.who) + ": is killed; another process begins with its apply.db"
	case saves:
		return "(what a later restart goes back to)"
	case rollsBack:
		return "target: restarts with less than it had"
	case losesAll:
		return "target: flushed"
	case losesOther:
		return "target: loses the mark of group 2"
	}
	return "target: loses its marks"
}
