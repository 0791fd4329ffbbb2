package apply

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

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
	if err := g.addRejects(rejects); err != nil {
		return nil, err
	}
	switch {
	case astray >= 0:
		return &StopError{
			Reason: "target-database",
			What: fmt.Sprintf("group %s: the target lost database %d while it was used (%s); commands up to offset %s ran in another one",
				g.id, rejects[astray].DB, rejects[astray].Error, b.end),
			Hint: "give the target its databases back, then start the same command with --reseed: it loads the newest RDB again and makes the target equal",
		}, nil
	case g.onReject == RejectContinue:
		g.log.Warn("command rejected by the target", "offset", rejects[0].Offset, "count", len(rejects), "error", rejects[0].Error)
		return nil, nil
	}
	return g.rejectStop(rejects[0]), nil
}

// refuse handles a command that will never be accepted; its batch did not
// happen. With RejectContinue it is left out from now on.
func (g *group) refuse(at batched, args [][]byte, cause resp.ServerError) error {
	r := g.newReject(at, args, cause, false)
	if g.onReject != RejectContinue {
		return g.rejectStop(r)
	}
	if err := g.addRejects([]checkpoint.Reject{r}); err != nil {
		return err
	}
	g.skip(r.Epoch)[at.end] = true
	g.log.Warn("command rejected by the target", "offset", at.end, "error", string(cause))
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
	all := make([]int, len(b.cmds))
	for i := range all {
		all[i] = i
	}
	err := b.commands(all, func(i int, args [][]byte) {
		c := b.cmds[i]
		for _, k := range command.Lookup(args[0]).AppendKeys(nil, args) {
			doubts = append(doubts, checkpoint.Doubt{Group: g.id, DB: int(c.db), Key: slices.Clone(k), Why: "reject", Epoch: r.Epoch, Offset: c.end})
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
	g.status.count(1, len(doubts))
	return g.unmarkedStop(r)
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

// addRejects records rejects and with them the doubt about their keys. It may be
// called from several goroutines.
func (g *group) addRejects(rejects []checkpoint.Reject) error {
	var doubts []checkpoint.Doubt
	for _, r := range rejects {
		for _, k := range r.Keys {
			doubts = append(doubts, checkpoint.Doubt{Group: g.id, DB: r.DB, Key: k, Why: "reject", Epoch: r.Epoch, Offset: r.Offset})
		}
	}
	doubts = g.doubts.fresh(doubts)
	if err := g.store.AddRejects(rejects, doubts); err != nil {
		return err
	}
	g.doubts.add(doubts)
	g.status.count(len(rejects), len(doubts))
	return nil
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
	g.status.count(0, len(doubts))
	return len(doubts), nil
}

// missed records the keys that commands of a batch, by their indexes, meant to
// renew and did not find: the source has them, and here they are gone, because
// their old deadline passed while apply was behind.
func (g *group) missed(b *Batch, gone []int) error {
	if len(gone) == 0 {
		return nil
	}
	var doubts []checkpoint.Doubt
	err := b.commands(gone, func(i int, args [][]byte) {
		doubts = append(doubts, checkpoint.Doubt{
			Group: g.id, DB: int(b.cmds[i].db), Key: slices.Clone(argOf(args, 1)), Why: "gone", Epoch: g.lane.Mark().Epoch, Offset: b.cmds[i].end,
		})
	})
	if err != nil {
		return err
	}
	n, err := g.addDoubts(doubts)
	if n > 0 {
		g.log.Warn("keys were to be renewed and are gone: their old deadline passed while apply was behind; they are doubtful until verified",
			"keys", n, "first", string(doubts[0].Key))
	}
	return err
}

func (g *group) rejectStop(r checkpoint.Reject) error {
	s := &StopError{
		Reason: "reject",
		What:   fmt.Sprintf("group %s: the target rejected a command for database %d ending at offset %s: %s", g.id, r.DB, r.Offset, r.Error),
		Hint:   "find out why the key differs on the target; to go on past rejected commands and list their keys as doubtful, start the same command with --on-reject continue",
	}
	if r.Phase == checkpoint.PhaseRDB {
		s.What = fmt.Sprintf("group %s: the target refused an entry of the RDB, in database %d: %s", g.id, r.DB, r.Error)
		s.Hint = "a target older than the source cannot restore its encodings: use a target of at least the source's version; or go on without the key by --on-reject continue"
	}
	if len(r.Keys) > 0 {
		s.What += fmt.Sprintf(" (key %q)", r.Keys[0])
	}
	return s
}

// doubtSet knows the keys that the store holds as doubtful, by fingerprints, so
// that each is written and counted once.
type doubtSet struct {
	mu   sync.Mutex
	keys map[uint64]repl.Epoch // in which it became doubtful
}

func (s *doubtSet) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = nil
}

// has tells whether a key was doubtful in epoch e already.
func (s *doubtSet) has(e repl.Epoch, db int, key []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, ok := s.keys[fingerprint(db, key)]
	return ok && since >= e
}

// fresh returns those of ds that are not known, each once.
func (s *doubtSet) fresh(ds []checkpoint.Doubt) []checkpoint.Doubt {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []checkpoint.Doubt
	seen := map[uint64]bool{}
	for _, d := range ds {
		fp := fingerprint(d.DB, d.Key)
		if since, ok := s.keys[fp]; (!ok || since < d.Epoch) && !seen[fp] {
			seen[fp] = true
			out = append(out, d)
		}
	}
	return out
}

func (s *doubtSet) add(ds []checkpoint.Doubt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = map[uint64]repl.Epoch{}
	}
	for _, d := range ds {
		s.keys[fingerprint(d.DB, d.Key)] = d.Epoch
	}
}

// skips are the ends of commands that were rejected at queue time, by epoch.
type skips map[repl.Epoch]map[repl.Offset]bool

// skip is the set of one epoch.
func (g *group) skip(e repl.Epoch) map[repl.Offset]bool {
	if g.skips[e] == nil {
		g.skips[e] = map[repl.Offset]bool{}
	}
	return g.skips[e]
}
