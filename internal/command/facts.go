package command

// What a row says of its command beside its rule. Everything that has to know such a
// fact asks the row, so that a new command is one row; the tests in facts_test.go ask a
// real server about each.

// Effect is what a command does to one of its keys.
type Effect uint8

// The effects.
const (
	Changes Effect = iota // what is there behind it goes by what the key held
	Reads                 // the key stays as it is
	Sets                  // it is written anew, whatever it held
	Drops                 // it is gone, whatever it held
	Gives                 // it is gone, and another key has what it held
)

// Overwrites tells whether the command does not go by what the key held.
func (e Effect) Overwrites() bool { return e == Sets || e == Drops }

// Removes tells whether the key is gone.
func (e Effect) Removes() bool { return e == Drops || e == Gives }

// effects are those on the first key, and on all others.
type effects struct{ first, others Effect }

var (
	reads  = effects{Reads, Reads}
	sets   = effects{Sets, Sets}
	drops  = effects{Drops, Drops}
	stores = effects{Sets, Reads}    // the destination comes first
	merges = effects{Changes, Reads} // too, and counts
	copies = effects{Reads, Sets}
	moves  = effects{Gives, Sets}
)

// Effect is what the command does to the i-th of its keys, when it does anything: a
// SETNX stands in a stream only where the key was free.
func (s *Spec) Effect(i int) Effect {
	if i == 0 {
		return s.effects.first
	}
	return s.effects.others
}

// Need is what must hold of a key's value for a command that a source has executed not
// to fail, in the form in which it is sent.
type Need uint8

// The needs. Where the key is missing, none of these commands fails.
const (
	NeedUnknown Need = iota // it may fail for other reasons than its keys' types
	NeedNothing             // it never fails
	NeedString              // fails on another type
	NeedInteger             // fails on all but a string that is an integer
	NeedList                // as NeedString
	NeedSet
	NeedZSet
	NeedHash
	NeedIntegerField // fails on all but a hash whose field, args[2], is an integer
)

// Needs is what the command needs of each of its keys.
func (s *Spec) Needs() Need { return s.needs }

// facts are a set of what is true of a command.
type facts uint16

const (
	// apart: it does the same to each of its keys, whatever the others hold.
	apart facts = 1 << iota
	// together: it does the same to each of its keys, or nothing to any.
	together
	// passesTTL: it may give a key the deadline of another one.
	passesTTL
	// renews: it sets or removes the deadline of a key. A source propagates it only
	// for a key that it has, and it answers 0 where there is none.
	renews
	// fieldTTL: it is one for times to live of hash fields.
	fieldTTL
	// runs: it runs a script or a function of the server.
	runs
	// opaque: neither its name nor its arguments tell what it does to deadlines.
	opaque
	// patterns: it may read keys that it does not name, by BY and GET.
	patterns
	// swaps: it swaps two databases.
	swaps
	// arrives: it brings a key from another Codis group.
	arrives
)

func (s *Spec) is(f facts) bool { return s.facts&f != 0 }

// Mixes tells whether the value of one of the command's keys may depend on what
// another one held: RENAME, COPY, SUNIONSTORE, scripts, but not DEL or MSET.
func (s *Spec) Mixes() bool { return !s.is(apart) }

// PassesTTL tells whether the command may give a key the deadline of another one.
func (s *Spec) PassesTTL() bool { return s.is(passesTTL) }

// Renews tells whether the command sets or removes the deadline of a key that the
// source has, and answers 0 where there is none. GETEX has become such a command when
// it is sent.
func (s *Spec) Renews() bool { return s.is(renews) }

// FieldTTL tells whether the command is one for times to live of hash fields.
func (s *Spec) FieldTTL() bool { return s.is(fieldTTL) }

// Scripts tells whether the command runs a script or a function of the server,
// which may write keys that it does not name.
func (s *Spec) Scripts() bool { return s.is(runs) }

// Opaque tells whether the command may give a key a deadline without saying so.
func (s *Spec) Opaque() bool { return s.is(opaque) }

// Swaps tells whether the command swaps two databases.
func (s *Spec) Swaps() bool { return s.is(swaps) }

// Arrives tells whether the command brings a key from another Codis group.
func (s *Spec) Arrives() bool { return s.is(arrives) }

// Routed is which of its keys a Codis proxy goes by when it chooses the group for the
// command: the first one, but for ZUNIONSTORE and ZINTERSTORE (codis-proxy, mapper.go).
func (s *Spec) Routed() int { return s.routed }
