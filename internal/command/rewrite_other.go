package command

// popNow is the rule of a blocking pop: with one key it becomes the pop it is when
// served at once. With several keys there is no such command; inside a transaction it
// does not block either.
func popNow(word string) rewriteFunc {
	return func(_ *Spec, dst []byte, args [][]byte, _ int64, _ Caps) ([]byte, int, int64, error) {
		if len(args) != 3 {
			return dst, 0, 0, nil
		}
		return appendArgs(dst, word, args[1]), 1, 0, nil
	}
}

// moveNow is the rule of a blocking move with its timeout behind size arguments.
func moveNow(word string, size int) rewriteFunc {
	return func(s *Spec, dst []byte, args [][]byte, _ int64, _ Caps) ([]byte, int, int64, error) {
		if len(args) != size+1 {
			return dst, 0, 0, s.bad(args, size+1, "one argument too many")
		}
		return appendArgs(dst, word, args[1:size]...), 1, 0, nil
	}
}

// mpopNow is the rule of a blocking pop of many with its timeout at args[1].
func mpopNow(word string) rewriteFunc {
	return func(_ *Spec, dst []byte, args [][]byte, _ int64, _ Caps) ([]byte, int, int64, error) {
		return appendArgs(dst, word, args[2:]...), 1, 0, nil
	}
}

// before7 tells whether the target is known to be older than 7.0, which brought
// ENTRIESREAD, ENTRIESADDED and MAXDELETEDID to streams.
func (c Caps) before7() bool { return c.Major > 0 && c.Major < 7 }

// xsetid is the rule of XSETID key id [ENTRIESADDED n] [MAXDELETEDID id].
func xsetid(_ *Spec, dst []byte, args [][]byte, _ int64, caps Caps) ([]byte, int, int64, error) {
	if !caps.before7() || len(args) == 3 {
		return dst, 0, 0, nil
	}
	return appendArgs(dst, "XSETID", args[1:3]...), 1, 0, nil
}

// xgroup is the rule of XGROUP CREATE and SETID key group id ... [ENTRIESREAD n]. A
// 7.0 source propagates each XREADGROUP with such a SETID.
func xgroup(s *Spec, dst []byte, args [][]byte, _ int64, caps Caps) ([]byte, int, int64, error) {
	if !caps.before7() || len(args) < 7 || !is(args[1], "create") && !is(args[1], "setid") {
		return dst, 0, 0, nil
	}
	for i := 5; i < len(args); i++ {
		if !is(args[i], "entriesread") {
			continue
		}
		if i+1 == len(args) {
			return dst, 0, 0, s.bad(args, i+1, "missing")
		}
		dst = appendHeader(dst, len(args)-2)
		for j, a := range args {
			if j != i && j != i+1 {
				dst = appendArg(dst, a)
			}
		}
		return dst, 1, 0, nil
	}
	return dst, 0, 0, nil
}

// function is the rule of FUNCTION LOAD [REPLACE] code and FUNCTION RESTORE payload
// [policy], which get REPLACE so that they may be repeated.
func function(s *Spec, dst []byte, args [][]byte, _ int64, _ Caps) ([]byte, int, int64, error) {
	load, again := is(args[1], "load"), is(args[1], "restore")
	switch {
	case (load || again) && len(args) < 3:
		return dst, 0, 0, s.bad(args, 2, "missing")
	case load && len(args) == 3:
		return appendArgs(dst, "FUNCTION", args[1], []byte("REPLACE"), args[2]), 1, 0, nil
	case again && (len(args) == 3 || is(args[3], "append")):
		return appendArgs(dst, "FUNCTION", args[1], args[2], []byte("REPLACE")), 1, 0, nil
	}
	return dst, 0, 0, nil
}
