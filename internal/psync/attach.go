package psync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

const (
	defaultTimeout = 60 * time.Second // repl-timeout's default
	ackTimeout     = 10 * time.Second
	nudgeEvery     = 100 * time.Millisecond // the period of a source's serverCron
	maxOffset      = 1 << 62                // so that offsets behind it are numbers too
)

var (
	// ErrLoading says that the source is loading its data set; it will answer later.
	ErrLoading = errors.New("source is loading its data")
	// ErrMasterDown says that the source is a replica without its master; it will
	// answer once it has it again.
	ErrMasterDown = errors.New("source is a replica whose master is down")
)

// RefusedError is an error reply to PSYNC, or in place of the RDB, that is none
// of the others.
type RefusedError struct {
	Reply string // without '-'
}

func (e *RefusedError) Error() string { return "source refuses to replicate: " + e.Reply }

// Permanent tells whether asking again cannot help: what answered does not know
// PSYNC (a proxy) or does not permit it. Other refusals, such as a failed fork,
// may pass.
func (e *RefusedError) Permanent() bool {
	low := strings.ToLower(e.Reply)
	for _, s := range []string{"unknown command", "not allowed", "not supported", "unsupported", "noperm", "denied"} {
		if strings.Contains(low, s) {
			return true
		}
	}
	return false
}

// Options are how to attach. The zero value works.
type Options struct {
	// ListeningPort is announced to the source, which shows it in INFO, where
	// Sentinel takes it for a replica's. 0: nothing is announced.
	ListeningPort int
	// NoEOF hides that a marked RDB would be understood: the source then
	// saves to its disk even with repl-diskless-sync.
	NoEOF bool
	// Timeout is how long the source may say nothing at all. 0: 60 s.
	Timeout time.Duration
}

// Start is what the source answered to PSYNC.
type Start struct {
	// Full: an RDB comes first. Else the stream goes on where it was asked to.
	Full bool
	// Position is the RDB's cut, or the position asked for, under the replid
	// that is valid from now on. The stream's next byte is Offset+1.
	Position repl.Position
}

// Link is a connection that the source treats as a replica. One goroutine may
// read while others call Ack or Close.
type Link struct {
	Start Start

	c       *resp.Conn
	timeout time.Duration
	rdb     *RDBReader

	wmu   sync.Mutex  // guards writes to c and acked
	acked repl.Offset // last offset acknowledged, -1 none
	deaf  bool        // Read's: a marked RDB has ended, and no stream byte has come yet
}

// Attach makes a replica of c: REPLCONF, then PSYNC from the position, or
// "? -1" for the zero one. It returns as soon as the source has answered, which
// for a diskless source may be after its delay for more replicas. ctx bounds
// Attach only. On an error c is of no use any more, and the caller closes it.
//
// Errors: ErrLoading, ErrMasterDown, *resp.AuthError, *RefusedError,
// resp.ErrProtocol, the connection's.
func Attach(ctx context.Context, c *resp.Conn, from repl.Position, o Options) (*Link, error) {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	l := &Link{c: c, timeout: o.Timeout, acked: -1}
	release, err := c.CloseOn(ctx)
	if err != nil {
		return nil, err
	}
	err = l.attach(from, o)
	if ended := release(); ended != nil {
		return nil, ended
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Link) attach(from repl.Position, o Options) error {
	var configs [][]string
	if o.ListeningPort > 0 {
		configs = append(configs, []string{"REPLCONF", "listening-port", strconv.Itoa(o.ListeningPort)})
	}
	if o.NoEOF {
		configs = append(configs, []string{"REPLCONF", "capa", "psync2"})
	} else {
		configs = append(configs, []string{"REPLCONF", "capa", "eof", "capa", "psync2"})
	}
	// Old servers refuse what they do not know; PSYNC decides. A proxy may
	// refuse this and hang up, and then this was its reason.
	var objection resp.ServerError
	for _, args := range configs {
		if err := l.send(args...); err != nil {
			return err
		}
		l.arm()
		if _, err := l.c.SkipReply(); err != nil && !errors.As(err, &objection) {
			return l.lost(err, objection)
		}
	}
	replid, next := "?", "-1"
	if !from.IsZero() {
		replid, next = string(from.ReplID), (from.Offset + 1).String()
	}
	if err := l.send("PSYNC", replid, next); err != nil {
		return l.lost(err, objection)
	}
	line, err := l.line()
	if err != nil {
		return l.lost(err, objection)
	}
	return l.begin(line, from)
}

// begin reads the answer to PSYNC.
func (l *Link) begin(line string, from repl.Position) error {
	f := strings.Fields(line)
	switch {
	case strings.HasPrefix(line, "-"):
		return l.refusal(line[1:])
	case len(f) == 3 && f[0] == "+FULLRESYNC":
		id, err := repl.ParseReplID(f[1])
		if err != nil {
			return fmt.Errorf("%w: %q: %w", resp.ErrProtocol, line, err)
		}
		off, err := repl.ParseOffset(f[2])
		if err == nil && off > maxOffset {
			err = fmt.Errorf("offset %d leaves no room for a stream", off)
		}
		if err != nil {
			return fmt.Errorf("%w: %q: %w", resp.ErrProtocol, line, err)
		}
		l.Start = Start{Full: true, Position: repl.Position{ReplID: id, Offset: off}}
		return nil
	case len(f) > 0 && len(f) <= 2 && f[0] == "+CONTINUE" && !from.IsZero():
		l.Start = Start{Position: from}
		if len(f) == 2 {
			id, err := repl.ParseReplID(f[1])
			if err != nil {
				return fmt.Errorf("%w: %q: %w", resp.ErrProtocol, line, err)
			}
			l.Start.Position.ReplID = id
		}
		return nil
	}
	return fmt.Errorf("%w: PSYNC was answered by %.80q", resp.ErrProtocol, line)
}

// refusal sorts an error reply, given without '-'.
func (l *Link) refusal(text string) error {
	switch code := resp.ServerError(text).Code(); {
	case code == "LOADING":
		return ErrLoading
	case code == "NOMASTERLINK", code == "MASTERDOWN", strings.Contains(text, "Can't SYNC while not connected with my master"):
		return ErrMasterDown
	case code == "NOAUTH":
		return &resp.AuthError{Addr: l.c.RemoteAddr().String(), Reply: text}
	}
	return &RefusedError{Reply: text}
}

// lost is the error of a connection that ended during the handshake.
func (l *Link) lost(err error, objection resp.ServerError) error {
	var ne net.Error
	if objection != "" && !(errors.As(err, &ne) && ne.Timeout()) {
		return l.refusal(string(objection))
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("attach to %s: %w", l.c.RemoteAddr(), err)
}

// line is the next line that is not empty: a source that has something to wait
// for sends a newline every second.
func (l *Link) line() (string, error) {
	for {
		l.arm()
		b, err := l.c.ReadLine()
		if err != nil {
			return "", err
		}
		if len(b) > 0 {
			return string(b), nil
		}
	}
}

// arm gives the source its time to say something.
func (l *Link) arm() { l.c.SetReadDeadline(time.Now().Add(l.timeout)) }

func (l *Link) send(args ...string) error {
	l.wmu.Lock()
	defer l.wmu.Unlock()
	return l.sendLocked(args...)
}

func (l *Link) sendLocked(args ...string) error {
	l.c.SetWriteDeadline(time.Now().Add(ackTimeout))
	if err := l.c.WriteCommand(args...); err != nil {
		return err
	}
	return l.c.Flush()
}

// Read reads stream bytes, the first of them number Start.Position.Offset+1. In
// a full sync the RDB must have been read to its end. io.EOF is a connection
// that the source closed.
func (l *Link) Read(p []byte) (int, error) {
	if l.Start.Full && (l.rdb == nil || !l.rdb.done) {
		return 0, errors.New("read stream: the RDB before it is not read to its end")
	}
	if l.deaf {
		return l.readDeaf(p)
	}
	l.arm()
	return l.c.Read(p)
}

// readDeaf reads the first stream bytes behind a marked RDB. The source sends
// none before it has an ACK, and it forgets those that come before its cron
// has noticed that the RDB is through: an ACK that follows the RDB at once is
// lost. So what was last acknowledged is repeated until the stream begins.
func (l *Link) readDeaf(p []byte) (int, error) {
	end := time.Now().Add(l.timeout)
	for {
		next := time.Now().Add(nudgeEvery)
		l.c.SetReadDeadline(next)
		n, err := l.c.Read(p)
		if n > 0 {
			l.deaf = false
		}
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || next.After(end) {
			return n, err
		}
		l.wmu.Lock()
		if l.acked >= 0 {
			err = l.sendLocked("REPLCONF", "ACK", l.acked.String())
		} else {
			err = nil
		}
		l.wmu.Unlock()
		if err != nil {
			return 0, err
		}
	}
}

// Ack tells the source that everything up to and including off is safe here:
// "REPLCONF ACK off", to which there is no reply. A source drops a replica from
// which it has heard nothing for its repl-timeout (60 s).
func (l *Link) Ack(off repl.Offset) error {
	l.wmu.Lock()
	defer l.wmu.Unlock()
	l.acked = off
	return l.sendLocked("REPLCONF", "ACK", off.String())
}

// Close closes the connection; a Read under way fails.
func (l *Link) Close() error { return l.c.Close() }
