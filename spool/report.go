package spool

import (
	"bufio"
	"fmt"
	"io"

	"tairlift/internal/repl"
)

// CheckOptions tune Check. The zero value checks everything that is there.
type CheckOptions struct {
	Job     JobID                    // zero accepts any, but only one
	Groups  []repl.GroupID           // nil = all that have a folder
	Vouched map[repl.GroupID]Durable // what each group's writer has published as durable
}

// Problem is one thing found, and where. Path is relative to the spool
// folder; Offset is -1 when it is the file as a whole.
type Problem struct {
	Path   string `json:"path"`
	Offset int64  `json:"offset"`
	Text   string `json:"text"`
}

// String is one line.
func (p Problem) String() string {
	if p.Offset < 0 {
		return fmt.Sprintf("%s: %s", p.Path, p.Text)
	}
	return fmt.Sprintf("%s at %d: %s", p.Path, p.Offset, p.Text)
}

// Verdicts of a Report.
const (
	VerdictOK      = "ok"
	VerdictCorrupt = "corrupt"
)

// Report is the outcome of Check.
type Report struct {
	Verdict  string    `json:"verdict"`
	Groups   int       `json:"groups"`
	Epochs   int       `json:"epochs"`
	Segments int64     `json:"segments"`
	Pruned   int64     `json:"pruned"`    // segments that were pruned, whose key files were read
	Frames   int64     `json:"frames"`    // that are whole
	Bytes    int64     `json:"bytes"`     // read
	RawBytes int64     `json:"raw_bytes"` // of RDB and stream, decompressed
	Problems []Problem `json:"problems"`
	Notes    []Problem `json:"notes"` // torn tails and the like: no damage
}

// OK tells whether nothing is damaged or missing.
func (r Report) OK() bool { return len(r.Problems) == 0 }

// Text writes one line for each problem and note, and last the verdict with
// its denominator.
func (r Report) Text(w io.Writer) error {
	b := bufio.NewWriter(w)
	for _, p := range r.Problems {
		fmt.Fprintf(b, "problem: %s\n", p)
	}
	for _, p := range r.Notes {
		fmt.Fprintf(b, "note: %s\n", p)
	}
	fmt.Fprintf(b, "%s: ", r.Verdict)
	if n := len(r.Problems); n > 0 {
		fmt.Fprintf(b, "%s in ", count(int64(n), "problem"))
	}
	fmt.Fprintf(b, "%s, %s, %s, %s, %s", count(int64(r.Groups), "group"), count(int64(r.Epochs), "epoch"),
		count(r.Segments, "segment"), count(r.Frames, "frame"), count(r.Bytes, "byte"))
	if r.Pruned > 0 {
		fmt.Fprintf(b, "; %s pruned", count(r.Pruned, "segment"))
	}
	fmt.Fprintln(b)
	return b.Flush()
}

func count(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
