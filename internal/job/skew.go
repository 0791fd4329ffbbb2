package job

import (
	"fmt"
	"strings"
	"time"
)

// Skew is how far clocks are apart, in seconds, as far as it was measured: the
// source's against that of capture's machine, the target's against that of
// apply's. Positive is ahead.
type Skew struct {
	Source *float64 `json:"source"`
	Target *float64 `json:"target"`
}

// largeSkew is what a person is told of.
const largeSkew = time.Second

const skewHint = "a key expires on the target by the target's own clock, and with one that is ahead before the source may renew it: set the clocks of all machines by NTP"

// skew is what is known of a group's clocks.
func (d *sides) skew() (s Skew) {
	seconds := func(ms int64) *float64 { return ptr(float64(ms) / 1000) }
	if d.c != nil && d.c.SampledAt != nil {
		s.Source = seconds(d.c.SkewMS)
	}
	if d.a != nil && d.a.SkewMS != nil {
		s.Target = seconds(*d.a.SkewMS)
	}
	return s
}

// large are the clocks that are further apart than people expect, in words.
func (s Skew) large() []string {
	var out []string
	for _, c := range []struct {
		whose, by string
		seconds   *float64
	}{{"the source's", "capture", s.Source}, {"the target's", "apply", s.Target}} {
		if c.seconds == nil {
			continue
		}
		by := time.Duration(*c.seconds * float64(time.Second))
		if by.Abs() <= largeSkew {
			continue
		}
		side := "ahead of"
		if by < 0 {
			side = "behind"
		}
		out = append(out, fmt.Sprintf("%s clock is %s %s that of the machine of %s", c.whose, by.Abs().Round(10*time.Millisecond), side, c.by))
	}
	return out
}

// skewText tells of such clocks, once for all groups.
func (s *Status) skewText(b *strings.Builder) {
	told := map[string]bool{}
	for i := range s.Groups {
		g := &s.Groups[i]
		for _, text := range g.Skew.large() {
			if strings.HasPrefix(text, "the source's") {
				text = about(g.ID, text)
			}
			if !told[text] {
				told[text] = true
				fmt.Fprintf(b, "\n%s\nhint: %s\n", text, skewHint)
			}
		}
	}
}
