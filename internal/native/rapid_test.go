package native

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tairlift/internal/rdb"
)

// TestAnyValueInAnyChunksIsTheSame writes elements that rapid makes up, and
// reads the commands back.
func TestAnyValueInAnyChunksIsTheSame(t *testing.T) {
	bytes := rapid.SliceOfN(rapid.Byte(), 0, 40)
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]rdb.Kind{rdb.KindString, rdb.KindList, rdb.KindSet, rdb.KindZSet, rdb.KindHash}).Draw(t, "kind")
		w, r := recorder(Options{
			Target:      Target{Major: rapid.IntRange(2, 8).Draw(t, "major"), FieldTTL: true},
			ChunkBytes:  rapid.IntRange(1, 400).Draw(t, "chunk"),
			MaxElements: rapid.IntRange(1, 9).Draw(t, "elements"),
		})
		if err := w.Begin([]byte("k"), kind); err != nil {
			t.Fatal(err)
		}
		var want []string
		whole := rdb.Element{}
		for _, a := range rapid.SliceOfNDistinct(bytes, 1, 30, func(b []byte) string { return string(b) }).Draw(t, "elements") {
			e := rdb.Element{A: a}
			switch kind {
			case rdb.KindHash:
				e.B = bytes.Draw(t, "value")
				e.DeadlineMS = rapid.SampledFrom([]int64{0, 0, 1, math.MaxInt64}).Draw(t, "deadline")
			case rdb.KindZSet:
				e.Score = rapid.Float64().Draw(t, "score")
			}
			whole.A = append(whole.A, a...)
			if err := w.Add(e); err != nil {
				t.Fatal(err)
			}
			if want = append(want, text(kind, e)); kind == rdb.KindString {
				want = []string{text(kind, whole)}
			}
		}
		if err := w.Finish(); err != nil {
			t.Fatal(err)
		}
		got, err := replay(r.commands, kind)
		if err != nil || r.wrong != nil {
			t.Fatal(err, r.wrong)
		}
		if kind != rdb.KindList {
			slices.Sort(want)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
