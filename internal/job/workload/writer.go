package workload

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"tairlift/internal/resp"
)

const (
	// every is the pace of bursts: slow enough that a target on the same two
	// cores keeps up.
	every = 2 * time.Millisecond
	// patience bounds one burst; a source answers in well under a millisecond.
	patience = time.Minute

	fields  = 8  // of the hash, and members of the sorted set
	expires = 32 // keys set with EX, and as many with PX
	kept    = 4  // keys set and not yet deleted

	// script counts and remembers what it counted in one step.
	script = "redis.call('incr', KEYS[1]) return redis.call('rpush', KEYS[2], ARGV[1])"
)

// Writer writes to one database of one source. Its methods may be called from
// any goroutine, Check only after Stop.
type Writer struct {
	Group, DB int

	addr   string
	conn   *resp.Conn
	sha    string
	bursts atomic.Int64
	sent   atomic.Int64 // commands
	stop   chan struct{}
	done   chan struct{}
	err    error // why writing ended; valid when done is closed
}

// Start begins to write to a database of the source at addr.
func Start(addr string, secret resp.Secret, group, db int) (*Writer, error) {
	ctx := context.Background()
	c, err := Open(ctx, addr, secret, db)
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum([]byte(script))
	w := &Writer{
		Group: group, DB: db, addr: addr, conn: c, sha: hex.EncodeToString(sum[:]),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	if _, err := c.Do(ctx, "SCRIPT", "LOAD", script); err != nil {
		c.Close()
		return nil, err
	}
	go w.run()
	return w, nil
}

// Stop ends the writing and waits for it, and then until the keys set with PX
// have died, so that nothing changes any more on the source. The error is why
// writing had ended before. It is called once.
func (w *Writer) Stop() error {
	close(w.stop)
	<-w.done
	return w.err
}

// Bursts counts the rounds that the source has acknowledged.
func (w *Writer) Bursts() int64 { return w.bursts.Load() }

// Commands counts the commands that the source has acknowledged.
func (w *Writer) Commands() int64 { return w.sent.Load() }

// Counter is the key in the writer's database that is 4 times Bursts.
func (w *Writer) Counter() string { return w.key("counter") }

func (w *Writer) key(name string) string { return fmt.Sprintf("w:%d:%s", w.Group, name) }

func (w *Writer) run() {
	defer close(w.done)
	defer w.conn.Close()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			w.err = w.settle(tick)
			return
		case <-tick.C:
		}
		if err := w.burst(w.bursts.Load()); err != nil {
			w.err = fmt.Errorf("write to DB%d of %s: %w", w.DB, w.addr, err)
			return
		}
	}
}

// settle looks at the keys set with PX until there are none: a source deletes an
// expired key when somebody looks at it.
func (w *Writer) settle(tick *time.Ticker) error {
	if err := w.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	for slot := range int64(expires) {
		for {
			rep, err := w.conn.Do(context.Background(), "EXISTS", w.key("px:"+strconv.FormatInt(slot, 10)))
			if err != nil {
				return fmt.Errorf("look for expired keys in DB%d of %s: %w", w.DB, w.addr, err)
			}
			if rep.Int == 0 {
				break
			}
			<-tick.C
		}
	}
	return nil
}

// burst is round number n, from 0.
func (w *Writer) burst(n int64) error {
	text := strconv.FormatInt(n, 10)
	field := strconv.FormatInt(n%fields, 10)
	slot := strconv.FormatInt(n%expires, 10)
	commands := [][]string{
		{"INCR", w.Counter()},
		{"INCRBY", w.Counter(), "3"},
		{"MULTI"},
		{"INCR", w.key("pair:a")},
		{"INCR", w.key("pair:b")},
		{"EXEC"},
		{"EVAL", script, "2", w.key("script:n"), w.key("script:list"), text},
		{"EVALSHA", w.sha, "2", w.key("script:n"), w.key("script:list"), "sha-" + text},
		// Two in, one out: the list holds the numbers from n+1 to 2n+1.
		{"RPUSH", w.key("list"), strconv.FormatInt(2*n, 10)},
		{"RPUSH", w.key("list"), strconv.FormatInt(2*n+1, 10)},
		{"LPOP", w.key("list")},
		{"APPEND", w.key("text"), text + ";"},
		{"HINCRBY", w.key("hash"), field, "1"},
		{"ZINCRBY", w.key("zset"), "0.5", field},
		{"SET", w.key("ex:" + slot), text, "EX", strconv.Itoa(shortest)},
		{"SET", w.key("px:" + slot), text, "PX", "200"},
		{"SET", w.key("kept:" + text), text},
	}
	if n >= kept {
		commands = append(commands, []string{"DEL", w.key("kept:" + strconv.FormatInt(n-kept, 10))})
	}
	if err := w.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	for _, args := range commands {
		if err := w.conn.WriteCommand(args...); err != nil {
			return err
		}
	}
	if err := w.conn.Flush(); err != nil {
		return err
	}
	for _, args := range commands {
		rep, err := w.conn.ReadReply()
		if err == nil && args[0] == "LPOP" && rep.String() != text {
			err = errors.New("popped " + rep.String() + ", want " + text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		w.sent.Add(1)
	}
	w.bursts.Add(1)
	return nil
}
