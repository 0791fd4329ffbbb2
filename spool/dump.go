package spool

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// DumpOptions choose what Dump shows. A zero field means all.
type DumpOptions struct {
	Group repl.GroupID
	Epoch repl.Epoch
	Seq   Seq
	Data  bool // payloads too, in hex; in JSON in base64
	JSON  bool // one object per line
}

// Dump writes one line for every segment and every frame of it, durable or
// not, to w. A segment that is damaged is shown up to there; the first such
// error is returned at the end. ErrNoSpool is returned when nothing matches.
func Dump(w io.Writer, dir string, o DumpOptions) error { return dump(fsx.OS, w, dir, o) }

func dump(fsys fsx.FS, out io.Writer, dir string, o DumpOptions) error {
	w := newDumper(out, o)
	groups, err := listGroups(fsys, dir)
	if err != nil {
		return err
	}
	var first error
	shown := 0
	for _, g := range groups {
		epochs, err := listEpochs(fsys, filepath.Join(dir, g.Dir()))
		if err != nil {
			return err
		}
		for _, e := range epochs {
			seqs, err := listSeqs(fsys, filepath.Join(dir, g.Dir(), e.Dir()))
			if err != nil {
				return err
			}
			pruned, err := listKeys(fsys, filepath.Join(dir, g.Dir(), e.Dir()))
			if err != nil {
				return err
			}
			for _, seq := range pruned {
				if !o.picks(g, e, seq) || slices.Contains(seqs, seq) {
					continue
				}
				shown++
				if err := w.keys(fsys, dir, g, e, seq); err != nil {
					w.put(dumpRow{Row: "error", Path: KeysPath(dir, g, e, seq), Error: err.Error()}, "error: %v\n", err)
					first = cmp.Or(first, err)
				}
			}
			for _, seq := range seqs {
				if !o.picks(g, e, seq) {
					continue
				}
				shown++
				name := filepath.ToSlash(filepath.Join(g.Dir(), e.Dir(), seq.File()))
				s, err := openSeg(fsys, Path(dir, g, e, seq), Identity{Group: g, Epoch: e}, seq)
				if err == nil {
					err = w.segment(s, name)
					s.close()
				} else if err == errNotYet {
					w.put(dumpRow{Row: "segment", Path: name, Error: "no header yet"}, "segment %s: no header yet\n", name)
					err = nil
				}
				if err != nil {
					w.put(dumpRow{Row: "error", Path: name, Error: err.Error()}, "error: %v\n", err)
					if first == nil {
						first = err
					}
				}
			}
		}
	}
	if shown == 0 {
		first = fmt.Errorf("dump %s: no such segment: %w", dir, ErrNoSpool)
	}
	return errors.Join(first, w.Flush())
}

func (o *DumpOptions) picks(g repl.GroupID, e repl.Epoch, seq Seq) bool {
	return (o.Group == 0 || g == o.Group) && (o.Epoch == 0 || e == o.Epoch) && (o.Seq == 0 || seq == o.Seq)
}

func dumpTime(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// dumper writes what it is given as a line of text, or as one JSON object.
type dumper struct {
	*bufio.Writer
	json *json.Encoder // nil for text
	data bool
}

func newDumper(out io.Writer, o DumpOptions) *dumper {
	w := &dumper{Writer: bufio.NewWriter(out), data: o.Data}
	if o.JSON {
		w.json = json.NewEncoder(w.Writer)
	}
	return w
}

func (w *dumper) put(row dumpRow, format string, args ...any) {
	if w.json == nil {
		fmt.Fprintf(w, format, args...)
		return
	}
	_ = w.json.Encode(row) // an error of the writer stays until Flush
}

// keys shows what is left of a pruned segment.
func (w *dumper) keys(fsys fsx.FS, dir string, g repl.GroupID, e repl.Epoch, seq Seq) error {
	path := KeysPath(dir, g, e, seq)
	k, err := openKeys(fsys, path, Identity{Group: g, Epoch: e}, seq)
	if err != nil {
		return err
	}
	defer k.close()
	i, h := k.info(), &k.head.hdr
	i.Path = filepath.ToSlash(filepath.Join(g.Dir(), e.Dir(), keysName(seq)))
	phase := "rdb"
	if h.Stream {
		phase = "stream"
	}
	w.put(dumpRow{Row: "pruned", Path: i.Path, Pruned: &i},
		"pruned %s: version %d, job %s, epoch from segment %d at offset %d, %s %d to %d, had %d bytes, pruned %s, keys %d, opaque commands %d\n",
		i.Path, k.head.version(), h.Job, h.First, h.Start, phase, i.From, i.To, i.Bytes, dumpTime(k.head.pruned), i.Keys, i.Opaque)
	return k.each(func(fp Fingerprint) error {
		if w.data {
			text := hex.EncodeToString(fp[:])
			w.put(dumpRow{Row: "fingerprint", Fingerprint: text}, "           %s\n", text)
		}
		return nil
	})
}

func (w *dumper) segment(s *segFile, name string) error {
	h := &s.hdr
	phase := "rdb"
	if h.Stream {
		phase = "stream"
	}
	w.put(dumpRow{Row: "segment", Path: name, Segment: &dumpSegment{
		Version: Version, Job: h.Job.String(), First: h.First, Start: h.Start, Phase: phase, ReplID: h.ReplID,
		Offset: h.Offset, RDBBytes: h.RDBBytes, RDBSize: h.RDBSize, Created: dumpTime(h.Created),
	}},
		"segment %s: version %d, job %s, epoch from segment %d at offset %d, %s, replid %s, offset %d, rdb bytes %d, rdb size %d, created %s\n",
		name, Version, h.Job, h.First, h.Start, phase, h.ReplID, h.Offset, h.RDBBytes, h.RDBSize, dumpTime(h.Created))
	sealed, err := s.readFooter()
	if err != nil {
		return err
	}
	limit := s.size()
	if sealed {
		limit = s.footPos
	}
	win := window{f: s.f}
	head, err := win.at(0, segHeaderSize, limit)
	if err != nil {
		return fmt.Errorf("read segment: %w", err)
	}
	t := newTally(h, head)
	var buf []byte
	for t.pos < limit {
		pos := t.pos
		fh, err := t.read(&win, limit, &buf)
		var raw []byte
		if err == nil {
			var b []byte
			if b, err = win.at(pos, int(fh.size()), limit); err == nil {
				raw, err = fh.open(b[frameHeaderSize:], &buf)
			}
		}
		if err != nil && !sealed {
			w.put(dumpRow{Row: "torn", Pos: pos, Error: err.Error()}, "%10d torn: %v\n", pos, err)
			return nil
		}
		if err != nil {
			return &CorruptError{Path: s.path, Offset: pos, Err: err}
		}
		w.frame(pos, &fh, raw)
	}
	if sealed {
		f := &s.foot
		w.put(dumpRow{Row: "footer", Pos: s.footPos, Footer: &dumpFooter{
			StreamEnd: f.StreamEnd, RDBEnd: f.RDBEnd, RDBDone: f.RDBDone, Frames: int64(f.Frames), Raw: f.RawBytes,
			Stored: f.StoredBytes, Index: len(f.Index), Clock: len(f.Clock), FileCRC: fmt.Sprintf("%08x", f.FileCRC),
		}}, "%10d footer stream end %d, rdb end %d, rdb done %t, frames %d, raw %d, stored %d, index %d, clock %d, file crc %08x\n",
			s.footPos, f.StreamEnd, f.RDBEnd, f.RDBDone, f.Frames, f.RawBytes, f.StoredBytes, len(f.Index), len(f.Clock), f.FileCRC)
	} else {
		w.put(dumpRow{Row: "not sealed", Pos: limit}, "%10d not sealed\n", limit)
	}
	return nil
}

func (w *dumper) frame(pos int64, h *frameHeader, raw []byte) {
	if w.json != nil {
		w.put(w.frameRow(pos, h, raw), "")
		return
	}
	fmt.Fprintf(w, "%10d %s offset %d, received %s", pos, h.Kind, h.Offset, dumpTime(h.Recv))
	switch h.Kind {
	case kindRDB, kindStream:
		fmt.Fprintf(w, ", raw %d, stored %d", h.RawLen, h.StoredLen)
		if h.Flags&frameZstd != 0 {
			fmt.Fprint(w, ", zstd")
		}
	case kindRDBBegin:
		if size, err := parseRDBBegin(raw); err == nil {
			fmt.Fprintf(w, ", size %d", size)
		}
	case kindRDBEnd:
		if end, err := parseRDBEnd(raw); err == nil {
			fmt.Fprintf(w, ", crc64 %016x, checked %t", end.CRC64, end.Checked)
		}
	case kindClock:
		if h.Flags&frameCarried != 0 {
			fmt.Fprint(w, ", carried")
		}
		samples, _ := parseClock(nil, raw)
		for _, s := range samples {
			fmt.Fprintf(w, ", [source %d offset %d local %d]", s.SourceMicros, s.Offset, s.LocalMicros)
		}
	}
	fmt.Fprintln(w)
	if w.data && h.isData() {
		for line := range strings.Lines(hex.Dump(raw)) {
			fmt.Fprintf(w, "           %s", line)
		}
	}
}
