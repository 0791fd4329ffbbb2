package apply

import (
	"fmt"
	"slices"
	"strconv"

	"tairlift/checkpoint"
	"tairlift/internal/command"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/internal/selection"
)

// Which numbers databases have. Positions, doubts, rejects, fingerprints of the
// spool and everything that is decided about a key have the source's; the
// target's are those of a connection to it: a Batch and a restorer convert them
// when they SELECT, and existing, proveDB and the sweep's SCAN work with them.

// checkSelection compares the selection of a mark with the job's.
func checkSelection(m Mark, s *selection.Selection) error {
	if m.Selection == s.Digest() {
		return nil
	}
	had := "another one"
	if m.Selection == "" {
		had = "everything"
	}
	return &RefusedError{
		What: fmt.Sprintf("what this job selects on the target is %s, by its mark there, and here it is: %s", had, s),
		Hint: "a selection is for the whole life of a job on a target: give the flags that it began with (`tairlift status` shows them where it ran); for another one, finish this job and use a fresh --dir and target",
	}
}

// remains is what is sent of a command.
type remains struct {
	spec  *command.Spec
	args  [][]byte // nil is nothing
	other bool     // than what came
}

// choose leaves of a command what concerns selected keys. One that names others
// too is sent for the selected ones alone where that is possible. Where it is
// not, since what becomes of a selected key depends on what the target does not
// have, nothing is sent, and the selected keys that it writes are doubtful.
func (t *translator) choose(spec *command.Spec, c resp.Command, args [][]byte) (remains, error) {
	keys := spec.AppendKeys(t.keys[:0], args)
	t.keys = keys
	to, other, crosses := spec.OtherDB(args)
	all, selected := len(keys), 0
	for _, k := range keys {
		if t.selection.Has(t.db, k) {
			selected++
		}
	}
	if crosses {
		all++
		if t.selection.Has(to, other) {
			selected++
		}
	}
	whole := remains{spec: spec, args: args}
	switch {
	case all == 0:
		return t.chooseKeyless(whole, c)
	case selected == 0:
		t.reading.filtered++
		return remains{}, nil
	case selected == all && !(t.selection.ByName() && all > 1 && spec.ReadsUnnamed(args)):
		return whole, nil
	}
	if some, ok := spec.Some(args, func(k []byte) bool { return t.selection.Has(t.db, k) }); ok {
		return remains{spec, some, true}, nil
	}
	for i, k := range keys {
		if !t.selection.Has(t.db, k) {
			continue
		}
		if alone, ok := spec.Alone(args, i); ok {
			return remains{command.Lookup(alone[0]), alone, true}, nil
		}
	}
	t.reading.filtered++
	for i, k := range keys {
		if effect := spec.Effect(i); t.selection.Has(t.db, k) && effect != command.Reads {
			if err := t.unknowable(effect, t.db, k, isOwn(spec, keys, i), c.End); err != nil {
				return remains{}, err
			}
		}
	}
	if crosses && t.selection.Has(to, other) {
		return remains{}, t.unknowable(command.Sets, to, other, true, c.End)
	}
	return remains{}, nil
}

// chooseKeyless judges a command that names no key.
func (t *translator) chooseKeyless(whole remains, c resp.Command) (remains, error) {
	switch spec := whole.spec; {
	case spec.Class == command.Function: // which belong to no database
	case !t.selection.DB(t.db):
		t.reading.filtered++
		return remains{}, nil
	case spec.Scripts() && t.selection.ByName():
		return remains{}, t.stop("filter-script", c, "runs a script that names no key, so it cannot be told whether what it writes is selected",
			"let scripts name their keys (KEYS), or select by --db alone, in a fresh --dir; then "+newEpochHint)
	}
	return whole, nil
}

// unknowable makes a key doubtful whose value follows from what the target does
// not have. What was there is removed where nothing of it remains.
func (t *translator) unknowable(effect command.Effect, db int, key []byte, own bool, end repl.Offset) error {
	if isOurs(key) {
		return nil
	}
	t.note(checkpoint.Doubt{Group: t.group, Epoch: t.epoch, DB: db, Key: key, Why: "selection", Offset: end, Own: own})
	foreign := t.existing != nil && t.existing.take(t.group, t.epoch, t.selection.To(db), key, end)
	if !foreign && effect == command.Changes {
		return nil
	}
	b, err := t.into(db, end)
	if err != nil {
		return err
	}
	b.append(end, "DEL", key)
	b.sources++
	return nil
}

// passes tells whether a command that this version does not follow concerns no
// selected key.
func (t *translator) passes(spec *command.Spec, args [][]byte) bool {
	switch {
	case t.selection == nil:
		return false
	case spec.Empties():
		what, _ := spec.Clears(args)
		return !what.All && !t.selection.DB(t.db)
	case spec.Swaps():
		return len(args) == 3 && !t.swaps(args[1]) && !t.swaps(args[2])
	}
	keys := spec.AppendKeys(t.keys[:0], args)
	t.keys = keys
	return len(keys) > 0 && !slices.ContainsFunc(keys, func(k []byte) bool { return t.selection.Has(t.db, k) })
}

// swaps tells whether a database that SWAPDB names is selected, or no number.
func (t *translator) swaps(arg []byte) bool {
	db, err := strconv.Atoi(string(arg))
	return err != nil || t.selection.DB(db)
}

// placed gives a command that names a database of its own the target's number.
func (t *translator) placed(r remains) remains {
	to, _, ok := r.spec.OtherDB(r.args)
	if mapped := t.selection.To(to); ok && mapped != to {
		r.args, r.other = r.spec.WithOtherDB(r.args, mapped), true
	}
	return r
}
