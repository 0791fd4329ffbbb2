package verify

import (
	"io"

	"github.com/zeebo/xxh3"

	"tairlift/internal/rdb"
	"tairlift/internal/resp"
)

// A value that is too large to be held is digested as it arrives: of its payload
// stay a digest of what it says, as of one that is held, and one of its bytes,
// which stands for them where they are compared. Each side's is of one moment, as
// its DUMP is.

// far is what is known of such a value.
type far struct {
	at   int // its place in the reading
	typ  byte
	said digest
	err  error  // why it cannot be decoded
	raw  digest // of its bytes without the footer
}

// payload gives what arrives of a payload, and digests its bytes.
type payload struct {
	r    io.Reader
	left int64 // bytes before the footer
	sum  *xxh3.Hasher
}

func (p *payload) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	body := min(int64(n), p.left)
	_, _ = p.sum.Write(b[:body]) // it never fails
	p.left -= body
	return n, err
}

// arriving digests a payload of size bytes. An error of r is for its owner to see.
func (d *digester) arriving(r io.Reader, size int64) far {
	body := max(size-dumpFooter, 0)
	p := &payload{r: r, left: body, sum: xxh3.NewSeed(d.seed)}
	var f far
	in, err := rdb.NewDumpReader(p, size)
	if err == nil {
		f.typ = in.Type()
		d.begin(f.typ)
		var n int64
		_, n, err = in.Elements(d.each)
		f.said = d.end(n)
	}
	_, _ = io.Copy(io.Discard, p)
	sum := p.sum.Sum128()
	f.raw = digest{kind: kindOpaque, count: body, hi: sum.Hi, lo: sum.Lo}
	if err != nil {
		f.said, f.err = f.raw, err
	}
	return f
}

// digest reads the answer about the next key, which is not held.
func (r *reading) digest(b *resp.Bulk) error {
	f := r.digests.arriving(b, b.Size)
	if err := b.Close(); err != nil {
		return err
	}
	f.at = len(r.ends)
	r.far = append(r.far, f)
	r.bytes += b.Size
	return nil
}

// farAt is what is known of the i-th key's value, nil if that is held.
func (r *reading) farAt(i int) *far {
	for k := range r.far {
		if r.far[k].at == i {
			return &r.far[k]
		}
	}
	return nil
}

// type of the i-th key's value, as its payload has it.
func (r *reading) typeAt(i int) (typ byte, ok bool) {
	if f := r.farAt(i); f != nil {
		return f.typ, true
	}
	b := r.body(i)
	if len(b) == 0 {
		return 0, false
	}
	return b[0], true
}

// rawAt is the digest of the bytes of the i-th key's payload.
func (d *digester) rawAt(r *reading, i int) digest {
	if f := r.farAt(i); f != nil {
		return f.raw
	}
	b := r.body(i)
	return d.opaque(b[:max(len(b)-dumpFooter, 0)])
}
