package rdb

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// slowCRC64 is the definition, a bit at a time.
func slowCRC64(crc uint64, p []byte) uint64 {
	for _, b := range p {
		crc ^= uint64(b)
		for range 8 {
			low := crc & 1
			crc >>= 1
			if low != 0 {
				crc ^= 0x95ac9329ac4bc9b5
			}
		}
	}
	return crc
}

func randomBytes(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b[:n]
}

func TestCRC64IsTheServersOwn(t *testing.T) {
	if got, want := CRC64(0, []byte("123456789")), uint64(0xe9c6d914c4b8d9ca); got != want {
		t.Fatalf("got %016x, want %016x", got, want)
	}
}

func TestCRC64AgreesWithTheDefinition(t *testing.T) {
	b := randomBytes(1, 300)
	for from := range 9 {
		for to := from; to <= len(b); to++ {
			start := uint64(from) * 0x0123456789abcdef
			want := slowCRC64(start, b[from:to])
			if got := CRC64(start, b[from:to]); got != want {
				t.Fatalf("CRC64 of [%d:%d]: got %016x, want %016x", from, to, got, want)
			}
			one, two := crc64Pair(start, ^start, b[from:to])
			if one != want || two != slowCRC64(^start, b[from:to]) {
				t.Fatalf("crc64Pair of [%d:%d]: got %016x and %016x, want %016x and %016x",
					from, to, one, two, want, slowCRC64(^start, b[from:to]))
			}
		}
	}
}

func TestCRC64ContinuesAcrossPieces(t *testing.T) {
	b := randomBytes(2, 100)
	want := CRC64(0, b)
	for cut := range b {
		if got := CRC64(CRC64(0, b[:cut]), b[cut:]); got != want {
			t.Fatalf("cut at %d: got %016x, want %016x", cut, got, want)
		}
	}
}
