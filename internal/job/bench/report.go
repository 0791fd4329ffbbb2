package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// table is a part of the report that is no ratio.
type table struct {
	title string
	head  []string
	rows  [][]string
	notes []string
}

// table begins one that will be in the report.
func (b *bench) table(title string, head ...string) *table {
	t := &table{title: title, head: head}
	b.tables = append(b.tables, t)
	return t
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

const preface = `# Benchmarks

Written by ` + "`make bench`" + ` (internal/job/bench); do not edit. The tool runs the real binary on servers of its own and compares it with
the raw work that nothing can do without. Both sides of a row take turns, A B A B, in one run; a ratio is the median of the pairs' ratios, with
the least and the most of them. Ratios travel between machines, absolute figures do not. Servers and tairlift share the cores. Each side's work is
checked: keys and replies counted, the spool checked, and the target compared with the sources, key by key, behind each kind of apply.
`

// report writes the report: to the file if the run was a whole one, else to w
// alone.
func (b *bench) report(w io.Writer, path string, whole bool) error {
	text := b.text()
	if path == "-" || !whole {
		_, err := io.WriteString(w, text)
		if err == nil && path != "-" {
			b.say("%s is written by a run of all sections only", path)
		}
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	b.say("%s", text)
	return os.WriteFile(path, []byte(text), 0o644)
}

func (b *bench) text() string {
	var s strings.Builder
	s.WriteString(preface)
	s.WriteString("\n| | |\n| --- | --- |\n")
	for _, m := range b.machine() {
		line(&s, m[0], m[1])
	}
	if len(b.rows) > 0 {
		s.WriteString("\n## Against raw work\n\n")
		line(&s, "work", "against", "goal", "ratio", "spread", "median", "raw", "n", "")
		line(&s, strings.Split(strings.Repeat("---,", 9), ",")[:9]...)
		for _, r := range b.rows {
			line(&s, r.what, r.against, r.text, fmt.Sprintf("**%.2f**", median(r.ratios())), spread(r.ratios()),
				r.figure(r.ours), r.figure(r.theirs), fmt.Sprint(len(r.ours)), r.verdict())
		}
		for _, r := range b.rows {
			for _, n := range r.notes {
				name, _, _ := strings.Cut(r.what, ":")
				fmt.Fprintf(&s, "\n- %s. %s", name, n)
			}
		}
		s.WriteString("\n")
	}
	for _, t := range b.tables {
		fmt.Fprintf(&s, "\n## %s\n\n", t.title)
		line(&s, t.head...)
		line(&s, strings.Split(strings.Repeat("---,", len(t.head)), ",")[:len(t.head)]...)
		for _, cells := range t.rows {
			line(&s, cells...)
		}
		for _, n := range t.notes {
			fmt.Fprintf(&s, "\n%s\n", n)
		}
	}
	return s.String()
}

// figure is the median of a side's rates.
func (r *row) figure(rates []float64) string {
	scale := r.scale
	if scale == 0 {
		return fmt.Sprintf("%.0f %s", median(rates), r.unit)
	}
	return fmt.Sprintf("%.0f %s", median(rates)/scale, r.unit)
}

func line(s *strings.Builder, cells ...string) {
	s.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}
