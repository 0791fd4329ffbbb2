package spool

import (
	"bytes"
	"encoding/binary"
	"io"
	"runtime"
	"testing"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// allowed is what any reader may allocate over a spool of a kilobyte, whatever
// the lengths in it say: a few buffers.
const allowed = 4 << 20

// allocated is how many bytes f allocates in all, freed ones too.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// zstdHeader is a zstd frame that declares a size, or a window, and holds one
// raw byte.
func zstdHeader(size uint64, window byte) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd}
	if window != 0 {
		b = append(b, 0xC0, window) // 8 bytes of size behind a window
	} else {
		b = append(b, 0xE0) // 8 bytes of size, one segment
	}
	b = binary.LittleEndian.AppendUint64(b, size)
	return append(b, 0x09, 0, 0, 'x') // last block, raw, one byte
}

// Every length that a reader of segments trusts says gigabytes, with every
// checksum right.
func TestNoLengthIsBelievedBeforeItIsChecked(t *testing.T) {
	m, _, _, _ := small(t, true)
	path := Path(testDir, 1, 1, 2)
	whole := readFile(t, m, path)
	first := readFile(t, m, Path(testDir, 1, 1, 1))
	foot := int(le.Uint64(whole[len(whole)-trailerSize:]))
	put32 := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { le.PutUint32(b[at:], v); return b }
	}
	put64 := func(at int, v uint64) func([]byte) []byte {
		return func(b []byte) []byte { le.PutUint64(b[at:], v); return b }
	}
	// frame puts a zstd payload into the place of the first frame.
	frame := func(raw uint32, payload []byte) func([]byte) []byte {
		return func(b []byte) []byte {
			h := frameHeader{Kind: kindStream, Flags: frameZstd, RawLen: raw, StoredLen: uint32(len(payload)), Offset: 1000}
			h.put(b[segHeaderSize:], 0, segHeaderSize)
			copy(b[segHeaderSize+frameHeaderSize:], payload)
			return b[:segHeaderSize+frameHeaderSize+len(payload)]
		}
	}
	const huge = 0xFFFFFFFF
	for _, tt := range []struct {
		name   string
		rdb    bool // in the segment of the RDB
		change func([]byte) []byte
	}{
		{"header length", false, put32(12, huge)},
		{"header sequence number", false, put64(48, 1<<62)},
		{"header stream offset", false, put64(112, 1<<62)},
		{"header rdb bytes", false, put64(120, 1<<62)},
		{"header rdb size", false, put64(128, 1<<62)},
		{"rdb size announced", true, put64(segHeaderSize+2*frameHeaderSize+clockSize, 1<<62)},
		{"frame raw length", false, put32(segHeaderSize+4, huge)},
		{"frame stored length", false, put32(segHeaderSize+8, huge)},
		{"frame lengths of 2 GiB", false, func(b []byte) []byte { return put32(segHeaderSize+8, 1<<31)(put32(segHeaderSize+4, 1<<31)(b)) }},
		{"frame lengths of 1 MiB", false, func(b []byte) []byte { return put32(segHeaderSize+8, maxRaw)(put32(segHeaderSize+4, maxRaw)(b)) }},
		{"zstd content size", false, frame(100, zstdHeader(4<<30, 0))},
		{"zstd content size and a raw length at the limit", false, frame(maxRaw, zstdHeader(4<<30, 0))},
		{"zstd window", false, frame(100, zstdHeader(100, 0xFF))},
		{"zstd window of 128 MiB", false, frame(maxRaw, zstdHeader(4<<30, 0x88))},
		{"footer frames", false, put32(foot+frameHeaderSize+28, huge)},
		{"footer raw bytes", false, put64(foot+frameHeaderSize+32, 1<<62)},
		{"footer index entries", false, put32(foot+frameHeaderSize+68, huge)},
		{"footer index entries that overflow", false, put32(foot+frameHeaderSize+68, 1<<28)},
		{"footer clock samples", false, put32(foot+frameHeaderSize+72, huge)},
		{"footer clock samples at the limit", false, put32(foot+frameHeaderSize+72, maxPending)},
		{"footer frame length", false, func(b []byte) []byte { return put32(foot+8, huge)(put32(foot+4, huge)(b)) }},
		{"trailer position", false, put64(len(whole)-trailerSize, 1<<62)},
		{"trailer length", false, put32(len(whole)-trailerSize+8, huge)},
		{"clock frame", true, func(b []byte) []byte {
			return put32(segHeaderSize+8, maxPending*clockSize)(put32(segHeaderSize+4, maxPending*clockSize)(b))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := fsx.NewMem()
			ok(t, m.MkdirAll(testDir+"/group-0001/epoch-0001"))
			one, two := bytes.Clone(first), bytes.Clone(whole)
			if tt.rdb {
				one = fixChecksums(tt.change(one))
			} else {
				two = fixChecksums(tt.change(two))
			}
			writeFile(t, m, Path(testDir, 1, 1, 1), one)
			writeFile(t, m, path, two)
			read := func(vouched Durable) func() {
				return func() {
					if g, err := openGroup(m, testDir, testJob, 1); err == nil {
						g.Vouch(vouched)
						g.Epochs()
						if r, err := g.OpenRDB(1); err == nil {
							io.Copy(io.Discard, r)
							r.Close()
						}
						if r, err := g.OpenStream(1, 1000); err == nil {
							drain(r)
							r.Close()
						}
					}
				}
			}
			for what, f := range map[string]func(){
				"read":         read(Durable{}),
				"read vouched": read(Durable{Epoch: 1, Seq: 2, Bytes: int64(len(two)), Offset: 1200}),
				"check":        func() { check(m, testDir, CheckOptions{Vouched: map[repl.GroupID]Durable{}}) },
				"dump":         func() { dump(m, io.Discard, testDir, DumpOptions{Data: true}) },
				"list":         func() { list(m, testDir) },
				"recover": func() {
					if w, _, err := Recover(testDir, testJob, 1, Durable{}, options(m.Clone())); err == nil {
						w.Close()
					}
				},
			} {
				if n := allocated(f); n > allowed {
					t.Errorf("%s allocated %d bytes, want at most %d", what, n, allowed)
				}
			}
		})
	}
}
