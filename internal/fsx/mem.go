package fsx

import (
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Mem is a file system in memory, for tests. It knows what was synced and
// what was not: Crash gives the file system that a power cut may leave.
// All methods may be called from any goroutine.
type Mem struct {
	mu    sync.Mutex
	root  *memNode
	space int64 // bytes left, -1 unlimited
	fail  func(Op) error
	ops   int
}

// Op is one operation about to happen.
type Op struct {
	N     int    // counts all of them, from 0
	Name  string // create, write, truncate, sync, mkdir, remove, rename, syncdir
	Path  string
	Bytes int // to be written
}

// memNode is a file or a folder.
type memNode struct {
	dir bool

	data, synced []byte // of a file: as it is, and as it was at the last Sync
	// of a folder: as it is, and as it was at the last SyncDir
	entries, durable map[string]*memNode
}

// crashBlock is the unit in which unsynced bytes are kept or lost.
const crashBlock = 512

// NewMem makes an empty one.
func NewMem() *Mem { return &Mem{root: newDir(), space: -1} }

func newDir() *memNode {
	return &memNode{dir: true, entries: map[string]*memNode{}, durable: map[string]*memNode{}}
}

// SetFail has fn asked before each operation that changes something; an error
// that it returns is the operation's, and nothing is changed. Nil ends that.
func (m *Mem) SetFail(fn func(Op) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = fn
}

// SetSpace lets n more bytes be written; then writes are cut short with
// ENOSPC. A negative n is no limit.
func (m *Mem) SetSpace(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.space = n
}

// Ops is how many operations were asked for so far.
func (m *Mem) Ops() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

// Crash returns what a power cut at this moment leaves: what was synced, and
// of the rest each block and each folder entry or not, as rnd decides.
func (m *Mem) Crash(rnd *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	c.root = m.root.crash(rnd, map[*memNode]*memNode{})
	return c
}

// Clone returns a copy that shares nothing, as if all was synced: what
// killing the process leaves.
func (m *Mem) Clone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	c.root = m.root.clone()
	return c
}

func (n *memNode) clone() *memNode {
	c := &memNode{dir: n.dir}
	if !n.dir {
		c.data, c.synced = slices.Clone(n.data), slices.Clone(n.data)
		return c
	}
	c.entries = map[string]*memNode{}
	for name, e := range n.entries {
		c.entries[name] = e.clone()
	}
	c.durable = maps.Clone(c.entries)
	return c
}

func (n *memNode) crash(rnd *rand.Rand, seen map[*memNode]*memNode) *memNode {
	if c := seen[n]; c != nil {
		return c
	}
	c := &memNode{dir: n.dir}
	seen[n] = c
	if !n.dir {
		c.data = n.crashData(rnd)
		c.synced = slices.Clone(c.data)
		return c
	}
	c.entries = map[string]*memNode{}
	names := maps.Clone(n.entries)
	maps.Copy(names, n.durable)
	for _, name := range slices.Sorted(maps.Keys(names)) { // in order, so that a seed repeats
		keep := n.durable[name]
		if now := n.entries[name]; now != keep && rnd.IntN(2) == 0 {
			keep = now
		}
		if keep != nil {
			c.entries[name] = keep.crash(rnd, seen)
		}
	}
	c.durable = maps.Clone(c.entries)
	return c
}

func (n *memNode) crashData(rnd *rand.Rand) []byte {
	size := len(n.synced)
	if len(n.data) != size && rnd.IntN(3) > 0 {
		size = len(n.data)
		if grown := size - len(n.synced); grown > 0 && rnd.IntN(2) == 0 {
			size = len(n.synced) + rnd.IntN(grown)
		}
	}
	out := make([]byte, size)
	copy(out, n.synced)
	for at := 0; at < size; at += crashBlock {
		end := min(at+crashBlock, size)
		if rnd.IntN(2) == 0 && at < len(n.data) {
			copy(out[at:end], n.data[at:min(end, len(n.data))])
		}
	}
	return out
}

// ask counts an operation and lets the hook refuse it.
func (m *Mem) ask(name, path string, n int) error {
	op := Op{N: m.ops, Name: name, Path: path, Bytes: n}
	m.ops++
	if m.fail != nil {
		if err := m.fail(op); err != nil {
			return pathError(name, path, err)
		}
	}
	return nil
}

func pathError(op, path string, err error) error { return &fs.PathError{Op: op, Path: path, Err: err} }

// find returns the node at name, nil when there is none.
func (m *Mem) find(name string) *memNode {
	n := m.root
	for _, part := range split(name) {
		if n == nil || !n.dir {
			return nil
		}
		n = n.entries[part]
	}
	return n
}

func split(name string) []string {
	name = path.Clean("/" + filepath.ToSlash(name))
	if name == "/" {
		return nil
	}
	var parts []string
	for name != "/" {
		dir, file := path.Split(name)
		parts = append(parts, file)
		name = path.Clean(dir)
	}
	slices.Reverse(parts)
	return parts
}

func (m *Mem) parent(name string) (*memNode, string) {
	return m.find(filepath.Dir(name)), filepath.Base(name)
}

// Open opens a file for reading.
func (m *Mem) Open(name string) (File, error) { return m.Edit(name) }

// Edit opens a file for reading and writing.
func (m *Mem) Edit(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(name)
	if n == nil {
		return nil, pathError("open", name, fs.ErrNotExist)
	}
	return &memFile{m: m, n: n, name: name}, nil
}

// Create makes a new file.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base := m.parent(name)
	switch {
	case dir == nil:
		return nil, pathError("create", name, fs.ErrNotExist)
	case dir.entries[base] != nil:
		return nil, pathError("create", name, fs.ErrExist)
	}
	if err := m.ask("create", name, 0); err != nil {
		return nil, err
	}
	n := &memNode{}
	dir.entries[base] = n
	return &memFile{m: m, n: n, name: name}, nil
}

// MkdirAll makes a folder and its parents.
func (m *Mem) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.root
	for _, part := range split(name) {
		next := n.entries[part]
		if next == nil {
			if err := m.ask("mkdir", name, 0); err != nil {
				return err
			}
			next = newDir()
			n.entries[part] = next
		}
		if !next.dir {
			return pathError("mkdir", name, syscall.ENOTDIR)
		}
		n = next
	}
	return nil
}

// ReadDir lists a folder in order.
func (m *Mem) ReadDir(name string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(name)
	if n == nil || !n.dir {
		return nil, pathError("readdir", name, fs.ErrNotExist)
	}
	var list []fs.DirEntry
	for _, base := range slices.Sorted(maps.Keys(n.entries)) {
		list = append(list, fs.FileInfoToDirEntry(n.entries[base].info(base)))
	}
	return list, nil
}

// Stat tells about a file or folder.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(name)
	if n == nil {
		return nil, pathError("stat", name, fs.ErrNotExist)
	}
	return n.info(filepath.Base(name)), nil
}

// Remove deletes a file or an empty folder.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base := m.parent(name)
	if dir == nil || dir.entries[base] == nil {
		return pathError("remove", name, fs.ErrNotExist)
	}
	if len(dir.entries[base].entries) > 0 {
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	if err := m.ask("remove", name, 0); err != nil {
		return err
	}
	delete(dir.entries, base)
	return nil
}

// Rename moves a file over whatever has the new name.
func (m *Mem) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base := m.parent(from)
	dest, name := m.parent(to)
	if dir == nil || dest == nil || dir.entries[base] == nil {
		return pathError("rename", from, fs.ErrNotExist)
	}
	if err := m.ask("rename", from, 0); err != nil {
		return err
	}
	dest.entries[name] = dir.entries[base]
	delete(dir.entries, base)
	return nil
}

// SyncDir makes a folder's entries durable.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(name)
	if n == nil || !n.dir {
		return pathError("syncdir", name, fs.ErrNotExist)
	}
	if err := m.ask("syncdir", name, 0); err != nil {
		return err
	}
	n.durable = maps.Clone(n.entries)
	return nil
}

// SameFile tells whether both are of one file.
func (m *Mem) SameFile(a, b fs.FileInfo) bool { return a.Sys() == b.Sys() }

// info is a snapshot.
func (n *memNode) info(name string) fs.FileInfo {
	return memInfo{name: name, size: int64(len(n.data)), dir: n.dir, node: n}
}

type memInfo struct {
	name string
	size int64
	dir  bool
	node *memNode
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) ModTime() time.Time { return time.Time{} }
func (i memInfo) IsDir() bool        { return i.dir }
func (i memInfo) Sys() any           { return i.node }
func (i memInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o755
	}
	return 0o644
}

// memFile is an open file.
type memFile struct {
	m    *Mem
	n    *memNode
	name string
	pos  int64
}

func (f *memFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.m.ask("write", f.name, len(p)); err != nil {
		return 0, err
	}
	if grow := off + int64(len(p)) - int64(len(f.n.data)); grow > 0 {
		if space := f.m.space; space >= 0 && grow > space {
			p = p[:max(0, int64(len(p))-(grow-space))]
			f.put(p, off)
			f.m.space = 0
			return len(p), pathError("write", f.name, syscall.ENOSPC)
		} else if space >= 0 {
			f.m.space -= grow
		}
	}
	f.put(p, off)
	return len(p), nil
}

func (f *memFile) put(p []byte, off int64) {
	if end := int(off) + len(p); end > len(f.n.data) {
		f.n.data = append(f.n.data, make([]byte, end-len(f.n.data))...)
	}
	copy(f.n.data[off:], p)
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Seek(off int64, whence int) (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		off += f.pos
	case io.SeekEnd:
		off += int64(len(f.n.data))
	}
	f.pos = off
	return off, nil
}

func (f *memFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.m.ask("truncate", f.name, 0); err != nil {
		return err
	}
	if grow := int(size) - len(f.n.data); grow > 0 {
		f.n.data = append(f.n.data, make([]byte, grow)...)
	}
	f.n.data = slices.Clone(f.n.data[:size])
	return nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.m.ask("sync", f.name, 0); err != nil {
		return err
	}
	f.n.synced = slices.Clone(f.n.data)
	return nil
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.n.info(filepath.Base(f.name)), nil
}

func (f *memFile) Close() error { return nil }
