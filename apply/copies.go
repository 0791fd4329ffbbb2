package apply

import (
	"bytes"
	"errors"

	"tairlift/checkpoint"
	"tairlift/internal/held"
	"tairlift/internal/native"
	"tairlift/internal/psync"
	"tairlift/internal/rdb"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

// Why a key is held.
const (
	heldLarge   = "too-large"     // for one question
	heldName    = "name-too-long" // for an entry of its own in the store
	heldTooLate = "deadline-too-late"
	heldAbsent  = "absent-at-source" // but on the target, and perhaps another group's: see Doubt.Own
	heldRefused = "target-refuses"   // what the source has
)

// copies are an answer that waits for its place.
type copies struct {
	at     repl.Position
	doubts []checkpoint.Doubt // of one database
	values []psync.Value
}

// copied is a doubtful key within a batch: the commands that put its value in
// place, and where that is from.
type copied struct {
	from, to int // within Batch.cmds
	doubt    checkpoint.Doubt
	at       repl.Offset
	kept     bool // the target has it, the source has not, and it may be another group's
}

// putInPlace adds the values that were asked for to the batch, when it ends
// where the source was then.
func (s *streamer) putInPlace() error {
	r, b := s.g.recopier, s.tr.batch
	p := r.pending
	if p == nil || b.end < p.at.Offset {
		return nil
	}
	r.pending = nil
	if b.end > p.at.Offset || !s.bears(p.at.ReplID) {
		// A failover came between, and this is another history's offset.
		s.g.log.Info("an answer of the source was dropped: the stream has no such place", "at", p.at, "stream", b.end)
		return nil
	}
	if err := s.tr.proveDB(p.doubts[0].DB); err != nil {
		return err
	}
	if r.unanswered > 0 {
		s.g.log.Info("doubtful keys can be copied again", "addr", r.source.Addr)
	}
	r.unanswered, r.wait = 0, r.first
	s.g.status.update(func(st *Status) { st.Recopy = "" })
	age := s.g.now().Sub(s.asked)
	if age > s.g.job.o.behindAge { // what the source has renewed since is still to come
		s.tr.hold(true)
	}
	var kept []checkpoint.Doubt
	for i, v := range p.values {
		d := p.doubts[i]
		switch {
		case v.Large:
			d.Held = heldLarge
		case v.Absent && !d.Own && !s.lone():
			b.look(d, p.at.Offset)
			continue
		case held.TooLate(v.DeadlineMS):
			d.Held = heldTooLate
		case age > fieldsLate && firstField(v.Payload) != 0: // they are not held: the next answer may come in time
			continue
		default:
			if s.tr.caps.Hold.Holds(v.DeadlineMS) {
				b.held = true
				s.tr.held.note(s.tr.selection.To(d.DB), d.Key)
			}
			v.DeadlineMS = s.tr.caps.Hold.Hold(v.DeadlineMS)
			b.timed = b.timed || v.DeadlineMS != 0 || firstField(v.Payload) != 0
			err := b.copy(d, v, p.at.Offset, s.tr.payloads)
			var u *native.UnsupportedError
			if err == nil {
				continue
			} else if !errors.As(err, &u) {
				return err
			}
			d.Held = heldRefused + ": " + u.Why
		}
		kept = append(kept, d)
	}
	return s.g.hold(kept)
}

// copy adds what gives a doubtful key its value. An *native.UnsupportedError says
// that nothing does on this target.
func (b *Batch) copy(d checkpoint.Doubt, v psync.Value, at repl.Offset, p *payloads) error {
	b.use(d.DB, at)
	from := len(b.cmds)
	if v.Absent {
		b.append(at, "DEL", d.Key)
	} else {
		if err := p.ready(); err != nil {
			return err
		}
		buf, n, err := p.appendEntry(b.buf, entryOf(d.Key, v))
		b.buf = buf
		if err != nil {
			return err
		}
		b.added(n, at)
	}
	b.sources++
	b.copies = append(b.copies, copied{from: from, to: len(b.cmds), doubt: d, at: at})
	return nil
}

// look asks for a key that the source has not, and that is not to be deleted: if the
// target has it neither, nothing is doubtful about it.
func (b *Batch) look(d checkpoint.Doubt, at repl.Offset) {
	b.use(d.DB, at)
	b.append(at, "EXISTS", d.Key)
	b.sources++
	n := len(b.cmds)
	b.cmds[n-1].looks = true
	b.copies = append(b.copies, copied{from: n - 1, to: n, doubt: d, at: at})
}

// entryOf is a value as an RDB would give it. A plain string can be set on
// targets that are too old to restore what the source dumps.
func entryOf(key []byte, v psync.Value) *rdb.Entry {
	e := &rdb.Entry{Key: key, ExpireMS: v.DeadlineMS, Payload: v.Payload}
	typ, body, _, err := rdb.ParseDump(v.Payload)
	e.Type = typ
	if err != nil || typ != rdb.TypeString {
		return e
	}
	_, _, err = rdb.Elements(typ, body, func(el rdb.Element) error {
		e.String = bytes.Clone(el.A)
		return nil
	})
	e.IsString = err == nil
	return e
}

// split takes the failures of copies out of those of a batch.
func (b *Batch) split(failed []resp.ExecError) (others []resp.ExecError, copies map[int]resp.ServerError) {
	if len(b.copies) == 0 || len(failed) == 0 {
		return failed, nil
	}
	copies = map[int]resp.ServerError{}
	for _, f := range failed {
		if i, ok := b.copyOf(f.Index); ok {
			copies[i] = f.Err
		} else {
			others = append(others, f)
		}
	}
	return others, copies
}

// copyOf is the copy that a command of the batch belongs to.
func (b *Batch) copyOf(cmd int) (i int, ok bool) {
	for i, c := range b.copies {
		if c.from <= cmd && cmd < c.to {
			return i, true
		}
	}
	return 0, false
}

// landed records the copies of a committed batch, whose rejects are recorded:
// those that the target took are doubtful no more, unless a later command has
// made them so.
func (g *group) landed(b *Batch, refused map[int]resp.ServerError, m Mark) error {
	if len(b.copies) == 0 {
		return nil
	}
	var held, taken []checkpoint.Doubt
	var at repl.Offset // a batch has the copies of one answer at most for each place
	heal := func() error {
		free := g.doubts.freed(taken, place{m.Epoch, at})
		taken = nil
		if len(free) == 0 {
			return nil
		}
		if err := g.store.HealDoubts(free, checkpoint.Heal{Epoch: m.Epoch, Offset: at, Commands: m.Commands}); err != nil {
			return err
		}
		g.doubts.remove(free)
		g.showDoubts(len(free))
		return nil
	}
	for i, c := range b.copies {
		if c.kept {
			c.doubt.Held = heldAbsent
			held = append(held, c.doubt)
			continue
		}
		if cause, ok := refused[i]; ok {
			c.doubt.Held = heldRefused + ": " + string(cause)
			held = append(held, c.doubt)
			continue
		}
		if c.at != at {
			if err := heal(); err != nil {
				return err
			}
			at = c.at
		}
		taken = append(taken, c.doubt)
	}
	if err := heal(); err != nil {
		return err
	}
	if err := g.hold(held); err != nil {
		return err
	}
	all, kept := g.doubts.counts()
	if all == 0 {
		g.log.Info("every doubtful key was copied again from the source")
	}
	if all == kept && g.status.get().Rejects > 0 {
		return g.countRejects()
	}
	return nil
}

// lone tells whether a key that the group's source has not is no other group's
// either. Not to know is no.
func (s *streamer) lone() bool {
	why, err := s.tr.alone()
	return err == nil && why == ""
}

// hold records why keys cannot be copied again; they stay doubtful, and are
// tried again now and then.
func (g *group) hold(ds []checkpoint.Doubt) error {
	if len(ds) == 0 {
		return nil
	}
	if err := g.store.HoldDoubts(ds); err != nil {
		return err
	}
	g.doubts.hold(ds)
	g.log.Warn("keys stay doubtful: they cannot be copied again", "keys", len(ds), "first", string(short(ds[0].Key)), "why", ds[0].Held)
	g.showDoubts(0)
	return nil
}

// showDoubts shows the doubtful keys, after some more were healed.
func (g *group) showDoubts(healed int) {
	all, held := g.doubts.counts()
	r := g.recopier
	g.status.recopying(all, held, healed, r.source.Addr != "" && all > held && r.unanswered < maxUnanswered)
}

// countRejects shows how many rejects are not healed.
func (g *group) countRejects() error {
	n := 0
	err := g.store.Rejects(g.id, func(r checkpoint.Reject) error {
		if !r.Healed {
			n++
		}
		return nil
	})
	g.status.update(func(st *Status) { st.Rejects = n })
	return err
}

// revive makes keys doubtful again whose copies the target has lost, as its
// mark tells.
func (g *group) revive(m Mark) error {
	if g.status.get().Healed == 0 {
		return nil
	}
	lost, err := g.store.ReviveDoubts(g.id, m.Epoch, m.Commands)
	if err != nil || len(lost) == 0 {
		return err
	}
	g.log.Warn("the target lost values that had been copied again; their keys are doubtful", "keys", len(lost))
	g.doubts.add(lost)
	g.showDoubts(-len(lost))
	return g.countRejects()
}
