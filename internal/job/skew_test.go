package job

import (
	"strings"
	"testing"
	"time"

	"tairlift/internal/repl"
)

// Clocks that are more than a second apart are told, each once.
func TestClocksThatAreApartAreTold(t *testing.T) {
	now := time.Now()
	v := &view{now: now, target: "h:1", groups: []Group{{ID: 1}, {ID: 2}}, capture: &CaptureFile{}, apply: &ApplyFile{}}
	for id := repl.GroupID(1); id <= 2; id++ {
		v.capture.Groups = append(v.capture.Groups, CaptureGroup{ID: id, SampledAt: &now, SkewMS: 900 * int64(id)})
		v.apply.Groups = append(v.apply.Groups, ApplyGroup{ID: id, SkewMS: ptr(int64(-2500))})
	}
	s := v.status()
	if g := s.Groups[1].Skew; g.Source == nil || *g.Source != 1.8 || g.Target == nil || *g.Target != -2.5 {
		t.Errorf("skew of group 2: got %+v, want source 1.8, target -2.5", g)
	}
	var b strings.Builder
	s.skewText(&b)
	want := "\ngroup 2: the source's clock is 1.8s ahead of that of the machine of capture\nhint: " + skewHint + "\n"
	want = "\nthe target's clock is 2.5s behind that of the machine of apply\nhint: " + skewHint + "\n" + want
	if b.String() != want {
		t.Errorf("text: got %q, want %q", b.String(), want)
	}
	v.capture.Groups[0].SampledAt = nil
	if s := v.status(); s.Groups[0].Skew.Source != nil {
		t.Errorf("skew that was never measured: got %v, want none", *s.Groups[0].Skew.Source)
	}
}
