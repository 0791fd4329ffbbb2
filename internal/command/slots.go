package command

import (
	"encoding/binary"
	"math"
	"strconv"
)

// slotsRestore is the rule of SLOTSRESTORE key ttl payload [key ttl payload ...],
// which overwrites what is there (codis-server, slots.c).
func slotsRestore(s *Spec, dst []byte, args [][]byte, at int64, caps Caps) ([]byte, int, int64, error) {
	if (len(args)-1)%3 != 0 {
		return dst, 0, 0, s.bad(args, len(args), "missing")
	}
	total, last := 0, int64(0)
	for i := 1; i < len(args); i += 3 {
		ms, err := s.restoreDeadline(args, i+1, at, false)
		if err != nil {
			return dst, 0, 0, err
		}
		var n int
		dst, n = appendRestore(dst, args[i], ms, args[i+2], nil, nil, caps)
		total += n
		last = max(last, ms)
	}
	return dst, total, last, nil
}

// slotsRestoreAsync is the rule of SLOTSRESTORE-ASYNC, one step of moving a key
// (codis-server, slots_async.c). Every step with a ttl sets it: above 0 as a time
// from now, 0 as none.
func slotsRestoreAsync(s *Spec, dst []byte, args [][]byte, at int64, caps Caps) ([]byte, int, int64, error) {
	if len(args) < 3 {
		return dst, 0, 0, s.bad(args, 2, "missing")
	}
	step, key := args[1], args[2]
	if is(step, "delete") {
		return appendArgs(dst, "DEL", key), 1, 0, nil
	}
	ms, err := s.restoreDeadline(args, 3, at, false)
	if err != nil {
		return dst, 0, 0, err
	}
	switch {
	case is(step, "expire"):
		return appendTTL(dst, key, ms, caps), 1, ms, nil
	case len(args) < 5:
		return dst, 0, 0, s.bad(args, 4, "missing")
	case is(step, "string"):
		if ms == 0 {
			return appendArgs(dst, "SET", key, args[4]), 1, 0, nil
		}
		return appendSet(dst, key, args[4], ms, caps), 2, ms, nil
	case is(step, "object"):
		out, n := appendRestore(dst, key, ms, args[4], nil, nil, caps)
		return out, n, ms, nil
	}
	// The chunks: args[4] is a hint of the final size, the elements follow it. The
	// last chunk of a list or zset may be empty.
	elements := args[5:]
	word, width := "", 1
	switch {
	case is(step, "list"):
		word = "RPUSH"
	case is(step, "dict"):
		word = "SADD"
	case is(step, "hash"):
		word, width = "HMSET", 2
	case is(step, "zset"):
		word, width = "ZADD", 2
	default:
		return dst, 0, 0, s.bad(args, 1, "not a step")
	}
	if len(elements)%width != 0 {
		return dst, 0, 0, s.bad(args, len(args), "missing")
	}
	n := 1
	if len(elements) > 0 {
		n++
		dst = appendHeader(dst, 2+len(elements))
		dst = appendWord(dst, word)
		dst = appendArg(dst, key)
		for i := 0; i < len(elements); i += width {
			if word != "ZADD" {
				for _, e := range elements[i : i+width] {
					dst = appendArg(dst, e)
				}
				continue
			}
			var ok bool
			if dst, ok = appendScore(dst, elements[i+1]); !ok {
				return dst, 0, 0, s.bad(args, 5+i+1, "not the 8 bytes of a score")
			}
			dst = appendArg(dst, elements[i])
		}
	}
	return appendTTL(dst, key, ms, caps), n, ms, nil
}

// appendTTL sets a deadline, or with 0 takes it away.
func appendTTL(dst, key []byte, ms int64, caps Caps) []byte {
	if ms == 0 {
		return appendArgs(dst, "PERSIST", key)
	}
	return appendExpireAt(dst, key, ms, caps)
}

// appendScore turns the little-endian double of a zset chunk into text of 17 digits,
// which give the same double back.
func appendScore(dst, raw []byte) ([]byte, bool) {
	if len(raw) != 8 {
		return dst, false
	}
	score := math.Float64frombits(binary.LittleEndian.Uint64(raw))
	switch {
	case math.IsNaN(score):
		return dst, false
	case math.IsInf(score, 1):
		return appendWord(dst, "inf"), true
	case math.IsInf(score, -1):
		return appendWord(dst, "-inf"), true
	}
	var text [32]byte
	return appendArg(dst, strconv.AppendFloat(text[:0], score, 'g', 17, 64)), true
}
