package resp

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"tairlift/internal/repl"
)

// A length or a count of gigabytes in a few bytes costs nothing: memory follows
// the bytes that arrive.
func TestNoLengthIsBelievedBeforeItsBytesCome(t *testing.T) {
	const allowed = 4 << 20
	nested := strings.Repeat("*16777216\r\n", 40)
	for _, in := range []string{
		"$536870912\r\nabc", "$4294967296\r\nabc", "$9223372036854775807\r\n", "$99999999999999999999\r\n", "$-2\r\n",
		"*16777216\r\n", "*16777216\r\n:1\r\n", "*4294967296\r\n", "*9223372036854775807\r\n", nested,
		"*1048576\r\n$3\r\nSET\r\n", "*2\r\n$536870912\r\nabc", "*2\r\n$4294967296\r\nabc", "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nv",
	} {
		for what, f := range map[string]func(){
			"ReadReply": func() { NewReader(strings.NewReader(in)).ReadReply() },
			"SkipReply": func() { NewReader(strings.NewReader(in)).SkipReply() },
			"ReadBulk":  func() { NewReader(strings.NewReader(in)).ReadBulk(nil) },
			"ReadExec":  func() { NewReader(strings.NewReader(in)).ReadExec() },
			"Parser": func() {
				p := NewParser(repl.Offset(0))
				for _, b := range bytes.SplitAfter([]byte(in), []byte("\n")) {
					p.Feed(b)
					if _, _, err := p.Next(); err != nil {
						return
					}
				}
			},
		} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f()
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > allowed {
				t.Errorf("%s of %.40q: %d bytes were allocated, want at most %d", what, in, n, allowed)
			}
		}
	}
}
