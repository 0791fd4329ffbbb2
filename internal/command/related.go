package command

import "math"

// OtherDB is the key that MOVE and COPY write in a database that is not the
// selected one; ok is false for other commands, and where the number is none.
func (s *Spec) OtherDB(args [][]byte) (db int, key []byte, ok bool) {
	var word []byte
	switch {
	case s.Name == "MOVE" && len(args) >= 3:
		key, word = args[1], args[2]
	case s.Name == "COPY":
		for i := 3; i+1 < len(args); i++ {
			if is(args[i], "db") {
				key, word = args[2], args[i+1]
			}
		}
	}
	n, ok := parseInt(word)
	return int(n), key, ok && n >= 0 && n <= math.MaxInt32
}

// Mixes tells whether the value of one of the command's keys may depend on what
// another one held: RENAME, COPY, SUNIONSTORE, scripts, but not DEL or MSET.
func (s *Spec) Mixes() bool {
	switch s.Name {
	case "DEL", "UNLINK", "TOUCH", "MSET":
		return false
	}
	return true
}
