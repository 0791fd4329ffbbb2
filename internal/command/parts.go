package command

import "slices"

// A command that names keys of which only some are wanted: what of it remains.

// Some is the command for those of its keys that keep picks; ok is false of
// commands that do more with their keys than the same to each, and of one cut short.
func (s *Spec) Some(args [][]byte, keep func(key []byte) bool) (some [][]byte, ok bool) {
	first, step := s.keys.first, s.keys.step
	if !s.is(apart|together) || (len(args)-first)%step != 0 {
		return nil, false
	}
	some = append(some, args[:first]...)
	for i := first; i < len(args); i += step {
		if keep(args[i]) {
			some = append(some, args[i:i+step]...)
		}
	}
	return some, true
}

// aloneFunc makes a command of one with at least MinArgs arguments: see Alone.
type aloneFunc func(args [][]byte, i int) (alone [][]byte, ok bool)

// Alone is a command that does to the i-th key what this one did, whatever the
// other keys held; ok is false where there is none.
func (s *Spec) Alone(args [][]byte, i int) (alone [][]byte, ok bool) {
	if s.alone == nil || len(args) < s.MinArgs {
		return nil, false
	}
	return s.alone(args, i)
}

func makeCommand(word string, rest ...[]byte) ([][]byte, bool) {
	return append([][]byte{[]byte(word)}, rest...), true
}

// aloneGone: the first key is gone.
func aloneGone(args [][]byte, i int) ([][]byte, bool) {
	if i > 0 {
		return nil, false
	}
	return makeCommand("DEL", args[1])
}

// aloneMember is of SMOVE, which a source propagates when it found the member.
func aloneMember(args [][]byte, i int) ([][]byte, bool) {
	if i == 0 {
		return makeCommand("SREM", args[1], args[3])
	}
	return makeCommand("SADD", args[2], args[3])
}

// alonePopped is of RPOPLPUSH: what was pushed is known to the list that it came from.
func alonePopped(args [][]byte, i int) ([][]byte, bool) {
	if i > 0 {
		return nil, false
	}
	return makeCommand("RPOP", args[1])
}

// aloneMoved is alonePopped of LMOVE.
func aloneMoved(args [][]byte, i int) ([][]byte, bool) {
	switch {
	case i > 0:
	case is(args[3], "left"):
		return makeCommand("LPOP", args[1])
	case is(args[3], "right"):
		return makeCommand("RPOP", args[1])
	}
	return nil, false
}

// ReadsUnnamed tells whether the command reads keys that it does not name: SORT,
// by the patterns of BY and GET.
func (s *Spec) ReadsUnnamed(args [][]byte) bool {
	return s.is(patterns) &&
		slices.ContainsFunc(args[min(2, len(args)):], func(a []byte) bool { return is(a, "by") || is(a, "get") })
}
