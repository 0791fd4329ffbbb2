package job

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

// Secret is a password, or user:password; it prints as "***".
type Secret = resp.Secret

// Group is one Codis-Group of a job and the server to read it from.
type Group struct {
	ID   repl.GroupID `json:"id"`
	Addr string       `json:"addr,omitempty"` // HOST:PORT; empty when not known here
}

// ParseGroups reads the values of --group: ID=HOST:PORT. One id given twice is
// a usage error.
func ParseGroups(values []string) ([]Group, error) {
	const hint = "write --group 1=10.0.0.1:6379, once per group"
	var out []Group
	for _, v := range values {
		id, addr, ok := strings.Cut(v, "=")
		if !ok {
			return nil, usage(hint, "--group %q is not ID=HOST:PORT", v)
		}
		g, err := repl.ParseGroupID(id)
		if err != nil {
			return nil, usage(hint, "--group %q: %v", v, err)
		}
		if err := checkAddr(addr); err != nil {
			return nil, usage(hint, "--group %q: %v", v, err)
		}
		if slices.ContainsFunc(out, func(o Group) bool { return o.ID == g }) {
			return nil, usage("give each group one address", "--group names group %s twice", g)
		}
		out = append(out, Group{g, addr})
	}
	sortGroups(out)
	return out, nil
}

// ParseTarget checks the value of --target.
func ParseTarget(addr string) error {
	if err := checkAddr(addr); err != nil {
		return usage("write --target 10.0.0.9:6379", "--target: %v", err)
	}
	return nil
}

func checkAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT", addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("%q has no port from 1 to 65535", addr)
	}
	if host == "" || strings.ContainsAny(host, " /@=,") {
		return fmt.Errorf("%q has no host name", addr)
	}
	return nil
}

func sortGroups(gs []Group) {
	slices.SortFunc(gs, func(a, b Group) int { return cmp.Compare(a.ID, b.ID) })
}

// Only picks groups of a job; the zero Only picks all.
type Only struct {
	text   string
	ranges [][2]repl.GroupID
}

// ParseOnly reads the value of --only, such as "1,4-9"; empty picks all.
func ParseOnly(s string) (Only, error) {
	o := Only{text: s}
	if s == "" {
		return o, nil
	}
	const hint = "write group numbers and ranges: --only 1,4-9"
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			to = from
		}
		a, err := repl.ParseGroupID(from)
		if err != nil {
			return Only{}, usage(hint, "--only %q: %v", s, err)
		}
		b, err := repl.ParseGroupID(to)
		if err != nil {
			return Only{}, usage(hint, "--only %q: %v", s, err)
		}
		if b < a {
			return Only{}, usage(hint, "--only %q: the range %s ends before it begins", s, part)
		}
		o.ranges = append(o.ranges, [2]repl.GroupID{a, b})
	}
	return o, nil
}

// has tells whether g is picked.
func (o Only) has(g repl.GroupID) bool {
	return len(o.ranges) == 0 || slices.ContainsFunc(o.ranges, func(r [2]repl.GroupID) bool { return r[0] <= g && g <= r[1] })
}

// pick returns the picked groups. A part that picks nothing is an error: a
// group that was meant must not be missed in silence.
func (o Only) pick(groups []Group) ([]Group, error) {
	for _, r := range o.ranges {
		if !slices.ContainsFunc(groups, func(g Group) bool { return r[0] <= g.ID && g.ID <= r[1] }) {
			return nil, usage("this job's groups are "+idList(groups), "--only %s: the job has no such group", o.text)
		}
	}
	return slices.DeleteFunc(slices.Clone(groups), func(g Group) bool { return !o.has(g.ID) }), nil
}

func idList(groups []Group) string {
	if len(groups) == 0 {
		return "none"
	}
	ids := make([]string, len(groups))
	for i, g := range groups {
		ids[i] = g.ID.String()
	}
	return strings.Join(ids, ", ")
}

func idsOf(groups []Group) []repl.GroupID {
	ids := make([]repl.GroupID, len(groups))
	for i, g := range groups {
		ids[i] = g.ID
	}
	return ids
}
