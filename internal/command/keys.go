package command

// keyRule says where the keys of a command stand among its arguments: from first to
// last, every step-th, where a negative last counts from the end as in the reply of
// COMMAND; or, when find is set, where find says.
type keyRule struct {
	first, last, step int
	find              func(dst, args [][]byte) [][]byte
}

var (
	one   = keyRule{first: 1, last: 1, step: 1}
	two   = keyRule{first: 1, last: 2, step: 1}
	all   = keyRule{first: 1, last: -1, step: 1}
	pairs = keyRule{first: 1, last: -1, step: 2}
)

// AppendKeys appends the keys that the command writes or reads and returns the
// extended slice; args[0] is the name. The keys are parts of args. Of a command cut
// short or with a senseless count it appends those keys that are there.
func (s *Spec) AppendKeys(dst, args [][]byte) [][]byte {
	k := &s.keys
	if k.find != nil {
		return k.find(dst, args)
	}
	if k.step == 0 {
		return dst
	}
	last := k.last
	if last < 0 {
		last += len(args)
	}
	for i := k.first; i <= last && i < len(args); i += k.step {
		dst = append(dst, args[i])
	}
	return dst
}

// copyKeys is the rule of COPY, whose second key lies in another database where it
// says DB: see OtherDB.
var copyKeys = keyRule{find: func(dst, args [][]byte) [][]byte {
	last := 2
	for _, a := range args[min(3, len(args)):] {
		if is(a, "db") {
			last = 1
		}
	}
	return append(dst, args[min(1, len(args)):min(last+1, len(args))]...)
}}

// counted is the rule of commands that say at args[at] how many keys follow it.
func counted(at int) keyRule {
	return keyRule{find: func(dst, args [][]byte) [][]byte { return appendCounted(dst, args, at) }}
}

// destCounted is the rule of commands with a destination at args[1] and a count of
// keys at args[2].
var destCounted = keyRule{find: func(dst, args [][]byte) [][]byte {
	if len(args) > 1 {
		dst = append(dst, args[1])
	}
	return appendCounted(dst, args, 2)
}}

// countedPairs: MSETEX n key value ... options.
var countedPairs = keyRule{find: func(dst, args [][]byte) [][]byte {
	if len(args) < 2 {
		return dst
	}
	n, ok := parseInt(args[1])
	for i := 2; ok && n > 0 && i < len(args); i, n = i+2, n-1 {
		dst = append(dst, args[i])
	}
	return dst
}}

func appendCounted(dst, args [][]byte, at int) [][]byte {
	if at >= len(args) {
		return dst
	}
	n, ok := parseInt(args[at])
	if !ok || n <= 0 {
		return dst
	}
	rest := args[at+1:]
	return append(dst, rest[:min(n, int64(len(rest)))]...)
}

// sortKeys: SORT key ... STORE destination. Of several STOREs the last one counts.
var sortKeys = keyRule{find: func(dst, args [][]byte) [][]byte {
	if len(args) < 2 {
		return dst
	}
	dst = append(dst, args[1])
	store := 0
	for i := 2; i+1 < len(args); i++ {
		switch {
		case is(args[i], "limit"):
			i += 2
		case is(args[i], "by"), is(args[i], "get"):
			i++
		case is(args[i], "store"):
			i++
			store = i
		}
	}
	if store > 0 {
		dst = append(dst, args[store])
	}
	return dst
}}

// geoKeys is the rule of GEORADIUS (options behind args[5]) and GEORADIUSBYMEMBER
// (behind args[4]): the key and what STORE and STOREDIST name. Of several only the last
// is written, but a server counts them all as keys.
func geoKeys(options int) keyRule {
	return keyRule{find: func(dst, args [][]byte) [][]byte {
		if len(args) < 2 {
			return dst
		}
		dst = append(dst, args[1])
		for i := options; i+1 < len(args); i++ {
			if is(args[i], "store") || is(args[i], "storedist") {
				i++
				dst = append(dst, args[i])
			}
		}
		return dst
	}}
}

// readGroupKeys: XREADGROUP GROUP g c [options] STREAMS key... id...
var readGroupKeys = keyRule{find: func(dst, args [][]byte) [][]byte {
	for i := 1; i < len(args); i++ {
		switch {
		case is(args[i], "group"):
			i += 2
		case is(args[i], "count"), is(args[i], "block"), is(args[i], "claim"):
			i++
		case is(args[i], "streams"):
			rest := args[i+1:]
			return append(dst, rest[:len(rest)/2]...)
		}
	}
	return dst
}}

// migrateKeys: MIGRATE host port key ..., or KEYS key... at the end when key is empty.
var migrateKeys = keyRule{find: func(dst, args [][]byte) [][]byte {
	if len(args) < 4 {
		return dst
	}
	if len(args[3]) > 0 {
		return append(dst, args[3])
	}
	for i := 6; i < len(args); i++ {
		switch {
		case is(args[i], "auth"):
			i++
		case is(args[i], "auth2"):
			i += 2
		case is(args[i], "keys"):
			return append(dst, args[i+1:]...)
		}
	}
	return dst
}}
