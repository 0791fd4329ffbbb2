package command

import "math"

// Cleared is what a command empties without naming keys.
type Cleared struct {
	// All is every database; else it is the one that is selected.
	All bool
	// Slots of Codis are the only ones that are emptied; nil is all keys.
	Slots []uint16
}

// codisSlots is the number of slots that Codis has.
const codisSlots = 1024

// clearsFunc tells what a command empties, as Clears does.
type clearsFunc func(args [][]byte) (c Cleared, ok bool)

// Clears tells what the command empties: FLUSHALL and FLUSHDB, in each of their
// forms, and SLOTSDEL. ok is false for any other, and for what no server sends.
func (s *Spec) Clears(args [][]byte) (c Cleared, ok bool) {
	if s.clears == nil {
		return Cleared{}, false
	}
	return s.clears(args)
}

// Empties tells whether the command is one that Clears is about, whatever its
// arguments.
func (s *Spec) Empties() bool { return s.clears != nil }

// flushes is of FLUSHALL and FLUSHDB.
func flushes(all bool) clearsFunc {
	return func(args [][]byte) (Cleared, bool) {
		return Cleared{All: all}, len(args) == 1 || len(args) == 2 && (is(args[1], "async") || is(args[1], "sync"))
	}
}

// slotsDeleted is of SLOTSDEL slot...
func slotsDeleted(args [][]byte) (c Cleared, ok bool) {
	for _, a := range args[1:] {
		n, ok := parseInt(a)
		if !ok || n < 0 || n >= codisSlots {
			return Cleared{}, false
		}
		c.Slots = append(c.Slots, uint16(n))
	}
	return c, len(c.Slots) > 0
}

// Flushes tells whether a script may empty or swap whole databases: its text or
// one of its arguments names FLUSHALL, FLUSHDB or SWAPDB. EVALSHA is to be asked
// about after its text took the place of the SHA1.
func (s *Spec) Flushes(args [][]byte) bool {
	return s.Class == Eval && scriptNames(args, "flushall", "flushdb", "swapdb")
}

// Renames tells whether a script may give a key the value of another one, with
// its deadline: its text or one of its arguments names RENAME, COPY or MOVE.
func (s *Spec) Renames(args [][]byte) bool {
	return s.Class == Eval && scriptNames(args, "rename", "renamenx", "copy", "move")
}

// SwapDBs tells which databases a SWAPDB exchanges. ok is false for any other
// command, and for what no server sends.
func (s *Spec) SwapDBs(args [][]byte) (a, b int, ok bool) {
	if !s.Swaps() || len(args) != 3 {
		return 0, 0, false
	}
	n, fine := parseInt(args[1])
	m, well := parseInt(args[2])
	ok = fine && well && min(n, m) >= 0 && max(n, m) <= math.MaxInt32
	return int(n), int(m), ok
}
