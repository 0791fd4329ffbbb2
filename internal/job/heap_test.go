package job

import (
	"runtime/debug"
	"testing"
)

func TestLimitFor(t *testing.T) {
	const base = 100
	for _, tt := range []struct {
		claim      string
		live, want int64
	}{
		{"a small heap is bounded by the base", 10, base},
		{"a large value raises the bound above what is in use", 1000, 1250},
	} {
		if got := limitFor(base, tt.live); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.claim, got, tt.want)
		}
	}
}

func TestBoundHeap(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetMemoryLimit(-1)
	stop := boundHeap(3)
	if got, want := debug.SetMemoryLimit(-1), int64(heapBase+3*heapEach); got != want {
		t.Errorf("limit during a run: got %d, want %d", got, want)
	}
	stop()
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Errorf("limit behind a run: got %d, want %d as before", got, before)
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	stop = boundHeap(3)
	defer stop()
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Errorf("limit beside a GOMEMLIMIT in the environment: got %d, want %d as before", got, before)
	}
}
