package verify

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
)

// Text writes the report for people: a table per db, a table of classes with
// examples, and on the last line the verdict with its denominator.
func (r *Report) Text(w io.Writer) error {
	var b strings.Builder
	if len(r.PerDB) > 0 {
		r.dbTable(&b)
		b.WriteByte('\n')
	}
	if r.classTable(&b) {
		b.WriteByte('\n')
	}
	for _, t := range r.Taints {
		fmt.Fprintf(&b, "taint: %s\n", t)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	if d := r.TTLDrifts; d != nil {
		fmt.Fprintf(&b, "ttl: %s deadlines agree; drift p50 %d ms, p99 %d ms, max %d ms\n", comma(d.Keys), d.P50MS, d.P99MS, d.MaxMS)
	}
	if r.TTLHeld > 0 {
		fmt.Fprintf(&b, "ttl: %s deadlines are held back on the target: those keys do not expire there until apply has caught up and sets them exact\n", comma(r.TTLHeld))
	}
	if r.Sample != nil {
		fmt.Fprintln(&b, r.Sample.Sentence)
	}
	fmt.Fprintln(&b, r.Line())
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) dbTable(b *strings.Builder) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	if r.Level == LevelCounts {
		fmt.Fprintln(t, "db\tsource keys\twith ttl\ttarget keys\twith ttl\tgap\t")
		for _, d := range r.PerDB {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%+d\t\n", d.name(), comma(d.SourceKeys), comma(d.SourceExpires),
				comma(d.TargetKeys), comma(d.TargetExpires), d.TargetKeys-d.SourceKeys)
		}
	} else {
		fmt.Fprintln(t, "db\tsource keys\ttarget keys\tcompared\tequal\tdifferent\tnot judged\t")
		for _, d := range r.PerDB {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", d.name(), comma(d.SourceKeys), comma(d.TargetKeys),
				comma(d.Compared), comma(d.Equal), comma(d.Differences()), comma(d.undecided()))
		}
	}
	t.Flush()
}

// name is the db's number, or how --db-map has it.
func (d *DBCounts) name() string {
	if d.TargetDB == nil {
		return strconv.Itoa(d.DB)
	}
	return fmt.Sprintf("%d:%d", d.DB, *d.TargetDB)
}

// classTable lists the classes that are not empty; it tells whether there are any.
func (r *Report) classTable(b *strings.Builder) bool {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	any := false
	for _, class := range classes {
		n := r.of(class)
		if n == 0 {
			continue
		}
		if !any {
			fmt.Fprintln(t, "class\tkeys\texamples")
			any = true
		}
		name, count := string(class), comma(n)
		shown := false
		for _, e := range r.Examples {
			if e.Class != class {
				continue
			}
			fmt.Fprintf(t, "%s\t%s\t%s\n", name, count, e.text())
			name, count, shown = "", "", true
		}
		if !shown {
			fmt.Fprintf(t, "%s\t%s\t\n", name, count)
		}
	}
	t.Flush()
	return any
}

func (e *Example) text() string {
	key := e.Key
	if key == "" {
		key = "base64:" + e.KeyB64
	}
	s := fmt.Sprintf("db%d %s", e.DB, key)
	var more []string
	if e.Group != 0 {
		more = append(more, "group "+e.Group.String())
	}
	if e.Detail != "" {
		more = append(more, e.Detail)
	}
	if len(more) > 0 {
		s += " (" + strings.Join(more, "; ") + ")"
	}
	return s
}

// Line is the verdict in one line, with its denominator.
func (r *Report) Line() string {
	took := (time.Duration(r.DurationMS) * time.Millisecond).Round(roundTo(r.DurationMS))
	what := fmt.Sprintf("%s of %s keys compared", comma(r.Compared), comma(r.SourceKeys))
	if r.Level == LevelCounts {
		what = fmt.Sprintf("%s keys counted on the source, %s on the target", comma(r.SourceKeys), comma(r.TargetKeys))
	}
	switch r.Verdict {
	case Identical:
		switch r.Level {
		case LevelCounts:
			return fmt.Sprintf("IDENTICAL: %s; the keys themselves were not compared (%s)", what, took)
		case LevelKeys:
			return fmt.Sprintf("IDENTICAL: %s, existence, types and presence of TTLs, 0 missing, 0 extra; values were not compared (%s)", what, took)
		}
		return fmt.Sprintf("IDENTICAL: %s, values and TTLs, 0 missing, 0 extra (%s)", what, took)
	case NoDifferenceInSample:
		return fmt.Sprintf("NO DIFFERENCE IN SAMPLE: %s, values and TTLs, 0 missing, 0 extra (%s)", what, took)
	case Different:
		line := fmt.Sprintf("DIFFERENT: %s, %s", what, r.differencesText())
		if r.undecided() > 0 {
			line += "; not judged: " + r.undecidedText()
		}
		return fmt.Sprintf("%s (%s)", line, took)
	}
	return fmt.Sprintf("INCONCLUSIVE: %s; %s (%s)", what, cmp.Or(r.Reason, "no verdict"), took)
}

func roundTo(ms int64) time.Duration {
	if ms < 10_000 {
		return 10 * time.Millisecond
	}
	return time.Second
}

func (c *Counts) differencesText() string {
	parts := []string{comma(c.Missing) + " missing", comma(c.Extra) + " extra"}
	for _, p := range []struct {
		n    int64
		what string
	}{{c.Value, "value"}, {c.Type, "type"}, {c.TTL, "ttl"}} {
		if p.n > 0 {
			parts = append(parts, comma(p.n)+" "+p.what)
		}
	}
	return strings.Join(parts, ", ")
}

func (c *Counts) undecidedText() string {
	var parts []string
	for _, p := range []struct {
		n    int64
		what string
	}{
		{c.Hot, "hot (still changing)"},
		{c.Unverifiable, "unverifiable"},
		{c.Expiring, "about to expire"},
		{c.Duplicate, "in several groups with different values"},
		{c.Unjudged, "unsettled"},
	} {
		if p.n > 0 {
			parts = append(parts, comma(p.n)+" "+p.what)
		}
	}
	return strings.Join(parts, ", ")
}

func comma(n int64) string { return humanize.Comma(n) }
