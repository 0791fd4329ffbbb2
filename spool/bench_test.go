package spool

import (
	"fmt"
	"testing"
	"time"

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
