package capture

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

func TestRingCarriesBytesInOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	want := make([]byte, 100_000)
	for i := range want {
		want[i] = byte(rnd.Uint32())
	}
	errEnd := errors.New("end")
	for _, size := range []int{1, 7, 64, 4096} {
		r := newRing(size)
		stop := make(chan struct{})
		go func() {
			rnd := rand.New(rand.NewPCG(3, uint64(size)))
			for rest := want; len(rest) > 0; {
				n := copy(r.space(stop)[:], rest[:min(len(rest), 1+rnd.IntN(size))])
				r.commit(n, time.Now())
				rest = rest[n:]
			}
			r.close(errEnd)
		}()
		var got []byte
		for {
			p, _, err := r.next()
			if err != nil {
				if err != errEnd {
					t.Fatalf("got %v, want %v", err, errEnd)
				}
				break
			}
			if len(p) == 0 {
				<-r.filled
				continue
			}
			n := 1 + rnd.IntN(len(p))
			got = append(got, p[:n]...)
			r.release(n)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("size %d: got %d bytes that differ, want %d", size, len(got), len(want))
		}
		if r.n != 0 || len(r.marks) != 0 {
			t.Errorf("size %d: got %d bytes and %d arrivals left, want none", size, r.n, len(r.marks))
		}
	}
}

func TestRingKeepsArrivalsApart(t *testing.T) {
	r := newRing(64)
	at := time.Unix(100, 0)
	for i, b := range []byte("abcdef") { // 60 ms apart: two fit into one frame
		r.space(nil)[0] = b
		r.commit(1, at.Add(time.Duration(i)*60*time.Millisecond))
	}
	for _, want := range []struct {
		bytes string
		last  time.Duration
	}{{"ab", 60}, {"cd", 180}, {"ef", 300}} {
		p, last, err := r.next()
		if err != nil || string(p) != want.bytes || !last.Equal(at.Add(want.last*time.Millisecond)) {
			t.Errorf("got %q at %v, %v; want %q at +%dms", p, last.Sub(at), err, want.bytes, want.last)
		}
		r.release(len(p))
	}
}

func TestRingSpaceEndsWithStop(t *testing.T) {
	r := newRing(1)
	r.commit(len(r.space(nil)), time.Now())
	stop := make(chan struct{})
	close(stop)
	if p := r.space(stop); p != nil {
		t.Errorf("got %d bytes of a full ring, want none", len(p))
	}
}
