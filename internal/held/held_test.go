package held_test

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"tairlift/internal/held"
	"tairlift/internal/repl"
)

func TestWhatIsHeldCanBeToldByItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := repl.GroupID(rapid.Uint32Range(1, uint32(repl.MaxGroupID)).Draw(t, "group"))
		ms := rapid.Int64Range(1, held.Free-1).Draw(t, "deadline")
		written := held.By(g).Hold(ms)
		if !held.TooLate(written) || written >= 2*held.Base {
			t.Fatalf("deadline %d of group %d is written as %d, outside of [Base, 2*Base)", ms, g, written)
		}
		if gotG, gotMS, ok := held.Decode(written); !ok || gotG != g || gotMS != ms {
			t.Fatalf("decode %d: got group %d, %d, %v, want group %d, %d", written, gotG, gotMS, ok, g, ms)
		}
	})
}

func TestWhatIsNotHeldStaysWhatItIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.OneOf(rapid.Int64Max(0), rapid.Int64Range(held.Free, held.Base-1), rapid.Int64Min(2*held.Base)).Draw(t, "deadline")
		if got := held.By(9999).Hold(ms); got != ms {
			t.Fatalf("hold %d: got %d", ms, got)
		}
		if g, d, ok := held.Decode(ms); ok {
			t.Fatalf("decode %d: got group %d, %d, want nothing", ms, g, d)
		}
	})
	if got := held.Shift(0).Hold(1_790_000_000_000); got != 1_790_000_000_000 {
		t.Errorf("the zero shift holds: got %d", got)
	}
}

func TestTheEdges(t *testing.T) {
	for _, tt := range []struct {
		ms int64
		g  repl.GroupID
		d  int64
	}{
		{held.Base + held.Free + 1, 1, 1},
		{held.Base + 2*held.Free - 1, 1, held.Free - 1},
		{held.Base + 9999*held.Free + 1, 9999, 1},
		{held.Base + held.Free, 0, 0},           // no deadline
		{held.Base + held.Free - 1, 0, 0},       // no group
		{held.Base, 0, 0},                       //
		{held.Base + 10000*held.Free + 1, 0, 0}, // no group
		{math.MaxInt64, 0, 0},
		{math.MinInt64, 0, 0},
		{0, 0, 0},
	} {
		if g, d, ok := held.Decode(tt.ms); g != tt.g || d != tt.d || ok != (tt.g != 0) {
			t.Errorf("decode %d: got group %d, %d, %v, want group %d, %d", tt.ms, g, d, ok, tt.g, tt.d)
		}
	}
	for ms, want := range map[int64]bool{held.Base - 1: false, held.Base: true, math.MaxInt64: true, 0: false, -1: false} {
		if held.TooLate(ms) != want {
			t.Errorf("%d too late: got %v, want %v", ms, !want, want)
		}
	}
	sum := new(big.Int).Mul(big.NewInt(20), big.NewInt(held.By(repl.MaxGroupID).Hold(held.Free-1)))
	if !sum.IsInt64() {
		t.Errorf("20 held deadlines sum up to %s, which overflows", sum)
	}
}
