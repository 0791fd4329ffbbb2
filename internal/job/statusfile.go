package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/repl"
	"tairlift/internal/selection"
	"tairlift/spool"
)

const (
	statusVersion = 1
	// staleAfter is how old a status file may be while its process is taken to
	// be running: it is written once a second.
	staleAfter = 5 * time.Second
)

// Process is who wrote a status file, and how it ended.
type Process struct {
	Version int         `json:"version"`
	Job     spool.JobID `json:"job"`
	Verb    string      `json:"verb"`
	Until   string      `json:"until"`
	PID     int         `json:"pid"`
	Host    string      `json:"host"`
	Started time.Time   `json:"started"`
	Updated time.Time   `json:"updated"`
	Ended   *time.Time  `json:"ended"` // null while it runs, and when it was killed
	How     string      `json:"how"`   // finished | interrupted | stopped | failed
	Exit    int         `json:"exit"`
	What    string      `json:"what,omitempty"` // why it failed
	Hint    string      `json:"hint,omitempty"`
}

// Ways in which a process ends.
const (
	howFinished    = "finished"    // the goal of --until was reached
	howInterrupted = "interrupted" // by a signal
	howStopped     = "stopped"     // groups have stopped
	howFailed      = "failed"
)

// running tells whether the process is there: a kill -9 leaves its file as it
// was.
func (p *Process) running(now time.Time) bool {
	if p.Ended != nil || now.Sub(p.Updated) > staleAfter {
		return false
	}
	host, err := os.Hostname()
	return err != nil || host != p.Host || alive(p.PID)
}

// CaptureFile is DIR/status/capture.json.
type CaptureFile struct {
	Process
	Spool  *SpoolFile     `json:"spool,omitempty"`
	Rate   *CaptureRate   `json:"rate,omitempty"`
	Groups []CaptureGroup `json:"groups"`
}

// SpoolFile is what capture publishes of the spool as a whole.
type SpoolFile struct {
	Bytes    int64 `json:"bytes"`     // of the segments in it
	KeyBytes int64 `json:"key_bytes"` // of what pruned ones left
	Max      int64 `json:"max_bytes"` // --max-spool for Bytes; 0: no quota
}

// CaptureGroup is what capture publishes of one group.
type CaptureGroup struct {
	ID          repl.GroupID  `json:"id"`
	Addr        string        `json:"addr"`
	State       string        `json:"state"` // waiting | full-sync | streaming | stopped
	Reason      string        `json:"reason"`
	What        string        `json:"what"`
	Hint        string        `json:"hint"`
	Since       *time.Time    `json:"since"`
	Done        bool          `json:"done"`            // it reached the goal of --until
	Apart       bool          `json:"apart,omitempty"` // not of this run: an earlier one left this
	Epoch       repl.Epoch    `json:"epoch"`
	EpochReason string        `json:"epoch_reason"`
	ReplID      repl.ReplID   `json:"replid"`
	Source      *repl.Offset  `json:"source_offset"`
	SampledAt   *time.Time    `json:"source_sampled_at"` // by the clock of the machine of capture
	SkewMS      int64         `json:"clock_skew_ms"`     // source clock minus that clock
	RDBTotal    *int64        `json:"rdb_total"`
	Ever        bool          `json:"ever_connected"`
	Reconnects  int           `json:"reconnects"`
	Pace        string        `json:"pace,omitempty"` // why its full sync is read slowly
	Durable     spool.Durable `json:"durable"`
}

// ApplyFile is DIR/status/apply-<target>.json.
type ApplyFile struct {
	Process
	Target    string               `json:"target"`
	Selection selection.Spec       `json:"selection,omitzero"`
	Evictions checkpoint.Evictions `json:"evictions"`
	Rate      *ApplyRate           `json:"rate,omitempty"`
	Groups    []ApplyGroup         `json:"groups"`
}

// ApplyGroup is what apply publishes of one group.
type ApplyGroup struct {
	ID        repl.GroupID `json:"id"`
	State     string       `json:"state"` // waiting | applying-rdb | streaming | stopped | finished
	Reason    string       `json:"reason"`
	What      string       `json:"what"`
	Hint      string       `json:"hint"`
	Since     *time.Time   `json:"since"`
	Done      bool         `json:"done"`            // it reached the goal of --until
	Apart     bool         `json:"apart,omitempty"` // not of this run: an earlier one left this
	Epoch     repl.Epoch   `json:"epoch"`
	Phase     string       `json:"phase"`
	Applied   *repl.Offset `json:"applied_offset"`
	AppliedMS int64        `json:"applied_ms"` // source clock, ms since 1970; 0 unknown
	Marked    *repl.Offset `json:"marked_offset"`
	MarkSeen  *time.Time   `json:"mark_seen"` // when it was last read from or written to the target
	Trail     trail        `json:"trail"`
	RDBDone   int64        `json:"rdb_done"`
	RDBTotal  *int64       `json:"rdb_total"`
	Keys      int64        `json:"keys"`
	Commands  int64        `json:"commands"`
	Ignored   int64        `json:"ignored"`
	Filtered  int64        `json:"filtered"` // of keys that are not selected
	Unknown   int64        `json:"unknown"`
	// Unknowns are how many of each name; see GroupStatus.
	Unknowns map[string]int64 `json:"unknown_by_name,omitempty"`
	Expired  int64            `json:"expired"`
	Rejects  int              `json:"rejects"`
	Doubtful int              `json:"doubtful"`
	DoubtWhy map[string]int   `json:"doubtful_by_reason,omitempty"`
	Held     int              `json:"held"`             // of Doubtful: those that cannot be copied again
	Healed   int              `json:"healed"`           // keys that were doubtful, and were copied again
	Pace     string           `json:"pace,omitempty"`   // why it is slower than it could be
	Recopy   string           `json:"recopy,omitempty"` // why none can be copied again now
	Rejected []Rejected       `json:"reject_list,omitempty"`
	Doubts   []Doubtful       `json:"doubt_list,omitempty"`
	WidthMS  int64            `json:"ttl_width_ms"`
	// Native are values written by commands of their kind.
	Native  int64    `json:"native"`
	Writing *Writing `json:"writing,omitempty"`
	// TTL is exact, held or mixed; empty is exact, as all deadlines were once.
	TTL     string   `json:"ttl,omitempty"`
	TTLPass *TTLPass `json:"ttl_pass,omitempty"`
	SkewMS  *int64   `json:"target_skew_ms,omitempty"` // the target's clock minus that of the machine of apply
	// Flushes are commands that emptied databases and were carried out by this
	// run, Flushed the keys that went; FlushesIgnored were skipped.
	Flushes        int64 `json:"flushes,omitempty"`
	Flushed        int64 `json:"flushed_keys,omitempty"`
	FlushesIgnored int64 `json:"flushes_ignored,omitempty"`
	Swaps          int64 `json:"swaps,omitempty"` // likewise, and the keys that were moved
	Swapped        int64 `json:"swapped_keys,omitempty"`
	Forgotten      bool  `json:"forgotten,omitempty"` // what was rejected or doubtful before apply.db was lost
}

// skipped says, for each group with flushes that were not carried out, what
// that means.
func (a *ApplyFile) skipped() (out []string) {
	for _, g := range a.Groups {
		if g.FlushesIgnored > 0 {
			out = append(out, fmt.Sprintf("group %s: %s", g.ID, skippedText(g.FlushesIgnored)))
		}
	}
	return out
}

func (f *folder) captureStatus() string { return f.path("status", "capture.json") }
func (f *folder) applyStatus(target string) string {
	return f.statePath("status", "apply-"+targetID(target)+".json")
}

const badStatusHint = "is a copy under way? when it is through, start the same command again; else copy the file again from where it was written; a running process writes it anew; or remove it: then nothing is known of what it said"

// readStatus reads a status file into v; false when there is none, or when it
// is of another job.
func readStatus(path string, job spool.JobID, p *Process, v any) (bool, error) {
	raw, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read status: %w", err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return false, &Error{Code: Corrupt, What: fmt.Sprintf("%s is not a status file: %v", path, err), Hint: badStatusHint, Err: err}
	}
	if p.Job == job && p.Version != statusVersion {
		return false, &Error{
			Code: Corrupt, What: fmt.Sprintf("%s is a status file of version %d, this tairlift reads version %d", path, p.Version, statusVersion),
			Hint: "use the tairlift that wrote it, or a newer one",
		}
	}
	return p.Job == job, nil
}

func (f *folder) readCapture() (*CaptureFile, error) {
	var c CaptureFile
	if ok, err := readStatus(f.captureStatus(), f.rec.Job, &c.Process, &c); !ok {
		return nil, err
	}
	return &c, nil
}

func (f *folder) readApply(target string) (*ApplyFile, error) {
	var a ApplyFile
	if ok, err := readStatus(f.applyStatus(target), f.rec.Job, &a.Process, &a); !ok {
		return nil, err
	}
	return &a, nil
}

// applyFiles reads every apply's status file. Those that are whole come with
// the first error of one that is not.
func (f *folder) applyFiles() ([]*ApplyFile, error) {
	names, err := filepath.Glob(f.statePath("status", "apply-*.json"))
	if err != nil {
		return nil, err
	}
	var out []*ApplyFile
	var bad error
	for _, name := range names {
		var a ApplyFile
		ok, err := readStatus(name, f.rec.Job, &a.Process, &a)
		if err != nil && bad == nil {
			bad = err
		}
		if ok {
			out = append(out, &a)
		}
	}
	return out, bad
}

// vouched are the durable positions that capture has published last.
func (f *folder) vouched() (map[repl.GroupID]spool.Durable, error) {
	c, err := f.readCapture()
	if c == nil {
		return nil, err
	}
	out := map[repl.GroupID]spool.Durable{}
	for _, g := range c.Groups {
		if !g.Durable.IsZero() {
			out[g.ID] = g.Durable
		}
	}
	return out, nil
}

// inUse explains a lock that another process holds.
func inUse(what string, p *Process, err error) *Error {
	e := &Error{
		Code: InUse, Err: err, What: what + " is in use by another process",
		Hint: "one process at a time may work there: let it finish, or stop it (SIGTERM) first",
	}
	if p != nil && p.Ended == nil {
		e.What = fmt.Sprintf("%s is in use by `tairlift %s` (pid %d%s, since %s)", what, p.Verb, p.PID, onHost(p.Host), p.Started.Local().Format(time.DateTime))
	}
	return e
}

func onHost(host string) string {
	if own, err := os.Hostname(); host == "" || err == nil && own == host {
		return ""
	}
	return " on " + strings.TrimSpace(host)
}

// tellHeld says what an end before the groups have caught up leaves behind.
func (r *run) tellHeld() {
	for _, g := range r.view().apply.Groups {
		if g.ttl() == ttlHeld {
			r.log.Info("deadlines stay held back on the target, where no key expires until the group has caught up",
				"group", g.ID.String(), "hint", "`tairlift sync` goes on; `tairlift apply --until end` sets them exact as of the end of the spool")
		}
	}
}

// ttl is how status tells the deadlines: those that are mixed are held too.
func (a *ApplyGroup) ttl() string {
	if a.TTL == "" || a.TTL == ttlExact {
		return ttlExact
	}
	return ttlHeld
}
