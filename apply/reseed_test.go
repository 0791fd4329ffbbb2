package apply

import "testing"

// The mark tells of more than the spool's part of that epoch holds, and a newer
// epoch is there.
func TestAnEpochThatTheSpoolHasLostTheEndOf(t *testing.T) {
	r := bareRig(t, 1)
	r.firstEpoch().seal()
	r.applyAll(Options{})
	r.setMark(func(m *Mark) { m.Offset += 500; m.Start = m.Offset })
	r.secondEpoch().seal()
	r.stopped(Options{}, "mark-ahead")
	r.want("before the reseed", map[string]string{"0 EXISTS gone": "1"})
	r.applyAll(Options{Reseed: true})
	r.want("in the end", afterSecond)
}
