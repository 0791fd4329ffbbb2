package redistest

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
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tairlift/internal/resp"
)

const (
	defaultServer = "redis-server"
	startTries    = 10
	logTail       = 60 // lines of a server's log shown when a test fails
	replyTimeout  = 60 * time.Second
)

// Option changes how a server is started.
type Option func(*Server)

// Arg adds arguments to the server's command line, such as
// Arg("--maxmemory", "10mb"). They come after, and win over, the standard ones.
func Arg(args ...string) Option { return func(s *Server) { s.extra = append(s.extra, args...) } }

// Password sets requirepass and masterauth. Do and Dial use it.
func Password(p string) Option {
	return func(s *Server) {
		s.Secret = resp.Secret(p)
		s.extra = append(s.extra, "--requirepass", p, "--masterauth", p)
	}
}

// Dir is the server's working folder in place of a temporary one. A dump.rdb in
// it is loaded at start.
func Dir(path string) Option { return func(s *Server) { s.Dir = path } }

// Port fixes the port; by default a free one is taken.
func Port(n int) Option { return func(s *Server) { s.port, s.fixed = n, true } }

// Server is a running Redis server. Its fields do not change, but for PID at
// Restart. Methods may be called from several goroutines, those with a t only
// from the test's own.
type Server struct {
	Addr   string // 127.0.0.1:port
	PID    int
	Dir    string
	Secret resp.Secret

	binary       string
	extra        []string
	port         int
	fixed        bool
	major, minor int
	started      bool
	exited       chan struct{} // closed when the process has ended and been waited for

	mu   sync.Mutex // guards conn
	conn *resp.Conn
}

// Source starts the server that SOURCE_SERVER names, by default redis-server.
func Source(t testing.TB, o ...Option) *Server {
	t.Helper()
	return Start(t, fromEnv("SOURCE_SERVER"), o...)
}

// Target starts the server that TARGET_SERVER names, by default redis-server.
func Target(t testing.TB, o ...Option) *Server {
	t.Helper()
	return Start(t, fromEnv("TARGET_SERVER"), o...)
}

func fromEnv(name string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return defaultServer
}

// Start starts a server on 127.0.0.1 without persistence and returns once it
// answers. It is killed when the test ends; if the test failed, the end of its
// log is shown.
func Start(t testing.TB, binary string, o ...Option) *Server {
	t.Helper()
	s := &Server{}
	path, err := exec.LookPath(binary)
	if err != nil {
		t.Fatalf("no %s here: %v (hint: apt-get install redis-server, or name one in SOURCE_SERVER / TARGET_SERVER)", binary, err)
	}
	s.binary = path
	if s.major, s.minor, err = binaryVersion(path); err != nil {
		t.Fatal(err)
	}
	for _, opt := range o {
		opt(s)
	}
	if s.Dir == "" {
		s.Dir = t.TempDir()
	}
	t.Cleanup(func() {
		if s.started {
			s.Kill()
		}
		if t.Failed() {
			t.Logf("log of the server at %s (%s):\n%s", s.Addr, binary, s.logTail())
		}
	})
	for try := 1; ; try++ {
		if !s.fixed {
			s.port = freePort(t)
		}
		s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
		err := s.start()
		if err == nil {
			return s
		}
		// Someone else may have taken the port in the meantime.
		if s.fixed || try == startTries {
			t.Fatalf("start %s at %s: %v\n%s", binary, s.Addr, err, s.logTail())
		}
	}
}

// args work for every server from 2.8 on: what only newer ones know is added by
// version.
func (s *Server) args() []string {
	args := []string{"--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--port", strconv.Itoa(s.port), "--dir", s.Dir}
	if s.major >= 3 {
		// Else a Redis 7 waits 5 s for more replicas before each full sync.
		args = append(args, "--repl-diskless-sync-delay", "0")
	}
	if s.major >= 7 {
		// A clean stop would wait for replicas that lag, and a test's own
		// link always does.
		args = append(args, "--enable-debug-command", "yes", "--shutdown-timeout", "0")
	}
	return append(args, s.extra...)
}

func (s *Server) logPath() string { return filepath.Join(s.Dir, fmt.Sprintf("server-%d.log", s.port)) }

func (s *Server) start() error {
	log, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.binary, s.args()...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = dieWithParent()
	begun := make(chan error)
	exited := make(chan struct{})
	go func() {
		// Linux sends the parent-death signal when the starting thread
		// ends, so that thread is kept for as long as the server.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(exited)
		err := cmd.Start()
		begun <- err
		if err == nil {
			cmd.Wait()
		}
	}()
	if err := <-begun; err != nil {
		<-exited
		return err
	}
	s.exited, s.PID, s.started = exited, cmd.Process.Pid, true
	err = poll(func() (bool, error) {
		select {
		case <-exited:
			return false, errors.New("the server ended")
		default:
		}
		rep, err := s.DoErr("INFO", "server")
		var ae *resp.AuthError
		if errors.As(err, &ae) || resp.IsNoAuth(err) {
			return false, fmt.Errorf("another server has the port, or the password was not set by Password: %w", err)
		}
		if err != nil {
			return false, nil // not listening yet, or loading
		}
		if pid := parseInfo(string(rep.Str))["process_id"]; pid != strconv.Itoa(s.PID) {
			return false, fmt.Errorf("another server has the port: process %s answers, not %d", pid, s.PID)
		}
		return true, nil
	})
	if err != nil {
		s.Kill()
	}
	return err
}

// Kill ends the server by SIGKILL and waits until it is gone. Ending one that
// has ended is nothing.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Stop ends the server by SIGTERM and waits until it is gone.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

func (s *Server) end(sig syscall.Signal) {
	s.Signal(sig)
	<-s.exited
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
}

// Signal sends sig to the server, if it has not ended.
func (s *Server) Signal(sig os.Signal) {
	select {
	case <-s.exited:
		return // its pid may be another's by now
	default:
	}
	if p, err := os.FindProcess(s.PID); err == nil {
		p.Signal(sig)
	}
}

// Exited is closed when the server has ended.
func (s *Server) Exited() <-chan struct{} { return s.exited }

// Restart starts the server again on the same port and folder, after killing it
// if it still runs. It has the data of the dump.rdb in its folder, if a SAVE
// left one.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Kill()
	if err := s.start(); err != nil {
		t.Fatalf("restart %s at %s: %v\n%s", s.binary, s.Addr, err, s.logTail())
	}
}

// Do runs one command in database 0 and fails the test on any error.
func (s *Server) Do(t testing.TB, args ...string) resp.Reply {
	t.Helper()
	return s.DoIn(t, 0, args...)
}

// DoIn is Do in another database.
func (s *Server) DoIn(t testing.TB, db int, args ...string) resp.Reply {
	t.Helper()
	rep, err := s.DoErrIn(db, args...)
	if err != nil {
		t.Fatalf("%s at %s: %v", strings.Join(args, " "), s.Addr, err)
	}
	return rep
}

// DoErr runs one command in database 0 on the server's own control connection,
// which is made again when it broke.
func (s *Server) DoErr(args ...string) (resp.Reply, error) { return s.DoErrIn(0, args...) }

// DoErrIn is DoErr in another database.
func (s *Server) DoErrIn(db int, args ...string) (rep resp.Reply, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), replyTimeout)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		if s.conn, err = resp.Dial(ctx, s.Addr, s.Secret); err != nil {
			s.conn = nil
			return resp.Reply{}, err
		}
	}
	if db != 0 {
		if _, err := s.conn.Do(ctx, "SELECT", strconv.Itoa(db)); err != nil {
			s.drop()
			return resp.Reply{}, err
		}
		defer func() {
			if s.conn == nil {
				return
			}
			if _, err := s.conn.Do(ctx, "SELECT", "0"); err != nil {
				s.drop()
			}
		}()
	}
	rep, err = s.conn.Do(ctx, args...)
	var se resp.ServerError
	if err != nil && !errors.As(err, &se) {
		s.drop()
	}
	return rep, err
}

// drop closes the control connection; mu is held.
func (s *Server) drop() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// Dial is a connection of the test's own, closed when the test ends.
func (s *Server) Dial(t testing.TB) *resp.Conn {
	t.Helper()
	c, err := resp.Dial(context.Background(), s.Addr, s.Secret)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Info is INFO's fields, of one section or, without one, of the default ones.
func (s *Server) Info(t testing.TB, section ...string) map[string]string {
	t.Helper()
	return parseInfo(string(s.Do(t, append([]string{"INFO"}, section...)...).Str))
}

// ReplicaOf makes s a replica of master and waits until it is in sync.
func (s *Server) ReplicaOf(t testing.TB, master *Server) {
	t.Helper()
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		t.Fatal(err)
	}
	s.Do(t, "SLAVEOF", host, port)
	s.Wait(t, "replica in sync with "+master.Addr, func() bool {
		return s.Info(t, "replication")["master_link_status"] == "up"
	})
}

// Version is the server's version, as its binary tells it.
func (s *Server) Version() (major, minor int) { return s.major, s.minor }

// VersionNumber is the same as one number, 704 for 7.4.
func (s *Server) VersionNumber() int { return 100*s.major + s.minor }

// IsCodis tells whether the server has Codis' slot commands.
func (s *Server) IsCodis() bool {
	_, err := s.DoErr("SLOTSINFO")
	return err == nil
}

// Wait is Eventually, naming the server.
func (s *Server) Wait(t testing.TB, what string, cond func() bool) {
	t.Helper()
	Eventually(t, what+" at "+s.Addr, cond)
}

func (s *Server) logTail() string {
	b, err := os.ReadFile(s.logPath())
	if err != nil {
		return err.Error()
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-logTail):], nil))
}

var (
	versionLine = regexp.MustCompile(`v=(\d+)\.(\d+)`)
	versions    sync.Map // path -> [2]int
)

func binaryVersion(path string) (major, minor int, err error) {
	if v, ok := versions.Load(path); ok {
		v := v.([2]int)
		return v[0], v[1], nil
	}
	out, err := exec.Command(path, "--version").CombinedOutput()
	m := versionLine.FindSubmatch(out)
	if err != nil || m == nil {
		return 0, 0, fmt.Errorf("ask %s for its version: %v: %q", path, err, out)
	}
	major, _ = strconv.Atoi(string(m[1]))
	minor, _ = strconv.Atoi(string(m[2]))
	versions.Store(path, [2]int{major, minor})
	return major, minor, nil
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func parseInfo(text string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok {
			m[k] = v
		}
	}
	return m
}
