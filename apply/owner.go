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
// take-over, by whichever process. A mark of another process is one that took
// over from this one if its generation is above all of ours; else the target
// went back in time, to a mark from before we came. (Two that take one mark back
// in turns would each find the other's generation above its own in the end, and
// give up; that neither writes past the other does not depend on it.)
type owner string

func newOwner() owner {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return owner(hex.EncodeToString(b[:]))
}

// token of a session that makes a mark, which has no generation before it.
func (o owner) token(session int) string { return string(o) + "." + strconv.Itoa(session) }

// taking is the token of a session that takes a mark over.
func (o owner) taking(session, generation int) string {
	return o.token(session) + "." + strconv.Itoa(generation)
}

func (o owner) wrote(token string) bool {
	return len(token) > len(o) && token[:len(o)] == string(o) && token[len(o)] == '.'
}

// generation of a token; 0 of one that has none.
func generation(token string) int {
	f := strings.Split(token, ".")
	if len(f) != 3 {
		return 0
	}
	n, err := strconv.Atoi(f[2])
	if err != nil {
		return 0
	}
	return n
}
