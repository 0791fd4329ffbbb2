package resp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

const (
	dialTimeout  = 5 * time.Second
	keepAlive    = 15 * time.Second
	writerBuffer = 32 << 10
)

// Conn is one client connection: a buffered Reader, a buffered writer, and the
// net.Conn below. One goroutine may read while another writes; more need a lock
// of theirs.
type Conn struct {
	*Reader
	nc net.Conn
	bw *bufio.Writer
}

// NewConn wraps a connection that is already made; nothing is sent.
func NewConn(nc net.Conn) *Conn {
	return &Conn{Reader: NewReader(nc), nc: nc, bw: bufio.NewWriterSize(nc, writerBuffer)}
}

// Dial connects to addr by TCP and authenticates, within ctx's deadline or
// else within 5 s. A secret is sent as `AUTH secret`; if that is refused and
// the secret holds a ':', as `AUTH user password`, split at the first. (The
// whole as a password, the third form, is the same bytes as the first.) A
// server that has no password accepts any secret. Without a secret nothing is
// sent, and a server that wants one answers NOAUTH to the first command.
//
// Errors: *DialError when the server was not reached, *AuthError when it did
// not take the secret, ctx.Err() when ctx was cancelled, else what the server
// answered or the connection said, wrapped.
func Dial(ctx context.Context, addr string, secret Secret) (*Conn, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, dialTimeout)
		defer cancel()
	}
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive, Count: 3}}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, ctx.Err()
		}
		var op *net.OpError
		if errors.As(err, &op) { // its text repeats the address
			err = op.Err
		}
		return nil, &DialError{Addr: addr, Err: err}
	}
	c := NewConn(nc)
	if err := c.auth(ctx, addr, secret); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) auth(ctx context.Context, addr string, secret Secret) error {
	if secret == "" {
		return nil
	}
	forms := [][]string{{"AUTH", string(secret)}}
	if user, pass, ok := strings.Cut(string(secret), ":"); ok {
		forms = append(forms, []string{"AUTH", user, pass})
	}
	open := false // the server said that it needs no password
	var refused ServerError
	for _, form := range forms {
		_, err := c.Do(ctx, form...)
		if err == nil {
			return nil
		}
		var se ServerError
		if !errors.As(err, &se) {
			if errors.Is(err, context.Canceled) {
				return err
			}
			return fmt.Errorf("authenticate to %s: %w", addr, err)
		}
		shown := ServerError(secret.scrub(string(se)))
		switch text := string(se); {
		case strings.Contains(text, "no password is set"), strings.Contains(text, "without any password configured"):
			open = true
		case !refusesSecret(se):
			return fmt.Errorf("authenticate to %s: %w", addr, shown)
		case refused == "" || !strings.Contains(text, "wrong number of arguments"):
			// Before 6.0 the second form is an arity error, which says
			// nothing about the secret.
			refused = shown
		}
	}
	if open && refused != "" {
		// The default user needs no password, or is switched off: whether the
		// server is open, the next command tells.
		_, err := c.Do(ctx, "PING")
		if err != nil && !IsNoAuth(err) {
			return fmt.Errorf("authenticate to %s: %w", addr, err)
		}
		open = err == nil
	}
	if open {
		return nil
	}
	return &AuthError{Addr: addr, Reply: string(refused)}
}

// refusesSecret tells the answers to AUTH that a later try cannot change from
// those about the server's state.
func refusesSecret(e ServerError) bool {
	switch e.Code() {
	case "WRONGPASS", "NOAUTH", "NOPERM":
		return true
	case "ERR":
		return !strings.Contains(string(e), "max number of clients")
	}
	return false
}

// Do sends one command and reads one reply. An error reply is a ServerError.
// After any other error it is unknown whether the command took effect, and the
// connection is closed; so it is when ctx ends while Do runs. Nothing else may
// be unanswered on the connection.
func (c *Conn) Do(ctx context.Context, args ...string) (Reply, error) {
	release, err := c.CloseOn(ctx)
	if err != nil {
		return Reply{}, err
	}
	err = c.WriteCommand(args...)
	if err == nil {
		err = c.Flush()
	}
	var rep Reply
	if err == nil {
		rep, err = c.ReadReply()
	}
	if ended := release(); ended != nil {
		return Reply{}, ended
	}
	var se ServerError
	if err != nil && !errors.As(err, &se) {
		c.Close()
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("connection closed by %s: %w", c.RemoteAddr(), io.ErrUnexpectedEOF)
		}
	}
	return rep, err
}

// CloseOn closes the connection when ctx ends, which unblocks whatever reads or
// writes it, until release is called. release returns ctx.Err() if ctx ended
// first. An ended ctx is an error at once and closes nothing.
func (c *Conn) CloseOn(ctx context.Context) (release func() error, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.nc.Close() })
	return func() error {
		if stop() {
			return nil
		}
		return ctx.Err()
	}, nil
}

// Write buffers p for the next Flush, or sends it when the buffer is full.
func (c *Conn) Write(p []byte) (int, error) { return c.bw.Write(p) }

// WriteCommand buffers one command.
func (c *Conn) WriteCommand(args ...string) error {
	_, err := c.bw.Write(AppendCommandStrings(c.bw.AvailableBuffer(), args...))
	return err
}

// Flush sends what Write buffered.
func (c *Conn) Flush() error { return c.bw.Flush() }

// Close closes the connection. What was not flushed is not sent. It may be
// called from any goroutine and more than once.
func (c *Conn) Close() error { return c.nc.Close() }

// SetDeadline bounds reads and writes from now on; zero is no bound.
func (c *Conn) SetDeadline(t time.Time) error { return c.nc.SetDeadline(t) }

// SetReadDeadline bounds reads.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.nc.SetReadDeadline(t) }

// SetWriteDeadline bounds writes.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.nc.SetWriteDeadline(t) }

// RemoteAddr is the server's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// LocalAddr is this end's address.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// NetConn is the connection below, for whoever takes it over. Buffered must be
// 0 by then: those bytes are here and will not be there.
func (c *Conn) NetConn() net.Conn { return c.nc }
