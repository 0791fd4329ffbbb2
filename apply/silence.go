package apply

import (
	"sync/atomic"
	"time"
)

// silentAfter is how long one answer may take before status says that the
// target is silent. The connection is given up later, at Options.Timeout.
const silentAfter = 3 * time.Second

// The connections of a group: its lane's, and from restoring on those of the RDB.
const (
	laneConn = iota
	restorerConn
	bigConn = restorerConn + snapshotConns // writes one value at a time
)

// silence is since when each connection of a group has waited for an answer, in
// Unix nanoseconds; 0 where none is due. A connection that is made anew goes on
// waiting for the first one, so that it tells for how long a target has hung. A
// nil one is told nothing.
type silence [bigConn + 1]atomic.Int64

func (s *silence) asks(conn int) {
	if s != nil {
		s[conn].CompareAndSwap(0, time.Now().UnixNano())
	}
}

func (s *silence) answered(conn int) {
	if s != nil {
		s[conn].Store(0)
	}
}

// restored forgets the connections of the RDB phase.
func (s *silence) restored() {
	for i := restorerConn; i < len(s); i++ {
		s[i].Store(0)
	}
}

// since is the oldest of them, zero when no answer is due.
func (s *silence) since() time.Time {
	var oldest int64
	for i := range s {
		if n := s[i].Load(); n != 0 && (oldest == 0 || n < oldest) {
			oldest = n
		}
	}
	if oldest == 0 {
		return time.Time{}
	}
	return time.Unix(0, oldest)
}

// tell adds a silence to a status: what it says is why the session before has
// ended.
func (s *silence) tell(st *Status) {
	if st.State == StateStopped || st.State == StateFinished {
		return
	}
	if since := s.since(); !since.IsZero() && time.Since(since) >= silentAfter {
		st.Reason, st.Since = "target-silent", since
		st.What, st.Hint = "the target does not answer", hintFor(st.Reason)
	}
}
