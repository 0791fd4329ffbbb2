package capture

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tairlift/internal/redistest"
)

func fixtureRDBs(t *testing.T) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(redistest.Testdata(t, "rdb") + "/*/*.rdb")
	if err != nil || len(paths) == 0 {
		t.Fatalf("got %d fixtures, %v", len(paths), err)
	}
	all := map[string][]byte{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(p), ".rdb")] = b
	}
	return all
}

func judge(chunk int, rdb []byte) (bool, error) {
	var c rdbCheck
	for len(rdb) > 0 {
		n := min(chunk, len(rdb))
		c.add(rdb[:n])
		rdb = rdb[n:]
	}
	_, checked, err := c.finish()
	return checked, err
}

func TestRDBCheckAcceptsWhatServersWrite(t *testing.T) {
	for name, rdb := range fixtureRDBs(t) {
		for _, chunk := range []int{1, 3, 7, 8, 9, 4096, len(rdb)} {
			if checked, err := judge(chunk, rdb); err != nil || !checked {
				t.Errorf("%s in chunks of %d: got checked %v, %v; want checked", name, chunk, checked, err)
			}
		}
	}
}

func TestRDBCheckRefusesEveryCutAndEveryFlip(t *testing.T) {
	rdb := fixtureRDBs(t)["dump-2.8.24"]
	// A small RDB made of a real one's ends would not be real; the first
	// cuts, the last and a stride between must do.
	for cut := 0; cut < len(rdb); cut++ {
		if cut > 64 && cut < len(rdb)-64 && cut%97 != 0 {
			continue
		}
		if checked, err := judge(4096, rdb[:cut]); err == nil && checked {
			t.Errorf("cut at %d of %d: got no error", cut, len(rdb))
		}
	}
	for bit := 0; bit < len(rdb)*8; bit++ {
		if bit > 512 && bit < len(rdb)*8-512 && bit%1009 != 0 {
			continue
		}
		rdb[bit/8] ^= 1 << (bit % 8)
		if checked, err := judge(4096, rdb); err == nil && checked {
			t.Errorf("bit %d flipped: got no error", bit)
		}
		rdb[bit/8] ^= 1 << (bit % 8)
	}
}

func TestRDBCheckWithoutChecksum(t *testing.T) {
	tests := []struct {
		name, rdb string
		ok        bool
	}{
		{"zero footer means no checksum", "REDIS0007\xff\x00\x00\x00\x00\x00\x00\x00\x00", true},
		{"version 4 has no footer", "REDIS0004\xff", true},
		{"version 4 ends in the EOF opcode", "REDIS0004\xff\x00", false},
		{"zero footer still needs the EOF opcode", "REDIS0007\xfe\x00\x00\x00\x00\x00\x00\x00\x00", false},
		{"footer alone is not an RDB", "REDIS0007\x00\x00\x00\x00\x00\x00\x00\x00", false},
		{"version is a number", "REDISabcd\xff\x00\x00\x00\x00\x00\x00\x00\x00", false},
		{"empty", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checked, err := judge(1, []byte(tt.rdb))
			if checked || (err == nil) != tt.ok {
				t.Errorf("got checked %v, %v; want unchecked, ok %v", checked, err, tt.ok)
			}
		})
	}
}
