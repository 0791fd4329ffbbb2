package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
)

// bbolt believes its pages: a damaged one makes it panic, or read memory that
// is not the file's, at once or much later. So a file is walked before it is
// opened: every page that can be reached, every length in it, and the list of
// free pages, which the next commit would write to.
//
// This is the format of bbolt as it has been since 2013 (internal/common in
// its source), in the byte order of the machine.
const (
	pageHead   = 16 // id u64, flags u16, count u16, overflow u32
	metaSize   = 64 // magic, version, page size, flags u32; root, sequence, freelist, pages, txid, checksum u64
	elemSize   = 16 // branch: pos, key size u32, page u64; leaf: flags, pos, key size, value size u32
	bucketHead = 16 // root page, sequence u64

	boltMagic   = 0xED0CDAED
	boltVersion = 2

	branchPage = 0x01
	leafPage   = 0x02
	freePage   = 0x10
	bucketLeaf = 0x01 // flag of a leaf's element: its value is a bucket

	manyFree = 0xFFFF // the count is in the first 8 bytes
	maxDepth = 64     // of pages and buckets; a store has 4
)

var order = binary.NativeEndian

// pages walks a bbolt file.
type pages struct {
	f     io.ReaderAt
	size  int64 // of a page
	count uint64
	seen  []bool // by page: met on the way
	// record is called for every key that is no bucket; the slices are lent.
	record func(bucket, key, value []byte) error
}

// checkPages walks a file of size bytes, as its newest meta page tells.
func checkPages(f io.ReaderAt, size, pageSize int64, record func(bucket, key, value []byte) error) error {
	p := pages{f: f, size: pageSize, record: record}
	meta := p.meta()
	if meta == nil {
		return errors.New("both meta pages are damaged")
	}
	p.count = order.Uint64(meta[40:])
	if have := uint64(size / pageSize); p.count < 4 || p.count > have {
		return fmt.Errorf("the file has %d pages, expected %d", have, p.count)
	}
	p.seen = make([]bool, p.count)
	p.seen[0], p.seen[1] = true, true
	if err := p.tree(order.Uint64(meta[16:]), nil, 0); err != nil {
		return err
	}
	if err := p.freelist(order.Uint64(meta[32:])); err != nil {
		return err
	}
	for id, seen := range p.seen {
		if !seen {
			return fmt.Errorf("page %d is neither free nor in use", id)
		}
	}
	return nil
}

// meta is the newest of the two that is whole, nil when none is.
func (p *pages) meta() (best []byte) {
	for _, at := range []int64{0, p.size} {
		b := make([]byte, metaSize)
		if _, err := p.f.ReadAt(b, at+pageHead); err != nil {
			continue
		}
		sum := fnv.New64a()
		sum.Write(b[:metaSize-8])
		if order.Uint32(b) != boltMagic || order.Uint32(b[4:]) != boltVersion || order.Uint64(b[metaSize-8:]) != sum.Sum64() {
			continue
		}
		if best == nil || order.Uint64(b[48:]) > order.Uint64(best[48:]) {
			best = b
		}
	}
	return best
}

// page reads a page with what it flows over into, each of them once.
func (p *pages) page(id uint64) ([]byte, error) {
	if id < 2 || id >= p.count {
		return nil, fmt.Errorf("page %d is outside of the file", id)
	}
	head := make([]byte, pageHead)
	at := int64(id) * p.size
	if _, err := p.f.ReadAt(head, at); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	n := uint64(order.Uint32(head[12:])) + 1
	if found := order.Uint64(head); found != id || n > p.count-id {
		return nil, fmt.Errorf("page %d says it is page %d, of %d pages", id, found, n)
	}
	for i := id; i < id+n; i++ {
		if p.seen[i] {
			return nil, fmt.Errorf("page %d is used twice", i)
		}
		p.seen[i] = true
	}
	b := make([]byte, int64(n)*p.size)
	if _, err := p.f.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	return b, nil
}

// tree walks the pages of one bucket; the one of all buckets has no name.
func (p *pages) tree(id uint64, bucket []byte, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("page %d lies too deep", id)
	}
	b, err := p.page(id)
	if err != nil {
		return err
	}
	end, err := p.elements(b, bucket, depth)
	if err == nil && end == pageHead {
		err = errors.New("has no element") // bbolt keeps no such page
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// elements walks what is on a page, or in a bucket inside of one, and returns
// where it ends.
func (p *pages) elements(b, bucket []byte, depth int) (end uint64, err error) {
	flags, n := order.Uint16(b[8:]), int(order.Uint16(b[10:]))
	if flags != branchPage && flags != leafPage {
		return 0, fmt.Errorf("has type %#x", flags)
	}
	if pageHead+n*elemSize > len(b) {
		return 0, fmt.Errorf("has %d elements in %d bytes", n, len(b))
	}
	var last []byte
	next := uint64(pageHead + n*elemSize) // keys and values follow, without a gap
	for i := range n {
		at := pageHead + i*elemSize
		e := b[at:][:elemSize]
		var pos, ksize, vsize uint64
		if flags == branchPage {
			pos, ksize = uint64(order.Uint32(e)), uint64(order.Uint32(e[4:]))
		} else {
			pos, ksize, vsize = uint64(order.Uint32(e[4:])), uint64(order.Uint32(e[8:])), uint64(order.Uint32(e[12:]))
		}
		from := uint64(at) + pos
		if from != next || from+ksize+vsize > uint64(len(b)) {
			return 0, fmt.Errorf("element %d lies at %d, expected %d", i, from, next)
		}
		next += ksize + vsize
		key, value := b[from:from+ksize], b[from+ksize:from+ksize+vsize]
		if i > 0 && bytes.Compare(last, key) >= 0 {
			return 0, fmt.Errorf("element %d is out of order", i)
		}
		last = key
		switch kind := order.Uint32(e); {
		case flags == branchPage:
			err = p.tree(order.Uint64(e[8:]), bucket, depth+1)
		case kind == bucketLeaf:
			err = p.bucket(key, value, depth+1)
		case kind != 0:
			err = fmt.Errorf("element %d has flags %#x", i, kind)
		case bucket == nil:
			err = fmt.Errorf("element %d is in no bucket", i)
		default:
			err = p.record(bucket, key, value)
		}
		if err != nil {
			return 0, err
		}
	}
	return next, nil
}

// bucket walks a bucket: one of a few keys lies where its name is.
func (p *pages) bucket(name, value []byte, depth int) error {
	if len(value) < bucketHead {
		return fmt.Errorf("bucket %q has %d bytes", name, len(value))
	}
	if root := order.Uint64(value); root != 0 {
		return p.tree(root, name, depth)
	}
	if len(value) < bucketHead+pageHead {
		return fmt.Errorf("bucket %q has %d bytes", name, len(value))
	}
	inline := value[bucketHead:]
	end, err := p.elements(inline, name, depth)
	if err == nil && end != uint64(len(inline)) {
		err = fmt.Errorf("bucket %q has %d bytes, expected %d", name, len(inline), end)
	}
	return err
}

// freelist marks the free pages, none of which may be in use.
func (p *pages) freelist(id uint64) error {
	if id == math.MaxUint64 {
		return nil // bbolt finds them by itself
	}
	b, err := p.page(id)
	if err != nil {
		return fmt.Errorf("list of free pages: %w", err)
	}
	if flags := order.Uint16(b[8:]); flags != freePage {
		return fmt.Errorf("list of free pages: page %d has type %#x", id, flags)
	}
	n := uint64(order.Uint16(b[10:]))
	if b = b[pageHead:]; n == manyFree {
		n, b = order.Uint64(b), b[8:]
	}
	if n > uint64(len(b)/8) {
		return fmt.Errorf("list of free pages: has %d, more than fit", n)
	}
	for i := range n {
		free := order.Uint64(b[8*i:])
		if free < 2 || free >= p.count || p.seen[free] {
			return fmt.Errorf("list of free pages: page %d is outside of the file, or in use", free)
		}
		p.seen[free] = true
	}
	return nil
}
