package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// Check reads every byte of every segment in the spool folder dir: headers,
// checksums, decompression, that offsets and sequence numbers go on without a
// gap, that segments belong together, footers, and that what is vouched for
// is there. What it finds is in the Report; the error is for what it could not
// read, and ErrNoSpool when there is nothing.
func Check(dir string, o CheckOptions) (Report, error) { return check(fsx.OS, dir, o) }

func check(fsys fsx.FS, dir string, o CheckOptions) (Report, error) {
	c := checker{fs: fsys, dir: dir, o: o, job: o.Job}
	c.rep.Problems, c.rep.Notes = []Problem{}, []Problem{}
	groups, err := listGroups(fsys, dir)
	if err != nil && !(errors.Is(err, ErrNoSpool) && len(o.Vouched) > 0) {
		return c.rep, err
	}
	for g, d := range o.Vouched {
		if !d.IsZero() && !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
	}
	if o.Groups != nil {
		groups = slices.Clone(o.Groups)
	}
	slices.Sort(groups)
	for _, g := range slices.Compact(groups) {
		if err := c.group(g); err != nil {
			return c.rep, fmt.Errorf("check group %d: %w", g, err)
		}
	}
	c.rep.Verdict = VerdictOK
	if !c.rep.OK() {
		c.rep.Verdict = VerdictCorrupt
	}
	return c.rep, nil
}

type checker struct {
	fs  fsx.FS
	dir string
	o   CheckOptions
	job JobID // of the first segment, unless given
	rep Report

	vouched Durable // of the group at hand
	seen    bool    // its segment was found
	prev    *tally  // of the segment before, nil when it could not be read
	last    bool    // the segment at hand is the group's last one
	leads   int     // what it is the first one of
}

// What a segment may be the first one of. One that follows a gap leads
// nothing: the gap is told already.
const (
	leadsGroup = iota + 1
	leadsEpoch
)

func (c *checker) rel(path string) string {
	if rel, err := filepath.Rel(c.dir, path); err == nil {
		return filepath.ToSlash(rel)
	}
	return path
}

func (c *checker) problem(path string, offset int64, format string, args ...any) {
	c.rep.Problems = append(c.rep.Problems, Problem{Path: c.rel(path), Offset: offset, Text: fmt.Sprintf(format, args...)})
}

func (c *checker) note(path string, offset int64, format string, args ...any) {
	c.rep.Notes = append(c.rep.Notes, Problem{Path: c.rel(path), Offset: offset, Text: fmt.Sprintf(format, args...)})
}

// damage makes a problem of an error that says where, and returns any other.
func (c *checker) damage(path string, err error) error {
	var bad *CorruptError
	var identity *IdentityError
	var version *VersionError
	var missing *MissingError
	switch {
	case errors.As(err, &bad):
		c.problem(bad.Path, bad.Offset, "%v", bad.Err)
	case errors.As(err, &identity):
		c.problem(path, -1, "belongs elsewhere: %s is %s, expected %s", identity.Field, identity.Found, identity.Expected)
	case errors.As(err, &missing) && missing.Hole:
		c.problem(path, missing.Have, "zeros, and not what was written: a copy under way or cut short, or damage")
	case errors.As(err, &version):
		c.problem(path, 8, "format version is %d, this tairlift reads up to %d", version.Found, version.Supported)
	default:
		return err
	}
	return nil
}

// group checks all epochs of one group.
func (c *checker) group(g repl.GroupID) error {
	c.rep.Groups++
	c.vouched, c.seen, c.prev = c.o.Vouched[g], false, nil
	groupDir := filepath.Join(c.dir, g.Dir())
	epochs, err := listEpochs(c.fs, groupDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	type held struct {
		epoch  repl.Epoch
		seq    Seq
		pruned bool
	}
	var places []held
	for _, e := range epochs {
		dir := filepath.Join(groupDir, e.Dir())
		if err := c.strangers(dir); err != nil {
			return err
		}
		seqs, err := listSeqs(c.fs, dir)
		if err != nil {
			return err
		}
		pruned, err := listKeys(c.fs, dir)
		if err != nil {
			return err
		}
		if len(seqs)+len(pruned) == 0 {
			c.note(dir, -1, "holds no segment")
			continue
		}
		c.rep.Epochs++
		from := len(places)
		for _, seq := range seqs {
			places = append(places, held{e, seq, false})
		}
		for _, seq := range pruned {
			if !slices.Contains(seqs, seq) {
				places = append(places, held{e, seq, true})
				continue
			}
			c.note(KeysPath(c.dir, g, e, seq), -1, "stands beside its segment, which is still here")
		}
		slices.SortFunc(places[from:], func(a, b held) int { return cmp.Compare(a.seq, b.seq) })
	}
	for i, p := range places {
		c.last, c.leads = i == len(places)-1, leadsGroup
		path := Path(c.dir, g, p.epoch, p.seq)
		if p.pruned {
			path = KeysPath(c.dir, g, p.epoch, p.seq)
		}
		if i > 0 {
			c.leads = 0
			if before := places[i-1]; before.seq+1 != p.seq {
				c.gap(path, before.seq, p.seq)
			} else if before.epoch != p.epoch {
				c.leads = leadsEpoch
			}
		}
		look := c.segment
		if p.pruned {
			look = c.keys
		}
		if err := look(path, Identity{Job: c.job, Group: g, Epoch: p.epoch}, p.seq); err != nil {
			return err
		}
	}
	switch v := c.vouched; {
	case len(places) == 0 && v.IsZero():
		c.problem(groupDir, -1, "holds no segment")
	case !v.IsZero() && !c.seen:
		c.problem(Path(c.dir, g, v.Epoch, v.Seq), -1, "is missing, and %d bytes of it are vouched for", v.Bytes)
	}
	return nil
}

// gap checks that the segment seq follows the one before.
func (c *checker) gap(path string, before, seq Seq) {
	switch {
	case seq <= before:
		c.problem(path, -1, "sequence number is %d behind %d, expected %d", seq, before, before+1)
	case seq == before+2:
		c.problem(path, -1, "segment %d before it is missing", before+1)
	default:
		c.problem(path, -1, "segments %d to %d before it are missing", before+1, seq-1)
	}
	c.prev = nil
}

// strangers notes files that are no segments, but for hidden ones: copies
// under way have such names.
func (c *checker) strangers(dir string) error {
	entries, err := c.fs.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		_, notSegment := ParseSeqFile(e.Name())
		_, notKeys := parseKeysName(e.Name())
		if notSegment != nil && notKeys != nil && !strings.HasPrefix(e.Name(), ".") {
			c.note(filepath.Join(dir, e.Name()), -1, "is not a segment")
		}
	}
	return nil
}

// segment checks one segment against itself, the one before, and what is
// vouched for.
func (c *checker) segment(path string, want Identity, seq Seq) error {
	info, err := c.fs.Stat(path)
	var s *segFile
	if err == nil {
		s, err = openSeg(c.fs, path, want, seq)
	}
	if c.vanished(path, err) {
		return c.keys(KeysPath(c.dir, want.Group, want.Epoch, seq), want, seq)
	}
	if info == nil {
		return err
	}
	prev := c.prev
	c.prev = nil
	c.rep.Segments++
	c.rep.Bytes += info.Size()
	vouchedHere := c.vouched.Seq == seq && c.vouched.Epoch == want.Epoch
	c.seen = c.seen || vouchedHere
	if err != nil {
		whole, bytes := c.vouched.covers(seq)
		torn := c.last && !whole && bytes == 0 && info.Size() <= segHeaderSize
		var bad *CorruptError
		switch {
		case torn && (err == errNotYet || errors.As(err, &bad)):
			c.note(path, -1, "has no header yet, and %d bytes", info.Size())
			return nil
		case err == errNotYet:
			c.problem(path, 0, "header is missing: found %d bytes, expected %d", info.Size(), segHeaderSize)
			return nil
		}
		return c.damage(path, err)
	}
	defer s.close()
	if c.job.IsZero() {
		c.job = s.hdr.Job
	}
	c.follows(path, &s.hdr, prev)
	sealed, err := s.readFooter()
	if err != nil {
		if err := c.damage(path, err); err != nil {
			return err
		}
	}
	w := segmentWalk{c: c, s: s, limit: s.size(), sealed: sealed}
	if sealed {
		w.limit = s.footPos
	}
	if vouchedHere {
		w.vouched = c.vouched
	}
	intact := err == nil
	if err := w.run(prev); err != nil {
		return err
	}
	c.rep.RawBytes += w.tally.foot.RawBytes
	if !w.damaged && intact {
		c.prev = w.tally
	}
	return nil
}

// vanished tells whether a segment, opened with err, is no longer there: it was
// when it was listed, so a prune is at work.
func (c *checker) vanished(path string, err error) bool {
	if err == errNotYet {
		_, err = c.fs.Stat(path)
	}
	return errors.Is(err, fs.ErrNotExist)
}

// keys checks the key file that stands in for a pruned segment.
func (c *checker) keys(path string, want Identity, seq Seq) error {
	prev := c.prev
	c.prev = nil
	c.rep.Pruned++
	if c.vouched.Seq == seq && c.vouched.Epoch == want.Epoch {
		c.seen = true // an older copy of what is vouched for: it is applied since
	}
	k, err := openKeys(c.fs, path, want, seq)
	if errors.Is(err, fs.ErrNotExist) {
		c.problem(path, -1, "is missing, and so is its segment")
		return nil
	}
	if err != nil {
		return c.damage(path, err)
	}
	defer k.close()
	c.rep.Bytes += k.size
	if c.job.IsZero() {
		c.job = k.head.hdr.Job
	}
	c.follows(path, &k.head.hdr, prev)
	if err := k.each(func(Fingerprint) error { return nil }); err != nil {
		return c.damage(path, err)
	}
	c.prev = k.head.tally()
	return nil
}

// follows checks a header against the segment before. prev is nil at the
// start of the group and behind damage.
func (c *checker) follows(path string, h *segmentHeader, prev *tally) {
	differ := func(at int64, what string, found, expected any) {
		c.problem(path, at, "%s is %v, expected %v", what, found, expected)
	}
	switch {
	case c.leads == 0: // not the first one held of its epoch
	case c.leads == leadsGroup && h.Seq != 1:
		// Whole epochs before it too: nothing else would tell that they were.
		c.gap(path, 0, h.Seq)
	case c.leads == leadsEpoch && h.Seq != h.First:
		differ(56, "the epoch's first sequence number", h.First, h.Seq)
	}
	if prev == nil || prev.hdr.Epoch != h.Epoch {
		return
	}
	p := prev.hdr
	switch {
	case h.Start != p.Start:
		differ(104, "start offset", h.Start, p.Start)
	case h.First != p.First:
		differ(56, "the epoch's first sequence number", h.First, p.First)
	case h.Stream != prev.foot.RDBDone:
		differ(16, "stream flag", h.Stream, prev.foot.RDBDone)
	case h.Offset != prev.foot.StreamEnd:
		differ(112, "stream offset", h.Offset, prev.foot.StreamEnd)
	case h.RDBBytes != prev.foot.RDBEnd:
		differ(120, "rdb offset", h.RDBBytes, prev.foot.RDBEnd)
	case h.RDBSize != prev.foot.RDBSize:
		differ(128, "rdb size", h.RDBSize, prev.foot.RDBSize)
	}
}
