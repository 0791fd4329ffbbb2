package verify

// HyperLogLog strings, after Redis's hyperloglog.c: a 16-byte header ("HYLL",
// encoding, 3 unused bytes, 8 of cached cardinality), then 16384 registers of 6
// bits (encoding 0, dense) or run lengths (encoding 1, sparse). One PFCOUNT
// changes the cached cardinality, one setting of the server the encoding:
// neither changes what the key says.
const (
	hllRegisters = 16384
	hllHeader    = 16
	hllDense     = hllRegisters * 6 / 8
)

// hllRegistersOf decodes b into regs, or says that b is not a HyperLogLog.
func hllRegistersOf(b []byte, regs *[hllRegisters]byte) bool {
	if len(b) < hllHeader || string(b[:4]) != "HYLL" {
		return false
	}
	body := b[hllHeader:]
	switch b[4] {
	case 0:
		// The registers may be followed by one byte, which hyperloglog.c
		// keeps for reading the last register.
		if len(body) != hllDense && len(body) != hllDense+1 {
			return false
		}
		for i := range hllRegisters {
			at, shift := i*6/8, uint(i*6%8)
			v := uint(body[at]) >> shift
			if shift > 2 {
				v |= uint(body[at+1]) << (8 - shift)
			}
			regs[i] = byte(v & 63)
		}
		return true
	case 1:
		at := 0
		fill := func(n int, v byte) bool {
			if at+n > hllRegisters {
				return false
			}
			for range n {
				regs[at] = v
				at++
			}
			return true
		}
		for i := 0; i < len(body); i++ {
			op := body[i]
			ok := false
			switch {
			case op&0x80 != 0:
				ok = fill(int(op&3)+1, op>>2&31+1)
			case op&0x40 == 0:
				ok = fill(int(op&63)+1, 0)
			case i+1 < len(body):
				n := int(op&63)<<8 | int(body[i+1])
				i++
				ok = fill(n+1, 0)
			}
			if !ok {
				return false
			}
		}
		return at == hllRegisters
	}
	return false
}
