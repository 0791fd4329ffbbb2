package job

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// heapBase and heapEach, of each group, are the heap that a run may fill
	// before the garbage collector works harder than usual. The rest of the
	// memory promised (64 MiB and 2 MiB for each group) is code, the pages of the
	// two databases, and what the operating system counts late.
	heapBase  = 32 << 20
	heapEach  = 2 << 20
	heapWatch = time.Second
)

// boundHeap bounds the heap until stop is called. Left alone, it would grow to
// twice what is in use, and with it what many groups filled once. A value larger
// than the bound must not make the collector run without a pause: the bound is
// kept well above what is in use. GOGC or GOMEMLIMIT in the environment is
// somebody's own choice.
func boundHeap(groups int) (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	base := int64(heapBase + groups*heapEach)
	before := debug.SetMemoryLimit(base)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(heapWatch)
		defer tick.Stop()
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			metrics.Read(live)
			debug.SetMemoryLimit(limitFor(base, int64(live[0].Value.Uint64())))
		}
	}()
	return func() {
		close(quit)
		<-done
		debug.SetMemoryLimit(before)
	}
}

// limitFor is the bound for what the last collection left in use. A quarter above
// it is enough: what is in use is mostly bytes, which the collector does not walk.
func limitFor(base, live int64) int64 { return max(base, live+live/4) }
