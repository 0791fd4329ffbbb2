package apply

import (
	"context"
	"testing"

	"tairlift/internal/rdb"
	"tairlift/internal/resp"
)

// refusing is a target that answers everything by one error.
type refusing struct{ err error }

func (r refusing) Do(context.Context, ...string) (resp.Reply, error) { return resp.Reply{}, r.err }

func TestAnEntryCostsNoAllocation(t *testing.T) {
	list := &rdb.Entry{Key: []byte("l"), Type: rdb.TypeList, Payload: rdb.AppendDump(nil, rdb.TypeList, []byte{1, 1, 'x'}, 6), ExpireMS: 1_900_000_000_000}
	text := &rdb.Entry{Key: []byte("s"), IsString: true, String: []byte("v")}
	to := target{major: 7, takes: &accepts{versions: []int{6, 7, 8, 9, 10}}}
	var c chunk
	got := testing.AllocsPerRun(100, func() {
		c.reset(0)
		for range 100 {
			if c.add(list, to, nil) != nil || c.add(text, to, nil) != nil {
				t.Fatal("refused")
			}
		}
	})
	if got != 0 {
		t.Errorf("200 entries: got %.0f allocations, want none", got)
	}
}

func TestHowAValueIsWritten(t *testing.T) {
	payload := func(typ byte, version int) *rdb.Entry {
		return &rdb.Entry{Key: []byte("k"), Type: typ, Payload: rdb.AppendDump(nil, typ, nil, version)}
	}
	valkey9 := []int{6, 7, 8, 9, 10, 11, 80}
	for _, tt := range []struct {
		claim string
		takes []int
		e     *rdb.Entry
		how   way
		stamp int
	}{
		{"its own version", []int{6, 7, 8}, payload(rdb.TypeListQuicklist, 7), byRestore, 7},
		{"an older version, as the type is older", []int{6, 7, 8}, payload(rdb.TypeListQuicklist, 12), byRestore, 8},
		{"a type of a later version", []int{6, 7, 8}, payload(rdb.TypeHashListpack, 10), byCommands, 0},
		{"a version before those that are tried", []int{6, 7, 8}, payload(rdb.TypeList, 1), byRestore, 1},
		{"nothing is taken", nil, payload(rdb.TypeList, 6), byCommands, 0},
		{"a version that a server leaves out", valkey9, payload(rdb.TypeHashFieldTTL, 12), byCommands, 0},
		{"a later one that it takes", valkey9, payload(rdb.TypeList, 80), byRestore, 80},
		{"a module's, where none is loaded", []int{6, 7, 8, 9}, payload(rdb.TypeModule2, 8), byCommands, 0},
		{"a text", nil, &rdb.Entry{IsString: true}, bySet, 0},
	} {
		how, stamp := target{major: 7, takes: &accepts{versions: tt.takes}}.way(tt.e)
		if how != tt.how || how == byRestore && stamp != tt.stamp {
			t.Errorf("%s: got way %d with version %d, want %d with %d", tt.claim, how, stamp, tt.how, tt.stamp)
		}
	}
	p := rdb.AppendDump(nil, rdb.TypeList, []byte{1, 1, 'x'}, 12)
	restamp(p, 6)
	if _, _, version, err := rdb.ParseDump(p); err != nil || version != 6 {
		t.Errorf("a payload with another version: got version %d, %v, want 6", version, err)
	}
}

// A probe changes nothing that stays, and takes a refusal for what it is.
func TestAProbe(t *testing.T) {
	r := bareRig(t, 1)
	conn := r.target.Dial(t)
	a, err := probeAccepts(t.Context(), conn, target{}, probeKey(r.job, 1))
	if err != nil {
		t.Fatal(err)
	}
	r.noTemp("behind a probe")
	r.target.Do(t, "SET", "k", "v")
	_, _, version, err := rdb.ParseDump(r.target.Do(t, "DUMP", "k").Str)
	if err != nil {
		t.Fatal(err)
	}
	if last := a.versions[len(a.versions)-1]; last != version || !a.renames() || !a.unlink || a.maxBulk != 512<<20 {
		t.Errorf("probe: got %s, %+v, want versions up to %d", a, a.versions, version)
	}
	var busy resp.ServerError = "BUSY Redis is busy running a script"
	if _, err := probeAccepts(t.Context(), refusing{busy}, target{}, "k"); err != busy {
		t.Errorf("probe of a busy target: got %v, want that it waits", err)
	}
}

// ahead is a connection on which something happens ahead of a command, once.
type ahead struct {
	doer
	word string
	do   func()
}

func (a *ahead) Do(ctx context.Context, args ...string) (resp.Reply, error) {
	if args[0] == a.word && a.do != nil {
		a.do()
		a.do = nil
	}
	return a.doer.Do(ctx, args...)
}

// Groups of one job that are applied by different processes do not take each other's
// probe away.
func TestProbesOfTwoGroupsAtOnce(t *testing.T) {
	r := bareRig(t, 1)
	other := r.target.Dial(t)
	conn := &ahead{doer: r.target.Dial(t), word: "RENAME", do: func() {
		if _, err := probeAccepts(t.Context(), other, target{}, probeKey(r.job, 2)); err != nil {
			t.Error(err)
		}
	}}
	a, err := probeAccepts(t.Context(), conn, target{}, probeKey(r.job, 1))
	if err != nil || !a.renames() {
		t.Errorf("probe beside another one: got %v, %v, want that the target has RENAME", a, err)
	}
	r.noTemp("behind both")
}
