package spool

import (
	"fmt"

	"tairlift/internal/repl"
)

// dumpRow is one line of Dump in JSON. Row says what it is: segment, frame,
// footer, "not sealed", torn, pruned, fingerprint or error.
type dumpRow struct {
	Row     string       `json:"row"`
	Path    string       `json:"path,omitempty"`
	Pos     int64        `json:"pos,omitempty"` // in the file
	Segment *dumpSegment `json:"segment,omitempty"`
	Frame   *dumpFrame   `json:"frame,omitempty"`
	Footer  *dumpFooter  `json:"footer,omitempty"`
	Error   string       `json:"error,omitempty"`

	Pruned      *PrunedSegment `json:"pruned,omitempty"`
	Fingerprint string         `json:"fingerprint,omitempty"`
}

type dumpSegment struct {
	Version  int         `json:"version"`
	Job      string      `json:"job"`
	First    Seq         `json:"first"`
	Start    repl.Offset `json:"start"`
	Phase    string      `json:"phase"`
	ReplID   repl.ReplID `json:"replid"`
	Offset   int64       `json:"offset"`
	RDBBytes int64       `json:"rdb_bytes"`
	RDBSize  int64       `json:"rdb_size"`
	Created  string      `json:"created"`
}

type dumpFrame struct {
	Kind     string        `json:"kind"`
	Offset   int64         `json:"offset"`
	Received string        `json:"received"`
	Raw      int           `json:"raw,omitempty"`
	Stored   int           `json:"stored,omitempty"`
	Zstd     bool          `json:"zstd,omitempty"`
	Size     *int64        `json:"size,omitempty"`
	CRC64    string        `json:"crc64,omitempty"`
	Checked  bool          `json:"checked,omitempty"`
	Carried  bool          `json:"carried,omitempty"`
	Clock    []ClockSample `json:"clock,omitempty"`
	Data     []byte        `json:"data,omitempty"`
}

type dumpFooter struct {
	StreamEnd int64  `json:"stream_end"`
	RDBEnd    int64  `json:"rdb_end"`
	RDBDone   bool   `json:"rdb_done"`
	Frames    int64  `json:"frames"`
	Raw       int64  `json:"raw"`
	Stored    int64  `json:"stored"`
	Index     int    `json:"index"`
	Clock     int    `json:"clock"`
	FileCRC   string `json:"file_crc"`
}

func (w *dumper) frameRow(pos int64, h *frameHeader, raw []byte) dumpRow {
	f := &dumpFrame{Kind: fmt.Sprint(h.Kind), Offset: h.Offset, Received: dumpTime(h.Recv)}
	switch h.Kind {
	case kindRDB, kindStream:
		f.Raw, f.Stored, f.Zstd = int(h.RawLen), int(h.StoredLen), h.Flags&frameZstd != 0
		if w.data {
			f.Data = raw
		}
	case kindRDBBegin:
		if size, err := parseRDBBegin(raw); err == nil {
			f.Size = &size
		}
	case kindRDBEnd:
		if end, err := parseRDBEnd(raw); err == nil {
			f.CRC64, f.Checked = fmt.Sprintf("%016x", end.CRC64), end.Checked
		}
	case kindClock:
		f.Carried = h.Flags&frameCarried != 0
		f.Clock, _ = parseClock(nil, raw)
	}
	return dumpRow{Row: "frame", Pos: pos, Frame: f}
}
