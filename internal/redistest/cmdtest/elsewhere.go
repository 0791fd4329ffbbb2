package cmdtest

import (
	"net"
	"testing"

	"tairlift/internal/redistest"
)

// Elsewhere gives a filler what comes from another server of the source's version,
// which it starts: Host, Port and Payload.
func (f *Filler) Elsewhere(t testing.TB) {
	t.Helper()
	s := redistest.Source(t)
	var err error
	if f.Host, f.Port, err = net.SplitHostPort(s.Addr); err != nil {
		t.Fatal(err)
	}
	s.Do(t, "SET", "k", "restored")
	f.Payload = string(s.Do(t, "DUMP", "k").Str)
}
