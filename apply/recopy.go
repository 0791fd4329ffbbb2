package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/psync"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

// Source is where the values of a group's doubtful keys can be asked for.
type Source struct {
	Addr   string // host:port
	Secret resp.Secret
}

const (
	// askTimeout bounds one question, and with it how long the stream waits.
	askTimeout = time.Second
	// While apply is behind, questions take one part in askShare of its time, and
	// are no more than askEvery apart.
	askShare = 20
	askEvery = 3 * time.Second
	// passPause lies between two passes over what remains doubtful.
	passPause = 50 * time.Millisecond
	// longAskWait is how long a source that keeps failing is left alone.
	longAskWait = 30 * time.Second
	// maxUnanswered is how often a source may fail to answer, one after the
	// other, before nobody waits for it.
	maxUnanswered = 6
	// stillTime is how long a stream that brings nothing is waited for until it
	// comes to the place of an answer.
	stillTime = 10 * time.Second
	// holdTime is how long a key that cannot be copied again is left alone.
	holdTime = time.Minute
	// askKeys bounds the keys of one question; see psync.ReadCut. It is halved
	// when an answer is torn.
	askKeys, manyKeys = 16, 64
	// copyBytes bounds the values that are held until their place is reached.
	copyBytes = 16 << 20
	// copyElements bounds what a source is asked to serialize at a time.
	copyElements = 1 << 18
)

// recopier asks the source for the keys of a group that are doubtful, and keeps
// the answer until the stream reaches its place. The group's goroutine is its
// only user, and keeps it from one session to the next; what is pending is the
// session's.
type recopier struct {
	source     Source
	conn       *resp.Conn    // nil between two runs of questions
	next       time.Time     // no question before
	first      time.Duration // before the question behind one that failed
	wait       time.Duration // before the next one
	unanswered int           // questions, one after the other
	keys       int           // of the next question
	after      []byte        // the place of the pass in the store
	released   time.Time     // when held keys were last let go
	pending    *copies
}

// failure is why a question came to nothing.
type failure struct {
	err  error
	torn bool
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func newRecopier(s Source, firstWait time.Duration) *recopier {
	return &recopier{source: s, first: firstWait, wait: firstWait, keys: askKeys}
}

// end forgets what a session had asked for.
func (r *recopier) end() {
	r.pending = nil
	r.hangUp()
}

func (r *recopier) hangUp() {
	if r.conn != nil {
		r.conn.Close()
		r.conn = nil
	}
}

// nothingToAsk tells whether no question is due.
func (s *streamer) nothingToAsk() bool {
	r := s.g.recopier
	all, held := s.g.doubts.counts()
	return r.source.Addr == "" || r.pending != nil || all == 0 || s.lane.Mark().Swap.Step > 0 ||
		all == held && s.g.now().Sub(r.released) < holdTime || s.g.now().Before(r.next)
}

// recopy asks the source for doubtful keys, if there are any and it is time to.
// It tells whether their place is reached already. It waits for askTimeout at
// most. Whatever fails leaves the keys as doubtful as they are; the error is of
// the store.
func (s *streamer) recopy(ctx context.Context) (reached bool, err error) {
	if s.nothingToAsk() {
		return false, nil
	}
	g, r := s.g, s.g.recopier
	if g.now().Sub(r.released) >= holdTime {
		g.doubts.release()
		r.released = g.now()
	}
	begun := g.now()
	defer func() {
		s.asked = g.now()
		s.rest = min(max(askShare*s.asked.Sub(begun), passPause), askEvery)
	}()
	for again := true; again; {
		again = false
		err := s.ask(ctx)
		var f *failure
		switch {
		case ctx.Err() != nil:
			return false, nil
		case errors.As(err, &f):
			again = s.askFailed(f)
		case err != nil:
			return false, err
		}
	}
	g.showDoubts(0)
	return r.pending != nil && r.pending.at.Offset == s.tr.batch.end, nil
}

// giveUp drops an answer whose place an idle stream does not come to: the source
// tells where it is, and capture does not bring it.
func (s *streamer) giveUp() {
	p := s.g.recopier.pending
	if p == nil || s.g.now().Sub(s.asked) < stillTime {
		return
	}
	s.g.recopier.pending = nil
	s.askFailed(&failure{err: fmt.Errorf("the stream stays at offset %s, and the source was at %s", s.tr.batch.end, p.at.Offset)})
	s.g.showDoubts(0)
}

// askFailed tells whether to ask again at once, for fewer keys.
func (s *streamer) askFailed(f *failure) (again bool) {
	g, r := s.g, s.g.recopier
	if f.torn && r.keys > 1 {
		r.keys /= 2
		return true
	}
	if r.unanswered++; r.unanswered == 1 {
		g.log.Warn("doubtful keys cannot be copied again now", "addr", r.source.Addr, "error", f.err)
	}
	r.next = g.now().Add(r.wait)
	r.wait = min(2*r.wait, longAskWait)
	g.status.update(func(st *Status) { st.Recopy = f.Error() })
	return false
}

// ask is one question; pending is its answer.
func (s *streamer) ask(ctx context.Context) error {
	g, r := s.g, s.g.recopier
	doubts, err := s.pick()
	if err != nil || len(doubts) == 0 {
		return err
	}
	names := make([][]byte, len(doubts))
	for i, d := range doubts {
		names[i] = d.Key
	}
	cut, err := r.read(ctx, doubts[0].DB, names, g.job.o.copyBytes)
	if err != nil {
		return &failure{err: err, torn: errors.Is(err, psync.ErrTorn)}
	}
	// What was translated had left the source before it was asked.
	if end := s.tr.batch.end; cut.At.Offset < end {
		return &failure{err: fmt.Errorf("%s is at offset %s, behind what was applied, %s", r.source.Addr, cut.At.Offset, end)}
	}
	if !s.bears(cut.At.ReplID) {
		return &failure{err: fmt.Errorf("%s is at %s, and the spool of epoch %s follows another history", r.source.Addr, cut.At, s.lane.Mark().Epoch)}
	}
	n := len(doubts)
	if left := slices.IndexFunc(cut.Values, func(v psync.Value) bool { return v.Left }); left > 0 {
		n = left // the next question begins there
	}
	r.keys, r.after = min(r.keys+1, manyKeys), doubts[n-1].Place()
	r.pending = &copies{at: cut.At, doubts: doubts[:n], values: cut.Values[:n]}
	g.log.Debug("the source was asked for doubtful keys", "keys", n, "at", cut.At.Offset, "stream", s.tr.batch.end)
	return nil
}

// pick takes the next doubtful keys of one database. At the end of a pass it
// takes none, and the next one begins.
func (s *streamer) pick() (picked []checkpoint.Doubt, err error) {
	g, r := s.g, s.g.recopier
	var long []checkpoint.Doubt
	err = g.store.DoubtsBehind(g.id, r.after, func(d checkpoint.Doubt) bool {
		switch {
		case g.doubts.isHeld(d):
		case d.Shares():
			d.Held = heldName
			long = append(long, d)
		case len(picked) > 0 && picked[0].DB != d.DB:
			return false
		default:
			picked = append(picked, d)
		}
		return len(picked) < r.keys
	})
	if err == nil {
		err = g.hold(long)
	}
	if err != nil || len(picked) > 0 {
		return picked, err
	}
	r.after, r.next = nil, g.now().Add(passPause)
	r.hangUp()
	g.status.update(func(st *Status) { st.Passes++ })
	if g.status.get().Rejects == 0 {
		return nil, nil
	}
	return nil, g.countRejects()
}

// read asks the source, on the connection of the question before if that is
// still good.
func (r *recopier) read(ctx context.Context, db int, keys [][]byte, room int64) (psync.Cut, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	limits := psync.CutLimits{ValueBytes: room, Elements: copyElements}
	if r.conn == nil {
		conn, err := resp.Dial(ctx, r.source.Addr, r.source.Secret)
		if err != nil {
			return psync.Cut{}, err
		}
		r.conn = conn
	}
	cut, err := psync.ReadCut(ctx, r.conn, db, keys, limits)
	if err != nil && !errors.Is(err, psync.ErrTorn) {
		r.hangUp()
	}
	return cut, err
}

// bears tells whether id is the history of the stream that is being applied: of
// what was read last, or of the newest of it that the spool holds. While a part of
// the spool is away nothing is known of the second.
func (s *streamer) bears(id repl.ReplID) bool {
	if s.in.History() == id {
		return true
	}
	epochs, err := s.g.spool.Epochs()
	if err != nil || len(epochs) == 0 {
		return false
	}
	last := epochs[len(epochs)-1]
	return last.Epoch == s.lane.Mark().Epoch && last.ReplID == id
}
