package spool

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"testing"

	"tairlift/internal/fsx"
)

// FuzzSegment puts any bytes in the place of a stream segment. Reader, check,
// dump and recovery may refuse them and must not fall over; what the reader
// hands out, check has accepted. The checksums of a seed are set right, so
// that the fuzzer gets behind them.
func FuzzSegment(f *testing.F) {
	if *update {
		writeCorpus(f)
	}
	first, _, _, _ := small(f, true)
	rdb := readFile(f, first, Path(testDir, 1, 1, 1))
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix {
			b = fixChecksums(bytes.Clone(b))
		}
		m := fsx.NewMem()
		ok(t, m.MkdirAll(testDir+"/group-0001/epoch-0001"))
		writeFile(t, m, Path(testDir, 1, 1, 1), rdb)
		writeFile(t, m, Path(testDir, 1, 1, 2), b)
		rep, err := check(m, testDir, CheckOptions{})
		if err != nil {
			t.Fatalf("check: %v", err)
		}
		dump(m, io.Discard, testDir, DumpOptions{Data: true})
		list(m, testDir)
		if g, err := openGroup(m, testDir, testJob, 1); err == nil {
			if r, err := g.OpenStream(1, 1000); err == nil {
				data, _, _ := drain(r)
				if rep.OK() && int64(len(data)+len("REDIS0009")) > rep.RawBytes {
					t.Errorf("reader handed out %d bytes, check counted %d", len(data), rep.RawBytes)
				}
				r.Close()
			}
		}
		w, _, err := Recover(testDir, testJob, 1, Durable{}, options(m))
		if err != nil {
			return
		}
		if err := w.Seal(); err != nil {
			t.Fatal(err)
		}
		if rep.OK() {
			if rep := must(check(m, testDir, CheckOptions{}))(t); !rep.OK() {
				t.Errorf("check after recovery: %+v", rep.Problems)
			}
		}
	})
}

// FuzzKeys puts any bytes in the place of a key file. What check accepts reads to
// its end, and the other way round; nothing falls over. The checksums of a seed
// are set right, so that the fuzzer gets behind them.
func FuzzKeys(f *testing.F) {
	_, path, whole := wholeKeys(f)
	f.Add(whole, false)
	f.Add(whole, true)
	f.Add(whole[:keysHeaderSize+keysBlockHead+keysEndSize], true)
	f.Add(bytes.Replace(whole, []byte{1, 0, 0, 0}, []byte{0xff, 0xff, 0xff, 0xff}, 1), true)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix {
			b = fixKeys(bytes.Clone(b))
		}
		m := fsx.NewMem()
		ok(t, m.MkdirAll(filepath.Dir(path)))
		writeFile(t, m, path, b)
		seq, err := parseKeysName(filepath.Base(path))
		ok(t, err)
		read := 0
		g := &Group{fs: m, dir: testDir, job: testJob, id: 1}
		p, err := g.ReadKeys(1, seq, func(Fingerprint) error { read++; return nil })
		if err == nil && (uint64(read) != p.Keys || p.KeyBytes != int64(len(b)) || read > len(b)/len(Fingerprint{})) {
			t.Errorf("read %d keys of %d bytes, the file says %+v", read, len(b), p)
		}
		if _, cerr := check(m, testDir, CheckOptions{}); cerr != nil {
			t.Errorf("check: %v", cerr)
		}
		dump(m, io.Discard, testDir, DumpOptions{Data: true})
	})
}

// fixKeys sets the checksums of a key file right as far as its lengths hold.
func fixKeys(b []byte) []byte {
	if len(b) < keysHeaderSize {
		return b
	}
	le.PutUint32(b[24+segHeaderSize-4:], crc32.Checksum(b[24:24+segHeaderSize-4], castagnoli))
	salt := crc32.Checksum(b[:keysHeaderSize-4], castagnoli)
	le.PutUint32(b[keysHeaderSize-4:], salt)
	for pos := keysHeaderSize; pos+keysBlockHead <= len(b); {
		n := le.Uint32(b[pos:])
		size := int(min(int64(n)*16, 1<<30))
		if n == 0 {
			size = keysEndSize
		}
		if pos+keysBlockHead+size > len(b) {
			break
		}
		payload := b[pos+keysBlockHead:][:size]
		le.PutUint32(b[pos+4:], keysCRC(salt, int64(pos), n, payload))
		pos += keysBlockHead + size
	}
	return b
}

// fixChecksums sets every checksum right that it can reach.
func fixChecksums(b []byte) []byte {
	if len(b) < segHeaderSize {
		return b
	}
	salt := crc32.Checksum(b[:segHeaderSize-4], castagnoli)
	le.PutUint32(b[segHeaderSize-4:], salt)
	pos := segHeaderSize
	for pos+frameHeaderSize <= len(b) {
		head := b[pos:]
		n := int(le.Uint32(head[8:]))
		if n < 0 || n > len(b)-pos-frameHeaderSize {
			break
		}
		le.PutUint32(head[28:], crc32.Checksum(head[frameHeaderSize:][:n], castagnoli))
		le.PutUint32(head[32:], frameCRC(head, salt, int64(pos)))
		pos += frameHeaderSize + n
	}
	if len(b)-pos == trailerSize {
		le.PutUint32(b[pos+12:], trailerCRC(salt, b[pos:]))
	}
	return b
}

// writeCorpus makes the committed seeds: whole segments and kinds of damage
// that the format is meant to tell apart.
func writeCorpus(f *testing.F) {
	dir := filepath.Join("testdata", "fuzz", f.Name())
	ok(f, os.MkdirAll(dir, 0o755))
	whole := func(sealed bool) []byte {
		m, _, _, _ := small(f, sealed)
		return readFile(f, m, Path(testDir, 1, 1, 2))
	}
	sealed, tail := whole(true), whole(false)
	change := func(b []byte, at int, v byte) []byte {
		b = bytes.Clone(b)
		b[at] = v
		return b
	}
	for name, b := range map[string][]byte{
		"empty":                 {},
		"sealed":                sealed,
		"tail":                  tail,
		"torn-trailer":          sealed[:len(sealed)-5],
		"torn-footer":           sealed[:len(sealed)-60],
		"torn-frame":            tail[:len(tail)-40],
		"half-header":           sealed[:70],
		"zero-header":           make([]byte, segHeaderSize),
		"zeros-behind-the-tail": append(bytes.Clone(tail), make([]byte, 300)...),
		"newer-version":         change(sealed, 8, 2),
		"unknown-header-flag":   change(sealed, 16, 3),
		"rdb-phase-flag":        change(sealed, 16, 0),
		"unknown-kind":          change(sealed, segHeaderSize, 99),
		"unknown-frame-flag":    change(sealed, segHeaderSize+1, 0x82),
		"huge-raw-length":       change(sealed, segHeaderSize+7, 0x7f),
		"huge-stored-length":    change(sealed, segHeaderSize+11, 0x7f),
		"offset-gap":            change(sealed, segHeaderSize+12, 7),
		"footer-counts":         change(sealed, len(sealed)-trailerSize-30, 200),
		"trailer-elsewhere":     change(sealed, len(sealed)-trailerSize, 1),
	} {
		for _, fix := range []bool{false, true} {
			text := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\nbool(%v)\n", b, fix)
			if fix {
				name += "-fixed"
			}
			ok(f, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
		}
	}
}
