package apply

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"strings"
)

// owner makes the tokens of one process: each session of a lane writes a fresh
// one into its mark, and knows every token of its own process.
//
// A token is process.session.generation. The generation grows with every
// take-over, by whichever process, and is no less than the time in ms, so that it
// does so too where a mark was lost in between. A mark of another process is one
// that took over from this one if its generation is above all of ours; else the
// target went back in time, to a mark from before we came. That neither of two
// writes past the other does not depend on it: only which of them gives up.
type owner string

func newOwner() owner {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return owner(hex.EncodeToString(b[:]))
}

// token of a session that makes a mark, which has no generation before it.
func (o owner) token(session int) string { return string(o) + "." + strconv.Itoa(session) }

// taking is the token of a session that takes a mark over.
func (o owner) taking(session int, generation int64) string {
	return o.token(session) + "." + strconv.FormatInt(generation, 10)
}

func (o owner) wrote(token string) bool {
	return len(token) > len(o) && token[:len(o)] == string(o) && token[len(o)] == '.'
}

// generation of a token; 0 of one that has none.
func generation(token string) int64 {
	f := strings.Split(token, ".")
	if len(f) != 3 {
		return 0
	}
	n, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
