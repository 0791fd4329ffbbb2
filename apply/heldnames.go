package apply

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
)

// nameQueue keeps names of keys in the order they came, most of them in a file
// that nobody else sees and that does not outlive the process. A name may be
// in it more than once.
type nameQueue struct {
	path  string // where the file is made, and removed at once
	most  int64  // names
	n     int64  // names in it
	front []byte // the oldest, from at on
	at    int
	head  []byte // the newest
	// recent says where in head, plus one, names were put last, by their hashes.
	recent [1024]uint32
	seed   maphash.Seed

	file       *os.File // between front and head: [read, end)
	read, end  int64
	lengthHead [4]byte
}

const (
	// nameBlock is what is written to the file, and read from it, at a time, unless
	// one name is longer.
	nameBlock = 64 << 10
	// maxNameBytes bounds the file.
	maxNameBytes = 1 << 30
)

// errManyNames says that a queue takes no more.
var errManyNames = errors.New("more names than are kept")

func newNameQueue(path string, most int64) *nameQueue {
	return &nameQueue{path: path, most: most, seed: maphash.MakeSeed()}
}

// add puts a name at the end, unless it was put there a short while ago. An
// error says that the queue lacks it.
func (q *nameQueue) add(db int, key []byte) error {
	var room [2 * binary.MaxVarintLen64]byte
	head := binary.AppendUvarint(room[:0], uint64(db))
	head = binary.AppendUvarint(head, uint64(len(key)))
	slot := &q.recent[(maphash.Bytes(q.seed, key)+uint64(db))%uint64(len(q.recent))]
	if *slot != 0 {
		if is := q.head[*slot-1:]; len(is) >= len(head)+len(key) && string(is[:len(head)]) == string(head) && string(is[len(head):len(head)+len(key)]) == string(key) {
			return nil
		}
	}
	if q.n >= q.most {
		return errManyNames
	}
	if len(q.head) > 0 && len(q.head)+len(head)+len(key) > nameBlock {
		if err := q.spill(); err != nil {
			return err
		}
	}
	*slot = uint32(len(q.head)) + 1
	q.head = append(append(q.head, head...), key...)
	q.n++
	return nil
}

// spill writes head to the file.
func (q *nameQueue) spill() error {
	if q.end >= maxNameBytes {
		return errManyNames
	}
	if q.file == nil {
		f, err := os.OpenFile(q.path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		if err := os.Remove(q.path); err != nil {
			return errors.Join(err, f.Close())
		}
		q.file = f
	}
	binary.LittleEndian.PutUint32(q.lengthHead[:], uint32(len(q.head)))
	if _, err := q.file.WriteAt(q.lengthHead[:], q.end); err != nil {
		return err
	}
	if _, err := q.file.WriteAt(q.head, q.end+int64(len(q.lengthHead))); err != nil {
		return err
	}
	q.end += int64(len(q.lengthHead) + len(q.head))
	q.head = q.head[:0]
	clear(q.recent[:])
	return nil
}

// first is up to n of the oldest names, all of one database, and where the rest
// begins, which is for drop. The names are valid until then.
func (q *nameQueue) first(n int) (db int, keys [][]byte, rest int, err error) {
	if q.at == len(q.front) {
		if err := q.fetch(); err != nil {
			return 0, nil, 0, err
		}
	}
	rest = q.at
	for rest < len(q.front) && len(keys) < n {
		in, a := binary.Uvarint(q.front[rest:])
		size, b := binary.Uvarint(q.front[rest+max(a, 0):])
		if a <= 0 || b <= 0 || size > uint64(len(q.front)-rest-a-b) {
			return 0, nil, 0, fmt.Errorf("%s: a name at byte %d of a block is cut short", q.path, rest)
		}
		switch {
		case len(keys) == 0:
			db = int(in)
		case int(in) != db:
			return db, keys, rest, nil
		}
		rest += a + b
		keys = append(keys, q.front[rest:rest+int(size)])
		rest += int(size)
	}
	return db, keys, rest, nil
}

// drop takes out what first has returned.
func (q *nameQueue) drop(keys, rest int) {
	q.at = rest
	q.n -= int64(keys)
}

// fetch makes the block behind front, or head, the front.
func (q *nameQueue) fetch() error {
	q.at = 0
	if q.read == q.end {
		q.front, q.head = q.head, q.front[:0]
		q.read, q.end = 0, 0
		clear(q.recent[:])
		return nil
	}
	q.front = q.front[:0]
	in := io.NewSectionReader(q.file, q.read, q.end-q.read)
	if _, err := io.ReadFull(in, q.lengthHead[:]); err != nil {
		return err
	}
	size := binary.LittleEndian.Uint32(q.lengthHead[:])
	if int64(size) > q.end-q.read {
		return fmt.Errorf("%s: a block of %d bytes at byte %d, the file ends at %d", q.path, size, q.read, q.end)
	}
	block := make([]byte, size)
	if _, err := io.ReadFull(in, block); err != nil {
		return err
	}
	q.front = block
	q.read += int64(len(q.lengthHead)) + int64(size)
	return nil
}

// reset makes it empty.
func (q *nameQueue) reset() {
	if q.file != nil {
		_ = q.file.Close()
	}
	*q = nameQueue{path: q.path, most: q.most, seed: q.seed}
}
