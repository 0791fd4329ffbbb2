package apply

import (
	"strings"
	"sync/atomic"
	"testing"

	"tairlift/internal/pace"
	"tairlift/internal/rdb"
	"tairlift/internal/redistest"
)

// A value that RESTORE refuses and that takes more commands than a transaction may
// have is written in chunks, whatever the refusal says.
func TestARefusedPayloadOfManyCommandsIsWrittenInChunks(t *testing.T) {
	r := newRig(t, 1)
	s := r.sources[0]
	args := []string{"HMSET", "large"} // 6 MiB, of which the RDB keeps little
	for i := range 60 {
		args = append(args, strings.Repeat("f", i+1), strings.Repeat("v", 100<<10))
	}
	s.Do(t, args...)
	r.capture()
	r.stopCapture()
	for _, why := range []string{"ERR Bad data format", "ERR this key is too large"} {
		r.afresh()
		var within, aside atomic.Bool
		proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
			switch {
			case isWord(args, "RESTORE") && string(args[1]) == "large":
				return redistest.ReplyError(why)
			case len(args) > 2 && string(args[1]) == "large" && strings.HasPrefix(string(args[0]), "H"):
				within.Store(true)
			case len(args) > 2 && strings.HasPrefix(string(args[1]), keyPrefix+"tmp:"):
				aside.Store(true)
			}
			return redistest.Pass()
		})
		job := r.applyAll(Options{Addr: proxy.Addr})
		sameKeys(t, why, r.target, s)
		if st := job.Status()[0]; within.Load() || !aside.Load() || st.Rejects != 0 || st.Doubtful != 0 {
			t.Errorf("%s: got it in a transaction %v, in chunks %v, %d rejects, %d doubtful", why, within.Load(), aside.Load(), st.Rejects, st.Doubtful)
		}
		proxy.Close()
	}
}

// What is written in the place of a refused payload waits for the pace as all does.
func TestWhatReplacesARefusedPayloadWaitsForThePace(t *testing.T) {
	list := append([]byte{rdb.TypeList}, append(text("list"), 1, 1, 'x')...)
	r, p := spooled(t, rdbFile("0007", list))
	p.seal()
	limit := pace.New(pace.Limits{}, 0)
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if isWord(args, "RESTORE") && string(args[1]) == "list" {
			limit.Set(pace.Limits{Ops: 1})
			limit.Share().Take(1_000_000, 0) // which nobody could wait for
			return redistest.ReplyError("ERR Bad data format")
		}
		return redistest.Pass()
	})
	a := r.start(Options{Addr: proxy.Addr, Pace: limit})
	redistest.Eventually(t, "it to wait, or to be there", func() bool {
		return limit.State().Waits > 0 || r.target.Do(t, "EXISTS", "list").Int == 1
	})
	r.want("while it waits", map[string]string{"0 EXISTS list": "0"})
	limit.Set(pace.Limits{})
	a.reaches(t, p.end)
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	r.want("once the limit is lifted", map[string]string{"0 LRANGE list 0 -1": "[x]"})
}
