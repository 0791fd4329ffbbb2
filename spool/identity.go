package spool

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"tairlift/internal/repl"
)

// JobID names one migration job; every segment carries it, so that a spool
// copied into another job's folder is refused.
type JobID [16]byte

// NewJobID draws a random id.
func NewJobID() JobID {
	var id JobID
	rand.Read(id[:]) // never fails: crypto/rand crashes the process instead
	return id
}

// ParseJobID reads 32 hex digits.
func ParseJobID(s string) (JobID, error) {
	var id JobID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return JobID{}, fmt.Errorf("job id %q is not %d hex digits", s, 2*len(id))
	}
	copy(id[:], b)
	return id, nil
}

// String is 32 hex digits.
func (id JobID) String() string { return hex.EncodeToString(id[:]) }

// IsZero tells whether no job is named.
func (id JobID) IsZero() bool { return id == JobID{} }

// MarshalText makes a JobID its hex digits in JSON.
func (id JobID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *JobID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseJobID(string(b))
	return err
}

// Seq numbers the segments of a group from 1, over all its epochs: a gap is a
// missing segment wherever it lies.
type Seq uint64

// String is the number in decimal.
func (s Seq) String() string { return strconv.FormatUint(uint64(s), 10) }

// File is the segment's file name: 00000001.seg.
func (s Seq) File() string { return fmt.Sprintf("%08d.seg", uint64(s)) }

// ParseSeqFile reads what File printed.
func ParseSeqFile(name string) (Seq, error) {
	num, ok := strings.CutSuffix(name, ".seg")
	n, err := strconv.ParseUint(num, 10, 64)
	if !ok || err != nil || n == 0 || Seq(n).File() != name {
		return 0, fmt.Errorf("%q is not a segment file's name", name)
	}
	return Seq(n), nil
}

// Identity is what every segment of an epoch says about itself.
type Identity struct {
	Job    JobID        `json:"job"`
	Group  repl.GroupID `json:"group"`
	Epoch  repl.Epoch   `json:"epoch"`
	ReplID repl.ReplID  `json:"replid"`
	Start  repl.Offset  `json:"start"` // offset of +FULLRESYNC: the RDB's cut
}

func (id Identity) validate() error {
	switch {
	case id.Job.IsZero():
		return fmt.Errorf("identity has no job id")
	case id.Group < 1 || id.Group > repl.MaxGroupID:
		return fmt.Errorf("identity has group %d, expected 1 to %d", id.Group, repl.MaxGroupID)
	case id.Epoch < 1:
		return fmt.Errorf("identity has epoch 0, expected 1 or more")
	case id.Start < 0:
		return fmt.Errorf("identity has start offset %d, expected 0 or more", id.Start)
	}
	if _, err := repl.ParseReplID(string(id.ReplID)); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	return nil
}

// ClockSample pairs the source's clock with its replication offset, taken as
// one cut (INFO between two TIMEs). Times are microseconds since 1970.
type ClockSample struct {
	SourceMicros int64       `json:"source_us"`
	Offset       repl.Offset `json:"offset"`
	LocalMicros  int64       `json:"local_us"`
}

// Durable says how much of a group's spool is vouched for: all segments
// before Seq whole, and the first Bytes bytes of segment Seq. It always ends
// at a frame boundary. The zero Durable vouches for nothing.
type Durable struct {
	Epoch    repl.Epoch  `json:"epoch"`
	ReplID   repl.ReplID `json:"replid"`
	Seq      Seq         `json:"seq"`
	Bytes    int64       `json:"bytes"`     // of that segment's file, fsynced
	RDBBytes int64       `json:"rdb_bytes"` // of the epoch's RDB
	RDBDone  bool        `json:"rdb_done"`
	Offset   repl.Offset `json:"offset"` // of the stream; the epoch's start until bytes come
	Sealed   bool        `json:"sealed"` // the segment Seq is sealed
}

// IsZero tells whether nothing is vouched for.
func (d Durable) IsZero() bool { return d.Seq == 0 }

// Position is where the source is to be asked to go on.
func (d Durable) Position() repl.Position {
	return repl.Position{ReplID: d.ReplID, Offset: d.Offset}
}

// covers tells whether d vouches for all of segment seq, and otherwise for
// how many of its bytes.
func (d Durable) covers(seq Seq) (whole bool, bytes int64) {
	switch {
	case d.Seq > seq || d.Seq == seq && d.Sealed:
		return true, d.Bytes
	case d.Seq == seq:
		return false, d.Bytes
	}
	return false, 0
}

// Path is where the segment seq of an epoch lies in the spool folder dir.
func Path(dir string, g repl.GroupID, e repl.Epoch, seq Seq) string {
	return filepath.Join(dir, g.Dir(), e.Dir(), seq.File())
}
