package apply

import (
	"strings"
	"testing"

	"tairlift/checkpoint"
	"tairlift/internal/command"
)

func TestADoubtIsFreedByWhatIsNotBeforeIt(t *testing.T) {
	var s doubtSet
	s.clear()
	doubt := func(name string, d checkpoint.Doubt) checkpoint.Doubt {
		d.Key = []byte(name)
		return d
	}
	names := func(ds []checkpoint.Doubt) string {
		var out []string
		for _, d := range ds {
			out = append(out, string(d.Key))
		}
		return strings.Join(out, " ")
	}
	a, b := doubt("a", checkpoint.Doubt{Epoch: 1, Offset: 100}), doubt("b", checkpoint.Doubt{Epoch: 1, Offset: 100})
	later := doubt("a", checkpoint.Doubt{Epoch: 1, Offset: 180, Own: true})
	fresh := s.fresh([]checkpoint.Doubt{a, b, later})
	if names(fresh) != "a b" || fresh[0].Offset != 180 || !fresh[0].Own {
		t.Errorf("fresh: got %+v, want a, with its last place, and b", fresh)
	}
	s.add([]checkpoint.Doubt{a, b})
	if s.renew(doubt("c", checkpoint.Doubt{})) {
		t.Error("renew of a key that is not doubtful: got true, want false")
	}
	// A command translated behind the place of an answer that waits.
	if !s.renew(later) {
		t.Error("renew: got false, want true")
	}
	s.hold([]checkpoint.Doubt{b, doubt("c", checkpoint.Doubt{})})
	if all, held := s.counts(); all != 2 || held != 1 {
		t.Errorf("counts: got %d, %d held, want 2, 1", all, held)
	}
	for _, tt := range []struct {
		by   place
		want string
	}{{place{1, 99}, ""}, {place{1, 100}, "b"}, {place{1, 179}, "b"}, {place{1, 180}, "a b"}, {place{2, 1}, "a b"}} {
		if got := names(s.freed([]checkpoint.Doubt{a, b, doubt("c", checkpoint.Doubt{})}, tt.by)); got != tt.want {
			t.Errorf("freed by a value of epoch %s at %s: got %q, want %q", tt.by.epoch, tt.by.offset, got, tt.want)
		}
	}
	s.remove([]checkpoint.Doubt{b})
	if all, held := s.counts(); all != 1 || held != 0 {
		t.Errorf("counts: got %d, %d held, want 1, 0", all, held)
	}
	if fresh := s.fresh([]checkpoint.Doubt{b}); names(fresh) != "b" {
		t.Errorf("doubtful again: got %q, want b", names(fresh))
	}
}

func TestWhichKeysAreSurelyTheGroups(t *testing.T) {
	for line, want := range map[string]string{
		"INCR n": "n", "RENAME a b": "a", "EVAL x 2 a b c": "a", "EVAL x 3 a{t} t {t}b": "a{t}t{t}b", "NO-SUCH-COMMAND a": "", "MSET a 1 b 2": "a",
		"ZUNIONSTORE a 2 b c": "b", "ZINTERSTORE a{t} 2 {t} c": "a{t}{t}", "ZUNIONSTORE a": "", "SUNIONSTORE a b c": "a",
	} {
		var args [][]byte
		for _, w := range strings.Fields(line) {
			args = append(args, []byte(w))
		}
		spec, own := command.Lookup(args[0]), ""
		keys := spec.AppendKeys(nil, args)
		for i, k := range keys {
			if isOwn(spec, keys, i) {
				own += string(k)
			}
		}
		if own != want {
			t.Errorf("%s: got %q, want %q", line, own, want)
		}
	}
}
