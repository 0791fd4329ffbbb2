package ctl

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// binding is how the folder begins in which a socket is bound.
const binding = ".ctl-"

const (
	// patience is how long one connection may take for its line.
	patience = 5 * time.Second
	// atOnce is how many connections are served at a time.
	atOnce = 8
)

// Server answers calls until it is closed.
type Server struct {
	path   string
	info   os.FileInfo // of the socket
	ln     net.Listener
	answer func(Request) Response
	slots  chan struct{}
	wg     sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]bool
	closed bool
}

// Listen answers calls at path by a function, which several may call at once, and
// replaces what another process has left there. The caller holds a lock that keeps
// others from doing the same.
func Listen(path string, answer func(Request) Response) (*Server, error) {
	// It is bound where nobody else can come, and appears at path with its mode and
	// in one step.
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), binding) { // of a process killed just here
			_ = os.RemoveAll(filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), binding)
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	bound := filepath.Join(dir, "s")
	short, release, err := shorten(bound)
	if err != nil {
		return nil, err
	}
	defer release()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false) // it is elsewhere by then
	info, err := os.Lstat(bound)
	if err == nil {
		err = os.Chmod(bound, 0o600)
	}
	if err == nil {
		err = os.Rename(bound, path)
	}
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	s := &Server{path: path, info: info, ln: ln, answer: answer, slots: make(chan struct{}, atOnce), conns: map[net.Conn]bool{}}
	s.wg.Go(s.accept)
	return s, nil
}

// Close ends the calls under way and removes the socket.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	err := s.ln.Close()
	s.wg.Wait()
	if info, serr := os.Lstat(s.path); serr == nil && os.SameFile(info, s.info) {
		err = errors.Join(err, os.Remove(s.path))
	}
	return err
}

func (s *Server) accept() {
	for {
		s.slots <- struct{}{}
		conn, err := s.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			<-s.slots
			time.Sleep(10 * time.Millisecond) // out of descriptors, say
			continue
		}
		s.mu.Lock()
		s.conns[conn] = true
		if s.closed {
			conn.Close()
		}
		s.wg.Go(func() { s.serve(conn) })
		s.mu.Unlock()
	}
}

func (s *Server) serve(conn net.Conn) {
	defer func() {
		conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
		<-s.slots
	}()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return
	}
	var req Request
	var resp Response
	switch err := readLine(conn, &req); {
	case err != nil:
		resp = Refuse("use the tairlift that runs there", "the request cannot be read: %v", err)
	case req.Version != version:
		resp = Refuse("use the tairlift that runs there", "the request has version %d, this tairlift knows version %d", req.Version, version)
	default:
		resp = s.guarded(req)
	}
	resp.Version = version
	_ = writeLine(conn, resp) // who has gone needs no answer
}

// guarded makes a bug of ours the end of this call alone.
func (s *Server) guarded(req Request) (resp Response) {
	defer func() {
		if p := recover(); p != nil {
			resp = Refuse("report this; the job goes on", "internal error: %v", p)
		}
	}()
	return s.answer(req)
}

// maxName is what the name of a socket may have on every system.
const maxName = 100

// shorten gives a path that is short enough to be a socket's name: by a link, in a
// folder of its own, to the folder where it lies. release removes that.
func shorten(path string) (short string, release func(), err error) {
	if len(path) <= maxName {
		return path, func() {}, nil
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	tmp, err := os.MkdirTemp("", "tairlift-")
	if err != nil {
		return "", nil, err
	}
	release = func() { _ = os.RemoveAll(tmp) }
	link := filepath.Join(tmp, "d")
	if err := os.Symlink(dir, link); err != nil {
		release()
		return "", nil, err
	}
	short = filepath.Join(link, filepath.Base(path))
	if len(short) > maxName {
		release()
		return "", nil, fmt.Errorf("neither %s nor a link to it in %s is short enough for a socket's name", path, os.TempDir())
	}
	return short, release, nil
}
