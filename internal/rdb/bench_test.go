package rdb

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

func BenchmarkCRC64(b *testing.B) {
	p := randomBytes(1, 1<<20)
	b.Run("one", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			CRC64(0, p)
		}
	})
	b.Run("pair", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			crc64Pair(0, 1, p)
		}
	})
}

// benchFile is a file of about 16 MiB of one kind of entries.
func benchFile(entry func(f *file, i int)) []byte {
	f := newFile("0007")
	for i := 0; len(*f) < 16<<20; i++ {
		entry(f, i)
	}
	return f.end()
}

func benchFiles() map[string][]byte {
	text := string(randomBytes(3, 1<<20))
	list := string(listpackOf("field", "value", "another", int64(12345), "third", text[:64]))
	return map[string][]byte{
		"strings of 100 bytes": benchFile(func(f *file, i int) {
			f.raw(byte(TypeString), fmt.Sprintf("key:%012d", i), text[i%1000:i%1000+100])
		}),
		"strings of 1 MiB": benchFile(func(f *file, i int) { f.raw(byte(TypeString), fmt.Sprintf("key:%012d", i), text) }),
		"small hashes": benchFile(func(f *file, i int) {
			f.raw(byte(opExpireMS), int64(4102444800123), byte(TypeHashListpack), fmt.Sprintf("key:%012d", i), list)
		}),
		"sets of 1000": benchFile(func(f *file, i int) {
			f.raw(byte(TypeSet), fmt.Sprintf("key:%012d", i), 1000)
			for m := range 1000 {
				f.raw(text[m : m+12])
			}
		}),
	}
}

func BenchmarkDecoder(b *testing.B) {
	for name, data := range benchFiles() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				d := NewDecoder(bytes.NewReader(data), Options{NoStringPayload: true})
				for {
					if _, err := d.Next(); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkElements(b *testing.B) {
	for name, data := range benchFiles() {
		entries, err := readAll(NewDecoder(bytes.NewReader(data), Options{}))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				for i := range entries {
					typ, body, _, err := ParseDump(entries[i].Payload)
					if err != nil {
						b.Fatal(err)
					}
					if _, _, err := Elements(typ, body, func(Element) error { return nil }); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
