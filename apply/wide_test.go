package apply

import (
	"strings"
	"testing"
	"time"

	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// Commands that waited out a broken link are dated by the later bound: a
// relative deadline among them is one that only the source can put right.
func TestADeadlineThatWaitedOutABrokenLinkIsDoubtful(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "a v", "b v", "c v")
	now := time.Now()
	// Capture asks for the time when a link begins, before it writes what the
	// source had kept for it.
	write := func(asked time.Duration, lines ...string) {
		var size repl.Offset
		for _, l := range lines {
			size += repl.Offset(len(resp.AppendCommandStrings(nil, strings.Fields(l)...)))
		}
		at := now.Add(-asked).UnixMicro()
		p.check(p.w.AppendClock(spool.ClockSample{SourceMicros: at, Offset: p.end + size, LocalMicros: at}))
		p.write(lines...)
	}
	write(time.Hour, "INCR n")
	write(time.Hour-time.Second, "EXPIRE a 7200") // known to a second
	write(time.Minute, "EXPIRE b 7200", "PEXPIREAT c 99999999999999", "INCR n", "SETEX d 7200 v", "EXPIRE b 7300")
	write(time.Minute-time.Second, "EXPIRE c 7200")
	st := r.applyAll(Options{}).Status()[0]
	why := r.doubtful()
	if len(why) != 2 || why["0:b"] != "deadline" || why["0:d"] != "deadline" {
		t.Errorf("doubtful: got %v, want b and d, for their deadlines", why)
	}
	if width := time.Hour - time.Second - time.Minute; st.Doubtful != 2 || st.DateWidth != width || st.Forgotten {
		t.Errorf("status: got %d doubtful, width %s, forgotten %v, want 2, %s, false", st.Doubtful, st.DateWidth, st.Forgotten, width)
	}
}
