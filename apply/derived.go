package apply

import (
	"slices"

	"tairlift/checkpoint"
	"tairlift/internal/command"
	"tairlift/internal/repl"
	"tairlift/internal/selection"
)

// deriver makes doubtful what commands make from doubtful keys: behind a RENAME,
// a COPY or a script the other keys of the command are as doubtful as the one.
type deriver struct {
	group repl.GroupID
	epoch repl.Epoch
	known *doubtSet           // that are stored
	fresh map[uint64]struct{} // that are noted and not stored yet
	keys  [][]byte
	// placed tells that args are as they are sent: a database that they name is the
	// target's.
	placed    bool
	selection *selection.Selection
}

// derive calls note for the keys of a command in db that names a doubtful one.
func (d *deriver) derive(spec *command.Spec, args [][]byte, db int, end repl.Offset, note func(checkpoint.Doubt)) {
	if d.known.empty() && len(d.fresh) == 0 || !spec.Mixes() {
		return
	}
	d.keys = spec.AppendKeys(d.keys[:0], args)
	to, other, moved := spec.OtherDB(args)
	if moved && d.placed {
		to = d.selection.From(to)
	}
	if len(d.keys) < 2 && !moved {
		return
	}
	if !slices.ContainsFunc(d.keys, func(k []byte) bool { return d.is(db, k) }) && !(moved && d.is(to, other)) {
		return
	}
	doubt := func(db int, key []byte, own bool) {
		if !isOurs(key) {
			note(checkpoint.Doubt{Group: d.group, Epoch: d.epoch, DB: db, Key: key, Why: "derived", Offset: end, Own: own})
		}
	}
	for i, k := range d.keys {
		doubt(db, k, isOwn(spec, d.keys, i))
	}
	if moved {
		doubt(to, other, true) // it is the same name, or was made from the first key
	}
}

func (d *deriver) is(db int, key []byte) bool {
	_, ok := d.fresh[fingerprint(db, key)]
	return ok || d.known.is(db, key)
}

// noted remembers that a doubt is about to be stored.
func (d *deriver) noted(x checkpoint.Doubt) {
	if d.fresh == nil {
		d.fresh = map[uint64]struct{}{}
	}
	d.fresh[fingerprint(x.DB, x.Key)] = struct{}{}
}

// derive looks through batches for what was made from keys that have become
// doubtful since they were translated.
func (g *group) derive(batches ...*Batch) error {
	d := deriver{group: g.id, epoch: g.lane.Mark().Epoch, known: &g.doubts, placed: true, selection: g.job.o.Selection}
	var doubts []checkpoint.Doubt
	for _, b := range batches {
		err := b.each(func(i int, args [][]byte) {
			c := b.cmds[i]
			d.derive(command.Lookup(args[0]), args, int(c.db), c.end, func(x checkpoint.Doubt) {
				x.Key = slices.Clone(x.Key)
				d.noted(x)
				doubts = append(doubts, x)
			})
		})
		if err != nil {
			return err
		}
	}
	_, err := g.addDoubts(doubts)
	return err
}
