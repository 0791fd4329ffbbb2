package native

import (
	"testing"

	"tairlift/internal/rdb"
)

// Groups that have the same deleted entries pending cost no more than one.
func TestDeletedEntriesOfManyGroupsAreHeldOnce(t *testing.T) {
	const groups, pending = 20, 5000
	w := NewWriter(Options{Target: Target{Major: 7}}, func(Chunk) error { return nil })
	if err := w.Begin([]byte("k"), rdb.KindStream); err != nil {
		t.Fatal(err)
	}
	add := func(e rdb.StreamElement) {
		if err := w.Survey(rdb.Element{Stream: &e}); err != nil {
			t.Fatal(err)
		}
	}
	add(rdb.StreamElement{Part: rdb.StreamInfo, ID: rdb.StreamID{MS: 9_000_000, Seq: 1}})
	for g := range groups {
		add(rdb.StreamElement{Part: rdb.StreamGroup, Group: []byte{byte('a' + g)}})
		for i := range uint64(pending) {
			add(rdb.StreamElement{Part: rdb.StreamPending, ID: rdb.StreamID{MS: i + 1, Seq: 1}})
		}
		if n := len(w.stream.found); n > 2*pending+distinctEvery {
			t.Fatalf("ids held behind group %d: got %d, want at most %d", g, n, 2*pending+distinctEvery)
		}
	}
	w.stream.again()
	if n := len(w.stream.ghosts); n != pending {
		t.Errorf("deleted entries: got %d, want %d", n, pending)
	}
}
