package job

import (
	"errors"
	"path/filepath"
	"sync"

	"tairlift/internal/ctl"
	"tairlift/internal/pace"
)

// ctlSocket lies beside the store of a half, whose lock is what keeps a second
// process from listening there.
const ctlSocket = "ctl.sock"

func (f *folder) captureSocket() string { return f.path("capture", ctlSocket) }
func (f *folder) applySocket(target string) string {
	return filepath.Join(f.applyDir(target), ctlSocket)
}

// CtlHalf is a half of a job that runs, as `ctl` tells of it.
type CtlHalf struct {
	Role    string       `json:"role"` // capture | apply
	Target  string       `json:"target,omitempty"`
	Verb    string       `json:"verb"`
	PID     int          `json:"pid"`
	Apply   *ApplyRate   `json:"apply,omitempty"`
	Capture *CaptureRate `json:"capture,omitempty"`
}

// listen lets `ctl` ask and change the halves of the run, until the function
// returned is called. A job goes on without.
func (r *run) listen() (end func()) {
	var servers []*ctl.Server
	var setting sync.Mutex // one change at a time
	listen := func(path string, half CtlHalf, p *pace.Pacer, rate func(*CtlHalf)) {
		half.Verb, half.PID = r.verb, r.proc.PID
		s, err := ctl.Listen(path, func(req ctl.Request) ctl.Response {
			switch req.Verb {
			case "show":
			case "set":
				setting.Lock()
				defer setting.Unlock()
				if err := turn(half.Role, p, req.Set); err != nil {
					return ctl.Refuse(err.Hint, "%s", err.What)
				}
				r.log.Info("limits changed", "half", half.Role, "set", req.Set)
			default:
				return ctl.Refuse("use the tairlift that runs there", "there is nothing named %q to ask for", req.Verb)
			}
			now := half
			rate(&now)
			return ctl.Result(now)
		})
		if err != nil {
			r.log.Warn("`tairlift ctl` cannot reach this run; the job goes on", "error", err)
			return
		}
		servers = append(servers, s)
	}
	if r.withCapture {
		listen(r.f.captureSocket(), CtlHalf{Role: captureRole}, r.capturing, func(h *CtlHalf) { h.Capture = captureRate(r.capturing) })
	}
	if r.withApply {
		listen(r.f.applySocket(r.target), CtlHalf{Role: applyRole, Target: r.target}, r.applying, func(h *CtlHalf) { h.Apply = applyRate(r.applying) })
	}
	return func() {
		var err error
		for _, s := range servers {
			err = errors.Join(err, s.Close())
		}
		if err != nil {
			r.log.Debug("close ctl", "error", err)
		}
	}
}

// turn sets what is of this half: all of it, or nothing.
func turn(role string, p *pace.Pacer, set map[string]string) *Error {
	if _, err := checkKnobs(set); err != nil {
		return explain(err)
	}
	for _, k := range knobs {
		if _, ok := set[k.name]; ok && k.role != role {
			return usage("ask the half that it is for", "%s is not for %s", k.name, role)
		}
	}
	for _, k := range knobs {
		if value, ok := set[k.name]; ok {
			if err := k.turn(p, value); err != nil {
				return explain(err)
			}
		}
	}
	return nil
}
