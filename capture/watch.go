package capture

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// errUnblocked is what a read returns after unblock.
var errUnblocked = errors.New("reading was stopped")

// silentError says that a source sent nothing, not even a newline.
type silentError struct{ after time.Duration }

func (e *silentError) Error() string {
	return fmt.Sprintf("source sent nothing for %s", e.after)
}

// Timeout and Temporary make it a net.Error.
func (e *silentError) Timeout() bool   { return true }
func (e *silentError) Temporary() bool { return false }

// watchedConn bounds the silence of a source: each read, whoever asks for it
// (the wait for +FULLRESYNC, for the RDB, for the stream), may take as long as
// silence. The newlines that a master sends during its BGSAVE are reads too. A
// read can also be stopped for good while writes go on, so that the last ACK
// still goes out.
type watchedConn struct {
	net.Conn
	silence time.Duration

	mu      sync.Mutex // orders deadlines: after unblock none is set again
	stopped bool
}

func (c *watchedConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		return 0, errUnblocked
	}
	err := c.Conn.SetReadDeadline(time.Now().Add(c.silence))
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.stopped {
			return n, errUnblocked
		}
		return n, &silentError{after: c.silence}
	}
	return n, err
}

// unblock ends the read that is waiting and all later ones.
func (c *watchedConn) unblock() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	c.Conn.SetReadDeadline(time.Unix(1, 0))
}

// SetDeadline bounds writes only: reads have the silence limit.
func (c *watchedConn) SetDeadline(t time.Time) error { return c.Conn.SetWriteDeadline(t) }

// SetReadDeadline does nothing: reads have the silence limit.
func (c *watchedConn) SetReadDeadline(time.Time) error { return nil }
