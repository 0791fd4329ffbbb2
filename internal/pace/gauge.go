package pace

import "time"

// gauge tells how much was charged per second of late.
type gauge struct {
	begun time.Time
	slots [gaugeSlots]struct{ tick, ops, bytes int64 }
}

const (
	gaugeTick  = 250 * time.Millisecond
	gaugeSlots = 20
)

func (g *gauge) add(now time.Time, ops, bytes int64) {
	if g.begun.IsZero() {
		g.begun = now
	}
	tick := int64(now.Sub(g.begun) / gaugeTick)
	s := &g.slots[tick%gaugeSlots]
	if s.tick != tick {
		s.tick, s.ops, s.bytes = tick, 0, 0
	}
	s.ops += ops
	s.bytes += bytes
}

// rates are per second, over the slots' span or since the first add.
func (g *gauge) rates(now time.Time) (ops, bytes float64) {
	if g.begun.IsZero() {
		return 0, 0
	}
	tick := int64(now.Sub(g.begun) / gaugeTick)
	for _, s := range g.slots {
		if s.tick > tick-gaugeSlots {
			ops += float64(s.ops)
			bytes += float64(s.bytes)
		}
	}
	// The slot that is being filled counts for what of it is over.
	whole := time.Duration(min(tick, gaugeSlots-1)) * gaugeTick
	seconds := max(whole+now.Sub(g.begun)%gaugeTick, gaugeTick).Seconds()
	return ops / seconds, bytes / seconds
}
