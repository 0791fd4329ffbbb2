package psync

import (
	"io"
	"runtime"
	"strings"
	"testing"

	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

// The size that a source announces for its RDB costs nothing before its bytes
// have come, nor do lines without an end.
func TestNoAnnouncedSizeIsBelieved(t *testing.T) {
	const allowed = 4 << 20
	const full = "+FULLRESYNC " + idA + " 5\r\n"
	for _, in := range []string{
		full + "$4294967296\r\nabc", full + "$9223372036854775807\r\nabc", full + "$99999999999999999999\r\n",
		full + "$EOF:" + strings.Repeat("a", 1<<20) + "\r\n", full + "$EOF:" + mark + "\r\nabc",
		full + strings.Repeat("\n", 1<<20), "+FULLRESYNC " + idA + " 9223372036854775807\r\n$3\r\nRDB", strings.Repeat("-", 1<<20),
	} {
		conn := resp.NewConn(&wire{Reader: strings.NewReader("+OK\r\n" + in)})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if l, err := Attach(t.Context(), conn, repl.Position{}, Options{}); err == nil {
			if r, err := l.OpenRDB(); err == nil {
				io.Copy(io.Discard, r)
				io.Copy(io.Discard, l)
			}
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > allowed {
			t.Errorf("%.60q: %d bytes were allocated, want at most %d", in, n, allowed)
		}
	}
}
