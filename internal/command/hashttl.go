package command

// Times to live of hash fields. A source propagates them as HPEXPIREAT, HPERSIST,
// HSETEX PXAT and HDEL, and the deadline is the source's.

// hexpire is the rule of HEXPIRE and its kin, with times in units of unit ms. A
// condition stays: it is decided field by field.
func hexpire(unit int64, relative bool) rewriteFunc {
	return func(s *Spec, dst []byte, args [][]byte, at int64, caps Caps) ([]byte, int, int64, error) {
		if unit == 1 && !relative {
			return dst, 0, 0, nil
		}
		if caps.lacks("HPEXPIREAT", 704) {
			return dst, 0, 0, &TargetError{Command: s.Name, Since: s.since}
		}
		ms, err := s.when(args, 2, unit, relative, at)
		if err != nil {
			return dst, 0, 0, err
		}
		return appendFields(dst, "HPEXPIREAT", args[1], ms, args[3:]), 1, 0, nil
	}
}

// appendFields appends a command of a key, a deadline, and what follows it.
func appendFields(dst []byte, word string, key []byte, ms int64, rest [][]byte) []byte {
	dst = appendHeader(dst, 3+len(rest))
	dst = appendArg(appendWord(dst, word), key)
	dst = appendNumber(dst, ms)
	for _, a := range rest {
		dst = appendArg(dst, a)
	}
	return dst
}

// fields finds FIELDS n field... with width arguments for each, at args[i] and to the
// end.
func (s *Spec) fields(args [][]byte, i, width int) ([][]byte, error) {
	if i >= len(args) || !is(args[i], "fields") {
		return nil, s.bad(args, i, "not an option")
	}
	n, err := s.number(args, i+1)
	if err != nil {
		return nil, err
	}
	list := args[i+2:]
	if n < 1 || n > int64(len(list)) || int64(len(list)) != n*int64(width) {
		return nil, s.bad(args, i+1, "not the number of fields")
	}
	return list, nil
}

// hsetex is the rule of HSETEX key [FNX|FXX] [EX|PX|EXAT|PXAT t|KEEPTTL] FIELDS n
// field value...: the condition was true of all of them. A target of 7.4 is given the
// values and the deadline one after the other.
func hsetex(s *Spec, dst []byte, args [][]byte, at int64, caps Caps) ([]byte, int, int64, error) {
	deadline, keep, i, err := s.expiries(args, 2, at, "fnx", "fxx")
	if err != nil {
		return dst, 0, 0, err
	}
	pairs, err := s.fields(args, i, 2)
	if err != nil {
		return dst, 0, 0, err
	}
	if keep {
		if caps.lacks(s.Name, s.since) {
			return dst, 0, 0, &TargetError{Command: s.Name, Option: "KEEPTTL", Since: s.since}
		}
		return appendArgs(dst, "HSETEX", append([][]byte{args[1], []byte("KEEPTTL")}, args[i:]...)...), 1, 0, nil
	}
	if deadline != 0 && caps.lacks("HPEXPIREAT", 704) {
		return dst, 0, 0, &TargetError{Command: s.Name, Since: s.since}
	}
	dst = appendArgs(dst, "HSET", append([][]byte{args[1]}, pairs...)...)
	if deadline == 0 {
		return dst, 1, 0, nil
	}
	rest := [][]byte{args[i], args[i+1]}
	for f := 0; f < len(pairs); f += 2 {
		rest = append(rest, pairs[f])
	}
	return appendFields(dst, "HPEXPIREAT", args[1], deadline, rest), 2, 0, nil
}

// hgetex is the rule of HGETEX key [EX|PX|EXAT|PXAT t|PERSIST] FIELDS n field...: only
// its effect on the times to live is sent.
func hgetex(s *Spec, dst []byte, args [][]byte, at int64, caps Caps) ([]byte, int, int64, error) {
	ms, found, err := s.expiry(args, 2, at)
	if err != nil {
		return dst, 0, 0, err
	}
	i := 2
	switch {
	case found:
		i = 4
	case is(args[2], "persist"):
		i = 3
	}
	if _, err := s.fields(args, i, 1); err != nil {
		return dst, 0, 0, err
	}
	switch {
	case i == 2:
		return dst, 0, 0, nil
	case caps.lacks("HPEXPIREAT", 704):
		return dst, 0, 0, &TargetError{Command: s.Name, Since: s.since}
	case found:
		return appendFields(dst, "HPEXPIREAT", args[1], ms, args[i:]), 1, 0, nil
	}
	return appendArgs(dst, "HPERSIST", append([][]byte{args[1]}, args[i:]...)...), 1, 0, nil
}

// hgetdel is the rule of HGETDEL key FIELDS n field...
func hgetdel(s *Spec, dst []byte, args [][]byte, _ int64, _ Caps) ([]byte, int, int64, error) {
	list, err := s.fields(args, 2, 1)
	if err != nil {
		return dst, 0, 0, err
	}
	return appendArgs(dst, "HDEL", append([][]byte{args[1]}, list...)...), 1, 0, nil
}
