package spool

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// nullFS throws away what is written, so that encoding alone is measured.
type nullFS struct{ fsx.FS }

type nullFile struct{ fsx.File }

func (n nullFS) Create(name string) (fsx.File, error) {
	f, err := n.FS.Create(name)
	return nullFile{f}, err
}
func (nullFile) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkEncode(b *testing.B) {
	for _, tc := range []struct {
		name  string
		data  []byte
		piece int // bytes from one sync to the next
	}{
		{"text/256KiB", text(0, 4<<20), 256 << 10},
		{"text/16KiB", text(0, 4<<20), 16 << 10},
		{"text/1KiB", text(0, 4<<20), 1 << 10},
		{"noise/256KiB", noise(0, 4<<20), 256 << 10},
	} {
		b.Run(tc.name, func(b *testing.B) {
			m := fsx.NewMem()
			o := options(m)
			o.FS = nullFS{m}
			w := inStream(b, o, "R")
			b.SetBytes(int64(len(tc.data)))
			b.ReportAllocs()
			for b.Loop() {
				for at := 0; at < len(tc.data); at += tc.piece {
					if err := w.AppendStream(tc.data[at:at+tc.piece], testStart); err != nil {
						b.Fatal(err)
					}
					if _, err := w.Sync(); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(w.tally.foot.RawBytes)/float64(w.tally.pos), "raw/stored")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, piece := range []int{256 << 10, 16 << 10, 1 << 10} {
		b.Run(fmt.Sprintf("text/%dKiB", piece>>10), func(b *testing.B) {
			m := fsx.NewMem()
			w := inStream(b, options(m), "R")
			data := text(0, 8<<20)
			for at := 0; at < len(data); at += piece {
				ok(b, w.AppendStream(data[at:at+piece], testStart))
				must(w.Sync())(b)
			}
			ok(b, w.Seal())
			g := group(b, m)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				r := must(g.OpenStream(1, 1000))(b)
				var n int
				for {
					f, err := r.Next()
					if err == ErrEnd {
						break
					}
					if err != nil {
						b.Fatal(err)
					}
					n += len(f.Data)
				}
				if n != len(data) {
					b.Fatalf("got %d bytes, want %d", n, len(data))
				}
				r.Close()
			}
		})
	}
}

// BenchmarkSync measures append, fsync and publish on the machine's own disk.
func BenchmarkSync(b *testing.B) {
	w := must(Create(b.TempDir(), testIdentity(), WriterOptions{}))(b)
	ok(b, w.EndRDB(0, false))
	p := text(0, 1000)
	for b.Loop() {
		ok(b, w.AppendStream(p, time.Now()))
		must(w.Sync())(b)
	}
	ok(b, w.Seal())
}

func BenchmarkNextAtTheEnd(b *testing.B) {
	dir := b.TempDir()
	w := must(Create(dir, testIdentity(), WriterOptions{}))(b)
	ok(b, w.EndRDB(0, false))
	ok(b, w.AppendStream(text(0, 1000), time.Now()))
	must(w.Sync())(b)
	for _, live := range []bool{false, true} {
		b.Run(fmt.Sprintf("live=%v", live), func(b *testing.B) {
			g := must(OpenGroup(dir, testJob, 1))(b)
			if live {
				g.Live(w)
			}
			r := must(g.OpenStream(1, repl.Offset(1000)))(b)
			defer r.Close()
			drain(r)
			for b.Loop() {
				if _, err := r.Next(); err != ErrEnd {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchData are the kinds of data that levels are tried on: the files rdb, stream
// and noise in the folder that TAIRLIFT_BENCH_DATA names (`make bench` puts data of
// its own there), else text and noise made here.
func benchData(b *testing.B) map[string][]byte {
	dir := os.Getenv("TAIRLIFT_BENCH_DATA")
	if dir == "" {
		return map[string][]byte{"stream": text(0, 8<<20), "noise": noise(0, 8<<20)}
	}
	out := map[string][]byte{}
	for _, name := range []string{"rdb", "stream", "noise"} {
		out[name] = must(os.ReadFile(filepath.Join(dir, name)))(b)
	}
	return out
}

// BenchmarkLevels is for the choice of a level: each with the options of the
// encoder in codec.go, on frames of the usual size.
func BenchmarkLevels(b *testing.B) {
	data := benchData(b)
	for _, name := range []string{"rdb", "stream", "noise"} {
		raw := data[name]
		if raw == nil {
			continue
		}
		for _, l := range []struct {
			name  string
			level zstd.EncoderLevel
		}{
			{"none", 0},
			{"fastest", zstd.SpeedFastest},
			{"default", zstd.SpeedDefault},
			{"better", zstd.SpeedBetterCompression},
			{"best", zstd.SpeedBestCompression},
		} {
			encode := func(dst, p []byte) []byte { return append(dst, p...) }
			decode := func(dst, p []byte) ([]byte, error) { return append(dst, p...), nil }
			if l.level != 0 {
				enc := must(zstd.NewWriter(nil, append(encoderOptions(), zstd.WithEncoderLevel(l.level), zstd.WithEncoderConcurrency(1))...))(b)
				encode = func(dst, p []byte) []byte { return enc.EncodeAll(p, dst) }
				decode = func(dst, p []byte) ([]byte, error) { return decoders().DecodeAll(p, dst[:0:frameTarget]) }
			}
			var frames [][]byte
			stored := 0
			for at := 0; at < len(raw); at += frameTarget {
				f := encode(nil, raw[at:min(at+frameTarget, len(raw))])
				frames = append(frames, f)
				stored += min(len(f), frameTarget)
			}
			b.Run(name+"/"+l.name+"/encode", func(b *testing.B) {
				b.SetBytes(int64(len(raw)))
				var dst []byte
				for b.Loop() {
					for at := 0; at < len(raw); at += frameTarget {
						p := raw[at:min(at+frameTarget, len(raw))]
						dst = encode(dst[:0], p)
						crc32.Checksum(dst, castagnoli)
					}
				}
				b.ReportMetric(float64(len(raw))/float64(stored), "raw/stored")
			})
			b.Run(name+"/"+l.name+"/decode", func(b *testing.B) {
				b.SetBytes(int64(len(raw)))
				dst := make([]byte, 0, frameTarget)
				for b.Loop() {
					n := 0
					for _, f := range frames {
						crc32.Checksum(f, castagnoli)
						p, err := decode(dst[:0], f)
						if err != nil {
							b.Fatal(err)
						}
						n += len(p)
					}
					if n != len(raw) {
						b.Fatalf("got %d bytes, want %d", n, len(raw))
					}
				}
			})
		}
	}
}
