package resp

import (
	"errors"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadQueued(t *testing.T) {
	q := func(n int) string { return strings.Repeat("+QUEUED\r\n", n) }
	for _, tt := range []struct {
		claim, in string
		n, most   int
		read      int
		refused   int // its index, -1 for none
		err       error
	}{
		{"none", "", 0, 9, 0, -1, nil},
		{"some", q(3), 3, 9, 3, -1, nil},
		{"more than are asked for", q(9), 3, 9, 3, -1, nil},
		{"more than at most", q(9), 9, 4, 4, -1, nil},
		{"more than the buffer holds", q(20000), 20000, 20000, 20000, -1, nil},
		{"a refusal", q(2) + "-OOM full\r\n" + q(2) + "-ERR no\r\n", 6, 9, 6, 2, nil},
		{"another status", q(2) + "+OK\r\n", 3, 9, 2, -1, ErrNotQueued},
		{"a number", q(1) + "-ERR no\r\n:1\r\n", 3, 9, 2, 1, ErrNotQueued},
	} {
		for name, r := range map[string]*Reader{
			"at once":      NewReader(strings.NewReader(tt.in + "+next\r\n")),
			"byte by byte": NewReader(iotest.OneByteReader(strings.NewReader(tt.in + "+next\r\n"))),
		} {
			read, refused, err := r.ReadQueued(tt.n, tt.most)
			if read != tt.read || !errors.Is(err, tt.err) || (refused == nil) != (tt.refused < 0) || refused != nil && refused.Index != tt.refused {
				t.Errorf("%s, %s: got %d, %v, %v, want %d, index %d, %v", tt.claim, name, read, refused, err, tt.read, tt.refused, tt.err)
			}
			if err == nil && tt.read == strings.Count(tt.in, "\r\n") {
				wantNext(t, r)
			}
		}
	}
}
