package spool

import (
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

func TestReportNamesEachProblemAndCounts(t *testing.T) {
	m, _, _, d := small(t, true)
	path := Path(testDir, 1, 1, 2)
	b := readFile(t, m, path)
	b[segHeaderSize+2*frameHeaderSize] ^= 1
	writeFile(t, m, path, b)
	rep := must(check(m, testDir, CheckOptions{Vouched: map[repl.GroupID]Durable{1: d, 2: {Epoch: 1, Seq: 3, Bytes: 10}}}))(t)
	var text strings.Builder
	ok(t, rep.Text(&text))
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "problem: group-0001/epoch-0001/00000002.seg at 208: ") ||
		!strings.HasPrefix(lines[1], "problem: group-0002/epoch-0001/00000003.seg: is missing") ||
		!strings.HasPrefix(lines[2], "corrupt: 2 problems in 2 groups, 1 epoch, 2 segments, ") {
		t.Errorf("text: got\n%s", text.String())
	}
	var back Report
	if err := json.Unmarshal(must(json.Marshal(rep))(t), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rep, back); diff != "" {
		t.Errorf("json round trip (-want +got):\n%s", diff)
	}
}

func TestCheckOfNothing(t *testing.T) {
	m := fsx.NewMem()
	if _, err := check(m, testDir, CheckOptions{}); !errors.Is(err, ErrNoSpool) {
		t.Errorf("no folder: got %v, want ErrNoSpool", err)
	}
	rep, err := check(m, testDir, CheckOptions{Vouched: map[repl.GroupID]Durable{1: {Epoch: 1, Seq: 1, Bytes: 1}}})
	if err != nil || len(rep.Problems) != 1 {
		t.Errorf("no folder, but bytes vouched for: got %+v, %v, want one problem", rep, err)
	}
}

// Rows are spools that are whole in each part and wrong together.
func TestCheckComparesSegments(t *testing.T) {
	build := func() (*fsx.Mem, *Writer) {
		m := fsx.NewMem()
		o := options(m)
		o.SegmentBytes = 1
		w := inStream(t, o, "R")
		for range 3 {
			ok(t, w.AppendStream([]byte("xyz"), testStart))
			must(w.Sync())(t)
		}
		return m, w
	}
	// rewrite makes segment seq anew with another header.
	rewrite := func(m *fsx.Mem, seq Seq, change func(h *segmentHeader)) {
		path := Path(testDir, 1, 1, seq)
		s := must(openSeg(m, path, Identity{Group: 1, Epoch: 1}, seq))(t)
		h := s.hdr
		change(&h)
		head := h.appendTo(nil)
		writeFile(t, m, path, head)
		f := must(m.Edit(path))(t)
		f.Seek(segHeaderSize, 0)
		tl := newTally(&h, head)
		must(sealFile(f, tl, testStart))(t)
	}
	for _, tc := range []struct {
		name   string
		damage func(m *fsx.Mem, w *Writer)
		want   string
	}{
		{"a stream offset that leaves a gap", func(m *fsx.Mem, w *Writer) {
			rewrite(m, 4, func(h *segmentHeader) { h.Offset++ })
		}, "stream offset is 1007, expected 1006"},
		{"another start offset", func(m *fsx.Mem, w *Writer) { rewrite(m, 4, func(h *segmentHeader) { h.Start-- }) }, "start offset is 999"},
		{"another job", func(m *fsx.Mem, w *Writer) { rewrite(m, 4, func(h *segmentHeader) { h.Job[0]++ }) }, "belongs elsewhere: job"},
		{"an rdb segment in the stream", func(m *fsx.Mem, w *Writer) {
			rewrite(m, 4, func(h *segmentHeader) { h.Stream, h.Offset = false, 1000 })
		}, "stream flag is false"},
		{"other rdb bytes", func(m *fsx.Mem, w *Writer) { rewrite(m, 4, func(h *segmentHeader) { h.RDBBytes++ }) }, "rdb offset is 2, expected 1"},
		{"a segment under another name", func(m *fsx.Mem, w *Writer) {
			ok(t, m.Rename(Path(testDir, 1, 1, 4), Path(testDir, 1, 1, 5)))
		}, "sequence number is 4, expected 5"},
		{"a first segment gone", func(m *fsx.Mem, w *Writer) { ok(t, m.Remove(Path(testDir, 1, 1, 1))) }, "segment 1 before it is missing"},
		{"a vouched offset that is not there", func(m *fsx.Mem, w *Writer) { w.durable.Seq++; w.durable.Sealed = false }, "is missing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, w := build()
			tc.damage(m, w)
			rep := must(check(m, testDir, CheckOptions{Job: testJob, Vouched: map[repl.GroupID]Durable{1: w.Durable()}}))(t)
			var text strings.Builder
			rep.Text(&text)
			if rep.OK() || !strings.Contains(text.String(), tc.want) {
				t.Errorf("check: got\n%swant a problem with %q", text.String(), tc.want)
			}
		})
	}
}

// An epoch that went as a whole leaves no gap inside of one.
func TestCheckMissesTheFirstEpoch(t *testing.T) {
	m := fsx.NewMem()
	ok(t, inStream(t, options(m), "R").Seal())
	w, _, err := Recover(testDir, testJob, 1, Durable{}, options(m))
	ok(t, err)
	ok(t, w.Seal())
	id := testIdentity()
	id.Epoch = 2
	ok(t, must(Create(testDir, id, options(m)))(t).Seal())
	wantCheck(t, m, CheckOptions{}, 0, 0)
	ok(t, m.Remove(Path(testDir, 1, 1, 1)))
	rep := wantCheck(t, m, CheckOptions{}, 1, 1)
	if want := "segment 1 before it is missing"; rep.Problems[0].Text != want {
		t.Errorf("check: got %s, want %s", rep.Problems[0], want)
	}
}

func TestListTellsWhatIsHeld(t *testing.T) {
	m, rdb, stream, d := small(t, false)
	infos := must(list(m, testDir))(t)
	if len(infos) != 1 || infos[0].Group != 1 || infos[0].Job != testJob || len(infos[0].Epochs) != 1 {
		t.Fatalf("list: got %+v", infos)
	}
	e := infos[0].Epochs[0]
	if !e.RDBDone || e.RDBBytes != int64(len(rdb)) || e.RDBSize != int64(len(rdb)) || e.Sealed || e.FirstSeq != 1 || e.LastSeq != 2 ||
		e.EndOffset != d.Offset || len(e.Segments) != 2 || e.Segments[1].RawBytes != int64(len(stream)) {
		t.Errorf("epoch: got %+v", e)
	}
	if _, err := list(fsx.NewMem(), testDir); !errors.Is(err, ErrNoSpool) {
		t.Errorf("list of nothing: got %v, want ErrNoSpool", err)
	}
}

func TestNamesRoundTrip(t *testing.T) {
	for _, seq := range []Seq{1, 99999999, 123456789012} {
		if got, err := ParseSeqFile(seq.File()); err != nil || got != seq {
			t.Errorf("seq %d: got %d, %v", seq, got, err)
		}
	}
	for _, name := range []string{"", "1.seg", "00000000.seg", "0000001.seg", "00000001.seg.tmp", "+0000001.seg", ".00000001.seg.Xy"} {
		if got, err := ParseSeqFile(name); err == nil {
			t.Errorf("parse %q: got %d, want an error", name, got)
		}
	}
	id := NewJobID()
	if got, err := ParseJobID(id.String()); err != nil || got != id || id.IsZero() {
		t.Errorf("job: got %s, %v, want %s", got, err, id)
	}
	for _, s := range []string{"", "zz", strings.Repeat("a", 31), strings.Repeat("a", 34)} {
		if _, err := ParseJobID(s); err == nil {
			t.Errorf("parse job %q: got nil, want an error", s)
		}
	}
}

// pruning is a file system on which a segment is pruned while check is at work.
type pruning struct {
	*fsx.Mem
	path string
	do   func()
}

func (p *pruning) Stat(name string) (fs.FileInfo, error) {
	if name == p.path && p.do != nil {
		do := p.do
		p.do = nil
		do()
	}
	return p.Mem.Stat(name)
}

func TestCheckBesideAPrune(t *testing.T) {
	m := fsx.NewMem()
	o := options(m)
	o.SegmentBytes = 1500
	s := exampleSource()
	ok(t, s.write(t, o).Seal())
	g := group(t, m)
	p := &pruning{Mem: m, path: Path(testDir, 1, 1, 3), do: func() { prune(t, g, Floor{Epoch: 2}) }}
	rep, err := check(p, testDir, CheckOptions{})
	if err != nil || !rep.OK() || rep.Pruned == 0 {
		t.Errorf("got %+v and %v, want ok with pruned segments", rep, err)
	}
}
