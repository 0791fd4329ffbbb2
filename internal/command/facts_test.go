package command_test

import (
	"slices"
	"testing"

	"tairlift/internal/command"
	"tairlift/internal/redistest/cmdtest"
)

// Each fact in the table is asked of a real server, with the row's commands as they
// stand in its templates: a flag that is wrong, or forgotten, fails.
func TestFactsAreThoseOfTheServer(t *testing.T) {
	l := newLab(t)
	for name, ask := range map[string]func(*lab){
		"effects": (*lab).effects, "renews": (*lab).renews, "needs": (*lab).needs, "apart": (*lab).apart, "fields": (*lab).fields,
	} {
		t.Run(name, func(t *testing.T) {
			l := *l
			l.t = t
			ask(&l)
		})
	}
}

// effects: what becomes of each key goes by what it held, or does not; whether another
// key gets its deadline; whether its deadline alone is changed.
func (l *lab) effects() {
	for _, row := range l.rows {
		seen, counts := map[int]bool{}, map[int]bool{} // by key: the first, and others
		passed, dates := false, false
		trials := row.trials
		for _, tr := range row.trials {
			if len(tr.keys) > 1 {
				trials = append(trials, l.without(tr))
			}
		}
		for _, tr := range trials {
			for i := range tr.keys {
				pos := min(i, 1)
				for _, c := range variations {
					o := l.run(tr, i, c, nil)
					seen[pos] = seen[pos] || o.dirty || row.Effect(i) == command.Reads
					counts[pos] = counts[pos] || l.effect(tr, i, c, o)
					if c.name == dated.name && o.dirty {
						passed = passed || o.other.isLong() || slices.ContainsFunc(slices.Delete(slices.Clone(o.after), i, i+1), (*value).isLong)
					}
					dates = dates || o.dirty && i == 0 && alike(o.before[i], o.after[i]) && !equal(o.before[i], o.after[i])
				}
			}
		}
		for pos, ok := range seen {
			if !ok {
				l.t.Errorf("%s: no trial has shown what becomes of key %d", row.Name, pos)
			} else if row.Effect(pos) == command.Changes && !counts[pos] {
				l.t.Errorf("%s: no trial has shown that it counts what key %d held: is it Reads, Sets or Drops?", row.Name, pos)
			}
		}
		if got := row.PassesTTL(); got != passed && !(got && row.Scripts()) {
			l.t.Errorf("%s gives a key the deadline of another one: got %v, want %v", row.Name, got, passed)
		}
		if got := row.Renews(); got != dates {
			l.t.Errorf("%s changes the deadline of a key alone: got %v, want %v", row.Name, got, dates)
		}
	}
}

// effect compares what became of a trial's i-th key with what the row says. It tells
// whether the key has changed in a way that goes by what it held.
func (l *lab) effect(tr trial, i int, c change, o outcome) (counts bool) {
	before, after, base := o.before[i], o.after[i], tr.base.after[i]
	keeps := slices.Contains(tr.args, "KEEPTTL") && alike(after, base) // which is of no key's value
	wrong := func(want any) {
		l.t.Errorf("%q with %s in %s: got %s, want %v", tr.args, c.name, tr.keys[i], after, want)
	}
	switch effect := tr.spec.Effect(i); {
	case effect == command.Reads:
		if !equal(before, after) {
			wrong(before)
		}
	case !o.dirty:
	case effect == command.Sets:
		if tr.base.dirty && !equal(after, base) && !keeps {
			wrong(base)
		}
	case effect.Removes():
		if after != nil {
			wrong("nothing")
		}
		gives := equal(before, o.other) || slices.ContainsFunc(o.after, func(v *value) bool { return equal(v, before) })
		if before != nil && gives != (effect == command.Gives) {
			l.t.Errorf("%q: another key has what %s held: got %v, want %v", tr.args, tr.keys[i], gives, !gives)
		}
	default:
		changed := !equal(before, after) || before != nil && before.dated != after.dated
		return changed && tr.base.dirty && !equal(after, base) && !keeps
	}
	return false
}

// renews: a command is sent in a form that says 0 where the key is gone.
func (l *lab) renews() {
	rows := 0
	for _, row := range l.rows {
		if !row.Renews() {
			continue
		}
		rows++
		for _, tr := range row.trials {
			sent := l.sent(tr)
			if o := l.run(tr, 0, nothing, sent); o.reply.Type != ':' || o.reply.Int != 0 || o.after[0] != nil {
				l.t.Errorf("%q, sent as %q, without the key: got %+v and %s, want 0 and nothing", tr.args, sent, o.reply, o.after[0])
			}
			if o := l.run(tr, 0, none, sent); o.reply.Int != 1 && tr.base.dirty {
				l.t.Errorf("%q, sent as %q, with the key: got %+v, want 1", tr.args, sent, o.reply)
			}
		}
	}
	if rows < 5 {
		l.t.Errorf("got %d commands that renew, want 5 or more", rows)
	}
}

// needs: what is sent fails on values of other kinds than the row needs, on no others,
// and leaves such a key as it is.
func (l *lab) needs() {
	fit := map[command.Need][]string{
		command.NeedString: {"a string", "an integer"}, command.NeedInteger: {"an integer"}, command.NeedList: {"a list"}, command.NeedSet: {"a set"},
		command.NeedZSet: {"a sorted set"}, command.NeedHash: {"a hash", "a hash without integers"}, command.NeedIntegerField: {"a hash"},
	}
	rows := 0
	for _, row := range l.rows {
		if row.Needs() == command.NeedUnknown {
			continue
		}
		rows++
		for _, tr := range row.trials {
			sent := l.sent(tr)
			if l.run(tr, 0, none, sent).failed != "" { // of a form that this server does not know
				continue
			}
			for i := range tr.keys {
				for _, c := range wholes {
					o := l.run(tr, i, c, sent)
					fits := c.name == nothing.name || row.Needs() == command.NeedNothing || slices.Contains(fit[row.Needs()], c.name)
					if fits != (o.failed == "") {
						l.t.Errorf("%q with %s in %s: got %q, want it to fail: %v", tr.args, c.name, tr.keys[i], o.failed, !fits)
					}
					if o.failed != "" && !equal(o.before[i], o.after[i]) {
						l.t.Errorf("%q with %s in %s has failed: got %s, want %s", tr.args, c.name, tr.keys[i], o.after[i], o.before[i])
					}
				}
			}
		}
	}
	if rows < 40 {
		l.t.Errorf("got %d rows with needs, want 40 or more", rows)
	}
}

// apart: of a command that does the same to each of its keys, the part for one key
// leaves that one as the whole did, and every other as it was; and what becomes of it
// goes by no other key, but where it does all or nothing.
func (l *lab) apart() {
	tried := 0
	for _, row := range l.rows {
		for _, tr := range row.trials {
			args := bytesOf(tr.args)
			if len(tr.keys) < 2 || !row.Effect(0).Overwrites() || !row.Effect(1).Overwrites() {
				continue
			}
			if _, ok := row.Some(args, func([]byte) bool { return true }); !ok {
				l.t.Errorf("%q: it does the same to each of its keys, and cannot be had for some", tr.args)
				continue
			}
			tried++
			mixes := false
			for i, key := range tr.keys {
				some, _ := row.Some(args, func(k []byte) bool { return string(k) == key })
				o := l.run(tr, 0, none, [][]string{stringsOf(some)})
				for j, after := range o.after {
					want := o.before[j]
					if i == j {
						want = tr.base.after[j]
					}
					if !equal(after, want) {
						l.t.Errorf("%q of %q: %s holds %s, want %s", some, tr.args, tr.keys[j], after, want)
					}
				}
				for j := range tr.keys {
					for _, c := range variations {
						mixes = mixes || i != j && !equal(l.run(tr, j, c, nil).after[i], tr.base.after[i])
					}
				}
			}
			if row.Mixes() != mixes {
				l.t.Errorf("%q: what becomes of a key goes by another one: got %v, want %v", tr.args, row.Mixes(), mixes)
			}
		}
	}
	if tried < 3 {
		l.t.Errorf("got %d commands that do the same to each key, want 3 or more", tried)
	}
}

// fields: a command that begins or ends a time to live of a field is one for such.
func (l *lab) fields() {
	if !l.knows("HPEXPIREAT") {
		l.t.Skip("the server has no times to live of fields")
	}
	begun := change{"a dated field", alter("HPEXPIRE", "5000000000", "FIELDS", "1", "f3")}
	for _, row := range l.rows {
		changed, alone := false, false
		for _, tr := range row.trials {
			for _, c := range []change{none, begun} {
				o := l.run(tr, 0, c, nil)
				if before, after := o.before[0], o.after[0]; o.dirty && before != nil && after != nil && before.dated != after.dated {
					changed, alone = true, alone || alike(before, after)
				}
			}
		}
		if row.FieldTTL() && !changed || !row.FieldTTL() && alone {
			l.t.Errorf("%s changes times to live of fields: got %v, want %v", row.Name, row.FieldTTL(), changed)
		}
	}
}

// The payloads of a command are where its templates have them.
func TestPayloadsAreFound(t *testing.T) {
	command.All(func(spec *command.Spec) {
		for _, template := range cmdtest.Templates(spec.Name, true) {
			f := cmdtest.NewFiller(1, "k:")
			f.Payload = "the payload"
			for _, words := range f.Fill(template) {
				args := bytesOf(words)
				want := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w != f.Payload })
				got := []string{}
				own := command.Lookup(args[0])
				own.Payloads(args, func(key, p []byte) bool {
					if !slices.ContainsFunc(own.AppendKeys(nil, args), func(k []byte) bool { return string(k) == string(key) }) {
						t.Errorf("%q: a payload is of %q, which is no key of it", words, key)
					}
					got = append(got, string(p))
					return true
				})
				if !slices.Equal(got, want) || own.HasPayload(args) != (len(want) > 0) {
					t.Errorf("%q: got payloads %q, want %q", words, got, want)
				}
			}
		}
	})
}

// codis-proxy's mapper.go hashes the third argument of four commands, and the first of
// all others; of EVAL and EVALSHA that is the first key as well.
func TestTheKeyThatAProxyGoesBy(t *testing.T) {
	for text, want := range map[string]string{
		"SET a v": "a", "MSET a 1 b 2": "a", "RPOPLPUSH a b": "a", "SINTERSTORE a b c": "a", "EVAL x 2 a b": "a", "EVALSHA x 2 a b": "a",
		"ZUNIONSTORE a 2 b c": "b", "ZINTERSTORE a 2 b c": "b",
	} {
		args := words(t, text)
		spec := command.Lookup(args[0])
		if got := string(spec.AppendKeys(nil, args)[spec.Routed()]); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}
