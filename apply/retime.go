package apply

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"tairlift/internal/resp"
)

// Retime sets deadlines of keys of one database anew, in one EXEC with the mark
// m, which moves nothing but what is said of deadlines. decide is given each
// key's deadline in ms since 1970, below 0 when it has none or is not there, and
// the target's clock; it returns the new one, or false to leave the key alone.
// The keys are watched from before they are looked at, so a key that anybody
// writes to meanwhile makes nothing of it happen: errMoved. It tells how many
// were set. Nothing of a batch is queued or unanswered when it is called; a
// transaction that Commit has opened is closed. Errors otherwise: those of
// Queue, Commit and Answer.
//
// A server before 7.0 tells how long a key has left and not until when: that is
// late by the time between the two answers, which are sent together.
func (l *Lane) Retime(db int, keys [][]byte, m Mark, decide func(deadline, now int64) (ms int64, ok bool)) (set int, err error) {
	if err := l.abandon(); err != nil {
		return 0, err
	}
	ask := "PTTL"
	if l.target.major >= 7 {
		ask = "PEXPIRETIME"
	}
	out := resp.AppendCommandStrings(l.out[:0], "SELECT", strconv.Itoa(db))
	out = resp.AppendArrayHeader(out, 1+len(keys))
	out = resp.AppendBulkString(out, "WATCH")
	for _, k := range keys {
		out = resp.AppendBulk(out, k)
	}
	for _, k := range keys {
		out = resp.AppendArrayHeader(out, 2)
		out = resp.AppendBulkString(out, ask)
		out = resp.AppendBulk(out, k)
	}
	l.out = resp.AppendCommandStrings(out, "TIME")
	if err := l.write(l.out); err != nil {
		return 0, err
	}
	if err := l.begin(); err != nil {
		return 0, err
	}
	if err := l.conn.Flush(); err != nil {
		return 0, err
	}
	left, now, err := l.deadlines(len(keys))
	if err != nil {
		return 0, err
	}
	b := &Batch{db: dbNone}
	for i, k := range keys {
		deadline := left[i]
		if ask == "PTTL" && deadline >= 0 {
			deadline += now
		}
		ms, ok := decide(deadline, now)
		if !ok {
			continue
		}
		b.use(db, 0)
		b.buf = resp.AppendArrayHeader(b.buf, 3)
		b.buf = resp.AppendBulkString(b.buf, "PEXPIREAT")
		b.buf = resp.AppendBulk(b.buf, k)
		b.buf = resp.AppendBulkInt(b.buf, ms)
		b.added(1, 0)
		set++
	}
	if set == 0 {
		return 0, l.abandon()
	}
	if err := l.Queue(b, m); err != nil {
		return 0, err
	}
	if err := l.Commit(false); err != nil {
		return 0, err
	}
	failed, err := l.Answer(m, nil)
	var u *unmarkedError
	if errors.As(err, &u) { // what was set exact stays so, whatever the mark says
		return 0, l.markRefused(u.cause)
	}
	if err == nil && len(failed) > 0 {
		err = fmt.Errorf("set a deadline exact: %w", failed[0].Err)
	}
	return set, err
}

// deadlines reads the answers to what Retime asks of n keys.
func (l *Lane) deadlines(n int) (left []int64, now int64, err error) {
	if err := l.listen(); err != nil {
		return nil, 0, err
	}
	for _, what := range []string{"select a database", "watch keys"} {
		if _, err := l.conn.SkipReply(); err != nil {
			return nil, 0, fmt.Errorf("%s: %w", what, err)
		}
	}
	left = make([]int64, n)
	for i := range left {
		r, err := l.conn.ReadReply()
		if err == nil && r.Type != ':' {
			err = fmt.Errorf("%w: answered by type %q", resp.ErrProtocol, r.Type)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("ask for a deadline: %w", err)
		}
		left[i] = r.Int
	}
	r, err := l.conn.ReadReply()
	if err != nil {
		return nil, 0, fmt.Errorf("ask for the target's time: %w", err)
	}
	at, err := timeOf(r)
	return left, at.UnixMilli(), err
}

// timeOf reads the answer to TIME.
func timeOf(r resp.Reply) (time.Time, error) {
	if len(r.Elems) == 2 {
		s, err := strconv.ParseInt(string(r.Elems[0].Str), 10, 64)
		us, err2 := strconv.ParseInt(string(r.Elems[1].Str), 10, 64)
		if err == nil && err2 == nil {
			return time.Unix(s, us*1000), nil
		}
	}
	return time.Time{}, fmt.Errorf("%w: TIME was not answered by two numbers", resp.ErrProtocol)
}

// abandon closes the transaction that was opened for a next batch.
func (l *Lane) abandon() error {
	if !l.begun {
		return nil
	}
	if err := l.opened(); err != nil {
		return err
	}
	if err := l.write(discardCommand); err != nil {
		return err
	}
	if err := l.conn.Flush(); err != nil {
		return err
	}
	if err := l.listen(); err != nil {
		return err
	}
	if _, err := l.conn.SkipReply(); err != nil {
		return fmt.Errorf("discard a transaction: %w", err)
	}
	l.silence.answered(laneConn)
	return nil
}

var discardCommand = resp.AppendCommandStrings(nil, "DISCARD")
