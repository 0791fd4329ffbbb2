package e2e

import (
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

// mixer writes to DB0 of a source in every way of its kinds, round after round.
type mixer struct {
	kinds  []int // indexes of writes
	conn   *resp.Conn
	rounds atomic.Int64
	stop   chan struct{}
	done   chan error
}

const (
	roundsEvery = 20 * time.Millisecond
	roundWithin = time.Minute
)

// start begins to write; rest is called once behind it.
func (m *mixer) start(t *testing.T) {
	m.stop, m.done = make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(roundsEvery)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-m.stop:
				m.done <- nil
				return
			case <-tick.C:
			}
			if err := m.round(n); err != nil {
				m.done <- err
				return
			}
			m.rounds.Add(1)
		}
	}()
	redistest.Eventually(t, "the first rounds of writes", func() bool { return m.rounds.Load() >= 3 })
}

// rest ends the writing and waits until the keys that live shortly are dead.
func (m *mixer) rest(t *testing.T, source *redistest.Server) {
	t.Helper()
	close(m.stop)
	if err := <-m.done; err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, "the last short-lived key to die", func() bool {
		for kind, w := range writes {
			if w.short {
				for _, key := range source.Do(t, "KEYS", "m:"+strconv.Itoa(kind)+":*").Strings() {
					if source.Do(t, "EXISTS", key).Int > 0 {
						return false
					}
				}
			}
		}
		return true
	})
}

// round writes once in every way. Commands may be refused where a round before
// has left what does not fit (a group that is there already): those are not
// propagated.
func (m *mixer) round(n int) error {
	if err := m.conn.SetDeadline(time.Now().Add(roundWithin)); err != nil {
		return err
	}
	sent := 0
	for _, kind := range m.kinds {
		for _, args := range parse(writes[kind].do, kind, n) {
			if err := m.conn.WriteCommand(args...); err != nil {
				return err
			}
			sent++
		}
	}
	if err := m.conn.Flush(); err != nil {
		return err
	}
	for range sent {
		_, err := m.conn.SkipReply()
		var refused resp.ServerError
		if err != nil && !errors.As(err, &refused) {
			return err
		}
	}
	return nil
}
