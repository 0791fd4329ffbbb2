package checkpoint

import (
	"tairlift/internal/repl"
)

// Capture is capture's store.
type Capture struct{ store }

// CaptureRecord is the durable position of one group.
type CaptureRecord struct {
	Addr      string      `json:"addr"` // of the source when this was recorded
	Epoch     repl.Epoch  `json:"epoch"`
	ReplID    repl.ReplID `json:"replid"`
	Offset    repl.Offset `json:"offset"` // of the stream
	Seq       uint64      `json:"seq"`    // segment, and
	Bytes     int64       `json:"bytes"`  // how much of its file is durable
	RDBBytes  int64       `json:"rdb_bytes"`
	RDBDone   bool        `json:"rdb_done"`
	Sealed    bool        `json:"sealed"`
	UpdatedMS int64       `json:"updated_ms"` // Unix milliseconds
	// Segments lists the newest epoch's sealed segments, oldest first.
	Segments []SegmentRecord `json:"segments,omitempty"`
}

// SegmentRecord is one sealed segment.
type SegmentRecord struct {
	Epoch repl.Epoch  `json:"epoch"`
	Seq   uint64      `json:"seq"`
	Bytes int64       `json:"bytes"` // the whole file
	End   repl.Offset `json:"end"`   // of the stream, when sealed
}

// OpenCapture opens or creates the store at path. It returns ErrInUse when
// another process holds it for longer than a second.
func OpenCapture(path string) (*Capture, error) {
	s, err := open(path, "capture")
	if err != nil {
		return nil, err
	}
	return &Capture{store: s}, nil
}

// Group returns the record of g; ok is false when there is none.
func (c *Capture) Group(g repl.GroupID) (rec CaptureRecord, ok bool, err error) {
	ok, err = c.get(bucketGroups, groupKey(g), &rec)
	return rec, ok, err
}

// PutGroup replaces the record of g. It must not return before the record is
// on disk, because an ACK follows it. Concurrent calls share one fsync.
func (c *Capture) PutGroup(g repl.GroupID, rec CaptureRecord) error {
	return c.put(bucketGroups, groupKey(g), rec)
}
