package apply

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tairlift/checkpoint"
)

// doubtful are the doubtful keys of group 1 by "db:name", and why; apply has
// ended.
func (r *rig) doubtful() map[string]string {
	r.t.Helper()
	store, err := checkpoint.OpenApply(filepath.Join(r.dir, "apply", "target", "apply.db"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer store.Close()
	out := map[string]string{}
	err = store.Doubts(1, func(d checkpoint.Doubt) error {
		out[string(rune('0'+d.DB))+":"+string(d.Key)] = d.Why
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func TestWhatIsMadeFromADoubtfulKeyIsDoubtful(t *testing.T) {
	base := bareRig(t, 1)
	for _, tt := range []struct {
		claim, stream string
		want          string // doubtful beside the key k
	}{
		{"a new name", "INCR k;RENAME k k2", "0:k2"},
		{"a name of a new name", "INCR k;RENAME k k2;RENAME k2 k3;SET other 1", "0:k2 0:k3"},
		{"a copy in another database", "INCR k;COPY k k2 DB 3", "3:k2"},
		{"another database", "INCR k;MOVE k 2", "2:k"},
		{"a script's keys", "INCR k;EVAL return(1) 2 x k", "0:x"},
		{"within a transaction", "MULTI;INCR k;RENAME k k2;EXEC", "0:k2"},
		{"keys that only stand beside it", "INCR k;DEL k x;MSET k 1 y 2", ""},
		{"keys of other commands", "INCR k;RENAME a b", ""},
	} {
		for _, batch := range []int{1, 100} { // found in a batch before, and in the same
			r := base.again(t)
			p := r.craft(1, 1, "k 1", "a 1", "x 1").write("PING")
			r.applyAll(Options{})
			r.target.Do(t, "DEL", "k")
			r.target.Do(t, "RPUSH", "k", "not a number")
			p.write(strings.Split(tt.stream, ";")...).seal()
			r.applyAll(Options{OnReject: RejectContinue, batch: batch})
			got := r.doubtful()
			if got["0:k"] != "reject" {
				t.Errorf("%s, batches of %d: k is doubtful for %q, want a reject", tt.claim, batch, got["0:k"])
			}
			delete(got, "0:k")
			if keys := strings.Join(slices.Sorted(maps.Keys(got)), " "); keys != tt.want {
				t.Errorf("%s, batches of %d: got %q beside it, want %q", tt.claim, batch, keys, tt.want)
			}
		}
	}
}
