// Package fsx is the file system as the spool and the status files need it:
// few operations, each of which a test can watch, fail or undo.
//
// FS and File are what is called; OS is the real one; Mem is one in memory
// that can lose power. A file that was created, renamed or removed is so for
// good only after SyncDir of its folder; what was written, only after Sync of
// the file. WriteFileAtomic does all of that for a small file.
//
// Caveats: Mem knows no permissions, no links and no free space; its Fail hook
// stands in for them.
package fsx

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// FS is one file system. Errors are *fs.PathError as from package os.
type FS interface {
	// Open opens an existing file for reading.
	Open(name string) (File, error)
	// Edit opens an existing file for reading and writing, at its start.
	Edit(name string) (File, error)
	// Create makes a new file for reading and writing and refuses one that
	// exists.
	Create(name string) (File, error)
	// MkdirAll makes name and its parents. The caller syncs the parents.
	MkdirAll(name string) error
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	// Remove deletes a file or an empty folder.
	Remove(name string) error
	Rename(from, to string) error
	// SyncDir must not return nil until creations, renames and removals in
	// name are durable.
	SyncDir(name string) error
	// SameFile tells whether two of its own FileInfos are of one file.
	SameFile(a, b fs.FileInfo) bool
}

// File is an open file.
type File interface {
	io.Writer // behind what was written before
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync must not return nil until everything written is durable. After an
	// error nothing is known about any byte since the last good Sync.
	Sync() error
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
	// Seek moves where Write goes on.
	Seek(offset int64, whence int) (int64, error)
}

// OS is the machine's file system.
var OS FS = osFS{}

type osFS struct{}

func (osFS) Open(name string) (File, error) { return wrap(os.Open(name)) }
func (osFS) Edit(name string) (File, error) { return wrap(os.OpenFile(name, os.O_RDWR, 0)) }

func (osFS) Create(name string) (File, error) {
	return wrap(os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644))
}

func (osFS) MkdirAll(name string) error                 { return os.MkdirAll(name, 0o755) }
func (osFS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }
func (osFS) Stat(name string) (fs.FileInfo, error)      { return os.Stat(name) }
func (osFS) Remove(name string) error                   { return os.Remove(name) }
func (osFS) Rename(from, to string) error               { return os.Rename(from, to) }
func (osFS) SameFile(a, b fs.FileInfo) bool             { return os.SameFile(a, b) }

func (osFS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// wrap keeps a nil *os.File from becoming a File that is not nil.
func wrap(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// WriteFileAtomic puts data into the file path in one step: whoever opens it,
// also after a power cut, finds the old content or the new one, whole. The
// folder must exist. Concurrent writers of one path are the caller's to
// exclude.
func WriteFileAtomic(path string, data []byte) error { return WriteFileAtomicIn(OS, path, data) }

// WriteFileAtomicIn is WriteFileAtomic on another file system.
func WriteFileAtomicIn(fsys FS, path string, data []byte) error {
	temp := path + ".tmp"
	if err := fsys.Remove(temp); err != nil && !os.IsNotExist(err) {
		return err // left by a crash, and not ours to remove
	}
	f, err := fsys.Create(temp)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		// Without this the rename may be durable before the bytes are.
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.Rename(temp, path)
	}
	if err != nil {
		_ = fsys.Remove(temp)
		return err
	}
	return fsys.SyncDir(filepath.Dir(path))
}
