package rdb

import (
	"errors"
	"fmt"
)

var errLZF = errors.New("bad LZF data")

// lzfMaxRatio is what LZF can gain at most: three bytes stand for 264.
const lzfMaxRatio = 88

// decompressLZF appends to dst the n bytes that src stands for (liblzf's
// lzf_d.c). A declared n that src is too short for is refused before anything
// is allocated, as is any src that yields more or less than n.
func decompressLZF(dst, src []byte, n uint64) ([]byte, error) {
	if n/lzfMaxRatio > uint64(len(src)) {
		return dst, fmt.Errorf("%w: %d bytes cannot stand for %d", errLZF, len(src), n)
	}
	start := len(dst)
	end := start + int(n)
	dst = grow(dst, int(n))[:end]
	op, ip := start, 0
	for ip < len(src) {
		ctrl := int(src[ip])
		ip++
		if ctrl < 32 { // a run of ctrl+1 literal bytes
			run := ctrl + 1
			if len(src)-ip < run || end-op < run {
				return dst[:start], fmt.Errorf("%w: literal run leaves the data at %d", errLZF, ip)
			}
			op += copy(dst[op:], src[ip:ip+run])
			ip += run
			continue
		}
		run := ctrl >> 5
		if run == 7 {
			if ip == len(src) {
				return dst[:start], fmt.Errorf("%w: cut in a length", errLZF)
			}
			run += int(src[ip])
			ip++
		}
		run += 2
		if ip == len(src) {
			return dst[:start], fmt.Errorf("%w: cut in a distance", errLZF)
		}
		dist := (ctrl&0x1f)<<8 | int(src[ip]) + 1
		ip++
		ref := op - dist
		if ref < start || end-op < run {
			return dst[:start], fmt.Errorf("%w: reference leaves the data at %d", errLZF, ip)
		}
		if dist >= run {
			op += copy(dst[op:op+run], dst[ref:ref+run])
			continue
		}
		for range run { // overlapping: each byte may be one just written
			dst[op] = dst[ref]
			op, ref = op+1, ref+1
		}
	}
	if op != end {
		return dst[:start], fmt.Errorf("%w: yields %d bytes, expected %d", errLZF, op-start, n)
	}
	return dst, nil
}

// grow returns b with room for n more bytes.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	return append(make([]byte, 0, len(b)+n), b...)
}
