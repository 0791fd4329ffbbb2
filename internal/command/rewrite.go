package command

import (
	"fmt"

	"tairlift/internal/held"
)

// Caps says what the target understands. The zero Caps suits every target from 2.8
// on, except that streams are taken to be as new as the source's.
type Caps struct {
	// AbsTTL: RESTORE knows ABSTTL, IDLETIME and FREQ (Redis 5.0).
	AbsTTL bool
	// Major and Minor are the target's version; Major 0 is unknown.
	Major, Minor int
	// Hold is what deadlines of keys on the target are moved by, to hold them back or
	// by the margin; zero: they are written as they are.
	Hold held.Shift
	// Known are commands, in upper case, that the target has all the same, whatever
	// its version says: a fork's, or one that was ported back.
	Known map[string]bool
}

// before tells whether the target is known to be older than a version, which is
// given as 100*major+minor.
func (c Caps) before(version int) bool { return c.Major > 0 && c.Major*100+c.Minor < version }

// lacks tells whether the target is older than the version that brought a command,
// and not known to have it.
func (c Caps) lacks(name string, since int) bool { return c.before(since) && !c.Known[name] }

// Info says what AppendRewrite did.
type Info struct {
	// Rewritten: other bytes than the source's are to be sent.
	Rewritten bool
	// DeadlineMS is when the key expires, in ms since 1970 by the source's clock, if
	// the command says so; 0 if it does not. Of several deadlines it is the latest. It
	// is that of the source also where Caps.Hold changes what is written.
	DeadlineMS int64
}

// rewriteFunc appends the commands to send in place of args and counts them; 0 means
// that args can be sent as they came. A rule is called with at least MinArgs
// arguments.
type rewriteFunc func(s *Spec, dst []byte, args [][]byte, at int64, caps Caps) (out []byte, n int, deadline int64, err error)

// AppendRewrite appends to dst the RESP bytes to send for a command and says how
// many commands they are: one or more. args are its arguments, raw its bytes as they
// came (nil: they are made from args). at is when the source executed it, in ms since
// 1970 by the source's clock; it may be 0 only for commands without a relative time.
//
// A command that is malformed, or must never be sent, gives an *ArgError, one that
// the target is too old for a *TargetError, and dst comes back as it was.
func (s *Spec) AppendRewrite(dst, raw []byte, args [][]byte, at int64, caps Caps) (out []byte, n int, info Info, err error) {
	if len(args) == 0 || len(args) < s.MinArgs {
		return dst, 0, Info{}, &ArgError{Command: s.name(args), Reason: fmt.Sprintf("has %d arguments, expected at least %d", len(args), max(s.MinArgs, 1))}
	}
	if s.Class == Unsupported {
		return dst, 0, Info{}, &ArgError{Command: s.Name, Reason: "not supported"}
	}
	if s.rewrite != nil {
		out, n, info.DeadlineMS, err = s.rewrite(s, dst, args, at, caps)
		if err != nil {
			return dst, 0, Info{}, err
		}
		if n > 0 {
			info.Rewritten = true
			return out, n, info, nil
		}
	}
	if s.since != 0 && caps.lacks(s.Name, s.since) {
		if s.older == nil {
			return dst, 0, Info{}, &TargetError{Command: s.Name, Since: s.since}
		}
		if out, n, info.DeadlineMS, err = s.older(s, dst, args, at, caps); err != nil {
			return dst, 0, Info{}, err
		}
		info.Rewritten = true
		return out, n, info, nil
	}
	// A command that came inline is sent as an array: a proxy may not take it inline.
	if len(raw) > 0 && raw[0] == '*' {
		return append(dst, raw...), 1, info, nil
	}
	dst = appendHeader(dst, len(args))
	for _, a := range args {
		dst = appendArg(dst, a)
	}
	return dst, 1, info, nil
}

// name is the command's name also where the row is that of unknown commands.
func (s *Spec) name(args [][]byte) string {
	if s.Name != "" || len(args) == 0 {
		return s.Name
	}
	return string(args[0][:min(len(args[0]), 64)])
}

// refuse is the rule of a command that must never reach the target.
func refuse(reason string) rewriteFunc {
	return func(s *Spec, dst []byte, _ [][]byte, _ int64, _ Caps) ([]byte, int, int64, error) {
		return dst, 0, 0, &ArgError{Command: s.Name, Reason: reason}
	}
}

// needTime checks that at is known where a time is relative to it: 0 would put every
// deadline into 1970 and so delete the key.
func (s *Spec) needTime(at int64) error {
	if at <= 0 {
		return &ArgError{Command: s.Name, Reason: fmt.Sprintf("relative time, and the source's clock is not known (%d)", at)}
	}
	return nil
}

// when is the deadline that the time at args[i] means, in units of unit ms: counted
// from at where it is relative.
func (s *Spec) when(args [][]byte, i int, unit int64, relative bool, at int64) (int64, error) {
	if !relative {
		return s.deadline(args, i, unit, 0)
	}
	if err := s.needTime(at); err != nil {
		return 0, err
	}
	return s.deadline(args, i, unit, at)
}

// expire is the rule of EXPIRE and its kin, with times in units of unit ms. NX, XX,
// GT and LT are dropped.
func expire(unit int64, relative bool) rewriteFunc {
	return func(s *Spec, dst []byte, args [][]byte, at int64, caps Caps) ([]byte, int, int64, error) {
		for i := 3; i < len(args); i++ {
			if a := args[i]; !is(a, "nx") && !is(a, "xx") && !is(a, "gt") && !is(a, "lt") {
				return dst, 0, 0, s.bad(args, i, "not an option")
			}
		}
		ms, err := s.when(args, 2, unit, relative, at)
		if err != nil {
			return dst, 0, 0, err
		}
		if !relative && len(args) == 3 && !caps.Hold.Moves(ms) {
			return dst, 0, ms, nil
		}
		return appendExpireAt(dst, args[1], ms, caps), 1, ms, nil
	}
}

// appendExpireAt is the one place, beside appendRestore, that writes a deadline.
func appendExpireAt(dst, key []byte, ms int64, caps Caps) []byte {
	dst = appendHeader(dst, 3)
	dst = appendWord(dst, "PEXPIREAT")
	dst = appendArg(dst, key)
	return appendNumber(dst, caps.Hold.Hold(ms))
}

// appendSet sets a key with a deadline: two commands, because PXAT is of 6.2 and PX
// would count from when the target executes it.
func appendSet(dst, key, value []byte, ms int64, caps Caps) []byte {
	dst = appendArgs(dst, "SET", key, value)
	return appendExpireAt(dst, key, ms, caps)
}

// setex is the rule of SETEX and PSETEX.
func setex(unit int64) rewriteFunc {
	return func(s *Spec, dst []byte, args [][]byte, at int64, caps Caps) ([]byte, int, int64, error) {
		if err := s.needTime(at); err != nil {
			return dst, 0, 0, err
		}
		ms, err := s.positiveDeadline(args, 2, unit, at)
		if err != nil {
			return dst, 0, 0, err
		}
		return appendSet(dst, args[1], args[3], ms, caps), 2, ms, nil
	}
}

// expiry reads EX, PX, EXAT or PXAT at args[i] with its time behind it; found is false
// when args[i] is another word.
func (s *Spec) expiry(args [][]byte, i int, at int64) (ms int64, found bool, err error) {
	unit, relative := int64(1), false
	switch a := args[i]; {
	case is(a, "ex"):
		unit, relative = 1000, true
	case is(a, "px"):
		relative = true
	case is(a, "exat"):
		unit = 1000
	case is(a, "pxat"):
	default:
		return 0, false, nil
	}
	base := int64(0)
	if relative {
		if err := s.needTime(at); err != nil {
			return 0, true, err
		}
		base = at
	}
	ms, err = s.positiveDeadline(args, i+1, unit, base)
	return ms, true, err
}

// expiries reads EX, PX, EXAT, PXAT and KEEPTTL from args[i] on, and two conditions that
// were true, up to args[next], which is none of them.
func (s *Spec) expiries(args [][]byte, i int, at int64, nx, xx string) (deadline int64, keep bool, next int, err error) {
	for ; i < len(args); i++ {
		ms, found, err := s.expiry(args, i, at)
		switch a := args[i]; {
		case err != nil:
			return 0, false, i, err
		case found:
			deadline = ms
			i++
		case is(a, "keepttl"):
			keep = true
		case is(a, nx), is(a, xx):
		default:
			return deadline, keep, i, nil
		}
	}
	return deadline, keep, i, nil
}

// set is the rule of SET. Its conditions, also Valkey's and Redis 8's comparisons, and
// GET are dropped: they were decided, and older targets do not know them.
func set(s *Spec, dst []byte, args [][]byte, at int64, caps Caps) ([]byte, int, int64, error) {
	if len(args) == 3 {
		return dst, 0, 0, nil
	}
	var deadline int64
	keep := false
	for i := 3; i < len(args); i++ {
		ms, found, err := s.expiry(args, i, at)
		if err != nil {
			return dst, 0, 0, err
		}
		switch a := args[i]; {
		case found && (deadline != 0 || keep), is(a, "keepttl") && deadline != 0:
			return dst, 0, 0, s.bad(args, i, "a second expiry")
		case found:
			deadline = ms
			i++
		case is(a, "keepttl"):
			keep = true
		case is(a, "nx"), is(a, "xx"), is(a, "get"):
		case is(a, "ifeq"), is(a, "ifne"), is(a, "ifdeq"), is(a, "ifdne"):
			i++
		default:
			return dst, 0, 0, s.bad(args, i, "not an option")
		}
	}
	switch {
	case deadline != 0:
		return appendSet(dst, args[1], args[2], deadline, caps), 2, deadline, nil
	case keep && caps.before(600):
		return appendEval(dst, setKeepingTTL, args[1:2], args[2]), 1, 0, nil
	case keep && len(args) == 4:
		return dst, 0, 0, nil
	case keep:
		return appendArgs(dst, "SET", args[1], args[2], []byte("KEEPTTL")), 1, 0, nil
	}
	return appendArgs(dst, "SET", args[1], args[2]), 1, 0, nil
}

// getex is the rule of GETEX: only its effect on the TTL is sent.
func getex(s *Spec, dst []byte, args [][]byte, at int64, caps Caps) ([]byte, int, int64, error) {
	if len(args) == 2 {
		return dst, 0, 0, nil
	}
	ms, found, err := s.expiry(args, 2, at)
	switch {
	case err != nil:
		return dst, 0, 0, err
	case found && len(args) == 4:
		return appendExpireAt(dst, args[1], ms, caps), 1, ms, nil
	case is(args[2], "persist") && len(args) == 3:
		return appendArgs(dst, "PERSIST", args[1]), 1, 0, nil
	}
	return dst, 0, 0, s.bad(args, 2, "not an option")
}

// toDel is the rule of GETDEL, DELEX and DELIFEQ: the source had the key, and removed it.
func toDel(_ *Spec, dst []byte, args [][]byte, _ int64, _ Caps) ([]byte, int, int64, error) {
	return appendArgs(dst, "DEL", args[1]), 1, 0, nil
}

// restore is the rule of RESTORE. REPLACE is added: a key that the source found free
// is free on the target too, unless this very command ran there before.
func restore(s *Spec, dst []byte, args [][]byte, at int64, caps Caps) ([]byte, int, int64, error) {
	var replace, absolute bool
	var idle, freq []byte
	for i := 4; i < len(args); i++ {
		switch a := args[i]; {
		case is(a, "replace"):
			replace = true
		case is(a, "absttl"):
			absolute = true
		case is(a, "idletime"), is(a, "freq"):
			if _, err := s.number(args, i+1); err != nil {
				return dst, 0, 0, err
			}
			if is(a, "freq") {
				freq = args[i+1]
			} else {
				idle = args[i+1]
			}
			i++
		default:
			return dst, 0, 0, s.bad(args, i, "not an option")
		}
	}
	ttl, err := s.number(args, 2)
	if err != nil {
		return dst, 0, 0, err
	}
	base := at
	if absolute {
		base = 0
	}
	ms, err := s.restoreDeadline(args, 2, base, absolute)
	if err != nil {
		return dst, 0, 0, err
	}
	if s.Name == "RESTORE" && replace && (absolute || ttl == 0) && !caps.Hold.Moves(ms) && (caps.AbsTTL || len(args) == 5) {
		return dst, 0, ms, nil
	}
	if !caps.AbsTTL {
		idle, freq = nil, nil
	}
	out, n := appendRestore(dst, args[1], ms, args[3], idle, freq, caps)
	return out, n, ms, nil
}

// restoreDeadline reads the ttl at args[i], where 0 says none.
func (s *Spec) restoreDeadline(args [][]byte, i int, base int64, absolute bool) (int64, error) {
	ttl, err := s.number(args, i)
	switch {
	case err != nil:
		return 0, err
	case ttl < 0:
		return 0, s.bad(args, i, "time is negative")
	case ttl == 0:
		return 0, nil
	}
	if !absolute {
		if err := s.needTime(base); err != nil {
			return 0, err
		}
	}
	return s.deadline(args, i, 1, base)
}

// appendRestore appends a RESTORE that replaces, with its deadline (0: none).
func appendRestore(dst, key []byte, ms int64, payload, idle, freq []byte, caps Caps) (out []byte, n int) {
	size := 5
	if idle != nil {
		size += 2
	}
	if freq != nil {
		size += 2
	}
	inside := caps.AbsTTL && ms != 0
	if inside {
		size++
	}
	dst = appendHeader(dst, size)
	dst = appendWord(dst, "RESTORE")
	dst = appendArg(dst, key)
	if inside {
		dst = appendNumber(dst, caps.Hold.Hold(ms))
	} else {
		dst = appendWord(dst, "0")
	}
	dst = appendArg(dst, payload)
	dst = appendWord(dst, "REPLACE")
	if inside {
		dst = appendWord(dst, "ABSTTL")
	}
	if idle != nil {
		dst = appendArg(appendWord(dst, "IDLETIME"), idle)
	}
	if freq != nil {
		dst = appendArg(appendWord(dst, "FREQ"), freq)
	}
	if ms != 0 && !inside {
		return appendExpireAt(dst, key, ms, caps), 2
	}
	return dst, 1
}
