package job

import (
	"slices"
	"strings"

	"tairlift/internal/pace"
)

// The halves of a job, each of which is one process's at a time.
const (
	captureRole = "capture"
	applyRole   = "apply"
)

// knob is what `ctl set` changes in a half that runs.
type knob struct {
	name string // of the flag that sets it at the start, too
	role string
	turn func(p *pace.Pacer, value string) error // a nil pacer only checks the value
}

var knobs = []knob{
	{"max-ops", applyRole, func(p *pace.Pacer, value string) error {
		n, err := ParseOps(value)
		if err == nil && p != nil {
			l := p.Limits()
			l.Ops = n
			p.Set(l)
		}
		return err
	}},
	{"max-bandwidth", applyRole, turnBandwidth},
	{"backoff-latency", applyRole, func(p *pace.Pacer, value string) error {
		d, err := ParseLatency(value)
		if err == nil && p != nil {
			p.Aim(d)
		}
		return err
	}},
	{"capture-max-bandwidth", captureRole, turnBandwidth},
}

func turnBandwidth(p *pace.Pacer, value string) error {
	n, err := ParseBandwidth(value)
	if err == nil && p != nil {
		l := p.Limits()
		l.Bytes = n
		p.Set(l)
	}
	return err
}

func knobNames() string {
	var names []string
	for _, k := range knobs {
		names = append(names, k.name)
	}
	return strings.Join(names, ", ")
}

// checkKnobs refuses names and values that are none. It tells what halves the
// others are for.
func checkKnobs(set map[string]string) (roles []string, err error) {
	for name, value := range set {
		k := find(knobs, func(k knob) bool { return k.name == name })
		if k == nil {
			return nil, usage("known are "+knobNames(), "there is nothing named %q to set", name)
		}
		if err := k.turn(nil, value); err != nil {
			return nil, usage("`tairlift ctl --help` shows what may be set", "%s: %v", name, err)
		}
		if !slices.Contains(roles, k.role) {
			roles = append(roles, k.role)
		}
	}
	return roles, nil
}

// pacers makes those of a run's halves.
func (o *Options) pacers() (capturing, applying *pace.Pacer) {
	return pace.New(pace.Limits{Bytes: o.CaptureMaxBandwidth}, 0), pace.New(pace.Limits{Ops: o.MaxOps, Bytes: o.MaxBandwidth}, o.BackoffLatency)
}
