package rdb

import (
	"errors"
	"fmt"
	"io"
)

var errLZF = errors.New("bad LZF data")

const (
	// lzfMaxRatio is what LZF can gain at most: three bytes stand for 264.
	lzfMaxRatio = 88
	// lzfMaxToken and lzfMaxRun are the most that one token takes and gives.
	lzfMaxToken = 33
	lzfMaxRun   = 264
	// lzfReach is how far behind itself a token may refer.
	lzfReach = 8 << 10
)

// decompressLZF appends to dst the n bytes that src stands for. A declared n
// that src is too short for is refused before anything is allocated, as is any
// src that yields more or less than n.
func decompressLZF(dst, src []byte, n uint64) ([]byte, error) {
	if err := checkLZF(len(src), n); err != nil {
		return dst, err
	}
	start := len(dst)
	end := start + int(n)
	dst = grow(dst, int(n))[:end]
	op, ip, err := stepLZF(dst, start, start, src)
	if err == nil && (ip != len(src) || op != end) {
		err = fmt.Errorf("%w: %d bytes of %d yield %d of %d", errLZF, ip, len(src), op-start, n)
	}
	if err != nil {
		return dst[:start], err
	}
	return dst, nil
}

// checkLZF refuses a declared length that no src of this size could have.
func checkLZF(src int, n uint64) error {
	if n/lzfMaxRatio > uint64(src) {
		return fmt.Errorf("%w: %d bytes cannot stand for %d", errLZF, src, n)
	}
	return nil
}

// stepLZF decodes tokens of src (liblzf's lzf_d.c) to dst[op:], where
// dst[start:op] is what they may refer to. It stops before a token that src
// has not all of, or that dst has no room for, and returns where it stands.
func stepLZF(dst []byte, start, op int, src []byte) (int, int, error) {
	ip := 0
	for ip < len(src) {
		ctrl, at := int(src[ip]), ip+1
		if ctrl < 32 { // a run of ctrl+1 literal bytes
			run := ctrl + 1
			if len(src)-at < run || len(dst)-op < run {
				break
			}
			op += copy(dst[op:], src[at:at+run])
			ip = at + run
			continue
		}
		run := ctrl >> 5
		if run == 7 {
			if at == len(src) {
				break
			}
			run += int(src[at])
			at++
		}
		run += 2
		if at == len(src) || len(dst)-op < run {
			break
		}
		dist := (ctrl&0x1f)<<8 | int(src[at]) + 1
		ref := op - dist
		if ref < start {
			return op, ip, fmt.Errorf("%w: a reference leaves the data", errLZF)
		}
		ip = at + 1
		if dist >= run {
			op += copy(dst[op:op+run], dst[ref:ref+run])
			continue
		}
		for range run { // overlapping: each byte may be one just written
			dst[op] = dst[ref]
			op, ref = op+1, ref+1
		}
	}
	return op, ip, nil
}

// grow returns b with room for n more bytes.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	return append(make([]byte, 0, len(b)+n), b...)
}

// text reads the text of one string that is not held: raw or LZF, from the
// window of the source that the string is in, whose bytes it lets go.
type text struct {
	from *source
	left int  // stored bytes not read yet
	lzf  bool // and for that:
	want int  // bytes that the rest of it must yield
	win  []byte
	op   int // win[:op] has been decoded,
	out  int // win[:out] has been read
}

// open begins to read the text that follows h.
func (t *text) open(from *source, h stringHead) error {
	*t = text{from: from, left: h.size, win: t.win}
	if h.form != formLZF {
		return nil
	}
	t.lzf, t.want = true, int(h.full)
	if t.win == nil {
		t.win = make([]byte, windowSize/2)
	}
	return checkLZF(h.size, h.full)
}

// Read gives what there is of the text; io.EOF when it was all, exactly.
func (t *text) Read(p []byte) (int, error) {
	if t.lzf {
		return t.readLZF(p)
	}
	if t.left == 0 {
		return 0, io.EOF
	}
	s := t.from
	s.keep = s.pos
	if err := s.fill(1); err != nil {
		return 0, err
	}
	n := copy(p[:min(len(p), t.left)], s.buf[s.pos:s.end])
	s.pos += n
	t.left -= n
	return n, nil
}

func (t *text) readLZF(p []byte) (int, error) {
	if t.out == t.op {
		if t.left == 0 && t.want == 0 {
			return 0, io.EOF
		}
		if err := t.decode(); err != nil {
			return 0, err
		}
	}
	n := copy(p, t.win[t.out:t.op])
	t.out += n
	return n, nil
}

// decode decodes on, at least one token.
func (t *text) decode() error {
	if len(t.win)-t.op < lzfMaxRun {
		keep := t.win[t.op-lzfReach : t.op]
		t.op = copy(t.win, keep)
		t.out = t.op
	}
	s := t.from
	s.keep = s.pos
	if err := s.fill(min(t.left, lzfMaxToken)); err != nil {
		return err
	}
	src := s.buf[s.pos:min(s.end, s.pos+t.left)]
	op, ip, err := stepLZF(t.win[:min(len(t.win), t.op+t.want)], 0, t.op, src)
	if err == nil && ip == 0 {
		err = fmt.Errorf("%w: the last %d bytes do not yield %d", errLZF, t.left, t.want)
	}
	s.pos += ip
	t.left -= ip
	t.want -= op - t.op
	t.op = op
	return err
}
