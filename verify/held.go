package verify

import (
	"time"

	"tairlift/internal/held"
)

// heldLeft takes a time to live of the target, in ms, for what it stands for: where
// apply holds deadlines back, what is left until the source's own, 0 when that has
// passed. Which of the two clocks the deadline is counted by makes no difference to
// how long it is from there.
func heldLeft(ttl int64) (left int64, isHeld bool) {
	if ttl < held.Base/2 {
		return ttl, false
	}
	g, _, ok := held.Decode(ttl + time.Now().UnixMilli())
	if !ok {
		return ttl, false
	}
	return max(ttl-int64(held.By(g)), 0), true
}
