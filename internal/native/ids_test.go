package native

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"tairlift/internal/rdb"
)

func TestPackedIDsAreFoundInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := ids{timed: rapid.Bool().Draw(t, "timed")}
		var all []packedID
		id := rdb.StreamID{}
		for range rapid.IntRange(0, 300).Draw(t, "size") {
			if up := rapid.SampledFrom([]uint64{0, 0, 1, 3, 1 << 40}).Draw(t, "ms"); up > 0 {
				id = rdb.StreamID{MS: id.MS + up, Seq: rapid.Uint64Range(0, 9).Draw(t, "seq")}
			} else {
				id.Seq += rapid.Uint64Range(1, 300).Draw(t, "up")
			}
			p := packedID{id: id}
			if s.timed {
				p.ms, p.count = rapid.Int64().Draw(t, "time"), rapid.Uint64().Draw(t, "count")
			}
			if err := s.add(p.id, p.ms, p.count); err != nil {
				t.Fatal(err)
			}
			all = append(all, p)
		}
		if len(all) > 0 && s.add(id, 0, 0) == nil {
			t.Errorf("%v a second time: no error", id)
		}
		for range 20 {
			if len(all) > 0 {
				i := rapid.IntRange(0, len(all)-1).Draw(t, "which")
				for _, p := range all[i:min(i+3, len(all))] {
					if got, ok := s.find(p.id); !ok || got != p {
						t.Errorf("got %v, %v, want %v", got, ok, p)
					}
				}
				gone := all[i].id
				if gone.Seq++; i+1 == len(all) || all[i+1].id != gone {
					if got, ok := s.find(gone); ok {
						t.Errorf("got %v for %v, which is not there", got, gone)
					}
				}
			}
			for _, none := range []rdb.StreamID{{}, {MS: math.MaxUint64}} {
				if got, ok := s.find(none); ok && (len(all) == 0 || all[0].id != none) {
					t.Errorf("got %v for %v, which is not there", got, none)
				}
			}
		}
	})
}
