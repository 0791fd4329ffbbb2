package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/term"

	"tairlift/internal/repl"
	"tairlift/spool"
)

// StatusOptions say what status shows. Dir is required.
type StatusOptions struct {
	Dir    string
	State  string // where apply keeps its files; empty: in Dir
	Only   Only
	Target string // empty: the only one, or the one that ran last
	JSON   bool   // one object per line
	Watch  bool   // again each second, until ctx ends
	Out    io.Writer
}

// RunStatus shows what the status files and the spool tell. It opens no
// database and no connection, so it works while the job runs, after it ended,
// and on a copy of DIR.
func RunStatus(ctx context.Context, o StatusOptions) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		s, err := readView(o.Dir, o.State, o.Target, o.Only)
		if err != nil {
			return err
		}
		if err := showStatus(o, s); err != nil || !o.Watch {
			return err
		}
		select {
		case <-ctx.Done():
			return nil // that is how a watch ends
		case <-tick.C:
		}
	}
}

func showStatus(o StatusOptions, s Status) error {
	if o.JSON {
		return json.NewEncoder(o.Out).Encode(s)
	}
	if f, ok := o.Out.(*os.File); ok && o.Watch && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(o.Out, "\x1b[H\x1b[2J") // home, and clear
	}
	return s.Text(o.Out)
}

// readView puts a status together from what lies in DIR.
func readView(dir, state, target string, only Only) (Status, error) {
	f, err := openJob(dir, state)
	if err != nil {
		return Status{}, err
	}
	if len(f.rec.Groups) == 0 {
		return Status{}, noSpool(f)
	}
	v := &view{job: f.rec.Job, now: time.Now()}
	if v.groups, err = only.pick(f.rec.Groups); err != nil {
		return Status{}, err
	}
	if v.targets, err = f.targets(); err != nil {
		return Status{}, err
	}
	if v.capture, err = f.readCapture(); err != nil {
		v.notes = append(v.notes, explain(err).What)
	}
	if err := v.chooseApply(f, target); err != nil {
		return Status{}, err
	}
	if v.target != "" {
		if v.tomb, err = f.tombstone(v.target); err != nil {
			v.notes = append(v.notes, explain(err).What)
		}
	}
	if v.spooled, err = f.spooled(v.capture); err != nil {
		return Status{}, err
	}
	return v.status(), nil
}

// chooseApply finds the target to tell of.
func (v *view) chooseApply(f *folder, target string) error {
	files, err := f.applyFiles()
	if err != nil {
		v.notes = append(v.notes, explain(err).What)
	}
	for _, a := range files { // a copied DIR has no apply folder, but may have this
		if !slices.Contains(v.targets, a.Target) {
			v.targets = append(v.targets, a.Target)
		}
	}
	slices.Sort(v.targets)
	if target != "" {
		if !slices.Contains(v.targets, target) {
			return usage("known are: "+strings.Join(v.targets, ", "), "%s was never used with target %s", f.dir, target)
		}
		v.target = target
	}
	for _, a := range files {
		if target == "" && (v.apply == nil || a.Updated.After(v.apply.Updated)) || a.Target == target {
			v.apply, v.target = a, a.Target
		}
	}
	if v.target == "" && len(v.targets) > 0 {
		v.target = v.targets[0]
	}
	return nil
}

// spooled asks the spool itself about groups of which capture has published
// nothing.
func (f *folder) spooled(c *CaptureFile) (map[repl.GroupID]spool.Durable, error) {
	out := map[repl.GroupID]spool.Durable{}
	for _, g := range f.rec.Groups {
		if c != nil && find(c.Groups, func(p CaptureGroup) bool { return p.ID == g.ID }) != nil {
			continue
		}
		sg, err := spool.OpenGroup(f.spoolDir(), f.rec.Job, g.ID)
		var epochs []spool.EpochInfo
		if err == nil {
			epochs, err = sg.Epochs()
		}
		var bad *spool.CorruptError
		if errors.Is(err, spool.ErrNoSpool) || errors.As(err, &bad) || err == nil && len(epochs) == 0 {
			continue // nothing, a copy under way, or for `spool check` to say
		}
		if err != nil {
			return nil, explain(err)
		}
		e := epochs[len(epochs)-1]
		out[g.ID] = spool.Durable{
			Epoch: e.Epoch, ReplID: e.ReplID, Seq: e.LastSeq, RDBBytes: e.RDBBytes, RDBDone: e.RDBDone,
			Offset: e.EndOffset, Sealed: e.Sealed,
		}
	}
	return out, nil
}

func noSpool(f *folder) *Error {
	what := fmt.Sprintf("nothing was ever captured in %s", f.dir)
	if !f.exist {
		what = fmt.Sprintf("there is no job in %s", f.dir)
	}
	if v, err := f.vouched(); err == nil && len(v) > 0 {
		return &Error{
			Code: Corrupt, What: fmt.Sprintf("the spool of %s is gone: %s captured there", f.dir, wereGroups(len(v))),
			Hint: "copy the folder again, whole, from where it was captured",
		}
	}
	return &Error{Code: NoSpool, What: what, Hint: noSpoolHint}
}

func wereGroups(n int) string {
	if n == 1 {
		return "1 group was"
	}
	return fmt.Sprintf("%d groups were", n)
}

// Text writes a status for people.
func (s *Status) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "job %s", s.Job)
	if s.Target != nil {
		fmt.Fprintf(&b, ", target %s", *s.Target)
	}
	switch {
	case s.CaughtUp:
		b.WriteString(", caught up\n")
	default:
		b.WriteString(", not caught up\n")
	}
	b.WriteString(selectionText(s.Selection))
	for _, p := range []struct {
		name string
		side *Side
	}{{"capture", s.Capture}, {"apply", s.Apply}} {
		if p.side != nil {
			fmt.Fprintf(&b, "%s: %s\n", p.name, p.side.text())
		}
	}
	if s.Finish != nil {
		fmt.Fprintf(&b, "finish: %s\n", s.Finish.text())
	}
	if sp := s.Spool; sp != nil {
		fmt.Fprintf(&b, "spool: %s", humanize.IBytes(uint64(sp.Bytes)))
		if sp.Max > 0 {
			fmt.Fprintf(&b, " of at most %s", humanize.IBytes(uint64(sp.Max)))
		}
		if sp.KeyBytes > 0 {
			fmt.Fprintf(&b, ", and %s of keys", humanize.IBytes(uint64(sp.KeyBytes)))
		}
		b.WriteByte('\n')
	}
	var rates []string
	if s.Apply != nil && s.Apply.Running && s.Rate.Apply != nil {
		rates = append(rates, s.Rate.Apply.text())
	}
	if s.Capture != nil && s.Capture.Running && s.Rate.Capture != nil {
		rates = append(rates, s.Rate.Capture.text())
	}
	if len(rates) > 0 {
		fmt.Fprintf(&b, "rate: %s\n", strings.Join(rates, "; "))
	}
	b.WriteByte('\n')
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "group\tstate\tepoch\trdb\tsource\tcaptured\tapplied\tlag\tcommands\tttl\treason")
	for i := range s.Groups {
		g := &s.Groups[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", g.ID, g.State, known(g.Epoch), g.RDB.text(),
			known(g.Source), known(g.Captured), known(g.Applied), g.lagText(), known(g.Commands), g.ttlText(), g.Reason)
	}
	t.Flush()
	for i := range s.Groups {
		g := &s.Groups[i]
		if w := g.RDB.Writing; w != nil {
			fmt.Fprintf(&b, "\ngroup %s: writes %s %q of database %d, %s of the RDB so far\n", g.ID, w.Kind, w.Key, w.DB, humanize.IBytes(uint64(max(w.Bytes, 0))))
		}
		if g.What != "" {
			fmt.Fprintf(&b, "\n%s%s\n", oneLine(about(g.ID, g.What)), g.sinceText())
		}
		if g.Hint != "" {
			if g.What == "" {
				fmt.Fprintf(&b, "\ngroup %s: %s\n", g.ID, g.Reason)
			}
			fmt.Fprintf(&b, "hint: %s\n", oneLine(g.Hint))
		}
	}
	if len(s.Taints) > 0 {
		fmt.Fprintf(&b, "\ntaints: %s\n", strings.Join(s.Taints, "; "))
	}
	s.skewText(&b)
	s.doubtsText(&b)
	for _, n := range s.Notes {
		fmt.Fprintf(&b, "\nnote: %s\nhint: %s\n", oneLine(n), badStatusHint)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (p *Side) text() string {
	who := fmt.Sprintf("`tairlift %s`, pid %d%s", p.Verb, p.PID, onHost(p.Host))
	switch {
	case p.Running:
		return "running (" + who + ", since " + p.Started.Local().Format(time.DateTime) + ")"
	case p.Ended == nil:
		return "gone without having ended (" + who + ", last seen " + p.Updated.Local().Format(time.DateTime) + ")"
	}
	return fmt.Sprintf("%s (%s, exit %d, at %s)", p.How, who, *p.Exit, p.Ended.Local().Format(time.DateTime))
}

func (r *RDBStatus) text() string {
	total := "?"
	if r.Total != nil {
		total = humanize.IBytes(uint64(max(*r.Total, 0)))
	}
	return humanize.IBytes(uint64(max(r.Done, 0))) + "/" + total
}

func (g *GroupStatus) lagText() string {
	if g.LagBytes == nil {
		return "?"
	}
	text := humanize.IBytes(uint64(*g.LagBytes))
	if g.LagSecs != nil {
		text += " " + strconv.FormatFloat(*g.LagSecs, 'f', 1, 64) + "s"
	}
	return text
}

// ttlText is how deadlines stand, and while they are set exact, how far that is.
func (g *GroupStatus) ttlText() string {
	text := known(g.TTL)
	if p := g.TTLPass; p != nil && text == ttlHeld && p.Total > 0 {
		text += fmt.Sprintf(" (%d%% looked at)", min(100*p.Seen/p.Total, 99))
	}
	return text
}

// sinceText is since when a group has its reason.
func (g *GroupStatus) sinceText() string {
	if g.Reason == "" || g.Since == nil {
		return ""
	}
	return fmt.Sprintf(" (%s since %s)", g.Reason, g.Since.Local().Format(time.DateTime))
}

func known[T any](v *T) string {
	if v == nil {
		return "?"
	}
	return fmt.Sprint(*v)
}

// about makes sure that what names its group, once.
func about(g repl.GroupID, what string) string {
	if prefix := "group " + g.String() + ": "; !strings.HasPrefix(what, prefix) {
		return prefix + what
	}
	return what
}
