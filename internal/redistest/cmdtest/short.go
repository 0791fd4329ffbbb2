package cmdtest

import (
	"testing"

	"tairlift/internal/redistest"
)

// soonMS is more than what [Filler.Short] makes, and less than what else there is.
const soonMS = 500_000

// ShortOnesEnd waits until no key of a server's first databases, and no field of a
// hash, ends soon, and what has ended is deleted: what is compared then is not about
// to go. A deadline that is held is far away.
func ShortOnesEnd(t testing.TB, s *redistest.Server, dbs int) {
	t.Helper()
	_, unknown := s.DoErr("HPTTL", "k", "FIELDS", "1", "f")
	s.Wait(t, "the end of the short times to live", func() bool {
		for db := range dbs {
			if !noneEndsSoon(t, s, db, unknown == nil) {
				return false
			}
		}
		return true
	})
}

func noneEndsSoon(t testing.TB, s *redistest.Server, db int, fields bool) bool {
	t.Helper()
	// What has ended and is not yet deleted is counted, and not named.
	keys := s.DoIn(t, db, "KEYS", "*").Strings()
	if s.DoIn(t, db, "DBSIZE").Int != int64(len(keys)) {
		return false
	}
	for _, key := range keys {
		if soon(s.DoIn(t, db, "PTTL", key).Int) {
			return false
		}
		if !fields || s.DoIn(t, db, "TYPE", key).String() != "hash" {
			continue
		}
		names := s.DoIn(t, db, "HKEYS", key).Strings()
		for _, name := range names {
			if r := s.DoIn(t, db, "HPTTL", key, "FIELDS", "1", name); len(r.Elems) != 1 || soon(r.Elems[0].Int) {
				return false
			}
		}
		if s.DoIn(t, db, "HLEN", key).Int != int64(len(names)) {
			return false
		}
	}
	return true
}

// soon is about what PTTL answers.
func soon(ms int64) bool { return ms == -2 || 0 <= ms && ms < soonMS }
