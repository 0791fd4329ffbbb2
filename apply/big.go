package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"tairlift/internal/native"
	"tairlift/internal/rdb"
	"tairlift/internal/resp"
)

// A value that is too large to be written by one command, or transaction, is
// written in chunks by the goroutine that decodes, while the restorers go on with
// what they have. The chunks go to a key of ours in the same database, which
// RENAME puts in place when it is whole, in one transaction with the deadline:
// who reads the key sees the old value or all of the new one. The boundary of
// answered entries stays in front of it meanwhile, so that a session that begins
// again writes it from its first byte; what the one before has left under the
// temporary name is removed first. No RENAME comes late: the connection bears the
// name of those that write outside the mark, which a session ends before it
// writes.

// bigWriter writes big values over a connection of its own.
type bigWriter struct {
	s       *snapshot
	conn    control
	release func() error
	db      int
	w       *native.Writer

	name    []byte                          // that is written to
	due     int                             // commands that are not answered
	wait    func(commands, bytes int) error // for its turn
	used    time.Time
	lasting bool                     // an element has no deadline of its own
	gone    bool                     // all had one, and it has passed
	refused resp.ServerError         // the target will never take the value
	unmade  *native.UnsupportedError // no commands make it; refused is set too
	show    func()
}

// ctx ends what it does.
func (s *snapshot) openBig(ctx context.Context) (*bigWriter, error) {
	if s.writer != nil {
		if time.Since(s.writer.used) < s.g.job.o.beat {
			return s.writer, nil
		}
		s.writer.close() // it may have been closed meanwhile as idle; all on it is answered
		s.writer = nil
	}
	conn, err := s.outside(ctx)
	if err != nil {
		return nil, err
	}
	b := &bigWriter{s: s, conn: conn}
	if b.release, err = conn.CloseOn(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	b.wait = func(commands, bytes int) error { return b.paced(ctx, int64(commands), int64(bytes)) }
	b.w = native.NewWriter(native.Options{Target: s.target.native()}, b.send)
	b.bound()
	s.writer = b
	return b, nil
}

// bound makes the next chunks as large as the pace wants them now.
func (b *bigWriter) bound() {
	_, most := b.s.g.pace.Most(1, b.s.g.job.o.valueChunk)
	b.w.Bound(most)
}

// paced waits for the pace. If it does, what is due is answered before, so that
// the target is not taken for silent.
func (b *bigWriter) paced(ctx context.Context, commands, bytes int64) error {
	g := b.s.g
	if ctx.Err() == nil && g.pace.Take(commands, bytes) {
		return nil
	}
	if err := b.answers(b.due); err != nil {
		return err
	}
	return g.beside(ctx, func() error { return b.s.ping(b.conn, bigConn) }, func(ctx context.Context) error { return g.pace.Wait(ctx, commands, bytes) })
}

func (b *bigWriter) close() {
	if b == nil {
		return
	}
	_ = b.release() // the goroutine's own error says why it ended
	b.conn.Close()
}

// big writes the entry in hand, which begins behind before.
func (s *snapshot) big(ctx context.Context, e *rdb.Entry, before rdb.Boundary) error {
	if rdb.KindOf(e.Type) == rdb.KindModule {
		return s.bigModule(ctx, e, before)
	}
	b, err := s.openBig(ctx)
	if err != nil {
		return err
	}
	if err := s.g.job.existing.sync(); err != nil { // of the key, which is about to go
		return err
	}
	v := bigValue{db: e.DB, key: slices.Clone(e.Key), typ: e.Type, kind: rdb.KindOf(e.Type), ms: e.ExpireMS, before: before}
	done := &chunk{seq: s.seq, entries: 1, seen: counts{native: 1, timed: e.ExpireMS != 0}}
	s.seq++
	defer s.g.status.update(func(st *Status) { st.Writing = nil })
	b.show = func() { s.showBig(v, before.Offset, s.dec.Offset()-before.Offset) }
	if err := b.value(v); err != nil {
		return ended(ctx, err)
	}
	if err := s.dec.Skip(); err != nil { // what was refused before it was read
		return s.readErr(err)
	}
	if b.gone {
		done.seen.expired = 1
	}
	switch {
	case b.unmade != nil:
		err = s.cannot(v.db, v.key, v.typ, b.unmade)
	case b.refused != "":
		err = s.reject(v.db, v.key, b.refused)
	}
	if err != nil {
		return err
	}
	done.end = s.dec.Boundary()
	s.water.done(done)
	return nil
}

// ended is ctx's error once that has ended, which closes connections.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// bigValue is one that is written in chunks.
type bigValue struct {
	db   int
	key  []byte
	typ  byte
	kind rdb.Kind
	ms   int64

	before rdb.Boundary
}

// value writes the value of the decoder's entry. What the target refuses for
// good is in b.refused.
func (b *bigWriter) value(v bigValue) error {
	b.refused, b.unmade, b.due, b.name = "", nil, 0, v.key
	b.lasting, b.gone = false, false
	aside := b.s.target.takes.renames()
	if aside {
		b.name = []byte(tempKey(b.s.g.job.o.Job, b.s.g.id))
	} else {
		b.s.g.job.inPlace.Do(func() {
			b.s.g.log.Warn("the target has no RENAME for this account: large values are written under their own names, and are seen half until they are whole", "first", string(short(v.key)))
		})
	}
	if err := b.s.use(b.conn, &b.db, v.db); err != nil {
		return err
	}
	if err := b.run([]byte(b.s.target.takes.remove()), b.name); err != nil || b.refused != "" {
		return err
	}
	if err := b.unsupported(b.w.Begin(b.name, v.kind)); err != nil {
		return err
	}
	n, err := b.elements(v, b.s.dec)
	if err == nil && b.refused == "" && b.w.Lost() > 0 {
		n, err = b.again(v)
	}
	if err == nil {
		err = b.answers(b.due)
	}
	if err != nil {
		return err
	}
	if b.refused == "" {
		if err := b.whole(v, n); err != nil {
			return err
		}
	}
	if b.refused == "" {
		if err := b.place(v, n, aside); err != nil {
			return err
		}
	}
	if b.refused != "" {
		return b.giveUp()
	}
	return nil
}

// elements writes the commands that make the value and reads their answers but
// for the last ones. n is how many elements it has, bytes of a string.
func (b *bigWriter) elements(v bigValue, dec *rdb.Decoder) (n int64, err error) {
	failed := false
	_, count, err := dec.Elements(func(e rdb.Element) error {
		n += int64(len(e.A))
		b.lasting = b.lasting || e.DeadlineMS == 0
		switch {
		case b.refused != "": // what is left is passed over
			return nil
		case int64(max(len(e.A), len(e.B))) > b.s.target.takes.maxBulk:
			b.refused = resp.ServerError(fmt.Sprintf("an element of %d bytes is larger than the target takes (its proto-max-bulk-len is %d)", max(len(e.A), len(e.B)), b.s.target.takes.maxBulk))
			return nil
		}
		err := b.unsupported(b.w.Add(e))
		failed = err != nil
		return err
	})
	if v.kind != rdb.KindString {
		n = count
	}
	if err == nil && b.refused == "" {
		failed = true
		err = b.unsupported(b.w.Finish())
	}
	if err != nil && !failed {
		err = b.s.readErr(err)
	}
	return n, err
}

// again writes a stream a second time, with what its first reading has told of
// pending entries that are deleted from it.
func (b *bigWriter) again(v bigValue) (n int64, err error) {
	if err := b.answers(b.due); err != nil || b.refused != "" {
		return 0, err
	}
	if err := b.run([]byte(b.s.target.takes.remove()), b.name); err != nil || b.refused != "" {
		return 0, err
	}
	in, err := b.s.g.spool.OpenRDBAt(b.s.epoch, v.before.Offset)
	if err != nil {
		return 0, b.s.g.spoolErr(err)
	}
	defer in.Close()
	dec := rdb.Resume(in, v.before, rdb.Options{Hold: -1})
	if _, err := dec.Next(); err != nil {
		return 0, b.s.readErr(err)
	}
	b.w.Again()
	return b.elements(v, dec)
}

// unsupported takes from err what the value is to blame for.
func (b *bigWriter) unsupported(err error) error {
	var u *native.UnsupportedError
	if errors.As(err, &u) {
		b.unmade, b.refused = u, resp.ServerError(u.Why)
		return nil
	}
	return err
}

// send writes a chunk and reads the answers to the one before, so that the
// target has one to work on while the next is made.
func (b *bigWriter) send(c native.Chunk) error {
	if b.refused != "" {
		return nil
	}
	if err := b.wait(c.Commands, len(c.Bytes)); err != nil || b.refused != "" {
		return err
	}
	sent := time.Now()
	if err := b.write(c.Bytes); err != nil {
		return err
	}
	due := b.due
	b.due = due + c.Commands
	if err := b.answers(due); err != nil {
		return err
	}
	b.s.g.pace.Took(time.Since(sent), int64(c.Commands), int64(len(c.Bytes)))
	b.bound()
	b.show()
	return nil
}

func (b *bigWriter) write(p []byte) error {
	b.used = time.Now()
	b.s.g.silence.asks(bigConn)
	if err := writeAll(b.conn, p); err != nil {
		return err
	}
	return b.conn.Flush()
}

// answers reads n of those that are due.
func (b *bigWriter) answers(n int) error {
	for ; n > 0; n-- {
		if err := b.conn.SetDeadline(time.Now().Add(b.conn.timeout)); err != nil {
			return err
		}
		_, err := b.conn.SkipReply()
		b.due--
		if err := b.refusal(err); err != nil {
			return err
		}
		b.s.g.silence.answered(bigConn)
		if b.due > 0 {
			b.s.g.silence.asks(bigConn)
		}
	}
	return nil
}

// refusal takes from err what the target refuses for good.
func (b *bigWriter) refusal(err error) error {
	var se resp.ServerError
	if !errors.As(err, &se) {
		return err
	}
	if kind, _ := classify(se); kind == classWait {
		return err
	}
	if b.refused == "" {
		b.refused = se
	}
	return nil
}

// run sends one command and reads its answer.
func (b *bigWriter) run(args ...[]byte) error {
	b.due = 1
	if err := b.write(resp.AppendCommand(nil, args...)); err != nil {
		return err
	}
	return b.answers(1)
}

// sizes are the commands that tell how many elements a key has.
var sizes = map[rdb.Kind]string{
	rdb.KindString: "STRLEN", rdb.KindList: "LLEN", rdb.KindSet: "SCARD", rdb.KindZSet: "ZCARD", rdb.KindHash: "HLEN", rdb.KindStream: "XLEN",
}

// whole makes sure that the key has all of its elements: a target that evicts may
// have taken it away in the middle, and the next command has begun it anew.
func (b *bigWriter) whole(v bigValue, n int64) error {
	if err := b.write(resp.AppendCommand(nil, []byte(sizes[v.kind]), b.name)); err != nil {
		return err
	}
	if err := b.conn.SetDeadline(time.Now().Add(b.conn.timeout)); err != nil {
		return err
	}
	r, err := b.conn.ReadReply()
	if err := b.refusal(err); err != nil {
		return err
	}
	b.s.g.silence.answered(bigConn)
	switch {
	case b.refused != "" || r.Int == n:
	case v.kind == rdb.KindHash && r.Int > 0: // fields of it may have expired
	case v.kind == rdb.KindHash && !b.lasting: // all of them
		b.gone = true
	default:
		b.refused = resp.ServerError(fmt.Sprintf("the target has %d of its %d elements (bytes of a string): it may have evicted some of them", r.Int, n))
	}
	return nil
}

// place puts the whole value under its name, if it is aside, with its deadline.
func (b *bigWriter) place(v bigValue, elements int64, aside bool) error {
	takes := b.s.target.takes
	out := slices.Clone(multiCommand)
	n := 2
	add := func(name string, args ...[]byte) {
		out = resp.AppendCommand(out, append([][]byte{[]byte(name)}, args...)...)
		n++
	}
	if aside {
		add(takes.remove(), v.key) // RENAME would free the old value at once, however large it is
		if elements > 0 && !b.gone || v.kind == rdb.KindStream {
			add("RENAME", b.name, v.key)
		}
	}
	if v.ms != 0 {
		out = appendDeadline(out, v.key, v.ms)
		n++
	}
	if n == 2 {
		return nil
	}
	if err := b.write(append(out, execCommand...)); err != nil {
		return err
	}
	if err := b.conn.SetDeadline(time.Now().Add(b.conn.timeout)); err != nil {
		return err
	}
	why, err := transaction(b.conn, n)
	if err != nil {
		return err
	}
	b.s.g.silence.answered(bigConn)
	if aside && v.kind == rdb.KindHash && !b.lasting && strings.Contains(string(why), "no such key") { // the last field has just expired
		b.gone, why = true, ""
	}
	b.refused = why
	if why.Code() == "NOPERM" && aside { // the probe had found otherwise
		takes.noRename()
		return errAgain
	}
	return nil
}

// giveUp removes what there is of a value that was refused.
func (b *bigWriter) giveUp() error {
	why := b.refused
	err := b.run([]byte(b.s.target.takes.remove()), b.name)
	b.refused = why
	return err
}

// bigModule writes a module's value, which only RESTORE makes, and that holds it
// whole.
func (s *snapshot) bigModule(ctx context.Context, e *rdb.Entry, before rdb.Boundary) error {
	b, err := s.openBig(ctx)
	if err != nil {
		return err
	}
	in, err := s.g.spool.OpenRDBAt(s.epoch, before.Offset)
	if err != nil {
		return s.g.spoolErr(err)
	}
	defer in.Close()
	done := &chunk{seq: s.seq, entries: 1, seen: counts{timed: e.ExpireMS != 0}}
	s.seq++
	whole, err := rdb.Resume(in, before, rdb.Options{MaxBytes: s.target.takes.maxBulk, OldestVersion: true}).Next()
	switch {
	case errors.Is(err, rdb.ErrTooLarge):
		err = s.reject(e.DB, e.Key, resp.ServerError(fmt.Sprintf("the value is larger than the target takes (its proto-max-bulk-len is %d)", s.target.takes.maxBulk)))
	case err != nil:
		return s.readErr(err)
	default:
		whole.ExpireMS = e.ExpireMS
		err = b.module(whole)
	}
	if err != nil {
		return ended(ctx, err)
	}
	if err := s.dec.Skip(); err != nil {
		return s.readErr(err)
	}
	done.end = s.dec.Boundary()
	s.water.done(done)
	return nil
}

func (b *bigWriter) module(e *rdb.Entry) error {
	if err := b.s.use(b.conn, &b.db, e.DB); err != nil {
		return err
	}
	how, stamp := b.s.target.way(e)
	if how == byCommands {
		return b.s.cannot(e.DB, e.Key, e.Type, moduleError(body(e.Payload), noModules))
	}
	out, n, err := b.s.target.appendValue(nil, e, how, stamp, nil)
	if err != nil {
		return err
	}
	b.refused, b.due = "", 0
	if err := b.wait(n, len(out)); err != nil {
		return err
	}
	b.due = n
	if err := b.write(out); err != nil {
		return err
	}
	if err := b.answers(n); err != nil || b.refused == "" {
		return err
	}
	return b.s.cannot(e.DB, e.Key, e.Type, moduleError(body(e.Payload), b.refused))
}

// removeTemp removes what an earlier session has left of a big value.
func (g *group) removeTemp(ctx context.Context) error {
	return removeTemp(ctx, control{g.lane.conn, g.lane.timeout}, g.lane.target, []string{tempKey(g.job.o.Job, g.id)})
}

// removeTemp removes keys from every database of a target. Database 0 is
// selected behind it.
func removeTemp(ctx context.Context, conn doer, t target, keys []string) error {
	for _, db := range append(slices.Sorted(maps.Keys(t.keyspace)), 0) {
		if _, err := conn.Do(ctx, "SELECT", strconv.Itoa(db)); err != nil {
			return fmt.Errorf("select database %d of the target: %w", db, err)
		}
		r, err := conn.Do(ctx, append([]string{"EXISTS"}, keys...)...)
		if err != nil {
			return fmt.Errorf("look for what an earlier session has left on the target: %w", err)
		}
		if r.Int == 0 {
			continue
		}
		for _, key := range keys {
			if err := removeKey(ctx, conn, key); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeKey removes a key of ours, without blocking the target where it can.
func removeKey(ctx context.Context, conn doer, key string) error {
	_, err := conn.Do(ctx, "UNLINK", key)
	if refusedForGood(err) {
		_, err = conn.Do(ctx, "DEL", key)
	}
	if err != nil {
		return fmt.Errorf("remove what an earlier session has left on the target: %w", err)
	}
	return nil
}

func (s *snapshot) showBig(v bigValue, at, done int64) {
	w := &Writing{DB: v.db, Key: string(short(v.key)), Kind: v.kind.String(), Bytes: done}
	reached := s.water.reached()
	s.g.status.update(func(st *Status) {
		st.Writing = w
		if reached >= at { // everything before it is there
			st.RDBDone = max(st.RDBDone, at+done)
		}
	})
}
