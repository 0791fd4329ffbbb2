package verify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"time"

	"tairlift/internal/resp"
)

// wire is a pipelined connection to one server: commands are put (buffered),
// flushed, and their replies taken in the same order. It is used by one
// goroutine.
type wire struct {
	c       *resp.Conn
	srv     *server
	ctx     context.Context
	release func() error
	db      int
	out     []byte
}

// idleConn bounds each read and write by a time without progress, not by a time
// for the whole: a large value on a thin line may take long.
type idleConn struct {
	net.Conn
	idle time.Duration
}

func (c idleConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c idleConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// dial opens a wire that lives until close or until ctx ends.
func (s *server) dial(ctx context.Context) (*wire, error) {
	c, err := resp.Dial(ctx, s.addr, s.secret)
	if err != nil {
		return nil, explain(ctx, "connect to", s.name, err)
	}
	w := &wire{c: resp.NewConn(idleConn{c.NetConn(), s.idle}), srv: s, ctx: ctx}
	if w.release, err = w.c.CloseOn(ctx); err != nil {
		c.Close()
		return nil, err
	}
	if s.noTouch {
		var refused resp.ServerError // not worth stopping for
		if _, err := w.do("CLIENT", "NO-TOUCH", "ON"); err != nil && !errors.As(err, &refused) {
			w.close()
			return nil, w.fail(err)
		}
	}
	return w, nil
}

func (w *wire) close() {
	_ = w.release()
	w.c.Close()
}

// fail says which server err is about.
func (w *wire) fail(err error) error { return explain(w.ctx, "read", w.srv.name, err) }

func (w *wire) putStrings(args ...string) {
	w.out = resp.AppendCommandStrings(w.out, args...)
}

// flush sends what was put.
func (w *wire) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	_, err := w.c.Write(w.out)
	if err == nil {
		err = w.c.Flush()
	}
	w.out = trimmed(w.out)[:0]
	return err
}

// do is one command and its reply, with nothing else unanswered.
func (w *wire) do(args ...string) (resp.Reply, error) {
	w.putStrings(args...)
	if err := w.flush(); err != nil {
		return resp.Reply{}, err
	}
	return w.c.ReadReply()
}

// selectDB makes db the one of the commands put from now on. Nothing may be
// unanswered.
func (w *wire) selectDB(db int) error {
	if w.db == db {
		return nil
	}
	if _, err := w.do("SELECT", strconv.Itoa(db)); err != nil {
		return w.fail(fmt.Errorf("select db %d: %w", db, err))
	}
	w.db = db
	return nil
}

func (w *wire) takeInt() (int64, error) { return w.takeHeader(':') }

// takeArray reads an array's header: the number of its elements.
func (w *wire) takeArray() (int, error) {
	n, err := w.takeHeader('*')
	if err == nil && n < 0 {
		err = fmt.Errorf("%w: expected an array, got null", resp.ErrProtocol)
	}
	return int(n), err
}

// takeHeader reads a line of one type with a number on it.
func (w *wire) takeHeader(typ byte) (int64, error) {
	line, err := w.c.ReadLine()
	if err != nil {
		return 0, err
	}
	if len(line) > 1 && line[0] == typ {
		digits, neg := line[1:], line[1] == '-'
		if neg {
			digits = digits[1:]
		}
		var n int64
		for _, d := range digits {
			if d < '0' || d > '9' || n > math.MaxInt64/10-1 {
				return 0, fmt.Errorf("%w: number %q", resp.ErrProtocol, line)
			}
			n = n*10 + int64(d-'0')
		}
		if neg {
			n = -n
		}
		return n, nil
	}
	if len(line) > 0 && line[0] == '-' {
		return 0, resp.ServerError(line[1:])
	}
	return 0, fmt.Errorf("%w: expected type %q, got %.100q", resp.ErrProtocol, typ, line)
}

// putExists asks, for each key, whether it is there.
func (w *wire) putExists(keys *keyList) {
	for i := range keys.len() {
		w.out = append(w.out, "*2\r\n$6\r\nEXISTS\r\n"...)
		w.out = resp.AppendBulk(w.out, keys.at(i))
	}
}

// probe is the pair of commands that says what a key holds: its value or type,
// and its TTL. They are two commands: a write may slip between them, which the
// rounds cover.
type probe struct {
	command []byte // header and name of the first
	dump    bool
}

var (
	dumpProbe = probe{command: []byte("*2\r\n$4\r\nDUMP\r\n"), dump: true}
	typeProbe = probe{command: []byte("*2\r\n$4\r\nTYPE\r\n")}
)

// putProbe asks for every key of keys.
func (w *wire) putProbe(p probe, keys *keyList) {
	for i := range keys.len() {
		k := keys.at(i)
		w.out = append(w.out, p.command...)
		w.out = resp.AppendBulk(w.out, k)
		w.out = append(w.out, "*2\r\n$4\r\nPTTL\r\n"...)
		w.out = resp.AppendBulk(w.out, k)
	}
}

// takeProbe reads what putProbe asked about n keys.
func (w *wire) takeProbe(p probe, n int, into *reading) error {
	into.reset()
	for range n {
		var gone bool
		var err error
		if p.dump {
			var large *resp.Bulk
			into.arena, gone, large, err = w.c.ReadOrOpenBulk(into.arena, int64(into.most-len(into.arena)))
			if large != nil {
				err = into.digest(large)
			}
		} else {
			var line []byte
			if line, err = w.c.ReadLine(); err == nil {
				switch {
				case len(line) > 0 && line[0] == '+':
					gone = string(line) == "+none"
					into.arena = append(into.arena, line[1:]...)
				case len(line) > 0 && line[0] == '-':
					err = resp.ServerError(line[1:])
				default:
					err = fmt.Errorf("%w: expected a type, got %q", resp.ErrProtocol, line)
				}
			}
		}
		if err != nil {
			return w.fail(err)
		}
		ttl, err := w.takeInt()
		if err != nil {
			return w.fail(err)
		}
		into.ends = append(into.ends, len(into.arena))
		into.gone = append(into.gone, gone || ttl == -2)
		left, isHeld := heldLeft(ttl)
		into.ttl, into.held = append(into.ttl, left), append(into.held, isHeld)
	}
	return nil
}

// reading is what one side said about the keys of a chunk.
type reading struct {
	most    int       // bytes of arena; what does not fit is digested as it arrives
	digests *digester // by this

	arena []byte
	ends  []int
	far   []far // what was not held, in order
	bytes int64 // of far
	gone  []bool
	ttl   []int64 // ms; -1 none
	held  []bool  // ttl stands for one that is held back; see heldLeft
}

func (r *reading) reset() {
	r.arena = trimmed(r.arena)[:0]
	r.ends, r.gone, r.ttl, r.held = r.ends[:0], r.gone[:0], r.ttl[:0], r.held[:0]
	r.far, r.bytes = r.far[:0], 0
}

// size is the number of bytes that came.
func (r *reading) size() int64 { return int64(len(r.arena)) + r.bytes }

// body is the DUMP payload or the type's name, valid until the next reset; empty
// if it is not held.
func (r *reading) body(i int) []byte {
	if i == 0 {
		return r.arena[:r.ends[0]]
	}
	return r.arena[r.ends[i-1]:r.ends[i]]
}

// keepBytes is the largest buffer that is kept for the next use: one large
// value must not stay in memory for the whole run.
const keepBytes = 8 << 20

func trimmed(b []byte) []byte {
	if cap(b) > keepBytes {
		return nil
	}
	return b
}

// keyList is a list of keys in one piece of memory.
type keyList struct {
	arena []byte
	ends  []int
}

func (l *keyList) len() int { return len(l.ends) }

func (l *keyList) at(i int) []byte {
	if i == 0 {
		return l.arena[:l.ends[0]]
	}
	return l.arena[l.ends[i-1]:l.ends[i]]
}

func (l *keyList) add(key []byte) {
	l.arena = append(l.arena, key...)
	l.ends = append(l.ends, len(l.arena))
}

func (l *keyList) addString(key string) {
	l.arena = append(l.arena, key...)
	l.ends = append(l.ends, len(l.arena))
}

// move takes the first n keys out of l and appends them to to.
func (l *keyList) move(to *keyList, n int) {
	cut := l.ends[n-1]
	for i := range n {
		to.add(l.at(i))
	}
	l.arena = append(l.arena[:0], l.arena[cut:]...)
	l.ends = append(l.ends[:0], l.ends[n:]...)
	for i := range l.ends {
		l.ends[i] -= cut
	}
}

func (l *keyList) reset() { l.arena, l.ends = trimmed(l.arena)[:0], l.ends[:0] }
