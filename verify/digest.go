package verify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/bits"

	"github.com/zeebo/xxh3"

	"tairlift/internal/rdb"
)

// digest says what a value is, whatever its encoding: equal digests of one run
// are equal values. The sums are of 128-bit hashes modulo 2^128 (a sum, not an
// exclusive or: two equal members must not cancel out).
type digest struct {
	kind  kind
	count int64 // elements; bytes of a string
	hi    uint64
	lo    uint64
}

// kind is rdb.Kind and what this package must tell apart besides.
type kind uint8

const (
	kindHLL    kind = 100 + iota // a string that PFCOUNT understands
	kindOpaque                   // a payload that cannot be decoded: the digest of its bytes
)

// String is the word that TYPE answers.
func (k kind) String() string {
	if k == kindHLL {
		return rdb.KindString.String()
	}
	return rdb.Kind(k).String()
}

// dumpFooter is the RDB version and CRC64 behind a DUMP payload, which differ
// between servers when the values do not.
const dumpFooter = 10

// wholeString bounds the payload of a string whose text is held.
const wholeString = 64 << 10

// digester digests DUMP payloads. It is used by one goroutine.
type digester struct {
	seed  uint64
	kind  rdb.Kind
	sum   xxh3.Uint128
	size  int64
	each  func(rdb.Element) error
	buf   []byte
	regs  [hllRegisters]byte
	isHLL bool
	text  *xxh3.Hasher // of a string that comes in pieces
}

func newDigester(seed uint64) *digester {
	d := &digester{seed: seed}
	d.each = d.element
	return d
}

var errShort = errors.New("dump payload is too short")

// of digests a payload. When it cannot be decoded, the digest is of its bytes
// without the footer, and err says why.
func (d *digester) of(payload []byte) (digest, error) {
	raw := payload[:max(len(payload)-dumpFooter, 0)]
	switch {
	case len(raw) == 0:
		return d.opaque(raw), errShort
	case raw[0] == rdb.TypeString && len(raw) > wholeString: // it may be compressed, and large
		f := d.arriving(bytes.NewReader(payload), int64(len(payload)))
		return f.said, f.err
	}
	typ, body, _, err := rdb.ParseDump(payload)
	if err != nil {
		return d.opaque(raw), err
	}
	d.begin(typ)
	_, n, err := rdb.Elements(typ, body, d.each)
	if err != nil {
		return d.opaque(raw), err
	}
	return d.end(n), nil
}

// begin begins a value, end ends it; n is the number of its elements.
func (d *digester) begin(typ byte) {
	d.kind, d.sum, d.size, d.isHLL = rdb.KindOf(typ), xxh3.Uint128{}, 0, false
	if d.text != nil {
		d.text.Reset()
	}
}

func (d *digester) end(n int64) digest {
	out := digest{kind: kind(d.kind), count: n, hi: d.sum.Hi, lo: d.sum.Lo}
	if d.kind == rdb.KindString {
		out.count = d.size
		if d.isHLL {
			out.kind, out.count = kindHLL, hllRegisters
		}
	}
	return out
}

func (d *digester) opaque(b []byte) digest {
	h := xxh3.Hash128Seed(b, d.seed)
	return digest{kind: kindOpaque, count: int64(len(b)), hi: h.Hi, lo: h.Lo}
}

// typeName stands for a value of which only the answer of TYPE is known.
func (d *digester) typeName(name []byte) digest {
	for k := rdb.KindString; k < rdb.KindModule; k++ {
		if k.String() == string(name) {
			return digest{kind: kind(k)}
		}
	}
	return d.opaque(name)
}

func (d *digester) element(e rdb.Element) error {
	switch d.kind {
	case rdb.KindString:
		first := d.size == 0
		d.size += int64(len(e.A))
		if e.More || !first {
			d.piece(e)
			return nil
		}
		b := e.A
		if len(b) >= hllHeader && string(b[:4]) == "HYLL" && hllRegistersOf(b, &d.regs) {
			d.isHLL, b = true, d.regs[:]
		}
		d.sum = d.hash(b)
	case rdb.KindList:
		d.chain(d.hash(e.A))
	case rdb.KindSet:
		d.add(d.hash(e.A))
	case rdb.KindHash:
		h := d.join(d.hash(e.A), d.hash(e.B))
		if e.DeadlineMS != 0 {
			h = d.join(h, xxh3.Uint128{Lo: uint64(e.DeadlineMS)})
		}
		d.add(h)
	case rdb.KindZSet:
		score := e.Score
		if score == 0 { // -0 too
			score = 0
		}
		d.add(d.join(d.hash(e.A), xxh3.Uint128{Lo: math.Float64bits(score)}))
	default:
		return d.stream(e)
	}
	return nil
}

// piece digests a part of a string that is too long for a HyperLogLog.
func (d *digester) piece(e rdb.Element) {
	if d.text == nil {
		d.text = xxh3.NewSeed(d.seed)
	}
	_, _ = d.text.Write(e.A) // it never fails
	if !e.More {
		d.sum = d.text.Sum128()
	}
}

func (d *digester) hash(b []byte) xxh3.Uint128 { return xxh3.Hash128Seed(b, d.seed) }

// join hashes two hashes, whose order counts.
func (d *digester) join(a, b xxh3.Uint128) xxh3.Uint128 {
	d.buf = d.buf[:0]
	for _, v := range [...]uint64{a.Hi, a.Lo, b.Hi, b.Lo} {
		d.buf = binary.LittleEndian.AppendUint64(d.buf, v)
	}
	return xxh3.Hash128Seed(d.buf, d.seed)
}

// chain makes the order of elements count, add does not.
func (d *digester) chain(h xxh3.Uint128) { d.sum = d.join(d.sum, h) }

func (d *digester) add(h xxh3.Uint128) {
	var carry uint64
	d.sum.Lo, carry = bits.Add64(d.sum.Lo, h.Lo, 0)
	d.sum.Hi, _ = bits.Add64(d.sum.Hi, h.Hi, carry)
}
