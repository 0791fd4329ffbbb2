package spool

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// Each row is a spool after a crash, and what recovery makes of it.
func TestRecovery(t *testing.T) {
	tail := Path(testDir, 1, 1, 2)
	chop := func(n int) func(t *testing.T, m *fsx.Mem, d Durable) {
		return func(t *testing.T, m *fsx.Mem, d Durable) {
			b := readFile(t, m, tail)
			writeFile(t, m, tail, b[:len(b)-n])
		}
	}
	flip := func(at func(d Durable) int64) func(t *testing.T, m *fsx.Mem, d Durable) {
		return func(t *testing.T, m *fsx.Mem, d Durable) {
			b := readFile(t, m, tail)
			b[at(d)] ^= 1
			writeFile(t, m, tail, b)
		}
	}
	for _, tc := range []struct {
		name    string
		damage  func(t *testing.T, m *fsx.Mem, d Durable)
		forget  bool // nothing is vouched for
		want    string
		torn    int64
		corrupt string
	}{
		{name: "nothing is torn", want: "synced|not synced"},
		{name: "the last byte is torn", damage: chop(1), want: "synced|", torn: frameHeaderSize + 10 - 1},
		{name: "all behind the last sync is torn", damage: chop(frameHeaderSize + 10), want: "synced|"},
		{name: "the sync frame is torn", damage: chop(frameHeaderSize + 10 + 1), want: "synced|", torn: frameHeaderSize - 1},
		{name: "the sync frame is gone", damage: chop(2*frameHeaderSize + 10), want: "synced|"},
		{name: "a vouched byte is gone", damage: chop(2*frameHeaderSize + 10 + 1), corrupt: "missing bytes"},
		{name: "a byte before the sync frame is gone, nothing vouched", damage: chop(2*frameHeaderSize + 10 + 1), forget: true, torn: frameHeaderSize + 7 - 1},
		{name: "garbage behind it", damage: func(t *testing.T, m *fsx.Mem, d Durable) {
			writeFile(t, m, tail, append(readFile(t, m, tail), noise(1, 1000)...))
		}, want: "synced|not synced", torn: 1000},
		{name: "zeros behind it", damage: func(t *testing.T, m *fsx.Mem, d Durable) {
			writeFile(t, m, tail, append(readFile(t, m, tail), make([]byte, 5000)...))
		}, want: "synced|not synced", torn: 5000},
		{name: "a damaged byte behind the sync frame", damage: flip(func(d Durable) int64 { return d.Bytes + frameHeaderSize + 3 }), want: "synced|", torn: frameHeaderSize + 10},
		{name: "a damaged vouched byte", damage: flip(func(d Durable) int64 { return d.Bytes - 1 }), corrupt: "payload crc"},
		{name: "a damaged byte before a sync frame, nothing vouched", damage: flip(func(d Durable) int64 { return d.Bytes - 1 }), forget: true, corrupt: "vouches for it"},
		{name: "a damaged frame header before a sync frame", damage: flip(func(d Durable) int64 { return d.Bytes - 20 }), forget: true, corrupt: "vouches for it"},
		{name: "a damaged segment header", damage: flip(func(d Durable) int64 { return 30 }), forget: true, corrupt: "header crc"},
		{name: "the tail is gone", damage: func(t *testing.T, m *fsx.Mem, d Durable) { ok(t, m.Remove(tail)) }, corrupt: "missing"},
		{name: "the tail is gone, nothing vouched", damage: func(t *testing.T, m *fsx.Mem, d Durable) { ok(t, m.Remove(tail)) }, forget: true},
		{name: "a next segment without a header", damage: func(t *testing.T, m *fsx.Mem, d Durable) {
			writeFile(t, m, Path(testDir, 1, 1, 3), []byte("tairl"))
		}, want: "synced|not synced"},
		{name: "a next epoch without a segment", damage: func(t *testing.T, m *fsx.Mem, d Durable) {
			ok(t, m.MkdirAll(testDir+"/group-0001/epoch-0002"))
		}, want: "synced|not synced"},
		{name: "a next epoch without a header", damage: func(t *testing.T, m *fsx.Mem, d Durable) {
			ok(t, m.MkdirAll(testDir+"/group-0001/epoch-0002"))
			writeFile(t, m, Path(testDir, 1, 2, 3), make([]byte, segHeaderSize))
		}, want: "synced|not synced"},
		{name: "a zero header before data is no leftover", damage: func(t *testing.T, m *fsx.Mem, d Durable) {
			b := readFile(t, m, tail)
			clear(b[:segHeaderSize])
			writeFile(t, m, tail, b)
		}, forget: true, corrupt: "header is zero"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := fsx.NewMem()
			w := inStream(t, options(m), "R")
			ok(t, w.AppendStream([]byte("synced|"), testStart))
			d := must(w.Sync())(t)
			ok(t, w.AppendStream([]byte("not synced"), testStart))
			ok(t, w.flush())
			if tc.damage != nil {
				tc.damage(t, m, d)
			}
			vouched := d
			if tc.forget {
				vouched = Durable{}
			}
			w, rec, err := Recover(testDir, testJob, 1, vouched, options(m))
			if tc.corrupt != "" {
				var bad *CorruptError
				if !errors.As(err, &bad) || !strings.Contains(err.Error(), tc.corrupt) {
					t.Fatalf("recover: got %v, want a CorruptError with %q", err, tc.corrupt)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if rec.TornBytes != tc.torn || (rec.TornPath != "") != (tc.torn > 0) {
				t.Errorf("recovery: got %+v, want %d bytes torn", rec, tc.torn)
			}
			if want := repl.Offset(1000 + len(tc.want)); rec.Durable.Offset != want || !rec.Durable.Sealed {
				t.Errorf("durable: got %+v, want offset %d, sealed", rec.Durable, want)
			}
			ok(t, w.AppendStream([]byte("|next"), testStart))
			ok(t, w.Seal())
			wantStream(t, group(t, m), 1, 1000, []byte(tc.want+"|next"), ErrEnd)
			wantCheck(t, m, CheckOptions{Vouched: map[repl.GroupID]Durable{1: w.Durable()}}, 0, 0)
		})
	}
}

func TestRecoverOfNothing(t *testing.T) {
	m := fsx.NewMem()
	if _, _, err := Recover(testDir, testJob, 1, Durable{}, options(m)); !errors.Is(err, ErrNoEpoch) {
		t.Errorf("no folder: got %v, want ErrNoEpoch", err)
	}
	var bad *CorruptError
	if _, _, err := Recover(testDir, testJob, 1, Durable{Epoch: 1, Seq: 1, Bytes: 200}, options(m)); !errors.As(err, &bad) {
		t.Errorf("no folder, but bytes vouched for: got %v, want a CorruptError", err)
	}
	ok(t, m.MkdirAll(testDir+"/group-0001/epoch-0001"))
	writeFile(t, m, Path(testDir, 1, 1, 1), []byte("tair"))
	if _, _, err := Recover(testDir, testJob, 1, Durable{}, options(m)); !errors.Is(err, ErrNoEpoch) {
		t.Errorf("only a leftover: got %v, want ErrNoEpoch", err)
	}
	must(Create(testDir, testIdentity(), options(m)))(t)
}

func TestCleanStopIsTakenUpWithoutReadingData(t *testing.T) {
	m := fsx.NewMem()
	w := inStream(t, options(m), "R")
	ok(t, w.AppendStream([]byte("abc"), testStart))
	ok(t, w.AppendClock(ClockSample{SourceMicros: 5, Offset: 1003, LocalMicros: 6}))
	ok(t, w.Seal())
	ops := m.Ops()
	w2, rec, err := Recover(testDir, testJob, 1, w.Durable(), options(m))
	ok(t, err)
	if rec.Durable != w.Durable() || m.Ops() != ops {
		t.Errorf("recovery: got %+v with %d writes, want %+v with none", rec.Durable, m.Ops()-ops, w.Durable())
	}
	ok(t, w2.AppendStream([]byte("def"), testStart))
	ok(t, w2.Seal())
	r := must(group(t, m).OpenStream(1, 1003))(t)
	got, clock, _ := drain(r)
	if string(got) != "def" || len(clock) != 1 || clock[0].SourceMicros != 5 {
		t.Errorf("got %q with %v, want def dated by the earlier sample", got, clock)
	}
	wantCheck(t, m, CheckOptions{}, 0, 0)
}

func TestRDBCutShortIsNeverResumed(t *testing.T) {
	m := fsx.NewMem()
	w := must(Create(testDir, testIdentity(), options(m)))(t)
	ok(t, w.BeginRDB(100))
	ok(t, w.AppendRDB([]byte("half"), testStart))
	d := must(w.Sync())(t)
	w.Close()
	w, rec, err := Recover(testDir, testJob, 1, d, options(m))
	ok(t, err)
	if rec.Durable.RDBDone || rec.Durable.RDBBytes != 4 || rec.Identity != testIdentity() {
		t.Errorf("recovery: got %+v, want four bytes of an incomplete rdb", rec)
	}
	for what, err := range map[string]error{
		"rdb": w.AppendRDB([]byte("x"), testStart), "stream": w.AppendStream([]byte("x"), testStart),
		"clock": w.AppendClock(ClockSample{}), "end": w.EndRDB(0, false),
	} {
		if !errors.Is(err, ErrOrder) {
			t.Errorf("append %s: got %v, want ErrOrder", what, err)
		}
	}
	ok(t, w.Seal())
	next := testIdentity()
	next.Epoch = 2
	w = must(Create(testDir, next, options(m)))(t)
	ok(t, w.EndRDB(0, false))
	ok(t, w.Seal())
	rep := wantCheck(t, m, CheckOptions{}, 0, 0)
	if rep.Segments != 2 || rep.Epochs != 2 {
		t.Errorf("report: got %+v, want 2 segments in 2 epochs", rep)
	}
	if _, err := group(t, m).OpenRDB(1); !errors.Is(err, ErrRDBIncomplete) {
		t.Errorf("open: got %v, want ErrRDBIncomplete", err)
	}
}

func TestVouchedSealIsHeldTo(t *testing.T) {
	m := fsx.NewMem()
	w := inStream(t, options(m), "R")
	ok(t, w.AppendStream([]byte("abc"), testStart))
	ok(t, w.Seal())
	d := w.Durable()
	path := Path(testDir, 1, 1, 2)
	b := readFile(t, m, path)
	for _, damaged := range [][]byte{b[:len(b)-1], append(b[:len(b)-1:len(b)-1], 'x')} {
		writeFile(t, m, path, damaged)
		var bad *CorruptError
		if _, _, err := Recover(testDir, testJob, 1, d, options(m)); !errors.As(err, &bad) {
			t.Errorf("recover: got %v, want a CorruptError", err)
		}
		wantCheck(t, m, CheckOptions{Vouched: map[repl.GroupID]Durable{1: d}}, 1, 0)
	}
}

// TestAFooterSurvivesAPowerCutOnlyWithWhatItVouchesFor: the last sync frame of a
// segment was once not durable before the footer was written, so that a power
// cut could keep the footer's block and lose the sync frame's.
func TestAFooterSurvivesAPowerCutOnlyWithWhatItVouchesFor(t *testing.T) {
	for size := range 600 {
		m := fsx.NewMem()
		ok(t, m.MkdirAll("/"))
		w := inStream(t, options(m), "RDB")
		ok(t, w.AppendStream(noise(uint64(size), 100+size), testStart))
		d := must(w.Sync())(t)
		writes := 0
		m.SetFail(func(op fsx.Op) error {
			if op.Name == "write" {
				writes++
			}
			if op.Name == "sync" && writes > 0 { // the footer is written, and no more
				return errPower
			}
			return nil
		})
		if err := w.Seal(); !errors.Is(err, errPower) {
			t.Fatalf("seal: got %v, want %v", err, errPower)
		}
		for seed := range uint64(8) {
			c := m.Crash(rand.New(rand.NewPCG(seed, uint64(size))))
			rep := must(check(c, testDir, CheckOptions{Vouched: map[repl.GroupID]Durable{1: d}}))(t)
			if !rep.OK() {
				t.Fatalf("size %d, seed %d: %+v", size, seed, rep.Problems)
			}
		}
	}
}
