package spool

import (
	"errors"
	"io/fs"

	"tairlift/internal/repl"
)

// Resume is where reading can begin behind what was pruned: a segment may
// begin inside an entry of the RDB, or inside a command.
type Resume struct {
	Stream     bool
	Offset     int64 // of the RDB or of the stream
	DB         int   // selected there; -1 where a stream begins, which selects one
	RDBVersion int   // 0 in the stream
}

// Resume tells where the first entry or command begins that does not begin
// before the segment seq, all segments before it being pruned: the key file of
// the last one of those knows. Without that file it is a MissingError.
func (g *Group) Resume(e repl.Epoch, seq Seq) (Resume, error) {
	k, err := g.openKeys(e, seq-1)
	if errors.Is(err, fs.ErrNotExist) {
		return Resume{}, &MissingError{Path: g.path(e, seq-1)}
	}
	if err != nil {
		return Resume{}, err
	}
	defer k.close()
	if !k.head.hdr.Stream && k.head.foot.RDBDone {
		return Resume{Stream: true, Offset: int64(k.head.hdr.Start), DB: -1}, nil
	}
	next := k.end.Next
	return Resume{Stream: k.head.hdr.Stream, Offset: next.Offset, DB: int(next.DB), RDBVersion: int(next.Version)}, nil
}

// OpenRDBAt opens the RDB of epoch e at byte off, of which the segments before
// may be pruned. Its errors are those of OpenRDB.
func (g *Group) OpenRDBAt(e repl.Epoch, off int64) (*RDBReader, error) {
	r, _, err := g.openRDB(e)
	if err != nil {
		return nil, err
	}
	if err := r.SeekTo(off); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}
