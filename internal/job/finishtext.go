package job

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// finishResult is what a finish has done.
type finishResult struct {
	*tombstone
	Already  bool          // it was finished before
	Reopened bool          // it was taken back
	Refused  []Obstruction // nothing was done
}

func (f *finish) show(r finishResult) error {
	write := r.text
	if f.o.JSON {
		write = r.json
	}
	return explainNil(write(f.o.Out, f))
}

func (r finishResult) state() string {
	switch {
	case r.Refused != nil:
		return "refused"
	case r.Reopened:
		return "reopened"
	}
	return r.State
}

func (r finishResult) json(w io.Writer, f *finish) error {
	out := struct {
		Job     string          `json:"job"`
		Target  string          `json:"target"`
		State   string          `json:"state"` // finished | reopened | refused
		At      *time.Time      `json:"finished_at"`
		Already bool            `json:"already"` // it was finished before this call
		Groups  []finishedGroup `json:"groups"`
		Forced  []Obstruction   `json:"forced"`
		Refused []Obstruction   `json:"refused"`
	}{Job: f.f.rec.Job.String(), Target: f.target, State: r.state(), Already: r.Already, Refused: r.Refused, Groups: []finishedGroup{}, Forced: []Obstruction{}}
	if out.Refused == nil {
		out.Refused = []Obstruction{}
	}
	if t := r.tombstone; t != nil {
		out.At, out.Groups, out.Forced = t.At, t.Groups, t.Forced
	}
	return json.NewEncoder(w).Encode(out)
}

func (r finishResult) text(w io.Writer, f *finish) error {
	var b strings.Builder
	t := r.tombstone
	switch {
	case r.Reopened:
		fmt.Fprintf(&b, "reopened: job %s on target %s; the finish of %s is taken back\n", t.Job, t.Target, t.when())
		b.WriteString("sync and apply go on from the marks below\n")
		b.WriteString("what was written directly to the target since is not protected: the sources' stream goes on over it\n")
	case r.Already:
		fmt.Fprintf(&b, "finished already: job %s on target %s, at %s; nothing of it is there\n", t.Job, t.Target, t.when())
	default:
		fmt.Fprintf(&b, "finished: job %s on target %s\n", t.Job, t.Target)
		for _, o := range t.Forced {
			fmt.Fprintf(&b, "forced: %s\n", oneLine(o.What))
		}
		fmt.Fprintf(&b, "removed from the target: %d %s, the job's place in tairlift:jobs", len(t.Groups), plural(len(t.Groups), "mark"))
		if n := len(t.Others); n > 0 {
			fmt.Fprintf(&b, ", %d other %s of the job's", n, plural(n, "key"))
		}
		b.WriteString("\nthe configuration of sources and target was never changed, so there is nothing to restore\n")
		b.WriteString("sync, capture and apply refuse to go on; --reopen takes this back\n")
	}
	for _, g := range t.Groups {
		fmt.Fprintf(&b, "group %s: %s\n", g.ID, place(g.Epoch, g.Phase, g.Offset))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// buried is what status tells of a tombstone.
type buried struct {
	State  string        `json:"state"` // finishing | finished
	Began  time.Time     `json:"began"`
	At     *time.Time    `json:"finished_at"`
	Forced []Obstruction `json:"forced"`
}

func (t *tombstone) told() *buried {
	return &buried{State: t.State, Began: t.Began, At: t.At, Forced: t.Forced}
}

// text is a line for people.
func (b *buried) text() string {
	if b.At == nil {
		return "begun at " + b.Began.Local().Format(time.DateTime) + " and not through: start `tairlift finish` again"
	}
	text := "at " + b.At.Local().Format(time.DateTime)
	if n := len(b.Forced); n > 0 {
		text += fmt.Sprintf(", by force: %d %s failed", n, plural(n, "check"))
	}
	return text
}
