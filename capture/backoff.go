package capture

import (
	"math/rand/v2"
	"net"
	"time"
)

// resyncPauses lengthens the pause behind a full sync that was for nothing: it
// cost the source a fork and an RDB, where a stream costs it only the asking.
const resyncPauses = 12

// backoff is the pause after the n-th failure in a row, n from 1: it doubles
// from BackoffMin to BackoffMax, and half of it is drawn, so that forty groups
// that lost one host do not return in step.
func (s *Session) backoff(n int) time.Duration {
	d := s.o.BackoffMax
	if n <= 16 {
		d = min(d, s.o.BackoffMin<<(n-1))
	}
	return d/2 + rand.N(d/2+1)
}

// host is the machine of the source, for the full-sync queue.
func (s *Session) host() string {
	host, _, err := net.SplitHostPort(s.o.Addr)
	if err != nil {
		return s.o.Addr
	}
	return host
}
