package command

import (
	"math"
	"slices"
	"strconv"
)

// otherDB says where among its arguments a command has the number of a database of its
// own, and the key that it writes there; 0 is nowhere.
type otherDB func(args [][]byte) (number, key int)

// moveDB is of MOVE key db.
func moveDB([][]byte) (number, key int) { return 2, 1 }

// copyDB is of COPY source destination [DB db].
func copyDB(args [][]byte) (number, key int) {
	for i := 3; i+1 < len(args); i++ {
		if is(args[i], "db") {
			number, key = i+1, 2
		}
	}
	return number, key
}

// OtherDB is the key that MOVE and COPY write anew in a database that is not the
// selected one; ok is false for other commands, and where the number is none.
func (s *Spec) OtherDB(args [][]byte) (db int, key []byte, ok bool) {
	number, at := s.findDB(args)
	if number == 0 {
		return 0, nil, false
	}
	n, ok := parseInt(args[number])
	return int(n), args[at], ok && n >= 0 && n <= math.MaxInt32
}

// WithOtherDB is args with another number where OtherDB found one.
func (s *Spec) WithOtherDB(args [][]byte, db int) [][]byte {
	number, _ := s.findDB(args)
	args = slices.Clone(args)
	if number > 0 {
		args[number] = strconv.AppendInt(nil, int64(db), 10)
	}
	return args
}

func (s *Spec) findDB(args [][]byte) (number, key int) {
	if s.otherDB == nil || len(args) < s.MinArgs {
		return 0, 0
	}
	return s.otherDB(args)
}
