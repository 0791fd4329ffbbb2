package capture

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"tairlift/checkpoint"
	"tairlift/internal/fsx"
	"tairlift/internal/redistest"
	"tairlift/spool"
)

// What is recorded is in the spool, also if the power is cut right then: the
// record is written behind the spool's fsync, and an ACK behind the record.
func TestARecordIsNeverAheadOfTheSpool(t *testing.T) {
	sess := smallSession(historyA)
	m := redistest.FakeMaster(t, redistest.Script{Session: sess})
	f := newFolder(t)
	disk := fsx.NewMem()
	store := &faultStore{Store: f.store}
	o := f.options(t, m.Addr)
	o.SpoolDir, o.Writer.FS, o.Store = "/spool", disk, store
	o.Writer.SegmentBytes = 700
	cuts := 0
	store.set(func(rec checkpoint.CaptureRecord) error {
		vouched := vouchedBy(rec)
		if vouched.IsZero() {
			return nil
		}
		if acked := m.LastAck(); acked > rec.Offset {
			t.Errorf("ACK of %d before the record of %d", acked, rec.Offset)
		}
		for seed := range uint64(5) {
			after := disk.Crash(rand.New(rand.NewPCG(seed, uint64(rec.Offset))))
			w, found, err := spool.Recover("/spool", o.Job, 1, vouched, spool.WriterOptions{FS: after})
			cuts++
			if err != nil {
				t.Errorf("power cut behind the record %+v, seed %d: %v", rec, seed, err)
				continue
			}
			w.Close()
			d := found.Durable
			if d.Seq < vouched.Seq || d.Epoch != vouched.Epoch || d.Offset < vouched.Offset || d.RDBBytes < vouched.RDBBytes {
				t.Errorf("power cut behind the record %+v, seed %d: the spool holds %+v", rec, seed, d)
			}
		}
		return nil
	})
	s := start(t, o)
	s.until("the stream", func(st Status) bool { return st.Durable.Offset == sess.End() })
	for i := range 40 {
		m.Append(commands(fmt.Sprintf("SET key:%d %x", i, rand.Uint64())))
		end := m.Position().Offset
		redistest.Eventually(t, "the ACK", func() bool { return m.LastAck() == end })
	}
	s.stop()
	if cuts < 200 {
		t.Errorf("got %d power cuts, want more", cuts)
	}
}
