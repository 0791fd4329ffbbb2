package apply

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tairlift/internal/resp"
	"tairlift/internal/selection"
)

// errNoMark says that the target holds no mark for the lane.
var errNoMark = errors.New("no mark on the target")

// errMoved says that the mark is not what this session last wrote: somebody
// else wrote it, or the target went back in time. The session ends; the next
// one reads the mark and learns which.
var errMoved = errors.New("the mark on the target is not the one this session wrote")

// queueError is the answer of a server that refused a command at queue time.
// Nothing of the batch happened.
type queueError struct {
	Index int // within the batch's commands; len(commands) and above are our own
	Err   resp.ServerError
}

func (e *queueError) Error() string { return string(e.Err) }

// Lane is one serial way into the target: batches are committed one after the
// other, each in one MULTI/EXEC with the lane's mark.
//
// A session of a lane begins with Open, which writes a fresh owner token into
// the mark. Each batch then goes Queue, Commit, Answer. Its commands are sent
// only after MULTI was answered, and a GET behind a WATCH ahead of it has shown
// the very mark this session wrote last; EXEC only after all were queued. So a
// batch is executed at most once, whatever happens to connections: bytes that a
// hung socket delivers late are either not followed by an EXEC, or their WATCH
// precedes the next session's token. And nothing is executed outside its
// transaction: a server that refuses MULTI, because a script runs or it is
// loading, may have come to the end of that at the command behind it.
//
// After any error the session is over and the connection closed; what was
// committed is told by the mark that the next Open reads. A Lane is used by
// one goroutine.
type Lane struct {
	addr      string
	secret    resp.Secret
	key       string // of the mark
	owner     owner
	taken     int64 // the generation in which this process owned the mark last; 0 is never
	selection *selection.Selection
	anew      bool // Open makes a mark where there is none, or none that can be read
	// gate, unless nil, is open while this lane's EXEC is unanswered, and closed
	// by a lane whose batch depends on where the others stand.
	gate    *sync.RWMutex
	inside  bool // the gate
	session int
	timeout time.Duration    // for any one answer
	wall    func() time.Time // see Options
	silence *silence

	conn   *resp.Conn
	target target
	mark   Mark   // as committed
	text   []byte // its exact bytes
	next   Mark   // of the batch queued or committed last
	queued int    // commands of the batch queued, without our own
	begun  bool   // the next transaction's opening was sent, and not answered yet
	buf    []byte // the mark that GET returned
	out    []byte // bytes around a batch
	rtt    time.Duration
	sent   time.Time      // when the batch was queued
	took   time.Duration  // waited for its answers, without what lay between Commit and Answer
	ahead  *time.Duration // the target's clock, of this machine's
	least  leastBehind

	hurried atomic.Int64 // when waiting ends, in Unix nanoseconds; 0 is not yet
}

// hurryTime is what a session that is asked to end gives the target for what is
// under way.
const hurryTime = 2 * time.Second

// hurry makes the rest of the session short, because the process is to stop. It
// may be called from any goroutine, with the connection that Open made.
func (l *Lane) hurry(conn *resp.Conn) {
	end := time.Now().Add(hurryTime)
	l.hurried.Store(end.UnixNano())
	_ = conn.SetDeadline(end)
}

// bound gives the next answer its time, by one of the connection's
// Set...Deadline methods.
func (l *Lane) bound(set func(time.Time) error) error {
	for {
		hurried := l.hurried.Load()
		end := time.Now().Add(l.timeout)
		if hurried != 0 {
			end = time.Unix(0, hurried)
		}
		if err := set(end); err != nil {
			return err
		}
		if l.hurried.Load() == hurried { // else this undid what hurry had set
			return nil
		}
	}
}

// listen makes ready to wait for answers.
func (l *Lane) listen() error {
	l.silence.asks(laneConn)
	return l.bound(l.conn.SetReadDeadline)
}

// Open connects and takes the mark over. It returns the mark found, with the
// new owner in it. Errors: errNoMark, ErrTaken when another process has taken
// over the mark that this one owned, else of the connection.
func (l *Lane) Open(ctx context.Context) (Mark, error) {
	l.Close()
	l.begun = false
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	l.silence.asks(laneConn)
	conn, err := resp.Dial(ctx, l.addr, l.secret)
	if err != nil {
		return Mark{}, err
	}
	l.conn = conn
	m, err := l.take(ctx)
	if err != nil {
		l.Close()
		return Mark{}, err
	}
	return m, nil
}

func (l *Lane) take(ctx context.Context) (Mark, error) {
	t, err := probe(ctx, l.conn)
	if err != nil {
		return Mark{}, err
	}
	l.target = t
	do := func(args ...string) (resp.Reply, error) {
		l.silence.asks(laneConn)
		r, err := l.conn.Do(ctx, args...)
		var se resp.ServerError
		if err == nil || errors.As(err, &se) {
			l.silence.answered(laneConn)
		}
		return r, err
	}
	if err := l.measure(do); err != nil {
		return Mark{}, err
	}
	for range 10 {
		begun := time.Now()
		if _, err := do("SELECT", "0"); err != nil {
			return Mark{}, fmt.Errorf("select database 0 of the target: %w", err)
		}
		l.rtt = time.Since(begun)
		if _, err := do("WATCH", l.key); err != nil {
			return Mark{}, fmt.Errorf("watch mark %s: %w", l.key, err)
		}
		r, err := do("GET", l.key)
		switch {
		case isWrongType(err):
			r = resp.Reply{Str: []byte(err.Error())} // no mark can be read in it
		case err != nil:
			return Mark{}, fmt.Errorf("get mark %s: %w", l.key, err)
		case r.Null && !l.anew:
			return Mark{}, errNoMark
		case r.Type != '$':
			return Mark{}, fmt.Errorf("%w: GET of mark %s was answered by type %q", resp.ErrProtocol, l.key, r.Type)
		}
		m, err := ParseMark(string(r.Str))
		if err != nil && l.anew {
			m, err = Mark{Owner: l.owner.token(0), Selection: l.selection.Digest()}, nil
		}
		if err != nil {
			return Mark{}, &StopError{
				Reason: "mark-unreadable",
				What:   fmt.Sprintf("mark %s on the target cannot be read: %v", l.key, err),
				Hint:   "if a newer tairlift wrote it, use that version; else start the same command with --reseed, which loads the newest RDB again and makes the target equal",
			}
		}
		if err := checkSelection(m, l.selection); err != nil {
			return Mark{}, err
		}
		gen := generation(m.Owner)
		if l.taken > 0 && gen > l.taken && !l.owner.wrote(m.Owner) {
			return Mark{}, ErrTaken
		}
		l.session++
		gen = max(gen+1, l.taken+1, time.Now().UnixMilli())
		m.Owner, m.RunID = l.owner.taking(l.session, gen), t.runID
		text := m.String()
		if _, err := do("MULTI"); err != nil {
			return Mark{}, fmt.Errorf("begin a transaction on the target: %w", err)
		}
		if _, err := do("SET", l.key, text); err != nil {
			return Mark{}, fmt.Errorf("set mark %s: %w", l.key, err)
		}
		r, err = do("EXEC")
		var se resp.ServerError
		if errors.As(err, &se) {
			err = refusedExec(se)
		}
		if err != nil {
			return Mark{}, fmt.Errorf("write owner into mark %s: %w", l.key, err)
		}
		if r.Null { // an older session's last EXEC came between
			continue
		}
		l.taken = gen
		l.mark, l.text = m, append(l.text[:0], text...)
		return m, nil
	}
	return Mark{}, &waitError{reason: "target-mark-contended", err: fmt.Errorf("mark %s changed ten times while it was taken over", l.key)}
}

// measure asks for the target's clock, and again while its answer takes long: what
// it says was so at some time between.
func (l *Lane) measure(do func(args ...string) (resp.Reply, error)) error {
	best := time.Duration(math.MaxInt64)
	for range 3 {
		at, begun := l.wall(), time.Now()
		r, err := do("TIME")
		took := time.Since(begun)
		var refused resp.ServerError // not worth stopping for
		if err != nil && !errors.As(err, &refused) {
			return fmt.Errorf("ask for the target's time: %w", err)
		}
		told, bad := timeOf(r)
		if err != nil || bad != nil {
			l.ahead = nil
			return nil
		}
		if took < best {
			ahead := told.Sub(at.Add(took / 2))
			best, l.ahead = took, &ahead
		}
		if took < promptly {
			break
		}
	}
	return nil
}

// promptly is how long an answer takes that tells the time well enough.
const promptly = 50 * time.Millisecond

// Close ends the session.
func (l *Lane) Close() {
	l.leave()
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

// enter waits while another lane has closed the gate.
func (l *Lane) enter() {
	if l.gate != nil && !l.inside {
		l.gate.RLock()
		l.inside = true
	}
}

func (l *Lane) leave() {
	if l.inside {
		l.gate.RUnlock()
		l.inside = false
	}
}

// Mark is the mark as this session knows it to be committed.
func (l *Lane) Mark() Mark { return l.mark }

// begin sends what opens a transaction, without which no command of a batch may
// be sent.
func (l *Lane) begin() error {
	out := resp.AppendCommandStrings(l.out[:0], "SELECT", "0")
	out = resp.AppendCommandStrings(out, "WATCH", l.key)
	out = resp.AppendCommandStrings(out, "GET", l.key)
	l.out = resp.AppendCommandStrings(out, "MULTI")
	l.begun = true
	return l.write(l.out)
}

// opened reads what the server said to begin.
func (l *Lane) opened() error {
	if err := l.listen(); err != nil {
		return err
	}
	l.begun = false
	for _, what := range []string{"select database 0", "watch the mark"} {
		if _, err := l.conn.SkipReply(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	got, null, err := l.conn.ReadBulk(l.buf[:0])
	if isWrongType(err) {
		return errMoved
	}
	if err != nil {
		return fmt.Errorf("get the mark: %w", err)
	}
	l.buf = got
	if _, err := l.conn.SkipReply(); err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	l.silence.answered(laneConn)
	if null || string(got) != string(l.text) {
		return errMoved
	}
	return nil
}

// Queue sends a batch and the mark that vouches for it, up to and not
// including EXEC, within a transaction that is known to be open and ours. Of m,
// the position is the caller's; owner, run id and selection are filled in. Errors: errMoved.
func (l *Lane) Queue(b *Batch, m Mark) error {
	if !l.begun {
		if err := l.begin(); err != nil {
			return err
		}
		if err := l.conn.Flush(); err != nil {
			return err
		}
	}
	if err := l.opened(); err != nil {
		return err
	}
	m.Owner, m.RunID, m.Selection = l.mark.Owner, l.mark.RunID, l.mark.Selection
	l.next, l.queued = m, len(b.cmds)
	l.sent = time.Now()
	if err := l.write(b.buf); err != nil {
		return err
	}
	out := resp.AppendCommandStrings(l.out[:0], "SELECT", "0")
	l.out = resp.AppendCommandStrings(out, "SET", l.key, m.String())
	if err := l.write(l.out); err != nil {
		return err
	}
	return l.conn.Flush()
}

// writePiece and readPiece are what one timeout is for: a batch may be as large
// as the largest transaction of the source.
const (
	writePiece = 1 << 20 // bytes
	readPiece  = 1000    // replies
)

func (l *Lane) write(p []byte) error {
	for len(p) > 0 {
		if err := l.bound(l.conn.SetWriteDeadline); err != nil {
			return err
		}
		n, err := l.conn.Write(p[:min(len(p), writePiece)])
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// ownReplies is the number of our own commands behind a batch, within MULTI.
const ownReplies = 2

// Commit reads what the server said to the queued batch and sends its EXEC if
// all of it was queued. More tells that another batch will follow: its
// transaction is opened at once, so that no round trip is for that alone; until
// then the connection is good for nothing else. Errors: *queueError, and
// resp.ErrNotQueued when something of the batch was executed already.
func (l *Lane) Commit(more bool) error {
	if err := l.listen(); err != nil {
		return err
	}
	var refused *queueError
	for left := l.queued + ownReplies; left > 0; {
		n, e, err := l.conn.ReadQueued(left, readPiece)
		if err != nil {
			return err
		}
		if e != nil && refused == nil {
			refused = &queueError{Index: l.queued + ownReplies - left + e.Index, Err: e.Err}
		}
		if left -= n; left > 0 {
			l.silence.answered(laneConn)
			if err := l.listen(); err != nil {
				return err
			}
		}
	}
	l.silence.answered(laneConn)
	l.took = time.Since(l.sent)
	if refused != nil {
		return refused
	}
	l.enter()
	l.text = append(l.text[:0], l.next.String()...)
	if err := l.write(execCommand); err != nil {
		return err
	}
	if more {
		if err := l.begin(); err != nil {
			return err
		}
	}
	return l.conn.Flush()
}

var execCommand = resp.AppendCommandStrings(nil, "EXEC")

// Answer reads EXEC's reply. Once it returns without an error, the batch and
// its mark are committed; commands of the batch that failed are in failed, by
// their index within the batch. m is the mark given to Queue. Errors:
// *unmarkedError; errMoved and a *waitError when nothing was executed.
// tell, unless nil, is called with each reply that is an integer.
func (l *Lane) Answer(m Mark, tell func(i int, n int64)) (failed []resp.ExecError, err error) {
	if err := l.listen(); err != nil {
		return nil, err
	}
	begun := time.Now()
	r, err := l.conn.ReadExecInts(tell)
	l.took += time.Since(begun)
	l.leave()
	if err != nil {
		return nil, err
	}
	l.silence.answered(laneConn)
	switch {
	case r.Null:
		return nil, errMoved
	case r.Err != "":
		return nil, refusedExec(r.Err)
	}
	if r.N != l.queued+ownReplies {
		return nil, fmt.Errorf("%w: EXEC of %d commands was answered with %d replies", resp.ErrProtocol, l.queued+ownReplies, r.N)
	}
	for _, e := range r.Errors {
		if e.Index >= l.queued {
			return nil, &unmarkedError{cause: e.Err}
		}
	}
	m.Owner, m.RunID, m.Selection = l.mark.Owner, l.mark.RunID, l.mark.Selection
	l.mark = m
	return r.Errors, nil
}

// unmarkedError says that a batch was executed and its mark was not: what goes
// on from the old mark applies the batch twice.
type unmarkedError struct{ cause resp.ServerError }

func (e *unmarkedError) Error() string {
	return "the target executed a batch but refused its mark: " + string(e.cause)
}

// refusedExec is the answer of a server that had accepted every command and
// then executed none: Redis 5 answers a write on a server that became a replica
// meanwhile so. Whatever it says, the batch may be sent again.
func refusedExec(e resp.ServerError) error {
	cause := execCause(e)
	if c, _ := classify(cause); c == classWait {
		return cause
	}
	return &waitError{reason: "target-exec-refused", err: fmt.Errorf("the target does not execute a transaction: %w", cause)}
}

// Write commits m alone.
func (l *Lane) Write(m Mark) error {
	if err := l.Queue(&Batch{}, m); err != nil {
		return err
	}
	err := l.Commit(false)
	var q *queueError
	if errors.As(err, &q) {
		if c, _ := classify(q.Err); c == classPermanent {
			return l.markRefused(q.Err)
		}
	}
	if err != nil {
		return err
	}
	_, err = l.Answer(m, nil)
	var u *unmarkedError
	if errors.As(err, &u) { // there was nothing beside it
		return l.markRefused(u.cause)
	}
	return err
}

// Exclusive commits one batch whose content depends on other lanes' marks, and
// which is executed only if none of those has moved since decide saw them:
// texts[i] is the mark named others[i], empty when there is none. No lane of
// this process that shares the gate has an EXEC on its way meanwhile. decide may
// return nil: then nothing is committed. moved says that another mark did move:
// nothing was executed, and it may be tried again. Nothing else is queued or
// unanswered when it is called.
func (l *Lane) Exclusive(ctx context.Context, others []string, decide func(texts []string) (*Batch, error)) (moved bool, err error) {
	failed, moved, err := l.exclusive(ctx, others, decide, nil)
	if err == nil && len(failed) > 0 {
		err = failed[0].Err
	}
	return moved, err
}

// exclusive is Exclusive for a batch of which commands may fail, and of which tell
// is given the answers that are integers.
func (l *Lane) exclusive(ctx context.Context, others []string, decide func(texts []string) (*Batch, error), tell func(i int, n int64)) (failed []resp.ExecError, moved bool, err error) {
	l.gate.Lock()
	defer l.gate.Unlock()
	do := func(args ...string) (resp.Reply, error) { return control{l.conn, l.timeout}.Do(ctx, args...) }
	if _, err := do("SELECT", "0"); err != nil {
		return nil, false, err
	}
	if _, err := do(append([]string{"WATCH", l.key}, others...)...); err != nil {
		return nil, false, fmt.Errorf("watch marks: %w", err)
	}
	texts := make([]string, len(others))
	for i, key := range append([]string{l.key}, others...) {
		text, _, err := getMark(ctx, control{l.conn, l.timeout}, key)
		switch {
		case err != nil:
			return nil, false, err
		case i > 0:
			texts[i-1] = text
		case text != string(l.text):
			return nil, false, errMoved
		}
	}
	b, err := decide(texts)
	if err != nil {
		return nil, false, err
	}
	if b == nil {
		_, err := do("UNWATCH")
		return nil, false, err
	}
	if _, err := do("MULTI"); err != nil { // nothing may run outside of it
		return nil, false, fmt.Errorf("begin a transaction: %w", err)
	}
	out := resp.AppendCommandStrings(append([]byte(nil), b.buf...), "SELECT", "0")
	out = resp.AppendCommandStrings(out, "SET", l.key, string(l.text))
	if err := l.write(append(out, execCommand...)); err != nil {
		return nil, false, err
	}
	if err := l.conn.Flush(); err != nil {
		return nil, false, err
	}
	if err := l.listen(); err != nil {
		return nil, false, err
	}
	n := len(b.cmds) + ownReplies
	_, refused, err := l.conn.ReadQueued(n, n)
	if err != nil {
		return nil, false, err
	}
	r, err := l.conn.ReadExecInts(tell)
	if err != nil {
		return nil, false, err
	}
	l.silence.answered(laneConn)
	switch {
	case refused != nil: // and with it EXEC
		return nil, false, refused.Err
	case r.Null:
		return nil, true, nil
	case r.Err != "":
		return nil, false, refusedExec(r.Err)
	}
	for _, e := range r.Errors {
		if e.Index >= len(b.cmds) {
			return nil, false, l.markRefused(e.Err)
		}
	}
	return r.Errors, false, nil
}

func (l *Lane) markRefused(cause resp.ServerError) error {
	return &StopError{
		Reason: "mark-refused",
		What:   fmt.Sprintf("the target refuses the mark %s: %s", l.key, cause),
		Hint:   "give the target's account the right to SELECT, WATCH, GET and SET keys tairlift:*, then start the same command again",
	}
}

// execCause finds in the text of a refused EXEC the error behind it: Redis 7
// answers "EXECABORT Transaction discarded because of: OOM ...".
func execCause(e resp.ServerError) resp.ServerError {
	if _, cause, ok := strings.Cut(string(e), "because of: "); ok && e.Code() == "EXECABORT" {
		return resp.ServerError(cause)
	}
	return e
}
