package native

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"tairlift/internal/rdb"
)

// ids is a set of the ids of stream entries in ascending order, packed: two to
// four bytes each as servers make them, and with times some five more.
type ids struct {
	timed  bool // each has a time and a count
	b      []byte
	n      int
	blocks []block
	last   packedID

	at  packedID // where find has come to
	blk int      // in this block,
	pos int      // behind at in b; 0 is nowhere
}

type packedID struct {
	id    rdb.StreamID
	ms    int64
	count uint64
}

// block begins a run of ids that can be read without those before.
type block struct {
	first rdb.StreamID
	pos   int
}

const blockIDs = 64

func (s *ids) reset() {
	if cap(s.b) > bufferKeep {
		s.b, s.blocks = nil, nil
	}
	*s = ids{timed: s.timed, b: s.b[:0], blocks: s.blocks[:0]}
}

func compareIDs(a, b rdb.StreamID) int {
	return cmp.Or(cmp.Compare(a.MS, b.MS), cmp.Compare(a.Seq, b.Seq))
}

// add appends an id, which must be larger than the last.
func (s *ids) add(id rdb.StreamID, ms int64, count uint64) error {
	if s.n > 0 && compareIDs(id, s.last.id) <= 0 {
		return fmt.Errorf("stream entry %v does not follow %v", id, s.last.id)
	}
	base := s.last
	if s.n%blockIDs == 0 {
		s.blocks = append(s.blocks, block{id, len(s.b)})
		base = packedID{}
	}
	up := id.MS - base.id.MS
	s.b = binary.AppendUvarint(s.b, up)
	if up == 0 {
		s.b = binary.AppendUvarint(s.b, id.Seq-base.id.Seq)
	} else {
		s.b = binary.AppendUvarint(s.b, id.Seq)
	}
	if s.timed {
		s.b = binary.AppendVarint(s.b, ms-base.ms)
		s.b = binary.AppendUvarint(s.b, count)
	}
	s.last = packedID{id, ms, count}
	s.n++
	return nil
}

// find looks an id up. Looking ids up in ascending order costs a step each.
func (s *ids) find(id rdb.StreamID) (packedID, bool) {
	i, exact := slices.BinarySearchFunc(s.blocks, id, func(b block, id rdb.StreamID) int { return compareIDs(b.first, id) })
	if !exact {
		i--
	}
	if i < 0 {
		return packedID{}, false
	}
	if s.pos == 0 || s.blk != i || compareIDs(id, s.at.id) < 0 {
		s.blk, s.pos, s.at = i, s.blocks[i].pos, packedID{}
		s.next()
	}
	end := len(s.b)
	if i+1 < len(s.blocks) {
		end = s.blocks[i+1].pos
	}
	for compareIDs(s.at.id, id) < 0 && s.pos < end {
		s.next()
	}
	return s.at, s.at.id == id
}

// next reads the id behind pos.
func (s *ids) next() {
	read := func() uint64 {
		v, n := binary.Uvarint(s.b[s.pos:])
		s.pos += n
		return v
	}
	if up := read(); up == 0 {
		s.at.id.Seq += read()
	} else {
		s.at.id.MS += up
		s.at.id.Seq = read()
	}
	if s.timed {
		ms, n := binary.Varint(s.b[s.pos:])
		s.pos += n
		s.at.ms += ms
		s.at.count = read()
	}
}
