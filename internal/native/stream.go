package native

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"tairlift/internal/rdb"
)

// A group's pending entries may have been deleted from the stream, and no
// command adds such an entry to a group: XCLAIM FORCE passes over what the
// stream does not hold. So each gets a ghost, an entry in its place for as long
// as the groups are made. Entries come in ascending order, and before the
// groups: the ghosts must be known from a walk before.

// distinctEvery is how many ids are gathered, beside twice those that are distinct,
// before they are looked through.
const distinctEvery = 4096

// stream is what a Writer knows of the stream in hand.
type stream struct {
	surveying bool // in the first walk
	surveyed  bool // a first walk has been: ghosts are all there are
	ghosts    []rdb.StreamID
	found     []rdb.StreamID // pending entries that are deleted, as this walk finds them
	known     int            // how many of found are distinct for certain

	seen    ids // entries
	pending ids // of the group in hand, with time and count of deliveries
	first   rdb.StreamID
	last    rdb.StreamID
	entries uint64
	next    int // of ghosts
	early   int // ghosts before the first entry

	claiming bool // the command in hand is an XCLAIM of entries with
	claim    packedID
	end      rdb.StreamElement // the stream itself
	lost     int64
}

// reset forgets the stream. Known ghosts make it the second walk of one.
func (s *stream) reset(ghosts []rdb.StreamID, surveyed bool) {
	s.seen.reset()
	s.pending.reset()
	s.pending.timed = true
	*s = stream{ghosts: ghosts, surveyed: surveyed, found: s.found[:0], seen: s.seen, pending: s.pending}
}

// again makes what a walk has found what the next one knows.
func (s *stream) again() {
	s.distinct()
	ghosts := slices.DeleteFunc(s.found, func(id rdb.StreamID) bool { return id == rdb.StreamID{} })
	s.found = nil
	s.reset(ghosts, true)
}

// distinct leaves each id of found once: every group has its own pending entries,
// and they may be the same.
func (s *stream) distinct() {
	slices.SortFunc(s.found, compareIDs)
	s.found = slices.Compact(s.found)
	s.known = len(s.found)
}

// Survey takes an element in a walk before that of Add. It lets Add keep what it
// cannot keep alone: pending entries of a stream's groups that are deleted from
// the stream. There is nothing to learn of other kinds.
func (w *Writer) Survey(e rdb.Element) error {
	if w.err == nil && w.kind == rdb.KindStream {
		w.stream.surveying = true
		w.fail(w.stream.track(e.Stream))
	}
	return w.err
}

// Again begins the value in hand anew, for another walk of Add, to which the one
// before is as good as a Survey. Its commands too are to follow a DEL.
func (w *Writer) Again() {
	w.start(w.kind)
	w.stream.again()
}

// Lost counts pending entries that are not kept, for they are deleted from the
// stream, and no Survey told of them.
func (w *Writer) Lost() int64 { return w.stream.lost }

func (w *Writer) fail(err error) {
	if w.err == nil && err != nil {
		w.err = fmt.Errorf("stream %q: %w", w.key, err)
	}
}

// track follows which pending entries are deleted ones.
func (s *stream) track(e *rdb.StreamElement) error {
	switch e.Part {
	case rdb.StreamEntry:
		return s.seen.add(e.ID, 0, 0)
	case rdb.StreamPending:
		if _, ok := s.seen.find(e.ID); !ok {
			s.found = append(s.found, e.ID)
			if len(s.found) > 2*s.known+distinctEvery {
				s.distinct()
			}
		}
	}
	return nil
}

func (w *Writer) addStream(e *rdb.StreamElement) {
	s := &w.stream
	if s.surveying {
		s.again()
	}
	if !s.surveyed {
		if w.fail(s.track(e)); w.err != nil {
			return
		}
	}
	if e.Part != rdb.StreamOwned {
		w.endClaim()
	}
	switch e.Part {
	case rdb.StreamEntry:
		w.addGhosts(e.ID)
		w.addEntry(e)
	case rdb.StreamInfo:
		w.addInfo(e)
	case rdb.StreamGroup:
		s.pending.reset()
		w.addGroup(e)
	case rdb.StreamPending:
		w.fail(s.pending.add(e.ID, e.TimeMS, e.Count))
	case rdb.StreamConsumer:
		w.addConsumer(e)
	case rdb.StreamOwned:
		w.addOwned(e)
	}
}

// idRoom is what an id takes as a bulk.
const idRoom = 2*20 + 1 + headRoom

func (w *Writer) id(id rdb.StreamID) {
	b := strconv.AppendUint(w.num[:0], id.MS, 10)
	b = append(b, '-')
	w.arg(strconv.AppendUint(b, id.Seq, 10))
}

func (w *Writer) addEntry(e *rdb.StreamElement) {
	s := &w.stream
	if len(e.Fields) == 0 || e.ID == (rdb.StreamID{}) || s.entries > 0 && compareIDs(e.ID, s.last) <= 0 {
		w.fail(fmt.Errorf("no XADD makes entry %v of %d fields behind %v", e.ID, len(e.Fields)/2, s.last))
		return
	}
	if s.entries == 0 {
		s.first = e.ID
	}
	s.entries++
	s.last = e.ID
	size := idRoom
	for _, f := range e.Fields {
		size += len(f) + headRoom
	}
	w.command("XADD", size)
	w.id(e.ID)
	for _, f := range e.Fields {
		w.arg(f)
	}
	w.end()
	w.chunk.Elements++
}

// addGhosts adds the ghosts before an id.
func (w *Writer) addGhosts(before rdb.StreamID) {
	s := &w.stream
	for ; s.next < len(s.ghosts) && compareIDs(s.ghosts[s.next], before) < 0; s.next++ {
		if s.entries == 0 {
			s.early++
		}
		w.command("XADD", idRoom+2*headRoom)
		w.id(s.ghosts[s.next])
		w.word("x")
		w.word("")
		w.end()
	}
}

func (w *Writer) addInfo(e *rdb.StreamElement) {
	s := &w.stream
	s.end = *e
	next := e.ID
	if next.Seq++; next.Seq == 0 {
		next.MS++
	}
	w.addGhosts(next)
	s.ghosts = s.ghosts[:s.next]
	if s.entries == 0 && len(s.ghosts) == 0 {
		// Only a group makes a stream of nothing.
		const name = "-"
		w.group("CREATE", name, headRoom+idRoom)
		w.word("0-0")
		w.word("MKSTREAM")
		w.end()
		w.group("DESTROY", name, 0)
		w.end()
	}
	if len(s.ghosts) == 0 {
		w.setID()
	}
}

// setID sets what a stream knows beside its entries.
func (w *Writer) setID() {
	s := &w.stream
	w.command("XSETID", 2*idRoom+4*headRoom+20)
	w.id(s.end.ID)
	if w.o.Target.atLeast(7, 0) {
		added := s.entries
		if m := s.end.Meta; m.Known {
			added = max(added, m.EntriesAdded)
		}
		w.word("ENTRIESADDED")
		w.number(clamp(added))
		if deleted := s.end.Meta.MaxDeletedID; deleted != (rdb.StreamID{}) {
			w.word("MAXDELETEDID")
			w.id(deleted)
		}
	}
	w.end()
}

// clamp is n as the signed number that servers read.
func clamp(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// group begins an XGROUP command, whose further arguments take size bytes.
func (w *Writer) group(verb, name string, size int) {
	w.begin("XGROUP", len(verb)+len(name)+2*headRoom+size)
	w.word(verb)
	w.arg(w.key)
	w.word(name)
}

func (w *Writer) addGroup(e *rdb.StreamElement) {
	w.begin("XGROUP", len(e.Group)+idRoom+5*headRoom+20)
	w.word("CREATE")
	w.arg(w.key)
	w.arg(e.Group)
	w.id(e.ID)
	if read := w.stream.entriesRead(e); read >= 0 && w.o.Target.atLeast(7, 0) {
		w.word("ENTRIESREAD")
		w.number(read)
	}
	w.end()
}

// entriesRead is how many entries the group has read, or -1. Of a stream from
// before 7.0, where it is not known, it is what a server that loads one takes
// it for (streamEstimateDistanceFromFirstEverEntry).
func (s *stream) entriesRead(e *rdb.StreamElement) int64 {
	switch {
	case e.Meta.Known:
		return e.Meta.EntriesRead
	case s.entries == 0:
		return 0
	case e.ID == s.end.ID:
		return clamp(s.entries)
	case compareIDs(e.ID, s.end.ID) > 0:
		return -1
	case compareIDs(e.ID, s.first) < 0:
		return 0
	case e.ID == s.first:
		return 1
	}
	return -1
}

// addConsumer makes a consumer, for it may own nothing. Before 6.2 that takes
// reading on its behalf, of what has been delivered to it: nothing.
func (w *Writer) addConsumer(e *rdb.StreamElement) {
	size := len(e.Group) + len(e.Consumer) + 8*headRoom
	if w.o.Target.atLeast(6, 2) {
		w.begin("XGROUP", size)
		w.word("CREATECONSUMER")
		w.arg(w.key)
		w.arg(e.Group)
		w.arg(e.Consumer)
	} else {
		w.begin("XREADGROUP", size)
		w.word("GROUP")
		w.arg(e.Group)
		w.arg(e.Consumer)
		w.word("STREAMS")
		w.arg(w.key)
		w.word("0-0")
	}
	w.end()
}

var errNotPending = errors.New("a consumer owns an entry that is not pending")

// addOwned gives a pending entry to its consumer. Entries of the same delivery
// go in one XCLAIM.
func (w *Writer) addOwned(e *rdb.StreamElement) {
	s := &w.stream
	p, ok := s.pending.find(e.ID)
	if !ok {
		w.fail(errNotPending)
		return
	}
	if !s.held(e.ID) {
		s.lost++
		return
	}
	if !s.claiming || p.ms != s.claim.ms || p.count != s.claim.count || w.items == w.o.MaxElements || len(w.chunk.Bytes)+idRoom+claimTail > w.o.ChunkBytes {
		w.endClaim()
		w.command("XCLAIM", len(e.Group)+len(e.Consumer)+3*headRoom+idRoom+claimTail)
		w.arg(e.Group)
		w.arg(e.Consumer)
		w.word("0")
		s.claiming, s.claim, w.items = true, p, 0
	}
	w.id(e.ID)
	w.items++
}

// held tells whether the target's stream has the entry or its ghost.
func (s *stream) held(id rdb.StreamID) bool {
	if s.surveyed {
		// All pending entries are held, but for ids that the stream cannot have given out.
		return compareIDs(id, s.end.ID) <= 0 && id != (rdb.StreamID{})
	}
	_, ok := s.seen.find(id)
	return ok
}

// claimTail is what the options of an XCLAIM take.
const claimTail = 6*headRoom + 2*20

func (w *Writer) endClaim() {
	s := &w.stream
	if !s.claiming {
		return
	}
	s.claiming = false
	w.word("TIME")
	w.number(max(s.claim.ms, 0))
	w.word("RETRYCOUNT")
	w.number(clamp(s.claim.count))
	w.word("FORCE")
	w.word("JUSTID")
	w.end()
}

// finishStream removes the ghosts: those before the first entry as entries that
// a limit has cut off, which leaves no trace, the others by id.
func (w *Writer) finishStream() {
	w.endClaim()
	s := &w.stream
	if len(s.ghosts) == 0 {
		return
	}
	if s.early > 0 {
		w.command("XTRIM", 2*headRoom+20)
		w.word("MAXLEN")
		w.number(clamp(s.entries) + int64(len(s.ghosts)-s.early))
		w.end()
	}
	for _, id := range s.ghosts[s.early:] {
		if w.open < 0 || w.items == w.o.MaxElements || len(w.chunk.Bytes)+idRoom > w.o.ChunkBytes {
			w.command("XDEL", idRoom)
			w.items = 0
		}
		w.id(id)
		w.items++
	}
	w.setID()
}
