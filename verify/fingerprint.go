package verify

import (
	"math/bits"
	"sync"

	"github.com/zeebo/xxh3"
)

// fingerprint is 8 bytes for a key of a db. Two of N keys share one with a
// chance of about N/2^64 per key: 5e-12 among 10^8.
type fingerprint uint64

func fingerprintOf(seed uint64, db int, key []byte) fingerprint {
	f := xxh3.HashSeed(key, seed^(uint64(db)+1)*0x9e3779b97f4a7c15)
	if f == 0 { // marks an empty place of the set
		f = 1
	}
	return fingerprint(f)
}

// fingerprints is the set of source keys: open addressing in 256 parts, so that
// groups rarely wait for each other and growing copies one part. It takes 10 to
// 15 bytes a key.
type fingerprints struct {
	parts [256]fingerprintPart
}

type fingerprintPart struct {
	mu    sync.Mutex
	slots []fingerprint
	n     int
	marks []uint64 // a bit per slot; made by the first mark, when adding is over
}

// add tells whether f is new.
func (s *fingerprints) add(f fingerprint) bool {
	p := &s.parts[f>>56]
	p.mu.Lock()
	defer p.mu.Unlock()
	if (p.n+1)*5 > len(p.slots)*4 {
		p.grow()
	}
	i, found := p.find(f)
	if found {
		return false
	}
	p.slots[i] = f
	p.n++
	return true
}

// mark tells whether f is in the set and whether it is marked for the first
// time. Nothing may be added once marking has begun.
func (s *fingerprints) mark(f fingerprint) (known, first bool) {
	p := &s.parts[f>>56]
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n == 0 {
		return false, false
	}
	i, found := p.find(f)
	if !found {
		return false, false
	}
	if p.marks == nil {
		p.marks = make([]uint64, (len(p.slots)+63)/64)
	}
	word, bit := i/64, uint64(1)<<(i%64)
	first = p.marks[word]&bit == 0
	p.marks[word] |= bit
	return true, first
}

// find is f's place, or the free one where it belongs.
func (p *fingerprintPart) find(f fingerprint) (int, bool) {
	// The upper 8 bits chose the part.
	hi, _ := bits.Mul64(uint64(f)<<8, uint64(len(p.slots)))
	for i := int(hi); ; {
		switch p.slots[i] {
		case f:
			return i, true
		case 0:
			return i, false
		}
		if i++; i == len(p.slots) {
			i = 0
		}
	}
}

func (p *fingerprintPart) grow() {
	old := p.slots
	p.slots = make([]fingerprint, max(16, len(old)+len(old)/2))
	for _, f := range old {
		if f != 0 {
			i, _ := p.find(f)
			p.slots[i] = f
		}
	}
}
