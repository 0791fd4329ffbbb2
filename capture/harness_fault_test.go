package capture

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"tairlift/checkpoint"
	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// faultFS is the machine's file system with a disk that can fill up, fail or
// stall.
type faultFS struct {
	fsx.FS
	syncs atomic.Int64 // of files

	mu    sync.Mutex // guards what follows
	full  bool       // no byte may be written any more
	bad   error      // what fsync returns
	stall chan struct{}
}

func newFaultFS() *faultFS { return &faultFS{FS: fsx.OS} }

func (f *faultFS) fill(full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full = full
}

func (f *faultFS) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bad = err
}

// hang makes every fsync wait until release is called.
func (f *faultFS) hang() (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stall := make(chan struct{})
	f.stall = stall
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.stall = nil
		close(stall)
	})
}

func (f *faultFS) Create(name string) (fsx.File, error) { return f.wrap(f.FS.Create(name)) }
func (f *faultFS) Edit(name string) (fsx.File, error)   { return f.wrap(f.FS.Edit(name)) }

func (f *faultFS) wrap(file fsx.File, err error) (fsx.File, error) {
	if err != nil {
		return nil, err
	}
	return &faultFile{File: file, fs: f}, nil
}

type faultFile struct {
	fsx.File
	fs *faultFS
}

func (f *faultFile) Write(p []byte) (int, error) {
	f.fs.mu.Lock()
	full := f.fs.full
	f.fs.mu.Unlock()
	if full {
		n, err := f.File.Write(p[:len(p)/2])
		if err == nil {
			err = syscall.ENOSPC
		}
		return n, err
	}
	return f.File.Write(p)
}

func (f *faultFile) Sync() error {
	f.fs.syncs.Add(1)
	f.fs.mu.Lock()
	bad, stall := f.fs.bad, f.fs.stall
	f.fs.mu.Unlock()
	if stall != nil {
		<-stall
	}
	if bad != nil {
		return bad
	}
	return f.File.Sync()
}

// faultStore is a store that can fail, stall or panic.
type faultStore struct {
	Store
	mu   sync.Mutex // guards hook
	hook func(checkpoint.CaptureRecord) error
}

func (s *faultStore) set(hook func(checkpoint.CaptureRecord) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = hook
}

func (s *faultStore) PutGroup(g repl.GroupID, rec checkpoint.CaptureRecord) error {
	s.mu.Lock()
	hook := s.hook
	s.mu.Unlock()
	if hook != nil {
		if err := hook(rec); err != nil {
			return err
		}
	}
	return s.Store.PutGroup(g, rec)
}

// memStore is a store in memory.
type memStore struct {
	mu    sync.Mutex // guards what follows
	rec   checkpoint.CaptureRecord
	known bool
}

func (s *memStore) Group(repl.GroupID) (checkpoint.CaptureRecord, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec, s.known, nil
}

func (s *memStore) PutGroup(_ repl.GroupID, rec checkpoint.CaptureRecord) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rec, s.known = rec, true
	return nil
}

// nosyncFS is the machine's file system without its fsyncs, for tests that
// write hundreds of spools and cut no power.
type nosyncFS struct{ fsx.FS }

func (nosyncFS) SyncDir(string) error { return nil }

func (f nosyncFS) Create(name string) (fsx.File, error) { return f.wrap(f.FS.Create(name)) }
func (f nosyncFS) Edit(name string) (fsx.File, error)   { return f.wrap(f.FS.Edit(name)) }

func (nosyncFS) wrap(file fsx.File, err error) (fsx.File, error) {
	if err != nil {
		return nil, err
	}
	return nosyncFile{file}, nil
}

type nosyncFile struct{ fsx.File }

func (nosyncFile) Sync() error { return nil }

// queueGate is a FullSyncGate with one place.
type queueGate chan struct{}

func (q queueGate) Acquire(ctx context.Context, _ string) (func(), error) {
	select {
	case q <- struct{}{}:
		return func() { <-q }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// sameBytes compares an epoch with what a fake master sent.
func sameBytes(t *testing.T, e captured, rdb, stream []byte) {
	t.Helper()
	if !bytes.Equal(e.rdb, rdb) {
		t.Errorf("RDB: got %d bytes that differ, want %d", len(e.rdb), len(rdb))
	}
	if !bytes.Equal(e.stream, stream) {
		t.Errorf("stream: got %d bytes that differ, want %d", len(e.stream), len(stream))
	}
}
