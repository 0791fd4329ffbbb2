package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// Recovery tells what Recover found in the newest epoch.
type Recovery struct {
	Identity   Identity // its ReplID is the latest
	Durable    Durable  // the tail is sealed, so it is always Sealed
	TornBytes  int64    // cut off behind the last whole frame
	TornFrames int      // of them, frames whose header was whole
	TornPath   string   // the segment that was cut, empty when none was
}

// Recover takes up the newest epoch after a crash or a clean stop. vouched is
// the position published last, zero for none. Whole frames behind it are kept
// and made durable; the torn rest is cut off; the tail is sealed, so that the
// next append starts a segment. When the epoch's RDB is incomplete the writer
// refuses bytes: seal it and create the next epoch.
//
// It returns ErrNoEpoch when there is nothing to take up, and a CorruptError,
// without a change to any segment, when vouched bytes are damaged or missing.
// It may be repeated after any failure, such as a full disk.
func Recover(dir string, job JobID, g repl.GroupID, vouched Durable, o WriterOptions) (*Writer, Recovery, error) {
	o.fill()
	r := recovery{o: o, spool: dir, job: job, group: g, vouched: vouched}
	w, rec, err := r.run()
	if err != nil && !errors.Is(err, ErrNoEpoch) {
		err = fmt.Errorf("recover group %d: %w", g, err)
	}
	return w, rec, err
}

type recovery struct {
	o       WriterOptions
	spool   string
	job     JobID
	group   repl.GroupID
	vouched Durable
}

func (r *recovery) run() (*Writer, Recovery, error) {
	epoch, seqs, err := r.newest()
	if err != nil {
		return nil, Recovery{}, err
	}
	if r.vouched.Epoch == epoch {
		if err := r.checkVouched(epoch, seqs); err != nil {
			return nil, Recovery{}, err
		}
	}
	last := seqs[len(seqs)-1]
	path := Path(r.spool, r.group, epoch, last)
	t, rec, err := r.tail(path, epoch, last)
	if err != nil {
		return nil, Recovery{}, err
	}
	id := t.hdr.Identity
	if v := r.vouched; v.Seq == last && v.Sealed && v.Offset == repl.Offset(t.foot.StreamEnd) && v.ReplID != "" {
		id.ReplID = v.ReplID // SetReplID was called behind the seal
	}
	w := newWriter(filepath.Dir(path), id, r.o)
	w.first, w.seq, w.clock = t.hdr.First, last, slices.Clone(t.pending())
	w.rdbBegun, w.rdbDone, w.rdbSize = t.begun, t.foot.RDBDone, t.foot.RDBSize
	w.rdbBytes, w.offset = t.foot.RDBEnd, t.foot.StreamEnd
	w.cut = !w.rdbDone
	w.publish(rec.Durable.Bytes, true)
	rec.Identity, rec.Durable = id, w.Durable()
	return w, rec, nil
}

// newest returns the newest epoch that holds a segment, with its segments.
// Folders and files that a crash left before their header was durable go away.
func (r *recovery) newest() (repl.Epoch, []Seq, error) {
	groupDir := filepath.Join(r.spool, r.group.Dir())
	epochs, err := listEpochs(r.o.FS, groupDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, nil, err
	}
	for _, e := range slices.Backward(epochs) {
		if e < r.vouched.Epoch {
			break
		}
		dir := filepath.Join(groupDir, e.Dir())
		seqs, err := listSeqs(r.o.FS, dir)
		if err != nil {
			return 0, nil, err
		}
		if n := len(seqs); n > 0 {
			stub, err := r.isStub(e, seqs[n-1])
			if err != nil {
				return 0, nil, err
			}
			if stub {
				if err := r.remove(dir, seqs[n-1].File()); err != nil {
					return 0, nil, err
				}
				seqs = seqs[:n-1]
			}
		}
		if len(seqs) > 0 {
			return e, seqs, nil
		}
		if e == r.vouched.Epoch {
			break
		}
		if err := r.remove(groupDir, e.Dir()); err != nil {
			return 0, nil, err
		}
	}
	if v := r.vouched; !v.IsZero() {
		return 0, nil, r.lost(v.Epoch, v.Seq, 0)
	}
	return 0, nil, fmt.Errorf("recover %s: %w", groupDir, ErrNoEpoch)
}

// lost says that vouched bytes are not there.
func (r *recovery) lost(e repl.Epoch, seq Seq, have int64) error {
	path := Path(r.spool, r.group, e, seq)
	missing := &MissingError{Path: path, Have: have}
	if seq == r.vouched.Seq {
		missing.Want = r.vouched.Bytes
	}
	return &CorruptError{Path: path, Offset: have, Err: missing}
}

// isStub tells whether a segment has no header: it is durable before anything
// else is written, so such a file holds nothing.
func (r *recovery) isStub(e repl.Epoch, seq Seq) (bool, error) {
	if seq <= r.vouched.Seq {
		return false, nil
	}
	path := Path(r.spool, r.group, e, seq)
	s, err := openSeg(r.o.FS, path, Identity{Job: r.job, Group: r.group, Epoch: e}, seq)
	if err == nil {
		s.close()
		return false, nil
	}
	var bad *CorruptError
	if err != errNotYet && !errors.As(err, &bad) {
		return false, err
	}
	info, serr := r.o.FS.Stat(path)
	switch {
	case serr != nil:
		return false, serr
	case info.Size() <= segHeaderSize:
		return true, nil
	case err == errNotYet:
		return false, corrupt(path, 0, "header is zero before %d bytes of frames", info.Size()-segHeaderSize)
	}
	return false, err
}

func (r *recovery) remove(dir, name string) error {
	if err := r.o.FS.Remove(filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("remove what a crash left: %w", err)
	}
	r.o.Log.Info("removed what a crash left before its header", "path", filepath.Join(dir, name))
	return r.o.FS.SyncDir(dir)
}

// checkVouched looks for the vouched segment and those behind it.
func (r *recovery) checkVouched(e repl.Epoch, seqs []Seq) error {
	pruned, err := listKeys(r.o.FS, filepath.Join(r.spool, r.group.Dir(), e.Dir()))
	if err != nil {
		return err
	}
	last := max(r.vouched.Seq, seqs[len(seqs)-1])
	for want := r.vouched.Seq; want <= last; want++ {
		if !slices.Contains(seqs, want) && !slices.Contains(pruned, want) {
			return r.lost(e, want, 0)
		}
	}
	if !slices.Contains(seqs, r.vouched.Seq) {
		return nil // pruned since, and was read to its end then
	}
	info, err := r.o.FS.Stat(Path(r.spool, r.group, e, r.vouched.Seq))
	if err != nil {
		return err
	}
	if info.Size() < r.vouched.Bytes {
		return r.lost(e, r.vouched.Seq, info.Size())
	}
	return nil
}

// tail seals the last segment, unless it is, and returns its tally.
func (r *recovery) tail(path string, e repl.Epoch, seq Seq) (*tally, Recovery, error) {
	var rec Recovery
	s, err := openSeg(r.o.FS, path, Identity{Job: r.job, Group: r.group, Epoch: e}, seq)
	if err == errNotYet {
		return nil, rec, r.lost(e, seq, 0)
	}
	if err != nil {
		return nil, rec, err
	}
	defer s.close()
	switch sealed, err := s.readFooter(); {
	case sealed:
		rec.Durable.Bytes = s.size()
		t := newTally(&s.hdr, nil)
		t.foot, t.clock, t.begun = s.foot, s.foot.Clock, true
		return t, rec, nil
	case err != nil && r.vouched.Seq == seq && r.vouched.Sealed:
		var missing *MissingError
		if errors.As(err, &missing) { // here the bytes were, and none are to come
			err = &CorruptError{Path: path, Offset: missing.Have, Err: err}
		}
		return nil, rec, err
	case err == nil && r.vouched.Seq == seq && r.vouched.Sealed:
		return nil, rec, corrupt(path, r.vouched.Bytes-trailerSize, "trailer is not valid, and the seal is vouched for")
	}
	walk, err := walkTail(s)
	if err != nil {
		return nil, rec, err
	}
	t, size := walk.tally, s.size()
	if r.vouched.Seq == seq && t.pos < r.vouched.Bytes {
		return nil, rec, &CorruptError{Path: path, Offset: t.pos, Err: fmt.Errorf("%w, and %d bytes are vouched for", walk.stop, r.vouched.Bytes)}
	}
	if later, err := findSync(s.f, s.hdr.CRC, t.pos, size); err != nil {
		return nil, rec, fmt.Errorf("read segment: %w", err)
	} else if later >= 0 {
		return nil, rec, &CorruptError{Path: path, Offset: t.pos, Err: fmt.Errorf("%w, and a sync frame at %d vouches for it", walk.stop, later)}
	}
	if t.pos < size {
		rec.TornBytes, rec.TornPath = size-t.pos, path
		rec.TornFrames = countHeaders(s, t.pos)
		r.o.Log.Warn("cut torn tail", "path", path, "at", t.pos, "bytes", rec.TornBytes, "frames", rec.TornFrames)
	}
	rec.Durable.Bytes, err = r.cutAndSeal(path, t, walk.synced, size)
	return t, rec, err
}

// cutAndSeal makes the first t.pos bytes of the file all there is of it, and
// seals it. synced is the position up to which they are known to be durable.
func (r *recovery) cutAndSeal(path string, t *tally, synced, size int64) (int64, error) {
	f, err := r.o.FS.Edit(path)
	if err != nil {
		return 0, fmt.Errorf("open segment: %w", err)
	}
	defer f.Close()
	if t.pos < size {
		if err := f.Truncate(t.pos); err != nil {
			return 0, fmt.Errorf("cut segment: %w", err)
		}
	}
	if err := rewrite(f, synced, t.pos); err != nil {
		return 0, fmt.Errorf("rewrite segment: %w", err)
	}
	// Nothing may say that it is whole before it is.
	if err := f.Sync(); err != nil {
		return 0, fmt.Errorf("sync segment %s: %w", path, err)
	}
	if _, err := f.Seek(t.pos, io.SeekStart); err != nil {
		return 0, err
	}
	sealed, err := sealFile(f, t, r.o.Now())
	if err != nil {
		return 0, fmt.Errorf("seal segment: %w", err)
	}
	if err := f.Sync(); err != nil {
		return 0, fmt.Errorf("sync segment %s: %w", path, err)
	}
	if err := r.o.FS.SyncDir(filepath.Dir(path)); err != nil {
		return 0, fmt.Errorf("sync epoch folder: %w", err)
	}
	return sealed, nil
}

// rewrite puts the bytes from..to into the file once more. An fsync that
// failed may have marked their pages clean without storing them; the next one
// would then report success for bytes that only memory holds.
func rewrite(f fsx.File, from, to int64) error {
	buf := make([]byte, 256<<10)
	for from < to {
		n := int(min(int64(len(buf)), to-from))
		if _, err := f.ReadAt(buf[:n], from); err != nil {
			return err
		}
		if _, err := f.WriteAt(buf[:n], from); err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// tailWalk is what a walk over every byte of an unsealed segment found.
type tailWalk struct {
	tally  *tally
	synced int64 // position of the last sync frame: durable before it
	stop   error // why it ended before the file does
}

// walkTail reads all whole frames. A footer without a trailer ends it.
func walkTail(s *segFile) (tailWalk, error) {
	size := s.size()
	win := window{f: s.f}
	head, err := win.at(0, segHeaderSize, size)
	if err != nil {
		return tailWalk{}, fmt.Errorf("read segment: %w", err)
	}
	w := tailWalk{tally: newTally(&s.hdr, head), synced: segHeaderSize}
	var buf []byte
	for w.tally.pos < size {
		h, err := w.tally.read(&win, size, &buf)
		if errors.Is(err, errRead) {
			return w, err
		}
		if err != nil {
			w.stop = err
			return w, nil
		}
		if h.Kind == kindSync {
			w.synced = w.tally.pos - h.size()
		}
	}
	w.stop = fmt.Errorf("file ends")
	return w, nil
}

// errRead marks an error of the file system, as against one of the bytes.
var errRead = errors.New("read segment")

// read takes the next frame from the file into the tally, checked whole, but
// for the decompression of data frames.
func (t *tally) read(win *window, size int64, buf *[]byte) (frameHeader, error) {
	short := func(err error) error {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("file ends inside a frame")
		}
		return fmt.Errorf("%w: %w", errRead, err)
	}
	b, err := win.at(t.pos, frameHeaderSize, size)
	if err != nil {
		return frameHeader{}, short(err)
	}
	h, err := parseFrameHeader(b, t.hdr.CRC, t.pos)
	if err != nil {
		return h, err
	}
	if t.pos+h.size() > size {
		return h, short(io.ErrUnexpectedEOF)
	}
	if b, err = win.at(t.pos, int(h.size()), size); err != nil {
		return h, short(err)
	}
	if h.Kind == kindFooter {
		return h, errors.New("footer has no trailer")
	}
	if err := t.fits(&h); err != nil {
		return h, err
	}
	stored := b[frameHeaderSize:]
	raw, err := stored, h.check(stored)
	if err == nil && !h.isData() {
		raw, err = h.open(stored, buf)
	}
	if err != nil {
		return h, err
	}
	return h, t.add(&h, b[:frameHeaderSize], stored, raw)
}

// countHeaders counts the frames from pos on whose header is whole.
func countHeaders(s *segFile, pos int64) int {
	n, win := 0, window{f: s.f}
	for {
		b, err := win.at(pos, frameHeaderSize, s.size())
		if err != nil {
			return n
		}
		h, err := parseFrameHeader(b, s.hdr.CRC, pos)
		if err != nil {
			return n
		}
		n++
		pos += h.size()
	}
}
