package apply

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

type namedKey struct {
	db  int
	key string
}

// drain takes out names, step by step, until there are n of them or none is left.
func drain(t interface{ Fatal(...any) }, q *nameQueue, step, n int) (got []namedKey) {
	for q.n > 0 && len(got) < n {
		db, keys, rest, err := q.first(step)
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) == 0 {
			t.Fatal("no name, and some are left")
		}
		for _, k := range keys {
			got = append(got, namedKey{db, string(k)})
		}
		q.drop(len(keys), rest)
	}
	return got
}

// Every name that was put in comes out, in its order, but for repetitions;
// however many blocks there are, and whether they are read while others come.
func TestNamesComeOutAsTheyWentIn(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		q := newNameQueue(filepath.Join(dir, "names"), 1<<40)
		defer q.reset()
		var want, got []namedKey
		for range rapid.IntRange(1, 6).Draw(t, "turns") {
			pad := string(make([]byte, rapid.SampledFrom([]int{0, 10, 300, nameBlock / 2, nameBlock}).Draw(t, "length")))
			for i := range rapid.IntRange(0, 60).Draw(t, "names") {
				name := namedKey{i % 7 % 3, pad + string(rune('a'+i%50))}
				if err := q.add(name.db, []byte(name.key)); err != nil {
					t.Fatal(err)
				}
				want = append(want, name)
			}
			got = append(got, drain(t, q, rapid.IntRange(1, 100).Draw(t, "step"), rapid.IntRange(0, 300).Draw(t, "taken"))...)
		}
		got = append(got, drain(t, q, 1000, 1<<30)...)
		i := 0
		for _, w := range want {
			if i < len(got) && got[i] == w {
				i++
			} else if !slices.Contains(got[:i], w) {
				t.Fatalf("name %.20q of database %d did not come out in its place", w.key, w.db)
			}
		}
		if i != len(got) {
			t.Fatalf("%d names came out, expected %d", len(got), i)
		}
		if q.read != q.end {
			t.Fatalf("the file has %d bytes left", q.end-q.read)
		}
	})
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("files left: got %v, %v, want none", left, err)
	}
}

// A name that came out may come again.
func TestANameComesAgain(t *testing.T) {
	q := newNameQueue(filepath.Join(t.TempDir(), "names"), 1<<40)
	for i := range 3 {
		if err := q.add(0, []byte("a")); err != nil {
			t.Fatal(err)
		}
		if got := drain(t, q, 10, 10); len(got) != 1 {
			t.Errorf("turn %d: got %v, want one name", i, got)
		}
	}
}

func TestANameThatIsNotKeptIsToldOf(t *testing.T) {
	q := newNameQueue(filepath.Join(t.TempDir(), "names"), 2)
	for _, key := range []string{"a", "b", "a", "b"} {
		if err := q.add(0, []byte(key)); err != nil {
			t.Fatalf("add %s: %v", key, err)
		}
	}
	if err := q.add(1, []byte("a")); !errors.Is(err, errManyNames) {
		t.Errorf("a third name: got %v, want %v", err, errManyNames)
	}
	q = newNameQueue(filepath.Join(t.TempDir(), "none", "names"), 1<<40)
	for i := range 3 {
		if err := q.add(i, make([]byte, nameBlock/3)); (err != nil) != (i == 2) {
			t.Errorf("name %d, and no file can be made: got %v", i, err)
		}
	}
	if got := drain(t, q, 10, 10); len(got) != 2 {
		t.Errorf("names: got %d, want the two that memory took", len(got))
	}
}
