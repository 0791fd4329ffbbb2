package meter

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
)

const (
	barWidth  = 20
	maxGroups = 3 // lines of groups below the bar
)

// line is the state as one line.
func line(v View, r rate) string {
	var b strings.Builder
	b.WriteString(v.Phase + " " + v.amount(v.Done, v.Total))
	if v.Total > 0 {
		fmt.Fprintf(&b, " %d%%", percent(v.Done, v.Total))
	}
	b.WriteString(", " + rest(v, r))
	for _, g := range v.Groups {
		if g.Reason != "" && (len(v.Groups) > 1 || g.Reason != v.Reason) {
			fmt.Fprintf(&b, "; group %s %s: %s", g.ID, g.State, g.Reason)
		}
	}
	return b.String()
}

// block is the state as lines of at most width columns: the total and the slowest
// groups.
func block(v View, r rate, width int) []string {
	head := v.Phase
	if v.Total > 0 {
		head += " " + bar(v.Done, v.Total)
	}
	lines := []string{cut(head+" "+v.amount(v.Done, v.Total)+", "+rest(v, r), width)}
	for _, g := range slowest(v.Groups) {
		text := fmt.Sprintf("  group %s %s %s, %s", g.ID, g.State, v.amount(g.Done, g.Total), lag(g.LagBytes, g.LagSeconds))
		if g.Reason != "" {
			text += ", waiting: " + g.Reason
		}
		lines = append(lines, cut(text, width))
	}
	return lines
}

// rest is what both forms say behind done and total.
func rest(v View, r rate) string {
	parts := []string{"?/s"}
	if r.bytes >= 0 {
		parts[0] = v.size(int64(r.bytes)) + "/s"
	}
	if v.Commands > 0 && r.commands >= 0 {
		parts = append(parts, humanize.Comma(int64(r.commands))+" commands/s")
	}
	if v.Unit == "" {
		parts = append(parts, lag(v.LagBytes, v.LagSeconds))
	}
	if r.eta < 0 {
		parts = append(parts, "eta ?")
	} else {
		parts = append(parts, "eta "+r.eta.Round(time.Second).String())
	}
	if v.Reason != "" {
		parts = append(parts, "waiting: "+v.Reason)
	}
	return strings.Join(parts, ", ")
}

// bar draws percent and bar. The bar is made for this one drawing, so that it depends
// on nothing but its numbers; its writer must be set, or it would write to stdout.
func bar(done, total int64) string {
	p := progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(io.Discard),
		progressbar.OptionSetTheme(progressbar.ThemeASCII),
		progressbar.OptionSetWidth(barWidth),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSetPredictTime(false),
	)
	// The discarding writer takes everything, so neither call has an error to give; Set64
	// draws nothing at 0.
	_ = p.RenderBlank()
	_ = p.Set64(min(max(done, 0), total))
	return strings.Trim(p.String(), "\r ")
}

func percent(done, total int64) int {
	return int(100 * float64(min(max(done, 0), total)) / float64(total))
}

func (v View) amount(done, total int64) string {
	if total <= 0 {
		return v.size(done) + "/?"
	}
	return v.size(done) + "/" + v.size(total)
}

func (v View) size(n int64) string {
	if v.Unit != "" {
		return humanize.Comma(n) + " " + v.Unit
	}
	return size(n)
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

func lag(bytes int64, seconds float64) string {
	if bytes < 0 && seconds < 0 {
		return "lag ?"
	}
	b, s := "?", "?"
	if bytes >= 0 {
		b = size(bytes)
	}
	switch {
	case seconds < 0:
	case seconds < 10:
		s = strconv.FormatFloat(seconds, 'f', 1, 64) + "s"
	default:
		s = (time.Duration(min(seconds, 1e9)) * time.Second).String()
	}
	return "lag " + b + " " + s
}

// slowest picks the groups to show: first those with a reason, then those with most
// left to do. A lone group is the total, and one that is through is no news.
func slowest(groups []GroupLine) []GroupLine {
	if len(groups) < 2 {
		return nil
	}
	picked := slices.DeleteFunc(slices.Clone(groups), func(g GroupLine) bool { return g.Reason == "" && left(g) == 0 })
	slices.SortStableFunc(picked, func(a, b GroupLine) int {
		if (a.Reason == "") != (b.Reason == "") {
			if a.Reason != "" {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(left(b), left(a)), cmp.Compare(a.ID, b.ID))
	})
	return picked[:min(len(picked), maxGroups)]
}

// left is what a group still has to do, in bytes.
func left(g GroupLine) int64 {
	if g.Total > g.Done {
		return g.Total - g.Done
	}
	return max(g.LagBytes, 0)
}

// cut shortens text to width columns, which are characters here: what is cut is our
// own text and ASCII.
func cut(text string, width int) string {
	if r := []rune(text); width > 0 && len(r) > width {
		return string(r[:width])
	}
	return text
}
