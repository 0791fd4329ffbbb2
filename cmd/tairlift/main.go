// Command tairlift moves a whole Codis cluster into one Redis-compatible
// target, through a spool on disk, and proves at the end that nothing is
// missing.
//
// Each verb is one file: its flags become the Options of one call of
// internal/job. What scripts may rely on (flags, states, JSON, exit codes) is
// pinned by testdata/script.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"tairlift/internal/job"
)

// version is set by the build: -ldflags "-X main.version=...".
var version = "unknown"

func main() {
	os.Exit(run(os.Args, os.Stdout, os.Stderr))
}

// run is the one place that turns an end into an exit code.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := interruptible(context.Background())
	defer stop()
	if len(args) > 1 && args[1] == "help" { // `help sync` is `sync --help`
		args = slices.Concat(args[:1], args[2:], []string{"--help"})
	}
	err := newApp(stdout, stderr).RunContext(ctx, args)
	var e *job.Error
	switch {
	case err == nil:
	case errors.As(err, &e):
		e.Print(stderr)
	default:
		// What is not ours comes from the command line's parser.
		e = usageError("`tairlift --help` shows the verbs", err.Error())
		e.Print(stderr)
		err = e
	}
	return int(job.CodeOf(err))
}

// interruptible ends its context at the first SIGINT or SIGTERM, which is a
// clean stop, and the process at the second.
func interruptible(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for range 2 {
			select {
			case <-done:
				return
			case <-signals:
			}
			if ctx.Err() != nil {
				os.Exit(int(job.Interrupted))
			}
			cancel()
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel()
	}
}

func newApp(stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:                  "tairlift",
		Usage:                 "moves a Codis cluster into one Redis-compatible target, and proves it",
		UsageText:             "tairlift VERB --dir DIR [flags]",
		CustomAppHelpTemplate: appHelp,
		Commands:              []*cli.Command{syncVerb(), captureVerb(), applyVerb(), verifyVerb(), statusVerb(), ctlVerb(), finishVerb(), spoolVerb(), rdbVerb()},
		Writer:                stdout,
		ErrWriter:             stderr,
		Version:               version,
		HideHelpCommand:       true,
		Suggest:               true,
		ExitErrHandler:        func(*cli.Context, error) {}, // run is where errors are shown
		OnUsageError:          onUsageError,
		Action:                noVerb,
	}
}

// noVerb is called when the first argument names no verb of c.
func noVerb(c *cli.Context) error {
	verbs := c.App.Commands
	if c.Command != nil && len(c.Command.Subcommands) > 0 {
		verbs = c.Command.Subcommands
	}
	path := strings.TrimSpace(c.Command.HelpName)
	if path == "" {
		path = c.App.Name
	}
	hint := fmt.Sprintf("`%s --help` shows the verbs", path)
	if !c.Args().Present() {
		return usageError(hint, "no verb is given")
	}
	name := c.Args().First()
	var names []string
	for _, v := range verbs {
		names = append(names, v.Name)
	}
	if near := nearest(name, names); near != "" {
		hint = fmt.Sprintf("did you mean %s? %s", near, hint)
	}
	return usageError(hint, fmt.Sprintf("there is no verb %q", name))
}

// onUsageError says what the flag parser did not understand.
func onUsageError(c *cli.Context, err error, _ bool) error {
	what := strings.Replace(err.Error(), "for flag -", "for flag --", 1)
	what = strings.Replace(what, ": parse error", ": write it with its unit, such as 30s", 1)
	path := c.App.Name
	var flags []string
	if c.Command != nil && c.Command.HelpName != "" {
		path = c.Command.HelpName
		for _, f := range c.Command.VisibleFlags() {
			flags = append(flags, f.Names()...)
		}
	}
	hint := fmt.Sprintf("`%s --help` shows the flags", path)
	if name, ok := strings.CutPrefix(what, "flag provided but not defined: -"); ok {
		name = strings.TrimPrefix(name, "-")
		what = fmt.Sprintf("there is no flag --%s", name)
		if near := nearest(name, flags); near != "" {
			hint = fmt.Sprintf("did you mean --%s? %s", near, hint)
		}
	}
	return usageError(hint, what)
}

func usageError(hint, what string) *job.Error {
	return &job.Error{Code: job.Usage, What: what, Hint: hint}
}

// nearest is the name that is at most two typing errors away, or empty. The
// library's own suggestions name something however far it is, hidden flags too.
func nearest(typed string, names []string) string {
	best, distance := "", 3
	for _, n := range names {
		if d := edits(typed, n); d < distance && d < max(len(n), len(typed)) {
			best, distance = n, d
		}
	}
	return best
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
