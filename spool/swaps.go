package spool

import (
	"maps"
	"slices"

	"tairlift/internal/repl"
)

// Turns tell which SWAPDB of a stream were carried out on a target: none up to
// the first, those behind it up to the second, and so on.
type Turns []repl.Offset

// Did tells whether the one that ends at an offset was.
func (t Turns) Did(end repl.Offset) bool {
	n, _ := slices.BinarySearch(t, end)
	return n%2 == 1
}

// all tells whether each was that ends between the two offsets.
func (t Turns) all(first, last repl.Offset) bool {
	n, _ := slices.BinarySearch(t, first)
	m, _ := slices.BinarySearch(t, last)
	return n%2 == 1 && n == m
}

// EverySwap is what key files go by: who prunes does not know of targets.
var EverySwap = Turns{0}

// Swaps makes fingerprints of one epoch comparable across SWAPDB: a walk that
// is given one numbers databases as the epoch's RDB does, wherever their keys are
// by now. It is kept from one walk to the next that goes on from there. The zero
// Swaps begins an epoch of which no swap is carried out.
type Swaps struct {
	Turns Turns
	// origin tells for each database that was ever swapped whose keys it has now.
	origin map[int]int
	// first and last are the ends of swaps that key files tell of.
	first, last repl.Offset
	loose       bool
	half        []int // the two databases of a swap that is under way
}

// Origin is the number by which a walk has named what is in a database now. Of
// one that is Loose it is one of DBs, if db is.
func (s *Swaps) Origin(db int) int {
	if s == nil {
		return db
	}
	if from, ok := s.origin[db]; ok {
		return from
	}
	return db
}

// DBs are the databases that were swapped, in order.
func (s *Swaps) DBs() []int { return slices.Sorted(maps.Keys(s.origin)) }

// Origins are the numbers by which a walk may have named what is in a database
// now.
func (s *Swaps) Origins(db int) []int {
	switch _, swapped := s.origin[db]; {
	case swapped && s.loose:
		return s.DBs()
	case slices.Contains(s.half, db):
		return []int{s.Origin(s.half[0]), s.Origin(s.half[1])}
	}
	return []int{s.Origin(db)}
}

// Halve says that two databases are being swapped: some keys are where they were,
// and some are where they will be.
func (s *Swaps) Halve(a, b int) {
	s.Swap(a, b)
	s.Swap(a, b)
	s.half = []int{a, b}
}

// Any tells whether names and places differ, or did in between.
func (s *Swaps) Any() bool { return len(s.origin) > 0 }

// Loose tells that it is not known where keys are that were pruned: key files
// take every swap for carried out, and not every one was.
func (s *Swaps) Loose() bool { return s.loose }

// Loosen says that nobody knows which swaps were carried out.
func (s *Swaps) Loosen() { s.loose = s.loose || s.Any() }

// Swap exchanges two databases.
func (s *Swaps) Swap(a, b int) {
	if s.origin == nil {
		s.origin = map[int]int{}
	}
	s.origin[a], s.origin[b] = s.Origin(b), s.Origin(a)
}

// Clone is a copy that goes its own way.
func (s *Swaps) Clone() *Swaps {
	c := *s
	c.origin = maps.Clone(s.origin)
	return &c
}

// passed follows a swap of the stream.
func (s *Swaps) passed(a, b int, end repl.Offset) {
	if !s.Turns.Did(end) || a == b {
		return
	}
	s.Swap(a, b)
	if s.first == 0 {
		s.first = end
	}
	s.last = end
}

// load goes on behind a key file, whose names a walk to until has read.
func (s *Swaps) load(k *Swaps, until repl.Offset) {
	if !k.Any() || k.first > until {
		return
	}
	s.origin, s.first, s.last = maps.Clone(k.origin), k.first, k.last
	s.loose = k.last > until || !s.Turns.all(k.first, k.last)
}

// swapsSize is what the end mark of a key file takes beyond that of one without
// swaps; swapSize is of each database.
const (
	swapsSize = 16
	swapSize  = 8
	// maxSwapped bounds the databases that a key file may tell of.
	maxSwapped = 1 << 16
)

func (s *Swaps) appendTo(b []byte) []byte {
	if !s.Any() {
		return b
	}
	b = le.AppendUint64(b, uint64(s.first))
	b = le.AppendUint64(b, uint64(s.last))
	for _, db := range s.DBs() {
		b = le.AppendUint32(b, uint32(db))
		b = le.AppendUint32(b, uint32(s.origin[db]))
	}
	return b
}

// parseSwaps reads what appendTo wrote.
func parseSwaps(b []byte) Swaps {
	s := Swaps{Turns: EverySwap}
	if len(b) < swapsSize {
		return s
	}
	s.first, s.last = repl.Offset(le.Uint64(b)), repl.Offset(le.Uint64(b[8:]))
	s.origin = map[int]int{}
	for b = b[swapsSize:]; len(b) >= swapSize; b = b[swapSize:] {
		s.origin[int(le.Uint32(b))] = int(le.Uint32(b[4:]))
	}
	return s
}
