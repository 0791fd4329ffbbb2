package command

import "bytes"

// Spec is one row of the table. It is shared and never changes.
type Spec struct {
	// Name is the command in upper case; empty in the row of unknown commands.
	Name string
	// Class is what kind of command it is.
	Class Class
	// MinArgs is the smallest number of arguments, name included, in any version.
	MinArgs int

	keys    keyRule
	effects effects
	needs   Need
	facts   facts
	routed  int         // see Routed
	rewrite rewriteFunc // nil: sent as it came
	// since is the version that brought it, as in Caps.before; 0 is one that every
	// target knows. older makes up for it on a target before that; nil: nothing can.
	since int
	older rewriteFunc
	// What only some rows have; nil: this one does not.
	alone    aloneFunc
	otherDB  otherDB
	payloads payloadsFunc
	clears   clearsFunc
	doubtful func(args [][]byte) bool
}

// unknown is the row of every name that is not in the table.
var unknown = Spec{Class: Unknown, MinArgs: 1, keys: one, facts: passesTTL | opaque}

// maxName is the length of the longest name in the table.
const maxName = 26

// Lookup finds the row of a command, whatever the case of its name; a name that is
// not in the table gets a shared row of class Unknown. It never returns nil.
func Lookup(name []byte) *Spec {
	if len(name) > maxName {
		return &unknown
	}
	var upper [maxName]byte
	for i, c := range name {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper[i] = c
	}
	if s, ok := byName[string(upper[:len(name)])]; ok {
		return s
	}
	return &unknown
}

// All calls f for each row of the table, in no particular order.
func All(f func(*Spec)) {
	for i := range table {
		f(&table[i])
	}
}

// Doubtful tells whether the command, as the source propagated it, may give another
// result on a replica than it gave on the source. Two such commands are known, both
// recorded from codis-server 3.2.11: SPOP with a count, when a proxy sent it through
// SLOTSMGRT-EXEC-WRAPPER, and a script that calls SPOP, which 3.2 propagates as EVAL.
func (s *Spec) Doubtful(args [][]byte) bool { return s.doubtful != nil && s.doubtful(args) }

func popsMany(args [][]byte) bool { return len(args) > 2 }

func callsPop(args [][]byte) bool { return scriptNames(args, "spop") }

// HiddenTTL tells whether a script may give a key a relative time to live: its text
// or one of its arguments names EXPIRE, PEXPIRE, SETEX, PSETEX, EX, PX or RESTORE.
// Such a TTL counts from when the script runs on the target. EVALSHA is to be asked
// about after its text took the place of the SHA1.
func (s *Spec) HiddenTTL(args [][]byte) bool {
	return s.Class == Eval && scriptNames(args, "expire", "pexpire", "setex", "psetex", "ex", "px", "restore")
}

// ReadsTTL tells whether a script may look at a time to live: its text or one of its
// arguments names TTL, PTTL, EXPIRETIME or PEXPIRETIME. Where deadlines are held it
// finds another one than it found on the source.
func (s *Spec) ReadsTTL(args [][]byte) bool {
	return s.Class == Eval && scriptNames(args, "ttl", "pttl", "expiretime", "pexpiretime")
}

// scriptNames tells whether the text of an EVAL, or one of its arguments other than
// the keys, holds one of the words (lower case) as a word of its own, in any case.
func scriptNames(args [][]byte, words ...string) bool {
	if len(args) < 3 {
		return false
	}
	argv := args[3:]
	if n, ok := parseInt(args[2]); ok && n > 0 {
		argv = argv[min(n, int64(len(argv))):]
	}
	for _, w := range words {
		if hasWord(args[1], w) {
			return true
		}
		for _, a := range argv {
			if hasWord(a, w) {
				return true
			}
		}
	}
	return false
}

func hasWord(text []byte, word string) bool {
	for from := 0; from+len(word) <= len(text); from++ {
		// Jumping to the next first letter keeps the scan of a long text cheap.
		i := bytes.IndexByte(text[from:], word[0])
		if j := bytes.IndexByte(text[from:], word[0]-('a'-'A')); i < 0 || (j >= 0 && j < i) {
			i = j
		}
		if i < 0 {
			return false
		}
		from += i
		end := from + len(word)
		if end <= len(text) && is(text[from:end], word) &&
			(from == 0 || !isLetter(text[from-1])) && (end == len(text) || !isLetter(text[end])) {
			return true
		}
	}
	return false
}

func isLetter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

// is tells whether b is the word, which is ASCII, whatever the case of both.
func is(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i := range len(b) {
		if lower(b[i]) != lower(word[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
