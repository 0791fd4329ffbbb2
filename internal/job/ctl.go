package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"

	"tairlift/internal/ctl"
)

// CtlOptions say what ctl asks or changes. Dir is required.
type CtlOptions struct {
	Dir    string
	State  string            // where apply keeps its files; empty: in Dir
	Target string            // of the apply that is meant; empty: each that runs
	Set    map[string]string // what to change; empty: nothing
	JSON   bool              // one object per line
	Out    io.Writer
}

// ParseSet reads NAME=VALUE words.
func ParseSet(words []string) (map[string]string, error) {
	set := map[string]string{}
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if !ok || strings.HasPrefix(w, "-") {
			return nil, usage("flags come before it, then NAME=VALUE words: `tairlift ctl set --dir DIR max-ops=20000`", "%q is not NAME=VALUE", w)
		}
		if _, twice := set[name]; twice {
			return nil, usage("give each name once", "%s is set twice", name)
		}
		set[name] = value
	}
	if len(set) == 0 {
		return nil, usage("known are "+knobNames(), "nothing is given to set")
	}
	_, err := checkKnobs(set)
	return set, err
}

// RunCtl asks the processes that work on a job in DIR what they may and do, after
// changing that where CtlOptions.Set is given. The changes last as long as those
// processes.
func RunCtl(ctx context.Context, o CtlOptions) error {
	roles, err := checkKnobs(o.Set)
	if err != nil {
		return err
	}
	f, err := openJob(o.Dir, o.State)
	if err != nil {
		return err
	}
	if !f.exist {
		return noSpool(f)
	}
	sockets, err := f.sockets(o.Target)
	if err != nil {
		return err
	}
	var halves []CtlHalf
	answered := map[string]bool{}
	for _, s := range sockets {
		req := ctl.Request{Verb: "show"}
		if len(o.Set) > 0 {
			req = ctl.Request{Verb: "set", Set: s.of(o.Set)}
			if len(req.Set) == 0 {
				continue
			}
		}
		half, err := s.ask(ctx, req)
		if errors.Is(err, ctl.ErrNobody) {
			continue
		}
		if err != nil {
			return err
		}
		answered[s.role] = true
		halves = append(halves, half)
	}
	for _, role := range roles {
		if !answered[role] {
			return nobody(o, role)
		}
	}
	if len(halves) == 0 {
		return nobody(o, "")
	}
	return showHalves(o, halves)
}

// nobody says that what is asked for does not run.
func nobody(o CtlOptions, role string) *Error {
	where := o.Dir
	if o.State != "" {
		where += " with --state " + o.State
	}
	e := &Error{Code: Failed, What: "nothing runs in " + where, Hint: "start `tairlift sync`, `capture` or `apply`, whose flags set the same limits; `tairlift status` shows how the last run ended"}
	if role != "" {
		e.What = fmt.Sprintf("no %s runs in %s", role, where)
	}
	if o.Target != "" && role != captureRole {
		e.What += " for target " + o.Target
	}
	return e
}

// socket is where a half may be asked.
type socket struct {
	role, path string
}

// sockets are those of capture and of each apply, or of the one for target.
func (f *folder) sockets(target string) ([]socket, error) {
	out := []socket{{captureRole, f.captureSocket()}}
	if target != "" {
		if _, err := os.Stat(f.applyDir(target)); errors.Is(err, fs.ErrNotExist) {
			known, err := f.targets()
			if err != nil {
				return nil, err
			}
			return nil, usage("known are: "+strings.Join(known, ", "), "%s was never used with target %s", f.dir, target)
		}
		return append(out, socket{applyRole, f.applySocket(target)}), nil
	}
	paths, err := filepath.Glob(filepath.Join(globEscape(f.statePath("apply")), "*", ctlSocket))
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	for _, p := range paths {
		out = append(out, socket{applyRole, p})
	}
	return out, nil
}

// globEscape makes a path stand for itself in a pattern.
func globEscape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// of is what of a set is for this half.
func (s socket) of(set map[string]string) map[string]string {
	out := map[string]string{}
	for _, k := range knobs {
		if value, ok := set[k.name]; ok && k.role == s.role {
			out[k.name] = value
		}
	}
	return out
}

func (s socket) ask(ctx context.Context, req ctl.Request) (half CtlHalf, err error) {
	resp, err := ctl.Call(ctx, s.path, req)
	var refused *ctl.Error
	switch {
	case errors.As(err, &refused):
		return half, &Error{Code: Failed, What: refused.What, Hint: refused.Hint, Err: err}
	case errors.Is(err, fs.ErrPermission):
		return half, &Error{Code: Failed, What: err.Error(), Hint: "only the user that runs the job may ask it", Err: err}
	case err != nil:
		return half, err
	}
	if err := json.Unmarshal(resp.Result, &half); err != nil {
		return half, fmt.Errorf("read the answer of %s: %w", s.path, err)
	}
	return half, nil
}

func showHalves(o CtlOptions, halves []CtlHalf) error {
	if o.JSON {
		e := json.NewEncoder(o.Out)
		for _, h := range halves {
			if err := e.Encode(h); err != nil {
				return err
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(o.Out, 0, 0, 2, ' ', 0)
	for _, h := range halves {
		h.text(t)
	}
	return t.Flush()
}

// text writes a half for people.
func (h *CtlHalf) text(w io.Writer) {
	name := h.Role
	if h.Target != "" {
		name += " to " + h.Target
	}
	fmt.Fprintf(w, "%s (`tairlift %s`, pid %d)\n", name, h.Verb, h.PID)
	bandwidth := func(name string, most int64, now float64) {
		limit := "none"
		if most > 0 {
			limit = perSecond(float64(most))
		}
		fmt.Fprintf(w, "  %s\t%s\tnow %s\n", name, limit, perSecond(now))
	}
	if a := h.Apply; a != nil {
		limit := "none"
		if a.MaxOps > 0 {
			limit = humanize.Comma(a.MaxOps) + "/s"
		}
		fmt.Fprintf(w, "  max-ops\t%s\tnow %s/s\n", limit, humanize.Comma(int64(a.Ops)))
		bandwidth("max-bandwidth", a.MaxBandwidth, a.Bandwidth)
		limit, now := "never", ""
		if a.BackoffMS > 0 {
			limit = duration(a.BackoffMS)
			now = fmt.Sprintf("\tnow %s, at %.0f%% of its speed", duration(a.LatencyMS), a.Speed*100)
		}
		fmt.Fprintf(w, "  backoff-latency\t%s%s\n", limit, now)
	}
	if c := h.Capture; c != nil {
		bandwidth("capture-max-bandwidth", c.MaxBandwidth, c.Bandwidth)
	}
}
