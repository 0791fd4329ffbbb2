package rdb

import (
	"encoding/binary"
	"hash/crc64"
)

// crcTables drives slicing-by-8. The polynomial is Redis's "Jones" one,
// 0xad93d23594c935a9, bit-reversed as crc64.MakeTable wants it.
var crcTables = func() (t [8][256]uint64) {
	t[0] = [256]uint64(*crc64.MakeTable(0x95ac9329ac4bc9b5))
	for i := range 256 {
		for k := 1; k < 8; k++ {
			v := t[k-1][i]
			t[k][i] = t[0][byte(v)] ^ v>>8
		}
	}
	return t
}()

// CRC64 extends crc by p with the checksum of Redis's crc64.c: Jones
// polynomial, reflected, initial value 0, no final inversion. Start with 0;
// the checksum of "123456789" is e9c6d914c4b8d9ca. hash/crc64 inverts before
// and after and therefore cannot be used as it is.
func CRC64(crc uint64, p []byte) uint64 {
	t := &crcTables
	for len(p) >= 8 {
		c := crc ^ binary.LittleEndian.Uint64(p)
		crc = t[7][byte(c)] ^ t[6][byte(c>>8)] ^ t[5][byte(c>>16)] ^ t[4][byte(c>>24)] ^
			t[3][byte(c>>32)] ^ t[2][byte(c>>40)] ^ t[1][byte(c>>48)] ^ t[0][byte(c>>56)]
		p = p[8:]
	}
	for _, b := range p {
		crc = t[0][byte(crc)^b] ^ crc>>8
	}
	return crc
}

// crc64Pair extends two checksums by the same bytes. A body counts for the
// file's footer and for its own DUMP payload; one chain alone waits for its
// table look-ups, so that the second one costs little beside it.
func crc64Pair(a, b uint64, p []byte) (uint64, uint64) {
	t := &crcTables
	for len(p) >= 8 {
		v := binary.LittleEndian.Uint64(p)
		c, d := a^v, b^v
		a = t[7][byte(c)] ^ t[6][byte(c>>8)] ^ t[5][byte(c>>16)] ^ t[4][byte(c>>24)] ^
			t[3][byte(c>>32)] ^ t[2][byte(c>>40)] ^ t[1][byte(c>>48)] ^ t[0][byte(c>>56)]
		b = t[7][byte(d)] ^ t[6][byte(d>>8)] ^ t[5][byte(d>>16)] ^ t[4][byte(d>>24)] ^
			t[3][byte(d>>32)] ^ t[2][byte(d>>40)] ^ t[1][byte(d>>48)] ^ t[0][byte(d>>56)]
		p = p[8:]
	}
	for _, v := range p {
		a = t[0][byte(a)^v] ^ a>>8
		b = t[0][byte(b)^v] ^ b>>8
	}
	return a, b
}
