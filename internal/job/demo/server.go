package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"tairlift/internal/resp"
)

// server is a Redis server of the demo's own.
type server struct {
	addr    string
	version string
	cmd     *exec.Cmd
	exited  chan struct{}
	conn    *resp.Conn
}

const (
	startTries = 5 // somebody else may take a free port first
	startWait  = 10 * time.Second
	stopWait   = 3 * time.Second
)

// startServer starts the server that the variable names, else redis-server, on
// a free port of this machine, without persistence.
func startServer(ctx context.Context, variable, dir string) (*server, error) {
	binary := os.Getenv(variable)
	if binary == "" {
		binary = "redis-server"
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		s, err := tryServer(ctx, binary, dir)
		if err == nil {
			return s, nil
		}
		if try == startTries || ctx.Err() != nil || errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("start %s (is it installed? %s names another): %w", binary, variable, err)
		}
	}
}

func tryServer(ctx context.Context, binary, dir string) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return nil, err
	}
	s := &server{addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	s.cmd = exec.Command(binary, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no",
		"--repl-backlog-size", "256mb", "--logfile", filepath.Join(dir, "server.log"))
	if s.exited, err = launch(s.cmd); err != nil {
		return nil, err
	}
	if err := s.greet(ctx); err != nil {
		s.stop()
		return nil, err
	}
	// A Redis 7 would wait 5 s for more replicas; older ones do not know the
	// setting, and do not wait.
	_, _ = s.conn.Do(ctx, "CONFIG", "SET", "repl-diskless-sync-delay", "0")
	return s, nil
}

var infoField = regexp.MustCompile(`(?m)^(process_id|redis_version):(\S+)`)

// greet waits until the server answers, and makes sure that it is this one.
func (s *server) greet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := resp.Dial(ctx, s.addr, ""); err == nil {
			rep, err := conn.Do(ctx, "INFO", "server")
			if err == nil {
				info := map[string]string{}
				for _, m := range infoField.FindAllSubmatch(bytes.ReplaceAll(rep.Str, []byte("\r"), nil), -1) {
					info[string(m[1])] = string(m[2])
				}
				if pid := info["process_id"]; pid != strconv.Itoa(s.cmd.Process.Pid) {
					conn.Close()
					return fmt.Errorf("another server, of process %s, has taken %s", pid, s.addr)
				}
				s.version, s.conn = info["redis_version"], conn
				return nil
			}
			conn.Close()
		}
		select {
		case <-tick.C:
		case <-s.exited:
			return errors.New("the server ended at once; its log is in its folder")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stop ends the server, by its own pid, and waits for it.
func (s *server) stop() {
	if s.conn != nil {
		s.conn.Close()
	}
	select {
	case <-s.exited:
		return // its pid may be another's by now
	default:
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(stopWait):
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
}

// ask runs one command in a database.
func (s *server) ask(ctx context.Context, db int, args ...string) (resp.Reply, error) {
	if _, err := s.conn.Do(ctx, "SELECT", strconv.Itoa(db)); err != nil {
		return resp.Reply{}, err
	}
	rep, err := s.conn.Do(ctx, args...)
	if err != nil {
		return rep, fmt.Errorf("%s at %s: %w", args[0], s.addr, err)
	}
	return rep, nil
}

// keys is the number of keys in a database.
func (s *server) keys(ctx context.Context, db int) (int64, error) {
	rep, err := s.ask(ctx, db, "DBSIZE")
	return rep.Int, err
}
