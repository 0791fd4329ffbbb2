package main

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"tairlift/internal/rdb"
)

// decode measures the RDB decoder, which makes a DUMP payload of each value.
func (b *bench) decode() error {
	d, err := b.rdbData()
	if err != nil {
		return err
	}
	size := 0
	for _, f := range d.rdbs {
		size += len(f)
	}
	r := &row{
		what: fmt.Sprintf("decode an RDB of %.0f MB into DUMP payloads, its checksum and theirs", float64(size)/mega), text: "none",
		against: "reading the same bytes with the checksum alone", unit: "MB/s", scale: mega,
	}
	for range b.runs {
		begun := time.Now()
		entries := int64(0)
		for _, f := range d.rdbs {
			n, err := entriesOf(f)
			if err != nil {
				return err
			}
			entries += n
		}
		ours := time.Since(begun)
		if entries != d.keys {
			return fmt.Errorf("decoded %d keys, expected %d", entries, d.keys)
		}
		begun = time.Now()
		for _, f := range d.rdbs {
			if err := checksum(f); err != nil {
				return err
			}
		}
		r.add(float64(size), ours, time.Since(begun))
	}
	b.rows = append(b.rows, r)
	return nil
}

func entriesOf(file []byte) (n int64, err error) {
	dec := rdb.NewDecoder(struct{ io.Reader }{bytes.NewReader(file)}, rdb.Options{})
	for {
		switch _, err := dec.Next(); err {
		case nil:
			n++
		case io.EOF:
			return n, nil
		default:
			return n, err
		}
	}
}

// checksum reads a file in pieces, as from a spool, and checks its footer.
func checksum(file []byte) error {
	in := bytes.NewReader(file)
	buf := make([]byte, 128<<10)
	crc := uint64(0)
	for left := len(file) - 8; left > 0; {
		n, err := in.Read(buf[:min(left, len(buf))])
		if err != nil {
			return err
		}
		crc = rdb.CRC64(crc, buf[:n])
		left -= n
	}
	var foot [8]byte
	for i := range foot {
		foot[i] = byte(crc >> (8 * i))
	}
	if !bytes.Equal(foot[:], file[len(file)-8:]) {
		return fmt.Errorf("the RDB's checksum is %x, expected %x", file[len(file)-8:], foot)
	}
	return nil
}
