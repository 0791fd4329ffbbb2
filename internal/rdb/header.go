package rdb

import (
	"fmt"
	"strconv"
	"strings"
)

// HeaderSize is the size of a file's header.
const HeaderSize = 9

// ParseHeader gives the RDB version that a header names: REDIS and four
// digits, or of Valkey 9 and later VALKEY and three. No version is refused:
// what a newer one adds comes as types and opcodes, which have numbers of
// their own and stop reading where they occur.
func ParseHeader(b []byte) (version int, err error) {
	h := string(b[:min(len(b), HeaderSize)])
	digits, ok := strings.CutPrefix(h, "REDIS")
	if !ok {
		digits, ok = strings.CutPrefix(h, "VALKEY")
	}
	v, err := strconv.ParseUint(digits, 10, 16)
	if !ok || len(h) < HeaderSize || err != nil || v == 0 {
		return 0, fmt.Errorf("header %q, expected REDIS and a version of 4 digits, or VALKEY and one of 3", h)
	}
	return int(v), nil
}
