package rdb

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestLZFDecompresses(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"nothing":                           {"", ""},
		"a literal run":                     {"\x02abc", "abc"},
		"a run of one byte by overlap":      {"\x00a\x20\x00", "aaaa"},
		"a long overlap":                    {"\x01ab\xe0\xff\x01", "ab" + strings.Repeat("ab", 132)},
		"a reference that does not overlap": {"\x04abcde\x60\x04", "abcdeabcde"},
		"a distance above 256":              {lit(300, 'x') + "\x21\x2b", strings.Repeat("x", 300) + "xxx"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decompressLZF([]byte("kept"), []byte(c.in), uint64(len(c.want)))
			if err != nil || string(got) != "kept"+c.want {
				t.Errorf("got %q, %v, want %q", got, err, "kept"+c.want)
			}
		})
	}
}

// lit is n literal bytes c in LZF.
func lit(n int, c byte) string {
	var b strings.Builder
	for n > 0 {
		run := min(n, 32)
		b.WriteByte(byte(run - 1))
		b.WriteString(strings.Repeat(string(c), run))
		n -= run
	}
	return b.String()
}

func TestLZFRefusesWhatLeavesTheData(t *testing.T) {
	for name, c := range map[string]struct {
		in string
		n  uint64
	}{
		"literals cut":                        {"\x05abc", 6},
		"literals beyond the length":          {"\x02abc", 2},
		"a reference before the start":        {"\x00a\x20\x01", 4},
		"a reference before anything":         {"\x20\x00", 3},
		"a reference beyond the length":       {"\x00a\xe0\x10\x00", 4},
		"cut in a distance":                   {"\x00a\x20", 4},
		"cut in a length":                     {"\x00a\xe0", 10},
		"less than declared":                  {"\x02abc", 4},
		"a length that no data could ever be": {"\x02abc", 1 << 40},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decompressLZF(nil, []byte(c.in), c.n)
			if !errors.Is(err, errLZF) || len(got) != 0 || cap(got) > 1<<20 {
				t.Errorf("got %q (cap %d), %v, want errLZF and nothing allocated", got, cap(got), err)
			}
		})
	}
}

func TestLZFNeverLooksBehindItsOwnStart(t *testing.T) {
	if _, err := decompressLZF(bytes.Repeat([]byte("secret"), 10), []byte("\x00a\x20\x05"), 4); err == nil {
		t.Error("a reference into what was there before was followed")
	}
}
