package command

import (
	"slices"
	"strconv"
)

// A command that names keys of which only some are wanted: what of it remains.

// Some is the command for those of its keys that keep picks; ok is false of
// commands that do more with their keys than the same to each.
func (s *Spec) Some(args [][]byte, keep func(key []byte) bool) (some [][]byte, ok bool) {
	switch s.Name {
	case "DEL", "UNLINK", "TOUCH", "MSET", "MSETNX", "SLOTSRESTORE":
	default:
		return nil, false
	}
	some = append(some, args[0])
	for i := s.keys.first; i < len(args); i += s.keys.step {
		if keep(args[i]) {
			some = append(some, args[i:min(i+s.keys.step, len(args))]...)
		}
	}
	return some, true
}

// Alone is a command that does to the i-th key what this one did, whatever the
// other keys held; ok is false where there is none.
func (s *Spec) Alone(args [][]byte, i int) (alone [][]byte, ok bool) {
	as := func(word string, rest ...[]byte) ([][]byte, bool) {
		return append([][]byte{[]byte(word)}, rest...), true
	}
	if len(args) < s.MinArgs {
		return nil, false
	}
	switch s.Name {
	case "RENAME", "RENAMENX", "MOVE":
		if i == 0 {
			return as("DEL", args[1])
		}
	case "SMOVE": // a source propagates it when it found the member
		if i == 0 {
			return as("SREM", args[1], args[3])
		}
		return as("SADD", args[2], args[3])
	case "RPOPLPUSH", "BRPOPLPUSH":
		if i == 0 {
			return as("RPOP", args[1])
		}
	case "LMOVE", "BLMOVE":
		switch {
		case i > 0:
		case is(args[3], "left"):
			return as("LPOP", args[1])
		case is(args[3], "right"):
			return as("RPOP", args[1])
		}
	}
	return nil, false
}

// OnlyReads tells whether the command leaves the i-th of its n keys as it is.
func (s *Spec) OnlyReads(i, n int) bool {
	switch s.Name {
	case "SUNIONSTORE", "SINTERSTORE", "SDIFFSTORE", "ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE", "ZRANGESTORE", "GEOSEARCHSTORE",
		"BITOP", "PFMERGE":
		return i > 0
	case "COPY", "SORT", "GEORADIUS", "GEORADIUSBYMEMBER":
		return i == 0 && n > 1
	case "PFCOUNT": // but for the count that it keeps in the value
		return true
	}
	return s.Name == "EVAL_RO" || s.Name == "EVALSHA_RO" || s.Name == "FCALL_RO"
}

// Replaces tells whether what the command writes to a key, not the first of
// several, or the destination that comes first, has nothing of what was there.
func (s *Spec) Replaces() bool {
	switch s.Name {
	case "RENAME", "RENAMENX", "COPY", "MOVE", "SUNIONSTORE", "SINTERSTORE", "SDIFFSTORE", "ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE",
		"ZRANGESTORE", "GEOSEARCHSTORE", "BITOP", "SORT", "GEORADIUS", "GEORADIUSBYMEMBER":
		return true
	}
	return false
}

// ReadsUnnamed tells whether the command reads keys that it does not name: SORT,
// by the patterns of BY and GET.
func (s *Spec) ReadsUnnamed(args [][]byte) bool {
	if s.Name != "SORT" {
		return false
	}
	return slices.ContainsFunc(args[min(2, len(args)):], func(a []byte) bool { return is(a, "by") || is(a, "get") })
}

// Scripts tells whether the command runs a script or a function of the server,
// which may write keys that it does not name.
func (s *Spec) Scripts() bool {
	return s.Class == Eval || s.Class == EvalSHA || s.Name == "FCALL" || s.Name == "FCALL_RO"
}

// WithOtherDB is args with another number where OtherDB found one.
func (s *Spec) WithOtherDB(args [][]byte, db int) [][]byte {
	args = slices.Clone(args)
	number := strconv.AppendInt(nil, int64(db), 10)
	switch s.Name {
	case "MOVE":
		args[2] = number
	case "COPY":
		for i := 3; i+1 < len(args); i++ {
			if is(args[i], "db") {
				args[i+1] = number
			}
		}
	}
	return args
}
