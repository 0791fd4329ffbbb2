package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// Group is the read side of one group's spool. Its methods may be called from
// any goroutine; a reader that it opens belongs to one.
type Group struct {
	fs  fsx.FS
	dir string // of the spool
	job JobID
	id  repl.GroupID

	mu      sync.Mutex // guards what follows
	vouched Durable
	live    *Writer
}

// OpenGroup opens the spool of one group in the folder dir. A zero job accepts
// any and Job tells which. It returns ErrNoSpool when no segment is there, and
// an IdentityError when they are another job's.
func OpenGroup(dir string, job JobID, g repl.GroupID) (*Group, error) {
	return openGroup(fsx.OS, dir, job, g)
}

func openGroup(fsys fsx.FS, dir string, job JobID, id repl.GroupID) (*Group, error) {
	g := &Group{fs: fsys, dir: dir, job: job, id: id}
	epochs, err := g.listEpochs()
	if err != nil {
		return nil, err
	}
	for _, e := range slices.Backward(epochs) {
		seqs, err := g.listSeqs(e)
		if err != nil {
			return nil, err
		}
		for _, seq := range seqs {
			s, err := g.open(e, seq)
			if err == errNotYet {
				continue
			}
			if err != nil {
				return nil, err
			}
			g.job = s.hdr.Job
			s.close()
			return g, nil
		}
	}
	return nil, fmt.Errorf("open %s: %w", filepath.Join(dir, id.Dir()), ErrNoSpool)
}

// Groups lists the groups that have a folder in the spool dir. It returns
// ErrNoSpool when there is none.
func Groups(dir string) ([]repl.GroupID, error) { return listGroups(fsx.OS, dir) }

// Job is the job whose segments these are.
func (g *Group) Job() JobID { return g.job }

// Vouch tells how much of the spool its writer has published as durable.
// Bytes below it that are not there are a MissingError, in any reader of the
// group. A position behind an earlier one is ignored.
func (g *Group) Vouch(d Durable) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if d.Seq > g.vouched.Seq || d.Seq == g.vouched.Seq && (d.Bytes > g.vouched.Bytes || d.Sealed) {
		g.vouched = d
	}
}

// Live names the writer of the group's newest epoch, in this process: readers
// then learn from it what is durable, and Next at the end costs no system
// call. Wait for more by the writer's Changed. Nil goes back to looking at the
// files.
func (g *Group) Live(w *Writer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.live = w
}

// durable is the furthest position known; live tells that it is the writer's
// own, so that nothing lies behind it.
func (g *Group) durable() (d Durable, live bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live != nil {
		if d = g.live.Durable(); d.Seq >= g.vouched.Seq {
			return d, true
		}
	}
	return g.vouched, false
}

func (g *Group) path(e repl.Epoch, seq Seq) string { return Path(g.dir, g.id, e, seq) }

// open opens one segment and checks that it belongs here.
func (g *Group) open(e repl.Epoch, seq Seq) (*segFile, error) {
	return openSeg(g.fs, g.path(e, seq), Identity{Job: g.job, Group: g.id, Epoch: e}, seq)
}

func (g *Group) listEpochs() ([]repl.Epoch, error) {
	dir := filepath.Join(g.dir, g.id.Dir())
	epochs, err := listEpochs(g.fs, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", dir, ErrNoSpool)
	}
	return epochs, err
}

func (g *Group) listSeqs(e repl.Epoch) ([]Seq, error) {
	seqs, err := listSeqs(g.fs, filepath.Join(g.dir, g.id.Dir(), e.Dir()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return seqs, err
}

// Gap returns a MissingError when the row of the group's segments has a hole, or
// ends before the one that is vouched for; what was pruned is none. It looks at
// names alone.
func (g *Group) Gap() error {
	epochs, err := g.listEpochs()
	if err != nil {
		return err
	}
	next := Seq(1)
	for _, e := range epochs {
		seqs, err := g.listSeqs(e)
		if err != nil {
			return err
		}
		pruned, err := g.listKeySeqs(e)
		if err != nil {
			return err
		}
		seqs = append(seqs, pruned...)
		slices.Sort(seqs)
		for _, seq := range slices.Compact(seqs) {
			if seq > next {
				return &MissingError{Path: g.path(e, next)}
			}
			next = seq + 1
		}
	}
	if d, _ := g.durable(); d.Seq >= next {
		return &MissingError{Path: g.path(d.Epoch, d.Seq), Want: d.Bytes}
	}
	return nil
}

// EpochInfo tells what is held of one epoch. It is made from headers and
// footers, and a walk over the frame headers of an unsealed tail.
type EpochInfo struct {
	Identity
	RDBDone   bool          `json:"rdb_done"`
	RDBBytes  int64         `json:"rdb_bytes"`  // held so far
	RDBSize   int64         `json:"rdb_size"`   // announced by the source, -1 unknown
	FirstSeq  Seq           `json:"first_seq"`  // of the epoch, held or not
	LastSeq   Seq           `json:"last_seq"`   // held
	Pruned    int           `json:"pruned"`     // segments that were pruned
	EndOffset repl.Offset   `json:"end_offset"` // of what is sealed or synced
	Sealed    bool          `json:"sealed"`     // the last segment is
	Segments  []SegmentInfo `json:"segments"`
}

// SegmentInfo tells what one segment holds. From and To are RDB offsets, or
// stream offsets when Stream is set.
type SegmentInfo struct {
	Path     string      `json:"path"`
	Seq      Seq         `json:"seq"`
	ReplID   repl.ReplID `json:"replid"`
	Stream   bool        `json:"stream"`
	From     int64       `json:"from"`
	To       int64       `json:"to"`
	Bytes    int64       `json:"bytes"`     // of the file
	RawBytes int64       `json:"raw_bytes"` // To - From
	Sealed   bool        `json:"sealed"`
	Created  time.Time   `json:"created"`
}

// Epochs lists the epochs that hold a segment, oldest first.
func (g *Group) Epochs() ([]EpochInfo, error) {
	epochs, err := g.listEpochs()
	if err != nil {
		return nil, err
	}
	var infos []EpochInfo
	for _, e := range epochs {
		info, err := g.epoch(e)
		if err == ErrNoEpoch {
			continue // only a folder: a crash, or a copy under way
		}
		if err != nil {
			return infos, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// Whole is the newest epoch whose RDB has arrived whole; ok is false when there
// is none.
func (g *Group) Whole() (e EpochInfo, ok bool, err error) {
	epochs, err := g.listEpochs()
	if err != nil {
		return EpochInfo{}, false, err
	}
	for _, id := range slices.Backward(epochs) {
		info, err := g.epoch(id)
		if err != nil && !errors.Is(err, ErrNoEpoch) {
			return EpochInfo{}, false, err
		}
		if err == nil && info.RDBDone {
			return info, true, nil
		}
	}
	return EpochInfo{}, false, nil
}

// Newest is the newest epoch that has a folder; 0 is none.
func (g *Group) Newest() (repl.Epoch, error) {
	epochs, err := g.listEpochs()
	if err != nil || len(epochs) == 0 {
		return 0, err
	}
	return epochs[len(epochs)-1], nil
}

// Known lists the epochs of which a segment, or a pruned one's key file, is
// here, oldest first.
func (g *Group) Known() ([]repl.Epoch, error) {
	epochs, err := g.listEpochs()
	if err != nil {
		return nil, err
	}
	var known []repl.Epoch
	for _, e := range epochs {
		seqs, err := g.listSeqs(e)
		if err != nil {
			return nil, err
		}
		keys, err := g.listKeySeqs(e)
		if err != nil {
			return nil, err
		}
		if len(seqs)+len(keys) > 0 {
			known = append(known, e)
		}
	}
	return known, nil
}

// Holds tells whether a segment of the epoch is here.
func (g *Group) Holds(e repl.Epoch) (bool, error) {
	seqs, err := g.listSeqs(e)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return len(seqs) > 0, err
}

func (g *Group) epoch(e repl.Epoch) (EpochInfo, error) {
	var info EpochInfo
	pruned, err := listKeys(g.fs, filepath.Join(g.dir, g.id.Dir(), e.Dir()))
	if err != nil {
		return info, err
	}
	seqs, err := g.listSeqs(e)
	if err != nil {
		return info, err
	}
	for _, seq := range seqs {
		s, err := g.open(e, seq)
		if err == errNotYet {
			continue
		}
		if err != nil {
			return info, err
		}
		d, _ := g.durable()
		err = s.load(d)
		var missing *MissingError
		if err != nil && !errors.As(err, &missing) {
			s.close()
			return info, err
		}
		info.add(s)
		s.close()
	}
	if len(info.Segments) == 0 {
		return info, ErrNoEpoch
	}
	for _, seq := range pruned {
		if !slices.Contains(seqs, seq) {
			info.Pruned++
		}
	}
	return info, nil
}

// add takes the next segment into the picture.
func (info *EpochInfo) add(s *segFile) {
	if len(info.Segments) == 0 {
		info.FirstSeq, info.EndOffset, info.RDBSize = s.hdr.First, s.hdr.Start, -1
	}
	info.Identity = s.hdr.Identity // the latest replid
	info.LastSeq, info.Sealed = s.hdr.Seq, s.sealed
	info.RDBDone = info.RDBDone || s.rdbDone
	info.RDBSize = max(info.RDBSize, s.rdbSize())
	if s.hdr.Stream {
		info.RDBBytes, info.EndOffset = s.hdr.RDBBytes, repl.Offset(s.end)
	} else {
		info.RDBBytes = s.end
	}
	info.Segments = append(info.Segments, SegmentInfo{
		Path: s.path, Seq: s.hdr.Seq, ReplID: s.hdr.ReplID, Stream: s.hdr.Stream, From: s.hdr.begin(), To: s.end,
		Bytes: s.size(), RawBytes: s.end - s.hdr.begin(), Sealed: s.sealed, Created: s.hdr.created(),
	})
}

// rdbSize is what the source announced, as far as this segment tells.
func (s *segFile) rdbSize() int64 {
	if s.sealed {
		return s.foot.RDBSize
	}
	if s.hdr.RDBSize >= 0 || s.hdr.Stream {
		return s.hdr.RDBSize
	}
	// It stands near the start of the epoch's first segment.
	var buf []byte
	for pos := int64(segHeaderSize); pos < s.limit; {
		h, err := s.head(pos)
		if err != nil || h.Kind == kindRDB {
			break
		}
		if h.Kind == kindRDBBegin {
			if raw, err := s.payload(pos, &h, &buf); err == nil {
				if size, err := parseRDBBegin(raw); err == nil {
					return size
				}
			}
			break
		}
		pos += h.size()
	}
	return -1
}

func listGroups(fsys fsx.FS, dir string) ([]repl.GroupID, error) {
	groups, err := listDir(fsys, dir, repl.ParseGroupDir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(groups) == 0 {
		return nil, fmt.Errorf("open %s: %w", dir, ErrNoSpool)
	}
	return groups, err
}

func listEpochs(fsys fsx.FS, dir string) ([]repl.Epoch, error) {
	return listDir(fsys, dir, repl.ParseEpochDir)
}

func listSeqs(fsys fsx.FS, dir string) ([]Seq, error) { return listDir(fsys, dir, ParseSeqFile) }

// listDir returns, in order, what parse makes of the names in dir; names that
// it refuses are other people's, such as the temporary files of a copy.
func listDir[T ~uint32 | ~uint64](fsys fsx.FS, dir string, parse func(string) (T, error)) ([]T, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []T
	for _, e := range entries {
		if v, err := parse(e.Name()); err == nil {
			list = append(list, v)
		}
	}
	slices.Sort(list)
	return list, nil
}
