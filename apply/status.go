package apply

import (
	"errors"
	"maps"
	"runtime/debug"
	"sync"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/repl"
)

// State is what a group's apply is doing.
type State string

// The states. Whether a streaming group is in sync is for the caller to say,
// who knows the source's offset.
const (
	StateWaiting   State = "waiting"      // for a spool, or an RDB that has arrived whole
	StateRestoring State = "applying-rdb" // the RDB is being restored
	StateStreaming State = "streaming"    // the stream is being applied
	StateStopped   State = "stopped"      // see Reason; a person has to look
	StateFinished  State = "finished"     // everything in the spool is applied (UntilEnd)
)

// Status is a snapshot of one group's apply.
type Status struct {
	Group  repl.GroupID
	State  State
	Reason string // a slug while something is waited for, or why it stopped
	What   string // the error behind Reason
	Hint   string
	Since  time.Time // of Reason
	Epoch  repl.Epoch
	Phase  checkpoint.Phase
	// Applied is the stream position up to which everything is on the target;
	// it moves over PINGs too. Valid in the stream phase.
	Applied repl.Offset
	// Marked is where the batch of the mark on the target begins, at or before
	// Applied: a next session goes on behind that batch, and may have to read it
	// again. Valid in the stream phase.
	Marked repl.Offset
	// Current says that the stream goes on from the target's mark; before that
	// the positions are what the last process knew, or what a mark says that does
	// not belong here.
	Current bool
	// MarkSeen is when the mark was last read from the target or written to it;
	// zero before that.
	MarkSeen time.Time
	// AppliedMS is when the source executed what Applied ends with, in ms
	// since 1970 by the source's clock; 0 = not known.
	AppliedMS int64
	RDBDone   int64 // bytes of the RDB that are on the target
	RDBTotal  int64 // 0 = not known yet
	Keys      int64 // entries of the RDB that are on the target
	Commands  int64 // of the source's stream, executed on the target
	Filtered  int64 // commands and entries of keys that are not selected: not sent
	Ignored   int64 // commands and entries never sent: PINGs, heartbeats, ...
	Unknown   int64 // commands passed through that no table knows
	// UnknownNames are how many of each name; it never changes once it was given.
	UnknownNames map[string]int64
	Expired      int64 // keys whose deadline had passed when it was set exact on the target
	Rejects      int   // those with a key that is doubtful still, or with none
	Doubtful     int   // keys whose value may differ from the source's
	Healed       int   // keys that were doubtful, and were copied again
	Native       int64 // values of the RDB written by commands of their kind, not by RESTORE
	// Held are those of Doubtful that the source, or the target, does not let be
	// copied again; each says why in the store.
	Held int
	// Healing: the others of Doubtful may be copied again yet. It ends when the
	// source has failed to answer too often, until it does.
	Healing bool
	// Passes counts the times that every doubtful key was asked for.
	Passes int
	// Recopy says why doubtful keys cannot be copied again now; empty: they can,
	// or there are none.
	Recopy string
	// Forgotten says that an earlier apply.db was lost, and that what it held
	// as rejected or doubtful is not known.
	Forgotten bool
	// Writing is the value that is written in chunks now, or nil.
	Writing *Writing
	// Flushes are the commands that emptied databases and were carried out since
	// this process began, and Flushed the keys that those have deleted.
	Flushes, Flushed int64
	// Swaps are the SWAPDB that were carried out since, and Swapped the keys that
	// those have moved.
	Swaps, Swapped int64
	// FlushesIgnored are those that were skipped, since the job was last known to
	// be equal.
	FlushesIgnored int64
	// Pace says that the group waits, or did within the last second, for a limit
	// or for a slow target; see package pace.
	Pace string
	// TTL is how deadlines stand on the target, as the mark says; TTLPass how far
	// the pass is that sets those that are held exact.
	TTL     Deadlines
	TTLPass TTLPass
	// TargetAhead is the target's clock minus this machine's, as this process saw it
	// first; nil before that.
	TargetAhead *time.Duration
	// DateWidth is the widest uncertainty of a deadline, beyond the clock's.
	DateWidth time.Duration
}

// Writing is a value that is written in chunks.
type Writing struct {
	DB    int
	Key   string // up to 64 bytes of it
	Kind  string
	Bytes int64 // of the RDB, read of it
}

// TTLPass is a pass over held deadlines.
type TTLPass struct {
	Total int64 // keys on the target to look at; 0 before a scan
	Seen  int64 // of them; those written meanwhile may be beyond
	Set   int64 // deadlines set exact by this process
}

type groupStatus struct {
	mu sync.Mutex
	Status
}

func (s *groupStatus) get() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Status
}

func (s *groupStatus) update(fn func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(&s.Status)
}

func clearReason(st *Status) { st.Reason, st.What, st.Hint, st.Since = "", "", "", time.Time{} }

func (s *groupStatus) idle() {
	s.update(func(st *Status) { clearReason(st); st.State = StateWaiting })
}

func (s *groupStatus) restoring(total int64) {
	s.update(func(st *Status) { clearReason(st); st.State, st.RDBTotal = StateRestoring, total })
}

func (s *groupStatus) streaming(total int64) {
	s.update(func(st *Status) {
		clearReason(st)
		st.State, st.RDBTotal, st.RDBDone, st.Current = StateStreaming, total, total, true
	})
}

func (s *groupStatus) waits(w *waitError, since time.Time) {
	s.update(func(st *Status) {
		if st.Reason != w.reason {
			st.Reason, st.Since = w.reason, since
		}
		st.What, st.Hint = w.err.Error(), hintFor(w.reason)
	})
}

// position shows m; marked is what of it is on the target.
func (s *groupStatus) position(m, marked Mark, seen counts, sourceMS int64) {
	s.update(func(st *Status) {
		st.Epoch, st.Phase, st.TTL = m.Epoch, m.Phase, m.TTL
		st.RDBDone, st.Keys = m.RDB, m.Keys
		if m.Phase == checkpoint.PhaseStream {
			st.Applied, st.Marked = m.Offset, marked.Start
		}
		if sourceMS != 0 {
			st.AppliedMS = sourceMS
		}
		st.Commands = m.Commands
		st.Filtered += seen.filtered
		st.Ignored += seen.ignored
		if len(seen.unknown) > 0 {
			names := unknowns(maps.Clone(st.UnknownNames))
			names.add(seen.unknown)
			st.Unknown, st.UnknownNames = names.total(), names
		}
		st.Expired += seen.expired
		st.Native += seen.native
		st.DateWidth = max(st.DateWidth, seen.width)
	})
}

func (s *groupStatus) count(rejects int) {
	s.update(func(st *Status) { st.Rejects += rejects })
}

// recopying shows how far the doubtful keys are.
func (s *groupStatus) recopying(doubtful, held, healed int, healing bool) {
	s.update(func(st *Status) {
		st.Doubtful, st.Held, st.Healing, st.Healed = doubtful, held, healing, st.Healed+healed
	})
}

// end says how the group ended. Without an error its state stays what it was.
func (s *groupStatus) end(err error) {
	var (
		stop    *StopError
		refused *RefusedError
	)
	s.update(func(st *Status) {
		if err == nil {
			clearReason(st)
			return
		}
		st.State, st.Reason, st.What, st.Since = StateStopped, "error", err.Error(), time.Now()
		st.Hint = "mend the cause, then start the same command: it goes on from the mark on the target"
		switch {
		case errors.As(err, &stop):
			st.Reason, st.What, st.Hint = stop.Reason, stop.What, stop.Hint
		case errors.As(err, &refused):
			st.Reason, st.What, st.Hint = "refused", refused.What, refused.Hint
		case errors.Is(err, ErrTaken):
			st.Reason, st.Hint = "taken-over", "one apply per job and target: stop the other one, then start the same command"
		}
	})
}

func stack() string { return string(debug.Stack()) }

// hints say what to do while a reason lasts.
var hints = map[string]string{
	"target-unreachable":    "is the target up, and its address right? apply goes on by itself when it is back",
	"target-silent":         "does it hang, or run something slow? the connection is given up after a while and made anew; apply goes on by itself",
	"target-oom":            "the target is full and evicts nothing: give it more memory; apply goes on by itself",
	"target-loading":        "the target is loading its data; apply goes on by itself",
	"target-readonly":       "the target is a read-only replica: give --target the master's address, or wait for the failover to end",
	"target-misconf":        "the target refuses writes because it cannot save to its disk: mend that (see its log); apply goes on by itself",
	"target-cluster-down":   "the target's cluster is down; apply goes on by itself when it is back",
	"target-try-again":      "the target's cluster is moving slots; apply goes on by itself",
	"target-busy-script":    "a script blocks the target: SCRIPT KILL ends it; apply goes on by itself",
	"target-master-down":    "the target is a replica without its master: give --target the master's address",
	"target-no-replicas":    "the target wants more replicas than it has (min-replicas-to-write); apply goes on by itself",
	"target-auth":           "set TAIRLIFT_TARGET_PASSWORD or --target-password-file to the target's password, as password or user:password",
	"target-clients":        "the target has as many clients as its maxclients allows; apply goes on by itself",
	"target-exec-refused":   "nothing was executed, and it is sent again; see the target's log if this lasts",
	"target-protocol":       "is --target the address of a Redis server?",
	"target-mark-changed":   "is another apply of this job running? this one looks at the mark again",
	"target-mark-contended": "is another apply of this job running? this one looks at the mark again",
	"flushing":              "it goes on by itself: the stream is applied again when the keys are deleted",
	"swapping":              "it goes on by itself: the stream is applied again when the keys are moved",
	"new-epoch":             "the next full sync begins by itself, and apply goes on from there",
	"spool-missing":         "a copy under way is waited for; if none is, copy the folder again",
}

func hintFor(reason string) string {
	if h, ok := hints[reason]; ok {
		return h
	}
	return "apply goes on by itself when the reason is gone"
}
