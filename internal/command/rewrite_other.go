package command

// atOnce is what a blocking command becomes: one that does not block, with the
// version that brought it and what makes up for it before, as in Spec.
type atOnce struct {
	word  string
	since int
	older rewriteFunc
}

// popNow is the rule of a blocking pop: with one key it becomes the pop it is when
// served at once. With several keys there is no such command; inside a transaction it
// does not block either.
func popNow(now atOnce) rewriteFunc {
	return func(s *Spec, dst []byte, args [][]byte, _ int64, caps Caps) ([]byte, int, int64, error) {
		if len(args) != 3 {
			return dst, 0, 0, nil
		}
		return now.append(s, dst, args[1:2], caps)
	}
}

// moveNow is the rule of a blocking move with its timeout behind size arguments.
func moveNow(now atOnce, size int) rewriteFunc {
	return func(s *Spec, dst []byte, args [][]byte, _ int64, caps Caps) ([]byte, int, int64, error) {
		if len(args) != size+1 {
			return dst, 0, 0, s.bad(args, size+1, "one argument too many")
		}
		return now.append(s, dst, args[1:size], caps)
	}
}

// mpopNow is the rule of a blocking pop of many with its timeout at args[1].
func mpopNow(now atOnce) rewriteFunc {
	return func(s *Spec, dst []byte, args [][]byte, _ int64, caps Caps) ([]byte, int, int64, error) {
		return now.append(s, dst, args[2:], caps)
	}
}

func (now atOnce) append(s *Spec, dst []byte, args [][]byte, caps Caps) ([]byte, int, int64, error) {
	switch {
	case now.since == 0 || !caps.lacks(now.word, now.since):
		return appendArgs(dst, now.word, args...), 1, 0, nil
	case now.older == nil:
		return dst, 0, 0, &TargetError{Command: now.word, Since: now.since}
	}
	return now.older(s, dst, append([][]byte{[]byte(now.word)}, args...), 0, caps)
}

// xsetid is the rule of XSETID key id [ENTRIESADDED n] [MAXDELETEDID id].
func xsetid(_ *Spec, dst []byte, args [][]byte, _ int64, caps Caps) ([]byte, int, int64, error) {
	if !caps.before(700) || caps.before(500) || len(args) == 3 {
		return dst, 0, 0, nil
	}
	return appendArgs(dst, "XSETID", args[1:3]...), 1, 0, nil
}

// xgroup is the rule of XGROUP CREATE and SETID key group id ... [ENTRIESREAD n]. A
// 7.0 source propagates each XREADGROUP with such a SETID, and with CREATECONSUMER,
// in place of which an older target gets a look at that consumer's past, which makes
// one too.
func xgroup(s *Spec, dst []byte, args [][]byte, _ int64, caps Caps) ([]byte, int, int64, error) {
	if caps.before(602) && !caps.before(500) && len(args) == 5 && is(args[1], "createconsumer") {
		return appendArgs(dst, "XREADGROUP", []byte("GROUP"), args[3], args[4], []byte("COUNT"), []byte("1"), []byte("STREAMS"), args[2], []byte("0")), 1, 0, nil
	}
	if !caps.before(700) || caps.before(500) || len(args) < 7 || !is(args[1], "create") && !is(args[1], "setid") {
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
func function(s *Spec, dst []byte, args [][]byte, _ int64, caps Caps) ([]byte, int, int64, error) {
	load, again := is(args[1], "load"), is(args[1], "restore")
	switch {
	case (load || again) && len(args) < 3:
		return dst, 0, 0, s.bad(args, 2, "missing")
	case caps.lacks(s.Name, s.since):
	case load && len(args) == 3:
		return appendArgs(dst, "FUNCTION", args[1], []byte("REPLACE"), args[2]), 1, 0, nil
	case again && (len(args) == 3 || is(args[3], "append")):
		return appendArgs(dst, "FUNCTION", args[1], args[2], []byte("REPLACE")), 1, 0, nil
	}
	return dst, 0, 0, nil
}
