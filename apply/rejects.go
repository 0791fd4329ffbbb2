package apply

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"tairlift/checkpoint"
	"tairlift/internal/command"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

// errAgain begins the next session at once.
var errAgain = errors.New("begin again from the mark")

// rejected records the commands of a committed batch that failed. stop is a
// StopError, unless the job goes on past rejects; err is that of the store.
func (g *group) rejected(b *Batch, failed []resp.ExecError) (stop, err error) {
	if len(failed) == 0 {
		return nil, nil
	}
	at := make([]int, len(failed))
	for i, f := range failed {
		at[i] = f.Index
	}
	var rejects []checkpoint.Reject
	astray := -1
	err = b.commands(at, func(i int, args [][]byte) {
		if string(args[0]) == "SELECT" && astray < 0 { // ours: proven before, but the target may have changed
			astray = len(rejects)
		}
		rejects = append(rejects, g.newReject(b.cmds[i], args, failed[len(rejects)].Err, true))
	})
	if err != nil {
		return nil, err
	}
	doubts, err := g.addRejects(rejects)
	if err != nil {
		return nil, err
	}
	switch {
	case astray >= 0:
		return &StopError{
			Reason: "target-database",
			What: fmt.Sprintf("group %s: the target lost database %d while it was used (%s); commands up to offset %s ran in another one",
				g.id, g.job.o.Selection.To(rejects[astray].DB), rejects[astray].Error, b.end),
			Hint: "give the target its databases back, then start the same command with --reseed: it loads the newest RDB again and makes the target equal",
		}, nil
	case g.onReject == RejectContinue:
		level := slog.LevelDebug // of a key that is known: there may be thousands a second
		if doubts > 0 {
			level = slog.LevelWarn
		}
		g.log.Log(context.Background(), level, "commands rejected by the target", "count", len(rejects), "doubtful keys", doubts,
			"epoch", rejects[0].Epoch, "offset", rejects[0].Offset, "db", rejects[0].DB, "first", ShowCommand(rejects[0].Command), "error", rejects[0].Error)
		return nil, nil
	}
	return g.rejectStop(rejects[0]), nil
}

// refuse handles a command that will never be accepted, or must not be sent; its batch
// did not happen, or ends before it. With RejectContinue it is left out from now on.
func (g *group) refuse(at batched, args [][]byte, cause resp.ServerError) error {
	r := g.newReject(at, args, cause, false)
	if g.onReject != RejectContinue {
		return g.rejectStop(r)
	}
	if _, err := g.addRejects([]checkpoint.Reject{r}); err != nil {
		return err
	}
	g.skip(r.Epoch)[at.end] = true
	g.log.Warn("command rejected", "epoch", r.Epoch, "offset", at.end, "db", r.DB, "command", ShowCommand(r.Command), "error", string(cause))
	return errAgain
}

// unmarked handles a batch that was executed without its mark. Its keys are
// doubtful, and the reject that is recorded keeps the group stopped, whatever
// the policy: going on would apply the batch again.
func (g *group) unmarked(b *Batch, u *unmarkedError) error {
	r := checkpoint.Reject{
		Group: g.id, Epoch: g.lane.Mark().Epoch, Offset: b.end, Phase: checkpoint.PhaseStream,
		Command: g.markCommand(), Error: string(u.cause), Applied: true,
	}
	var doubts []checkpoint.Doubt
	err := b.each(func(i int, args [][]byte) {
		c, spec := b.cmds[i], command.Lookup(args[0])
		keys := spec.AppendKeys(nil, args)
		for n, k := range keys {
			doubts = append(doubts, checkpoint.Doubt{
				Group: g.id, Epoch: r.Epoch, DB: int(c.db), Key: slices.Clone(k), Why: "reject", Offset: c.end, Own: isOwn(spec, keys, n),
			})
		}
	})
	if err != nil {
		return err
	}
	doubts = g.doubts.fresh(doubts)
	if err := g.store.AddRejects([]checkpoint.Reject{r}, doubts); err != nil {
		return err
	}
	g.doubts.add(doubts)
	g.status.count(1)
	g.showDoubts(0)
	g.stopped, g.stoppedIn, g.beyond = g.unmarkedStop(r), r.Epoch, Delivered{Epoch: r.Epoch, Until: r.Offset}
	return g.stopped
}

// markCommand stands in a reject for the mark that was refused.
func (g *group) markCommand() []byte { return resp.AppendCommandStrings(nil, "SET", g.lane.key) }

func (g *group) isUnmarked(r checkpoint.Reject) bool {
	return r.Applied && bytes.Equal(r.Command, g.markCommand())
}

func (g *group) unmarkedStop(r checkpoint.Reject) error {
	return &StopError{
		Reason: "mark-refused",
		What:   fmt.Sprintf("group %s: the target executed a batch and refused its mark: %s; the batch up to offset %s would be applied twice", g.id, r.Error, r.Offset),
		Hint:   "the rights of the target's account changed while it was used: restore them, then start the same command with --reseed: it loads the newest RDB again and makes the target equal",
	}
}

func (g *group) newReject(at batched, args [][]byte, cause resp.ServerError, restApplied bool) checkpoint.Reject {
	r := checkpoint.Reject{
		Group: g.id, Epoch: g.lane.Mark().Epoch, Offset: at.end, Phase: checkpoint.PhaseStream, DB: int(at.db),
		Error: string(cause), Applied: restApplied,
	}
	r.Command = resp.AppendCommand(nil, args...)
	r.Command = r.Command[:min(len(r.Command), 4096)]
	for _, k := range command.Lookup(args[0]).AppendKeys(nil, args) {
		r.Keys = append(r.Keys, slices.Clone(k))
	}
	return r
}

// addRejects records rejects and with them the doubt about their keys, of which
// it returns how many were not doubtful yet. It may be called from several
// goroutines.
func (g *group) addRejects(rejects []checkpoint.Reject) (int, error) {
	var doubts []checkpoint.Doubt
	for _, r := range rejects {
		spec := command.Lookup([]byte(CommandName(r.Command)))
		for i, k := range r.Keys {
			doubts = append(doubts, checkpoint.Doubt{
				Group: g.id, Epoch: r.Epoch, DB: r.DB, Key: k, Why: "reject", Offset: r.Offset, Own: isOwn(spec, r.Keys, i),
			})
		}
	}
	doubts = g.doubts.fresh(doubts)
	if err := g.store.AddRejects(rejects, doubts); err != nil {
		return 0, err
	}
	g.doubts.add(doubts)
	g.status.count(len(rejects))
	g.showDoubts(0)
	return len(doubts), nil
}

// addDoubts records keys as doubtful and returns how many were not yet.
func (g *group) addDoubts(doubts []checkpoint.Doubt) (int, error) {
	doubts = g.doubts.fresh(doubts)
	if len(doubts) == 0 {
		return 0, nil
	}
	if err := g.store.AddDoubts(doubts); err != nil {
		return 0, err
	}
	g.doubts.add(doubts)
	g.showDoubts(0)
	return len(doubts), nil
}

// died makes the keys of commands doubtful that failed for want of their key, where
// the target may have expired it: a RENAME that the source executed in the last
// moment of a key's life comes when its deadline has passed.
func (g *group) died(b *Batch, m Mark, failed []resp.ExecError) error {
	if !m.Timed || m.TTL == DeadlinesHeld {
		return nil
	}
	var at []int
	for _, f := range failed {
		if lacksKey(f.Err) && f.Index < len(b.cmds) {
			at = append(at, f.Index)
		}
	}
	var doubts []checkpoint.Doubt
	err := b.commands(at, func(i int, args [][]byte) {
		spec := command.Lookup(args[0])
		keys := spec.AppendKeys(nil, args)
		for k, key := range keys {
			doubts = append(doubts, checkpoint.Doubt{
				Group: g.id, Epoch: m.Epoch, DB: int(b.cmds[i].db), Key: slices.Clone(key), Why: "gone", Offset: b.cmds[i].end, Own: isOwn(spec, keys, k),
			})
		}
	})
	if err != nil || len(doubts) == 0 {
		return err
	}
	_, err = g.addDoubts(doubts)
	return err
}

// lacksKey tells whether a command failed because a key is not there, as Redis
// says it.
func lacksKey(e resp.ServerError) bool {
	return strings.Contains(string(e), "no such key") || strings.Contains(string(e), "requires the key to exist") || e.Code() == "NOGROUP"
}

// excused takes out of a batch's failures those that doubts explain: RENAME or LSET
// fails on a key that died while apply was behind, or whose value the target could
// not be given, and all keys of the command are doubtful, and copied again. With
// RejectContinue a key may be doubtful because of a reject, and those are counted.
func (g *group) excused(b *Batch, failed []resp.ExecError) ([]resp.ExecError, error) {
	if g.job.o.Selection == nil && g.onReject == RejectContinue || len(failed) == 0 || g.doubts.empty() {
		return failed, nil
	}
	at := make([]int, len(failed))
	for i, f := range failed {
		at[i] = f.Index
	}
	var left []resp.ExecError
	n := 0
	err := b.commands(at, func(i int, args [][]byte) {
		keys := command.Lookup(args[0]).AppendKeys(nil, args)
		explained := len(keys) > 0
		for _, k := range keys {
			explained = explained && g.doubts.is(int(b.cmds[i].db), k)
		}
		if !explained {
			left = append(left, failed[n])
		}
		n++
	})
	if err == nil && len(left) < len(failed) {
		g.log.Debug("commands failed on keys that are doubtful already", "commands", len(failed)-len(left))
	}
	return left, err
}

// missed records the keys that commands of a batch, by their indexes, meant to
// renew, or to go by, and did not find: the source may have them, and here they
// are gone, because their old deadline passed while apply was behind.
func (g *group) missed(b *Batch, gone []int) error {
	if len(gone) == 0 {
		return nil
	}
	var doubts []checkpoint.Doubt
	err := b.commands(gone, func(i int, args [][]byte) {
		doubts = append(doubts, checkpoint.Doubt{
			Group: g.id, Epoch: g.lane.Mark().Epoch, DB: int(b.cmds[i].db), Key: slices.Clone(argOf(args, 1)), Why: "gone",
			Offset: b.cmds[i].end, Own: b.cmds[i].own || b.cmds[i].renews || b.cmds[i].fields,
		})
	})
	if err != nil {
		return err
	}
	n, err := g.doubtMany(doubts)
	if n > 0 {
		g.log.Warn("keys that the source counts on are not there: their old deadline may have passed while apply was behind; they are doubtful until they are copied again, or verified",
			"keys", n, "first", string(doubts[0].Key))
	}
	return err
}

func (g *group) rejectStop(r checkpoint.Reject) error {
	shown := ShowCommand(r.Command)
	if len(r.Keys) > 0 {
		shown = fmt.Sprintf("key %q, %s", short(r.Keys[0]), shown)
	}
	s := &StopError{
		Reason: "reject",
		What: fmt.Sprintf("group %s: the target rejected a command: epoch %s, ending at offset %s, database %d, %s: %s",
			g.id, r.Epoch, r.Offset, r.DB, shown, r.Error),
		Hint: "find out why the key differs on the target; to go on past rejected commands, start the same command with --on-reject continue: their keys are doubtful then, and copied again from the source where it can be asked",
	}
	if resp.ServerError(r.Error).Code() == "NOPERM" {
		s.Hint = "give the target's account the rights that the error names, then start the same command again; or go on past rejected commands by --on-reject continue"
	}
	if r.Phase == checkpoint.PhaseRDB && len(r.Keys) > 0 {
		s.What = fmt.Sprintf("group %s: the target refused an entry of the RDB: epoch %s, database %d, key %q: %s", g.id, r.Epoch, r.DB, short(r.Keys[0]), r.Error)
		s.Hint = "it refused the value as a payload and as commands: mend what the error names, then start the same command again; or go on without the key by --on-reject continue, which lists it as doubtful"
	}
	return s
}

// ShowCommand is the beginning of a command, given as it was sent and perhaps
// cut, for a person: its name, its first key, and how many arguments it has.
// Values are the user's.
func ShowCommand(b []byte) string {
	args, n := firstArgs(b, 2)
	text := show(args)
	if n > 2 {
		text += fmt.Sprintf(" ... (%d arguments)", n)
	}
	return text
}

// firstArgs reads up to most arguments of a command that may be cut, and how
// many it says that it has.
func firstArgs(b []byte, most int) (args [][]byte, n int) {
	number := func(kind byte) (int, bool) {
		line, rest, ok := bytes.Cut(b, []byte("\r\n"))
		if !ok || len(line) < 2 || line[0] != kind {
			return 0, false
		}
		n, err := strconv.Atoi(string(line[1:]))
		b = rest
		return n, err == nil && n >= 0
	}
	n, ok := number('*')
	for ok && len(args) < min(n, most) {
		var size int
		if size, ok = number('$'); ok {
			args = append(args, b[:min(size, len(b))])
			b = b[min(size+2, len(b)):]
		}
	}
	return args, n
}

// CommandName is the name of a command that was sent.
func CommandName(b []byte) string {
	args, _ := firstArgs(b, 1)
	return string(bytes.ToUpper(short(argOf(args, 0))))
}

// short bounds what a person sees of a name.
func short(b []byte) []byte { return b[:min(len(b), 64)] }

// skips are the ends of commands that were rejected at queue time, by epoch.
type skips map[repl.Epoch]map[repl.Offset]bool

// skip is the set of one epoch.
func (g *group) skip(e repl.Epoch) map[repl.Offset]bool {
	if g.skips[e] == nil {
		g.skips[e] = map[repl.Offset]bool{}
	}
	return g.skips[e]
}
