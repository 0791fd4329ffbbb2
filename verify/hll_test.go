package verify

import (
	"slices"
	"strings"
	"testing"
)

func TestHyperLogLogsOfBothEncodingsAreRead(t *testing.T) {
	want := [hllRegisters]byte{5: 32, 6: 32, 7: 32, 8: 32, 100: 1, 16383: 17}
	head := func(encoding byte) []byte {
		return append([]byte("HYLL"), encoding, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 0x80)
	}
	val := func(v, n int) byte { return 0x80 | byte(v-1)<<2 | byte(n-1) }
	xzero := func(n int) []byte { return []byte{0x40 | byte((n-1)>>8), byte(n - 1)} }
	sparse := append(head(1), 4, val(32, 4))
	sparse = append(append(sparse, xzero(91)...), val(1, 1))
	sparse = append(append(sparse, xzero(16383-101)...), val(17, 1))
	dense := append(head(0), make([]byte, hllDense)...)
	for i, v := range want {
		at, shift := i*6/8, i*6%8
		dense[hllHeader+at] |= v << shift
		if shift > 2 {
			dense[hllHeader+at+1] |= v >> (8 - shift)
		}
	}
	var regs [hllRegisters]byte
	for name, b := range map[string][]byte{
		"sparse": sparse, "dense": dense, "dense with the spare byte": slices.Concat(dense, []byte{0}),
	} {
		if !hllRegistersOf(b, &regs) || regs != want {
			t.Errorf("%s: not read as written", name)
		}
	}
	a, _ := newDigester(1).of(stringDump(string(sparse)))
	b, err := newDigester(1).of(stringDump(string(dense)))
	if err != nil || a != b || a.kind != kindHLL {
		t.Errorf("digests: got %v and %v (%v), want the same of a HyperLogLog", a, b, err)
	}
	for name, b := range map[string][]byte{
		"short": dense[:100], "long": slices.Concat(dense, []byte{0, 0}), "sparse, short": sparse[:len(sparse)-1],
		"sparse, long": slices.Concat(sparse, []byte{0}), "sparse, half an opcode": slices.Concat(sparse[:len(sparse)-1], []byte{0x40}),
		"unknown encoding": head(2), "text": []byte(strings.Repeat("x", 50)), "empty": nil,
	} {
		if hllRegistersOf(b, &regs) {
			t.Errorf("%s: got read as a HyperLogLog, want not", name)
		}
	}
}
