package launch

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

// Server is a Redis server of one's own. Its Process, Version and Conn are
// others after a Restart.
type Server struct {
	*Process
	Addr    string
	Dir     string // of its files
	Version string
	Conn    *resp.Conn // of Ask and Keys

	binary string
	args   []string
}

// Options say which server to start. Dir is needed.
type Options struct {
	Variable string   // of the environment, names the server; empty or unset: redis-server
	Dir      string   // of its files
	Args     []string // more arguments; without any the backlog is 256 MiB
}

const (
	startTries = 5 // somebody else may take a free port first
	startWait  = 10 * time.Second
	stopWait   = 3 * time.Second
)

// Start starts a server on a free port of this machine, without persistence.
func Start(ctx context.Context, o Options) (*Server, error) {
	binary := ""
	if o.Variable != "" {
		binary = os.Getenv(o.Variable)
	}
	if binary == "" {
		binary = "redis-server"
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		s, err := tryStart(ctx, binary, o)
		if err == nil {
			return s, nil
		}
		if try == startTries || ctx.Err() != nil || errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("start %s (is it installed? %s names another): %w", binary, o.Variable, err)
		}
	}
}

func tryStart(ctx context.Context, binary string, o Options) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return nil, err
	}
	args := []string{
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", o.Dir, "--save", "", "--appendonly", "no",
		"--logfile", filepath.Join(o.Dir, "server.log"),
	}
	if len(o.Args) == 0 {
		args = append(args, "--repl-backlog-size", "256mb")
	}
	s := &Server{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Dir: o.Dir, binary: binary, args: append(args, o.Args...)}
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// start runs the server and waits until it answers, be it that it loads.
func (s *Server) start(ctx context.Context) (err error) {
	if s.Process, err = Run(exec.Command(s.binary, s.args...)); err != nil {
		return err
	}
	if err := s.greet(ctx); err != nil {
		s.Stop()
		return err
	}
	// A Redis 7 would wait 5 s for more replicas; older ones do not know the
	// setting, and do not wait.
	_, _ = s.Conn.Do(ctx, "CONFIG", "SET", "repl-diskless-sync-delay", "0")
	return nil
}

// Kill ends the server by SIGKILL.
func (s *Server) Kill() {
	if s.Conn != nil {
		s.Conn.Close()
	}
	s.End(syscall.SIGKILL)
}

// Restart starts a server that has ended, at the same address and in the same
// folder, and returns once it answers; it may be loading its data then.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.start(ctx); err != nil {
		return fmt.Errorf("start %s at %s again: %w", s.binary, s.Addr, err)
	}
	return nil
}

var infoField = regexp.MustCompile(`(?m)^(process_id|redis_version):(\S+)`)

// greet waits until the server answers, and makes sure that it is this one.
func (s *Server) greet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := resp.Dial(ctx, s.Addr, ""); err == nil {
			rep, err := conn.Do(ctx, "INFO", "server")
			if err == nil {
				info := map[string]string{}
				for _, m := range infoField.FindAllSubmatch(bytes.ReplaceAll(rep.Str, []byte("\r"), nil), -1) {
					info[string(m[1])] = string(m[2])
				}
				if pid := info["process_id"]; pid != strconv.Itoa(s.Pid()) {
					conn.Close()
					return fmt.Errorf("another server, of process %s, has taken %s", pid, s.Addr)
				}
				s.Version, s.Conn = info["redis_version"], conn
				return nil
			}
			conn.Close()
		}
		select {
		case <-tick.C:
		case <-s.Exited:
			return errors.New("the server ended at once; its log is in its folder")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Stop ends the server, by its own pid, and waits for it.
func (s *Server) Stop() {
	if s.Conn != nil {
		s.Conn.Close()
	}
	select {
	case <-s.Exited:
		return // its pid may be another's by now
	default:
	}
	_ = s.Cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.Exited:
	case <-time.After(stopWait):
		_ = s.Cmd.Process.Kill()
		<-s.Exited
	}
}

// Ask runs one command in a database.
func (s *Server) Ask(ctx context.Context, db int, args ...string) (resp.Reply, error) {
	if _, err := s.Conn.Do(ctx, "SELECT", strconv.Itoa(db)); err != nil {
		return resp.Reply{}, err
	}
	rep, err := s.Conn.Do(ctx, args...)
	if err != nil {
		return rep, fmt.Errorf("%s at %s: %w", args[0], s.Addr, err)
	}
	return rep, nil
}

// Keys is the number of keys in a database.
func (s *Server) Keys(ctx context.Context, db int) (int64, error) {
	rep, err := s.Ask(ctx, db, "DBSIZE")
	return rep.Int, err
}
