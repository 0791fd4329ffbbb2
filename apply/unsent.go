package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tairlift/internal/command"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// withoutOurs drops from a command the keys that are never copied, with what belongs
// to them, where that can be done. nil is a command of no others.
func (t *translator) withoutOurs(spec *command.Spec, c resp.Command) ([][]byte, error) {
	keys := spec.AppendKeys(t.keys[:0], c.Args)
	t.keys = keys
	ours := 0
	for _, k := range keys {
		if isOurs(k) {
			ours++
		}
	}
	switch ours {
	case 0:
		return c.Args, nil
	case len(keys):
		return nil, nil
	}
	if some, ok := spec.Some(c.Args, func(k []byte) bool { return !isOurs(k) }); ok {
		return some, nil
	}
	return nil, t.stop("unsupported-command", c, "names keys that are never copied beside others",
		"keep such commands off the source (keys named "+keyPrefix+"* and "+heartbeatPrefix+"*); then "+newEpochHint)
}

// moved is what becomes of Codis' commands that move keys between groups. Where this
// is the only group they are writes like others: nobody else's stream says that a key
// has left.
func (t *translator) moved(spec *command.Spec, c resp.Command, recv time.Time) error {
	hint := "let the slot migration end; then " + newEpochHint
	if !spec.Arrives() {
		return t.stop("slots-moving", c, "moves keys between Codis groups, which this version does not follow", hint)
	}
	why, err := t.alone()
	if err != nil {
		return err
	}
	if why != "" {
		return t.stop("slots-moving", c, "moves keys between Codis groups, which this version does not follow where "+why, hint)
	}
	return t.data(spec, c, recv)
}

// library is what becomes of FUNCTION. Beside other groups a library is never
// removed: it may be theirs as well, and one that is left does nothing.
func (t *translator) library(spec *command.Spec, c resp.Command, recv time.Time) error {
	removes := len(c.Args) > 1 && (is(c.Args[1], "delete") || is(c.Args[1], "flush"))
	again := len(c.Args) > 3 && is(c.Args[1], "restore") && is(c.Args[3], "flush")
	if removes || again {
		why, err := t.alone()
		switch {
		case err != nil:
			return err
		case why != "" && removes:
			t.reading.ignored++
			return nil
		case why != "":
			c.Args, c.Raw = append(c.Args[:3:3], []byte("REPLACE")), nil
		}
	}
	return t.data(spec, c, recv)
}

func is(b []byte, word string) bool { return strings.EqualFold(string(b), word) }

// tooOld appends a command that the target's version does not know, if the target
// says that it knows it all the same.
func (t *translator) tooOld(spec *command.Spec, old *command.TargetError, c resp.Command, dst, raw []byte, args [][]byte, at int64,
) (out []byte, n int, info command.Info, err error) {
	for old.Option == "" && !t.caps.Known[old.Command] {
		known, err := t.knows(old.Command)
		if err != nil {
			return dst, 0, info, err
		}
		if !known {
			break
		}
		if t.caps.Known == nil {
			t.caps.Known = map[string]bool{}
		}
		t.caps.Known[old.Command] = true
		out, n, info, err = spec.AppendRewrite(dst, raw, args, at, t.caps)
		if !errors.As(err, &old) {
			return out, n, info, err
		}
	}
	reason := "unsupported-command"
	if spec.Class == command.Function {
		reason = "functions-unsupported"
	}
	return dst, 0, info, t.stop(reason, c, fmt.Sprintf("cannot be replayed on a target of version %d.%d: %v", t.caps.Major, t.caps.Minor, old),
		fmt.Sprintf("use a target of version %d.%d or later, or keep it off the source; then %s", old.Since/100, old.Since%100, newEpochHint))
}

// knowsCommand asks the target whether it has a command.
func (j *Job) knowsCommand(ctx context.Context, name string) (bool, error) {
	conn, err := j.dial(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	r, err := conn.Do(ctx, "COMMAND", "INFO", name)
	var se resp.ServerError
	if errors.As(err, &se) { // it does not tell
		return false, nil
	}
	return err == nil && len(r.Elems) == 1 && !r.Elems[0].Null, err
}

// alone tells why other groups' keys may be on the target: the job has other groups,
// or the target other jobs. Empty: there are none.
func (g *group) alone(ctx context.Context) (why string, err error) {
	known, err := g.store.Groups()
	if err != nil {
		return "", err
	}
	spooled, err := spool.Groups(g.job.o.SpoolDir)
	if err != nil {
		return "", err
	}
	for _, id := range slices.Concat(g.job.o.Groups, g.job.o.JobGroups, known, spooled) {
		if id != g.id {
			return fmt.Sprintf("the job has other groups (%s)", id), nil
		}
	}
	conn, err := g.job.dial(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	r, err := conn.Do(ctx, "SMEMBERS", jobsKey)
	if err != nil {
		return "", fmt.Errorf("look for other jobs on the target: %w", err)
	}
	for _, other := range r.Strings() {
		if other != g.job.o.Job.String() {
			return fmt.Sprintf("the target bears the marks of another job (%s)", other), nil
		}
	}
	return "", nil
}
