package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"tairlift/internal/repl"
	"tairlift/spool"
)

// SpoolOptions say what to show or check. Dir is required.
type SpoolOptions struct {
	Dir  string
	Only Only
	JSON bool
	Out  io.Writer

	Epoch int  // dump: 0 is all
	Seq   int  // dump: 0 is all
	Data  bool // dump: payloads too

	// What dump shows in place of frames.
	Keys     bool // of the RDB
	Values   bool // of the RDB, with their keys
	Commands bool // of the stream
}

// openSpool opens DIR and picks the groups that have a spool.
func openSpool(o SpoolOptions) (*folder, []repl.GroupID, error) {
	f, err := openFolder(o.Dir)
	if err != nil {
		return nil, nil, err
	}
	ids, err := spool.Groups(f.spoolDir())
	if errors.Is(err, spool.ErrNoSpool) || err == nil && len(ids) == 0 {
		return nil, nil, noSpool(f)
	}
	if err != nil {
		return nil, nil, explain(err)
	}
	groups := make([]Group, len(ids))
	for i, id := range ids {
		groups[i].ID = id
	}
	picked, err := o.Only.pick(groups)
	return f, idsOf(picked), err
}

// SpoolList shows groups, epochs and segments.
func SpoolList(_ context.Context, o SpoolOptions) error {
	f, ids, err := openSpool(o)
	if err != nil {
		return err
	}
	list, err := spool.List(f.spoolDir())
	if err != nil {
		return explain(err)
	}
	list = slices.DeleteFunc(list, func(g spool.GroupInfo) bool { return !slices.Contains(ids, g.Group) })
	if o.JSON {
		return explainNil(json.NewEncoder(o.Out).Encode(struct {
			Job    string            `json:"job"`
			Groups []spool.GroupInfo `json:"groups"`
		}{f.rec.Job.String(), list}))
	}
	return explainNil(listText(o.Out, list))
}

func explainNil(err error) error {
	if err == nil {
		return nil
	}
	return explain(err)
}

func listText(w io.Writer, list []spool.GroupInfo) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "group\tepoch\tsegment\tholds\tfrom\tto\tsize\traw\tsealed\tcreated")
	for _, g := range list {
		for _, e := range g.Epochs {
			for _, s := range e.Segments {
				holds, sealed := "rdb", "no"
				if s.Stream {
					holds = "stream"
				}
				if s.Sealed {
					sealed = "yes"
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", g.Group, e.Epoch, s.Seq, holds, s.From, s.To,
					humanize.IBytes(uint64(s.Bytes)), humanize.IBytes(uint64(max(s.RawBytes, 0))), sealed, s.Created.Local().Format(time.DateTime))
			}
		}
	}
	t.Flush()
	for _, g := range list {
		for _, e := range g.Epochs {
			if e.Pruned > 0 {
				fmt.Fprintf(&b, "group %s, epoch %s: %d %s pruned\n", g.Group, e.Epoch, e.Pruned, plural(e.Pruned, "segment"))
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// SpoolCheck reads every byte of the spool, and compares it with what capture
// has published as durable.
func SpoolCheck(_ context.Context, o SpoolOptions) error {
	f, ids, err := openSpool(o)
	if err != nil {
		return err
	}
	vouched, err := f.vouched() // before the files are read: they may grow
	if err != nil {
		return explain(err)
	}
	report, err := spool.Check(f.spoolDir(), spool.CheckOptions{Job: f.rec.Job, Groups: f.expected(ids, o.Only), Vouched: pickVouched(vouched, o.Only)})
	if err != nil {
		return explain(err)
	}
	if o.JSON {
		err = json.NewEncoder(o.Out).Encode(report)
	} else {
		err = report.Text(o.Out)
	}
	if err != nil {
		return explain(err)
	}
	if report.OK() {
		return nil
	}
	e := &Error{
		Code: Corrupt, What: fmt.Sprintf("spool %s is not whole: %d %s", f.spoolDir(), len(report.Problems), plural(len(report.Problems), "problem")),
		Hint: "copy the named files again from where they were captured; if this is that place, capture into a fresh --dir",
	}
	if slices.ContainsFunc(report.Problems, func(p spool.Problem) bool { return strings.HasPrefix(p.Text, "format version ") }) {
		e.Hint = "use the tairlift that wrote the named files, or a newer one"
	}
	if len(report.Problems) > 0 {
		p := report.Problems[0]
		e.What += fmt.Sprintf(", first %s: %s", p.Path, p.Text)
	}
	return e
}

// expected adds the groups that the job names, so that one that is missing as
// a whole is noticed when capture has vouched for it.
func (f *folder) expected(ids []repl.GroupID, only Only) []repl.GroupID {
	out := slices.Clone(ids)
	vouched, err := f.vouched()
	if err != nil {
		return out
	}
	for g := range vouched {
		if only.has(g) && !slices.Contains(out, g) {
			out = append(out, g)
		}
	}
	slices.Sort(out)
	return out
}

func pickVouched(all map[repl.GroupID]spool.Durable, only Only) map[repl.GroupID]spool.Durable {
	out := map[repl.GroupID]spool.Durable{}
	for g, d := range all {
		if only.has(g) {
			out[g] = d
		}
	}
	return out
}
