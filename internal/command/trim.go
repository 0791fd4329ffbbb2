package command

import "math"

// trimming is what XADD and XTRIM say about how a stream is cut.
type trimming struct {
	keep  [][]byte // the options that any target takes
	minID []byte   // for a target that does not know MINID; nil: there is none
	next  int      // where the options end
	as    bool     // the options can be sent as they came
}

// trimming reads the options of XADD and XTRIM from args[from] on: NOMKSTREAM, KEEPREF
// and its like, and MAXLEN or MINID [=|~] threshold [LIMIT n].
//
// A source makes "= n" of "~ n", as exact as its own trimming was, but leaves LIMIT
// behind it, which from anybody but a master is an error. NOMKSTREAM was decided.
func (s *Spec) trimming(args [][]byte, from int, caps Caps) (t trimming, err error) {
	t.as = true
	for t.next = from; t.next < len(args); t.next++ {
		i := t.next
		switch a := args[i]; {
		case is(a, "nomkstream"):
			t.as = false
		case is(a, "keepref"):
			if caps.before(802) {
				t.as = false
			} else {
				t.keep = append(t.keep, a)
			}
		case is(a, "delref"), is(a, "acked"):
			if caps.before(802) {
				return t, &TargetError{Command: s.Name, Option: string(a), Since: 802}
			}
			t.keep = append(t.keep, a)
		case is(a, "maxlen"), is(a, "minid"):
			exact := true
			if i+1 < len(args) && (is(args[i+1], "=") || is(args[i+1], "~")) {
				exact = is(args[i+1], "=")
				i++
			}
			if i+1 >= len(args) {
				return t, s.bad(args, i+1, "missing")
			}
			i++
			option := args[t.next : i+1]
			if i+2 < len(args) && is(args[i+1], "limit") {
				i += 2
				if exact {
					t.as = false
				} else {
					option = args[t.next : i+1]
				}
			}
			if is(a, "minid") && caps.before(602) {
				t.as, t.minID = false, option[len(option)-1]
				if !exact { // it may keep what it could cut
					t.minID = args[i]
				}
			} else {
				t.keep = append(t.keep, option...)
			}
			t.next = i
		default:
			return t, nil
		}
	}
	return t, nil
}

// appendTrimUpTo cuts a stream below an id, where the target does not know MINID.
func (s *Spec) appendTrimUpTo(dst []byte, args [][]byte, minID []byte) (out []byte, n int, err error) {
	id, first, ok := idBefore(minID)
	switch {
	case !ok:
		return dst, 0, s.bad(args, 2, "MINID is not an id")
	case first:
		return dst, 0, nil
	}
	return appendEval(dst, trimUpTo, args[1:2], []byte(id)), 1, nil
}

// xadd is the rule of XADD key [NOMKSTREAM] [trimming] id field value...
func xadd(s *Spec, dst []byte, args [][]byte, _ int64, caps Caps) ([]byte, int, int64, error) {
	if len(args)%2 == 1 && len(args[2]) > 0 && '0' <= args[2][0] && args[2][0] <= '9' { // an id: the common case
		return dst, 0, 0, nil
	}
	t, err := s.trimming(args, 2, caps)
	if err != nil || t.as || caps.before(500) {
		return dst, 0, 0, err
	}
	dst = appendHeader(dst, 2+len(t.keep)+len(args)-t.next)
	dst = appendWord(dst, "XADD")
	dst = appendArg(dst, args[1])
	for _, a := range append(t.keep, args[t.next:]...) {
		dst = appendArg(dst, a)
	}
	if t.minID == nil {
		return dst, 1, 0, nil
	}
	dst, n, err := s.appendTrimUpTo(dst, args, t.minID)
	return dst, 1 + n, 0, err
}

// xtrim is the rule of XTRIM key MAXLEN|MINID [=|~] threshold [LIMIT n] [KEEPREF|...].
func xtrim(s *Spec, dst []byte, args [][]byte, _ int64, caps Caps) ([]byte, int, int64, error) {
	t, err := s.trimming(args, 2, caps)
	if err != nil || t.as || caps.before(500) {
		return dst, 0, 0, err
	}
	if t.minID == nil {
		return appendArgs(dst, "XTRIM", append([][]byte{args[1]}, t.keep...)...), 1, 0, nil
	}
	out, n, err := s.appendTrimUpTo(dst, args, t.minID)
	if err == nil && n == 0 { // below the first id there is nothing
		return appendNumber(appendArg(appendArg(appendWord(appendHeader(dst, 4), "XTRIM"), args[1]), []byte("MAXLEN")), math.MaxInt64), 1, 0, nil
	}
	return out, n, 0, err
}
