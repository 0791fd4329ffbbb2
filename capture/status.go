package capture

import (
	"time"

	"tairlift/internal/repl"
	"tairlift/spool"
)

// State is what a session is doing.
type State string

// The states.
const (
	Waiting   State = "waiting"   // for the source, or for its turn; see Reason
	FullSync  State = "full-sync" // the RDB is being made or is arriving
	Streaming State = "streaming" // the stream is arriving
	Stopped   State = "stopped"   // Run has returned or was not called
)

// Reasons: why a session waits or stopped.
const (
	ReasonUnreachable = "source-unreachable" // no connection, or it broke
	ReasonAuth        = "source-auth"        // the source does not take the secret
	ReasonLoading     = "source-loading"     // the source is loading its data
	ReasonMasterDown  = "source-master-down" // a replica without its master
	ReasonRefused     = "source-refused"     // no PSYNC there: a proxy, a renamed command, an ACL
	ReasonQueue       = "full-sync-queue"    // other groups load their RDB first
	ReasonCut         = "full-sync-cut"      // the link broke within the RDB; a new one is due
	ReasonDamaged     = "full-sync-damaged"  // what arrived is no RDB, or its CRC64 is wrong; a new one is due
	ReasonPile        = "full-sync-slow"     // in state full-sync: read so slowly, the source may cut the link
	ReasonProtocol    = "source-protocol"    // what answers there is no replication source
	ReasonDiskFull    = "disk-full"          // too little of the disk is free to write on
	ReasonQuota       = "spool-quota"        // the spool is as large as it may be
	ReasonSpool       = "spool-failed"       // a write or fsync failed otherwise
	ReasonCorrupt     = "spool-corrupt"      // what was vouched for is not in the spool
	ReasonForeign     = "spool-foreign"      // the spool is another job's or group's
	ReasonVersion     = "spool-version"      // a newer tairlift wrote it
	ReasonRecord      = "record-failed"      // the record could not be read or written
	ReasonInternal    = "internal-error"
)

// Why an epoch began.
const (
	EpochFirst    = "first"
	EpochOverrun  = "backlog-overrun" // the source no longer had the bytes that were asked for
	EpochRestart  = "source-restart"  // the source has a new history at the same address
	EpochFailover = "failover"        // another server answers, or the same one in another role
	EpochRDB      = "rdb-incomplete"  // the epoch before had no whole RDB
	EpochAsked    = "asked-for"       // Options.NewEpoch
)

// Status is a session at one instant.
type Status struct {
	Group  repl.GroupID
	State  State
	Reason string    // a slug while State is waiting or stopped, and ReasonPile; else empty
	Detail string    // the error behind Reason, for people
	Since  time.Time // State and Reason are what they are since then

	Addr        string
	Epoch       repl.Epoch  // 0: none yet
	EpochReason string      // why this epoch began; empty when an earlier run began it
	EpochDue    bool        // Options.NewEpoch asks for another epoch, which has not begun
	ReplID      repl.ReplID // the history followed now; it may differ from the epoch's first

	Pace string // why the RDB is read slowly now, as package pace tells; else empty

	Durable  spool.Durable // what is vouched for
	RDBTotal int64         // bytes; -1: unknown, as for a diskless RDB

	SourceOffset    repl.Offset   // of the last clock sample of this history; -1: unknown
	SourceSampledAt time.Time     // local time of that sample
	ClockSkew       time.Duration // source clock minus local clock then

	EverConnected bool // the source was reached as a replication source under this folder
	Reconnects    int  // links lost since Run began
}

// Status may be called at any time.
func (s *Session) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	if st.State == FullSync {
		st.Pace = s.pace.Waiting()
	}
	return st
}

// Changed is closed when the durable position or the state has moved since the
// call.
func (s *Session) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// update changes the status and wakes whoever waits for Changed.
func (s *Session) update(f func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.status)
	close(s.changed)
	s.changed = make(chan struct{})
}

// setState keeps Since when neither state nor reason differ.
func (s *Session) setState(state State, reason, detail string) {
	s.update(func(st *Status) {
		if st.State != state || st.Reason != reason {
			st.Since = time.Now()
		}
		st.State, st.Reason, st.Detail = state, reason, detail
	})
}
