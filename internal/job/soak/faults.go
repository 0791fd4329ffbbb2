package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"tairlift/internal/resp"
)

// commit begins a fault once what it is about is free of an earlier one, and
// ends it when its time is over, beside others.
func (s *soak) commit(ctx context.Context, a act) error {
	begin, held := s.plan(a)
	for _, m := range held {
		m.Lock()
	}
	free := func() {
		for _, m := range held {
			m.Unlock()
		}
	}
	end, err := begin(ctx, a)
	if err != nil || end == nil {
		free()
		return err
	}
	s.healing.Go(func() {
		defer free()
		select {
		case <-time.After(a.Lasts):
		case <-ctx.Done():
			return
		}
		if err := end(ctx); err != nil && ctx.Err() == nil {
			s.fail(fmt.Errorf("the end of %s: %w", a, err))
		}
		s.tell("    over: %s", a)
	})
	return nil
}

// ending is how a fault is over; nil when it is at once.
type ending func(context.Context) error

// plan is how a fault begins, and what it holds until it is over.
func (s *soak) plan(a act) (begin func(context.Context, act) (ending, error), held []*sync.Mutex) {
	src, t := s.sources[a.Group-1], s.target
	switch a.Fault {
	case killTairlift:
		return s.endTool(syscall.SIGKILL), []*sync.Mutex{&s.toolLock}
	case stopTairlift:
		return s.endTool(syscall.SIGINT), []*sync.Mutex{&s.toolLock}
	case renewTairlift:
		return s.endTool(syscall.SIGINT), []*sync.Mutex{&s.toolLock}
	case killTarget:
		return t.die(0), []*sync.Mutex{&t.process}
	case loseTarget:
		return t.die(lossMost), []*sync.Mutex{&t.process}
	case freezeTarget:
		return t.freeze, []*sync.Mutex{&t.process}
	case fillTarget:
		return t.config("maxmemory", "1", "0"), []*sync.Mutex{&t.process}
	case lonelyTarget:
		return t.config("min-slaves-to-write", "1", "0"), []*sync.Mutex{&t.process}
	case demoteTarget:
		return t.demote, []*sync.Mutex{&t.process}
	case pauseTarget:
		return t.pause, []*sync.Mutex{&t.process}
	case busyTarget:
		return t.busy, []*sync.Mutex{&t.process}
	case cutTarget:
		return t.cut, []*sync.Mutex{&t.line}
	case hangTarget:
		return t.on(hanging), []*sync.Mutex{&t.line}
	case dribbleTarget:
		return t.on(dribbling), []*sync.Mutex{&t.line}
	case cutSource:
		return src.cut, []*sync.Mutex{&src.line}
	case hangSource:
		return src.on(hanging), []*sync.Mutex{&src.line}
	case dribbleSource:
		return src.on(dribbling), []*sync.Mutex{&src.line}
	case dropReplica:
		return src.dropReplica, []*sync.Mutex{&src.process}
	case overrunSource:
		return src.overrun, []*sync.Mutex{&src.line, &src.process}
	case killSource:
		return src.die(0), []*sync.Mutex{&src.process}
	}
	panic("no such fault: " + string(a.Fault))
}

// endTool ends some of tairlift, and starts it again, now and then as one
// process in place of two.
func (s *soak) endTool(sig syscall.Signal) func(context.Context, act) (ending, error) {
	return func(_ context.Context, a act) (ending, error) {
		runs := s.tool.running()
		victims := runs
		if len(runs) > 1 && a.Dice%4 < 2 && a.Fault != renewTairlift {
			victims = runs[a.Dice%4:][:1]
		}
		next := runs
		if other := a.Dice/4%3 == 0; other && len(victims) == len(runs) {
			next = []string{"sync"}
			if slices.Contains(runs, "sync") {
				next = pair
			}
		}
		s.tell("    %s to %s, then %s", sig, strings.Join(victims, ", "), strings.Join(next, ", "))
		if err := s.tool.end(sig, victims...); err != nil {
			return nil, err
		}
		var more []string
		if a.Fault == renewTairlift {
			more = []string{"--new-epoch"}
		}
		return func(context.Context) error { return s.tool.start(next, more...) }, nil
	}
}

const serverTime = 30 * time.Second // for a server to do what it is told

// ask has a command executed, on a connection of its own, as soon as the server
// does not refuse it for its state.
func (srv *server) ask(ctx context.Context, args ...string) (rep resp.Reply, err error) {
	what := strings.Join(args, " ") + " at " + srv.Addr
	var last error
	err = until(ctx, serverTime, what, func() (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, serverTime)
		defer cancel()
		c, err := resp.Dial(ctx, srv.Addr, "")
		if err == nil {
			defer c.Close()
			rep, err = c.Do(ctx, args...)
		}
		var refused resp.ServerError
		if errors.As(err, &refused) && refused.Code() == "ERR" {
			return false, fmt.Errorf("%s: %w", what, err)
		}
		last = err
		return err == nil, nil
	})
	if err != nil && last != nil {
		err = fmt.Errorf("%w: %w", err, last)
	}
	return rep, err
}

// die kills the server, and takes up to loss bytes of its last writes back.
func (srv *server) die(loss int64) func(context.Context, act) (ending, error) {
	return func(_ context.Context, a act) (ending, error) {
		srv.Kill()
		n := int64(0)
		if loss > 0 {
			n = int64(a.Dice) % loss
		}
		if err := srv.lose(n); err != nil {
			return nil, err
		}
		return func(ctx context.Context) error {
			if err := srv.Restart(ctx); err != nil {
				return err
			}
			_, err := srv.ask(ctx, "DBSIZE") // refused while it loads
			return err
		}, nil
	}
}

const lossMost = 64 << 10 // bytes

// lose cuts bytes off the end of the server's append-only file, as a machine that
// fails does between two fsyncs: what is gone are the last writes. Where a kill
// has cut a write short, half a transaction goes too.
func (srv *server) lose(n int64) error {
	names, err := filepath.Glob(filepath.Join(srv.Dir, "appendonlydir", "*.incr.aof"))
	if err != nil {
		return err
	}
	if len(names) == 0 { // before Redis 7
		names = []string{filepath.Join(srv.Dir, "appendonly.aof")}
	}
	newest, size, number := "", int64(0), -1
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		nr := 0 // the only one there was before Redis 7
		if parts := strings.Split(filepath.Base(name), "."); len(parts) > 3 {
			nr, _ = strconv.Atoi(parts[len(parts)-3])
		}
		if nr > number {
			newest, size, number = name, info.Size(), nr
		}
	}
	keep, err := whole(newest, size-n)
	if err != nil {
		return err
	}
	return os.Truncate(newest, keep)
}

// whole is the length of an append-only file without what lies behind an offset,
// in whole transactions: of half a one whose last command is cut, too, Redis
// 7.0.15 keeps the rest in the file, and executes it when it loads that again.
func whole(name string, most int64) (int64, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	if bytes.HasPrefix(raw, []byte("REDIS")) { // it begins with an RDB: Redis 4 to 6
		return most, nil
	}
	parser := resp.NewParser(0)
	parser.Feed(raw)
	at, keep, open := int64(0), int64(0), false
	for at < most {
		cmd, ok, err := parser.Next()
		if err != nil {
			return 0, fmt.Errorf("%s, behind %d bytes: %w", name, at, err)
		}
		if !ok {
			break
		}
		at = int64(cmd.End)
		switch strings.ToUpper(string(cmd.Args[0])) {
		case "MULTI":
			open = true
		case "EXEC":
			open = false
		}
		if !open && at <= most {
			keep = at
		}
	}
	return keep, nil
}

func (srv *server) freeze(context.Context, act) (ending, error) {
	srv.Signal(syscall.SIGSTOP)
	return func(context.Context) error { srv.Resume(); return nil }, nil
}

// Resume lets a frozen server go on.
func (srv *server) Resume() { srv.Signal(syscall.SIGCONT) }

// config sets a parameter, and later sets it back.
func (srv *server) config(name, bad, good string) func(context.Context, act) (ending, error) {
	return func(ctx context.Context, _ act) (ending, error) {
		_, err := srv.ask(ctx, "CONFIG", "SET", name, bad)
		return func(ctx context.Context) error {
			_, err := srv.ask(ctx, "CONFIG", "SET", name, good)
			return err
		}, err
	}
}

// demote makes the server a replica of nobody there.
func (srv *server) demote(ctx context.Context, _ act) (ending, error) {
	_, err := srv.ask(ctx, "SLAVEOF", "127.0.0.1", "1")
	return func(ctx context.Context) error {
		_, err := srv.ask(ctx, "SLAVEOF", "NO", "ONE")
		return err
	}, err
}

func (srv *server) pause(ctx context.Context, a act) (ending, error) {
	_, err := srv.ask(ctx, "CLIENT", "PAUSE", strconv.FormatInt(a.Lasts.Milliseconds(), 10))
	return func(context.Context) error { return nil }, err
}

// busy runs a script that does not end by itself.
func (srv *server) busy(ctx context.Context, _ act) (ending, error) {
	c, err := resp.Dial(ctx, srv.Addr, "")
	if err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer c.Close()
		_, _ = c.Do(ctx, "EVAL", "while true do end", "0") // an error, when it is killed
	}()
	return func(ctx context.Context) error {
		return until(ctx, serverTime, "the end of a script", func() (bool, error) {
			select {
			case <-ended:
				return true, nil
			default:
			}
			if k, err := resp.Dial(ctx, srv.Addr, ""); err == nil {
				_, _ = k.Do(ctx, "SCRIPT", "KILL") // refused until it is late
				k.Close()
			}
			return false, nil
		})
	}, nil
}

// on gives the link another manner for a while.
func (srv *server) on(m manner) func(context.Context, act) (ending, error) {
	return func(context.Context, act) (ending, error) {
		srv.link.set(m)
		return srv.flow, nil
	}
}

func (srv *server) flow(context.Context) error { srv.link.set(flowing); return nil }

const (
	quiet = 100 * time.Millisecond
	loud  = 300 * time.Millisecond
)

// cut cuts the link, some times before it stays so. Answers are kept back first:
// whoever waits for one has had its commands executed, and will never know.
func (srv *server) cut(_ context.Context, a act) (ending, error) {
	for i := range 1 + a.Dice%4 {
		if i > 0 {
			srv.link.set(flowing)
			time.Sleep(loud)
		}
		srv.link.set(muted)
		time.Sleep(quiet)
		srv.link.set(cut)
	}
	return srv.flow, nil
}

func (srv *server) dropReplica(ctx context.Context, _ act) (ending, error) {
	_, err := srv.ask(ctx, "CLIENT", "KILL", "TYPE", "slave")
	return nil, err
}

const (
	tinyBacklog = 16 << 10
	overrunBy   = 4 * tinyBacklog
)

// overrun cuts the link until the source no longer has what comes next.
func (srv *server) overrun(ctx context.Context, _ act) (ending, error) {
	srv.link.set(cut)
	at, err := srv.position(ctx)
	if err == nil {
		_, err = srv.ask(ctx, "CONFIG", "SET", "repl-backlog-size", strconv.Itoa(tinyBacklog))
	}
	return func(ctx context.Context) error {
		err := until(ctx, serverTime, "writes at "+srv.Addr, func() (bool, error) {
			now, err := srv.position(ctx)
			return now.offset > at.offset+overrunBy || !now.backlog, err
		})
		if err == nil {
			_, err = srv.ask(ctx, "CONFIG", "SET", "repl-backlog-size", backlog)
		}
		srv.link.set(flowing)
		return err
	}, err
}
