package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"

	"tairlift/apply"
	"tairlift/capture"
	"tairlift/checkpoint"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// Code is an exit code of the process.
type Code int

// The exit codes.
const (
	OK           Code = 0
	Failed       Code = 1
	Usage        Code = 2
	Inconclusive Code = 3
	NeverReached Code = 4
	Refused      Code = 5
	Stopped      Code = 6
	NoSpool      Code = 10
	InUse        Code = 11
	Corrupt      Code = 12
	Interrupted  Code = 130
)

// exits is the one table of exit codes, in their order.
var exits = []struct {
	code Code
	text string
}{
	{OK, "done"},
	{Failed, "error; verify: different"},
	{Usage, "usage"},
	{Inconclusive, "verify: inconclusive, or no key was compared"},
	{NeverReached, "an endpoint was never reached under this DIR (later outages are waited for)"},
	{Refused, "refused as unsafe: foreign keys on the target, wrong DIR"},
	{Stopped, "a group is stopped and needs a person"},
	{NoSpool, "no spool: nothing was ever captured here"},
	{InUse, "DIR or the target is in use by another process"},
	{Corrupt, "the spool is corrupt, or a part of it is missing"},
	{Interrupted, "interrupted; the same command goes on"},
}

// ExitStatus is the table of exit codes for a help text.
func ExitStatus() string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, e := range exits {
		fmt.Fprintf(t, "%3d\t%s\n", e.code, e.text)
	}
	t.Flush()
	return b.String()
}

// Error is how a verb ends when it is not done: an exit code, one line of what
// and one of what to do.
type Error struct {
	Code Code
	What string
	Hint string // may be empty
	Err  error  // the cause; may be nil

	// More are further errors of the same end, such as other groups that
	// stopped.
	More []*Error

	Resume string // the command that goes on; may be empty
}

func (e *Error) Error() string { return e.What }
func (e *Error) Unwrap() error { return e.Err }

// Print writes what a person should see.
func (e *Error) Print(w io.Writer) {
	fmt.Fprintf(w, "tairlift: %s\n", oneLine(e.What))
	if e.Hint != "" {
		fmt.Fprintf(w, "hint: %s\n", oneLine(e.Hint))
	}
	for _, m := range e.More {
		m.Print(w)
	}
	if e.Resume != "" {
		fmt.Fprintf(w, "resume: %s\n", e.Resume)
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// CodeOf is the exit code for err.
func CodeOf(err error) Code {
	if err == nil {
		return OK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Failed
}

func usage(hint, format string, args ...any) *Error {
	return &Error{Code: Usage, What: fmt.Sprintf(format, args...), Hint: hint}
}

func refused(hint, format string, args ...any) *Error {
	return &Error{Code: Refused, What: fmt.Sprintf(format, args...), Hint: hint}
}

func interrupted(err error) *Error {
	return &Error{Code: Interrupted, What: "interrupted", Err: err}
}

const (
	sourceSecretHint = "set TAIRLIFT_SOURCE_PASSWORD or --source-password-file to the source's password, as password or user:password"
	targetSecretHint = "set TAIRLIFT_TARGET_PASSWORD or --target-password-file to the target's password, as password or user:password"
	spoolCheckHint   = "`tairlift spool check` lists what is wrong; copy the named files again from where they were captured"
)

// explain gives an error of any part its exit code and its two lines.
func explain(err error) *Error {
	if err == nil {
		return nil
	}
	var (
		known     *Error
		stopC     *capture.StopError
		stopA     *apply.StopError
		refusedBy *apply.RefusedError
	)
	e := &Error{Code: Failed, What: err.Error(), Err: err}
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, context.Canceled):
		return interrupted(err)
	case errors.As(err, &refusedBy):
		e.Code, e.What, e.Hint = Refused, refusedBy.What, refusedBy.Hint
	case errors.Is(err, apply.ErrTaken):
		e.Code, e.What, e.Hint = InUse, apply.ErrTaken.Error(), "let that one do the work, or stop it and start the same command again"
	case errors.Is(err, apply.ErrNeverReached):
		e.Code, e.What, e.Hint = NeverReached, neverReachedText(err), "is the target up, is its address right, and may this machine connect to it?"
		var auth *resp.AuthError
		if errors.As(err, &auth) || resp.IsNoAuth(err) {
			e.Hint = targetSecretHint
		}
	case errors.As(err, &stopC):
		e.Code, e.What, e.Hint = Stopped, stopC.Error(), stopC.Hint
		switch {
		case stopC.NeverReached:
			e.Code = NeverReached
		case stopC.Reason == capture.ReasonCorrupt:
			e.Code = Corrupt
		default:
			e.spoolCode()
		}
	case errors.As(err, &stopA):
		e.Code, e.What, e.Hint = Stopped, stopA.What, stopA.Hint
		e.spoolCode()
	default:
		e.spoolCode()
		e.fileHint()
	}
	return e
}

// neverReachedText is what lies behind ErrNeverReached, which says it first.
func neverReachedText(err error) string {
	var dial *resp.DialError
	var auth *resp.AuthError
	switch {
	case errors.As(err, &dial):
		return fmt.Sprintf("target %s was never reached: %v", dial.Addr, dial.Err)
	case errors.As(err, &auth):
		return fmt.Sprintf("target %s refused the password: %s", auth.Addr, auth.Reply)
	}
	return err.Error()
}

// spoolCode sets code and hint when the spool is the cause.
func (e *Error) spoolCode() {
	var (
		corrupt  *spool.CorruptError
		missing  *spool.MissingError
		version  *spool.VersionError
		identity *spool.IdentityError
	)
	set := func(code Code, hint string) {
		e.Code = code
		if e.Hint == "" || code == Refused {
			e.Hint = hint
		}
	}
	switch err := e.Err; {
	case errors.As(err, &identity):
		set(Refused, "this DIR holds a spool of another job: give each job a folder of its own")
	case errors.As(err, &version):
		set(Corrupt, "use the tairlift that wrote this spool, or a newer one")
	case errors.As(err, &corrupt), errors.As(err, &missing), errors.Is(err, spool.ErrRDBIncomplete):
		set(Corrupt, spoolCheckHint)
	case errors.Is(err, spool.ErrNoSpool):
		set(NoSpool, noSpoolHint)
	}
}

const noSpoolHint = "run `tairlift capture` or `tairlift sync` with this --dir first, or copy a captured folder here"

// fileHint says what to do about a file or folder.
func (e *Error) fileHint() {
	if e.Hint != "" {
		return
	}
	var (
		damaged *checkpoint.DamagedError
		format  *checkpoint.FormatError
	)
	switch err := e.Err; {
	case errors.As(err, &damaged):
		e.Code, e.What, e.Hint = Refused, damaged.Error(), movedAway(damaged.Path)
	case errors.As(err, &format):
		e.Code, e.What = Refused, format.Error()
		e.Hint = "use the tairlift that wrote it, or a newer one; if the file is not this folder's: " + movedAway(format.Path)
	case errors.Is(err, checkpoint.ErrInUse):
		e.Code, e.Hint = InUse, "one process at a time owns this part of DIR"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Hint = "free some space and start the same command again"
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "give this user the right to read and write DIR"
	default:
		e.Hint = "start the same command again: it goes on where it stopped; if this stays, report it with the log"
	}
}

// movedAway says what it costs to go on without a store.
func movedAway(path string) string {
	if filepath.Base(path) == "capture.db" {
		return "move the file away and start the same command: capture goes on from the segments and what status/capture.json vouches for; nothing is lost"
	}
	return "move the file away and start the same command: apply goes on from the marks on the target; which commands were rejected and which keys were doubtful is forgotten, so run `tairlift verify --level full` afterwards"
}

// join makes one end of several; the first code in this order decides.
func join(errs []*Error) *Error {
	var worst *Error
	rank := []Code{Interrupted, InUse, Corrupt, Refused, NeverReached, NoSpool, Stopped, Failed}
	at := func(e *Error) int {
		for i, c := range rank {
			if e.Code == c {
				return i
			}
		}
		return len(rank)
	}
	for _, e := range errs {
		if e != nil && (worst == nil || at(e) < at(worst)) {
			worst = e
		}
	}
	if worst == nil {
		return nil
	}
	out := *worst
	for _, e := range errs {
		if e != nil && e != worst {
			out.More = append(out.More, e)
		}
	}
	return &out
}
