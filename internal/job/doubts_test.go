package job

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tairlift/apply"
	"tairlift/checkpoint"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

func TestStatusListsRejectsAndDoubtfulKeys(t *testing.T) {
	store, err := checkpoint.OpenApply(filepath.Join(t.TempDir(), "apply.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	reject := func(name, word string, at repl.Offset) (checkpoint.Reject, checkpoint.Doubt) {
		return checkpoint.Reject{
			Group: 1, Epoch: 2, Offset: at, Phase: checkpoint.PhaseStream, DB: 3, Keys: [][]byte{[]byte(name)},
			Command: resp.AppendCommandStrings(nil, word, name, "a secret"), Error: "WRONGTYPE Operation", Applied: true,
		}, checkpoint.Doubt{Group: 1, Epoch: 2, DB: 3, Key: []byte(name), Why: "reject", Offset: at, Own: true}
	}
	first, d1 := reject("healed", "incr", 100)
	second, d2 := reject("k\x00\xff", "RPUSH", 200)
	check(store.AddRejects([]checkpoint.Reject{first, second}, []checkpoint.Doubt{d1, d2}))
	check(store.HealDoubts([]checkpoint.Doubt{d1}, checkpoint.Heal{Epoch: 2, Offset: 150}))
	d2.Held = "target-refuses: ERR DUMP payload version or checksum are wrong"
	check(store.HoldDoubts([]checkpoint.Doubt{d2}))

	lists := doubtLists{store: store, seen: map[repl.GroupID]doubtList{}}
	st := apply.Status{Group: 1, Rejects: 1, Doubtful: 1, Healed: 1, Held: 1}
	got := lists.of(st)
	wantRejected := []Rejected{{Epoch: 2, Phase: "stream", Offset: 200, DB: 3, Key: `k\x00\xff`, Command: "RPUSH", Error: "WRONGTYPE Operation"}}
	wantDoubts := []Doubtful{{DB: 3, Key: `k\x00\xff`, Why: "reject", Epoch: 2, Offset: 200, Held: d2.Held}}
	if diff := cmp.Diff(wantRejected, got.rejected); diff != "" {
		t.Errorf("rejects that are not healed (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(wantDoubts, got.doubts); diff != "" {
		t.Errorf("doubtful keys (-want +got)\n%s", diff)
	}

	s := Status{Groups: []GroupStatus{{ID: 1, Rejects: ptr(1), Doubtful: ptr(1), Rejected: got.rejected, Doubts: got.doubts}}}
	var text strings.Builder
	check(s.Text(&text))
	for _, want := range []string{
		`rejected  group 1  epoch 2  offset 200  DB3  RPUSH "k\x00\xff"  WRONGTYPE Operation`,
		`doubtful  group 1  epoch 2  offset 200  DB3  "k\x00\xff"        reject; cannot be copied again: target-refuses: ERR DUMP payload version or checksum are wrong`,
	} {
		if !strings.Contains(text.String(), want+"\n") {
			t.Errorf("text: got %s, want the line %s", text.String(), want)
		}
	}
	if strings.Contains(text.String(), "secret") {
		t.Error("the text shows a value")
	}

	var more []checkpoint.Doubt
	for i := range 50 {
		_, d := reject(fmt.Sprintf("%02d", i), "INCR", repl.Offset(1000+i))
		more = append(more, d)
	}
	check(store.AddDoubts(more))
	st.Doubtful = 51
	if got := lists.of(st); len(got.doubts) != maxListed || got.why["reject"] != 51 {
		t.Errorf("of 51 doubtful keys: got %d listed, %v, want %d, all by reject", len(got.doubts), got.why, maxListed)
	}
	s.Groups[0].Doubtful, s.Groups[0].Doubts = ptr(51), lists.of(st).doubts
	text.Reset()
	check(s.Text(&text))
	if want := "and 41 more"; !strings.Contains(text.String(), want) {
		t.Errorf("text: got %s, want it to end with %q", text.String(), want)
	}
}
