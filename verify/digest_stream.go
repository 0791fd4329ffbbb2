package verify

import (
	"encoding/binary"

	"tairlift/internal/rdb"
)

// stream digests one part of a stream. What newer servers alone know, and what
// reading changes (seen-time, active-time, entries-read), is left out, and so is
// the packing of entries into nodes.
func (d *digester) stream(e rdb.Element) error {
	s := e.Stream
	if s == nil {
		return nil
	}
	b := append(d.buf[:0], byte(s.Part))
	for _, v := range [...]uint64{s.ID.MS, s.ID.Seq, s.Count, uint64(s.TimeMS)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = appendSized(b, s.Group)
	b = appendSized(b, s.Consumer)
	for _, f := range s.Fields {
		b = appendSized(b, f)
	}
	d.buf = trimmed(b)
	d.add(d.hash(b))
	return nil
}

func appendSized(dst, b []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(b)))
	return append(dst, b...)
}
