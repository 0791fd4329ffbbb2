package job

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"tairlift/internal/pace"
)

// BackoffLatency is from which latency on apply slows down, unless it is told
// otherwise.
const BackoffLatency = 100 * time.Millisecond

// mostPerSecond is the largest limit: beyond it there is none.
const mostPerSecond = 1 << 40

// ParseOps reads a number of commands per second; 0 is no limit.
func ParseOps(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > mostPerSecond {
		return 0, fmt.Errorf("%q is not a number of commands per second such as 20000, or 0 for no limit", s)
	}
	return n, nil
}

// ParseBandwidth reads a number of bytes per second; 0 is no limit.
func ParseBandwidth(s string) (int64, error) {
	n, err := humanize.ParseBytes(strings.TrimSuffix(s, "/s"))
	if err != nil || n > mostPerSecond {
		return 0, fmt.Errorf("%q is not a number of bytes per second such as 20MiB, or 0 for no limit", s)
	}
	return int64(n), nil
}

// ParseLatency reads a latency from which on to slow down; 0 is never.
func ParseLatency(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration such as 100ms, or 0 for never", s)
	}
	return d, nil
}

// ApplyRate is how fast apply may write, all groups together, and does.
type ApplyRate struct {
	MaxOps       int64   `json:"max_ops"`            // commands per second; 0: no limit
	MaxBandwidth int64   `json:"max_bandwidth"`      // bytes per second; 0: no limit
	BackoffMS    float64 `json:"backoff_latency_ms"` // 0: it never slows down
	Ops          float64 `json:"ops"`                // per second, of late
	Bandwidth    float64 `json:"bandwidth"`          // bytes per second, of late
	Waits        int64   `json:"waits"`              // batches that waited for a limit
	LatencyMS    float64 `json:"latency_ms"`         // of late, beyond what a batch of its size needs
	CalmMS       float64 `json:"calm_latency_ms"`
	Speed        float64 `json:"speed"`  // 1: not slowed down
	Slowed       int64   `json:"slowed"` // times that it slowed down
}

// CaptureRate is how fast full syncs may be read, all groups together, and are.
type CaptureRate struct {
	MaxBandwidth int64   `json:"max_bandwidth"` // bytes per second; 0: no limit
	Bandwidth    float64 `json:"bandwidth"`     // bytes per second, of late
	Waits        int64   `json:"waits"`         // reads that waited for the limit
}

// RateStatus are the rates of the halves; null where one never ran here.
type RateStatus struct {
	Apply   *ApplyRate   `json:"apply"`
	Capture *CaptureRate `json:"capture"`
}

func applyRate(p *pace.Pacer) *ApplyRate {
	s := p.State()
	return &ApplyRate{
		MaxOps: s.Ops, MaxBandwidth: s.Bytes, BackoffMS: millis(s.Goal), Ops: rounded(s.OpsPerSecond), Bandwidth: rounded(s.BytesPerSecond), Waits: s.Waits,
		LatencyMS: millis(s.Latency), CalmMS: millis(s.Calm), Speed: math.Round(s.Speed*100) / 100, Slowed: s.Slowed,
	}
}

func captureRate(p *pace.Pacer) *CaptureRate {
	s := p.State()
	return &CaptureRate{MaxBandwidth: s.Bytes, Bandwidth: rounded(s.BytesPerSecond), Waits: s.Waits}
}

func millis(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}
func rounded(perSecond float64) float64 { return math.Round(perSecond*10) / 10 }

// text is a rate in a line.
func (r *ApplyRate) text() string {
	t := fmt.Sprintf("apply %s commands/s, %s", humanize.Comma(int64(r.Ops)), perSecond(r.Bandwidth))
	var most []string
	if r.MaxOps > 0 {
		most = append(most, humanize.Comma(r.MaxOps)+" "+plural(int(r.MaxOps), "command")+"/s")
	}
	if r.MaxBandwidth > 0 {
		most = append(most, perSecond(float64(r.MaxBandwidth)))
	}
	if len(most) > 0 {
		t += " of at most " + strings.Join(most, ", ")
	}
	if r.Speed < 1 {
		t += fmt.Sprintf(", slowed to %.0f%% as the target takes %s", r.Speed*100, duration(r.LatencyMS))
	}
	return t
}

func (r *CaptureRate) text() string {
	t := "full syncs " + perSecond(r.Bandwidth)
	if r.MaxBandwidth > 0 {
		t += " of at most " + perSecond(float64(r.MaxBandwidth))
	}
	return t
}

func perSecond(bytes float64) string { return humanize.IBytes(uint64(max(bytes, 0))) + "/s" }

func duration(ms float64) string {
	return time.Duration(ms * float64(time.Millisecond)).Round(10 * time.Microsecond).String()
}
