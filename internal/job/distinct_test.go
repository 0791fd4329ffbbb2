package job

import (
	"errors"
	"net"
	"testing"

	"tairlift/internal/redistest"
)

func TestDistinctServers(t *testing.T) {
	s := redistest.Source(t)
	other := redistest.Target(t)
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		claim   string
		groups  []Group
		target  string
		refused bool
	}{
		{"two servers", []Group{{ID: 1, Addr: s.Addr}}, other.Addr, false},
		{"a server that is away", []Group{{ID: 1, Addr: s.Addr}, {ID: 2, Addr: "127.0.0.1:1"}}, other.Addr, false},
		{"one server by two names", []Group{{ID: 1, Addr: s.Addr}, {ID: 2, Addr: "localhost:" + port}}, other.Addr, true},
		{"a source as the target", []Group{{ID: 1, Addr: s.Addr}}, "localhost:" + port, true},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			r := &run{groups: tt.groups, target: tt.target, withCapture: true, withApply: true}
			var e *Error
			if err := r.distinct(t.Context()); errors.As(err, &e) != tt.refused || tt.refused && (e.Code != Refused || e.Hint == "") {
				t.Errorf("got %v, want refused: %v", err, tt.refused)
			}
		})
	}
}
