package selection

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func mustNew(t testing.TB, spec Spec) *Selection {
	t.Helper()
	s, err := New(spec)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWhichKeysAreSelected(t *testing.T) {
	for _, c := range []struct {
		name string
		spec Spec
		yes  []string // in database 1
		no   []string
	}{
		{"nothing is given", Spec{}, []string{"", "a", "\xff"}, nil},
		{"a database that is", Spec{DBs: []int{0, 1}}, []string{"a"}, nil},
		{"a database that is not", Spec{DBs: []int{0, 2}}, nil, []string{"a", ""}},
		{"one prefix of two", Spec{IncludePrefix: []Text{"user:", "cart:"}}, []string{"user:", "user:1", "cart:1"}, []string{"", "user", "xuser:1", "USER:1"}},
		{"a prefix that is no text", Spec{IncludePrefix: []Text{"\xff\x00"}}, []string{"\xff\x00", "\xff\x00a"}, []string{"\xff", "a\xff\x00"}},
		{"an expression anywhere", Spec{IncludeRegex: []Text{"[0-9]{2,}"}}, []string{"a12", "12"}, []string{"a1", ""}},
		{"an expression or a prefix", Spec{IncludePrefix: []Text{"a"}, IncludeRegex: []Text{"b$"}}, []string{"ax", "xb"}, []string{"xbx"}},
		{"out goes before in", Spec{IncludePrefix: []Text{"user:"}, ExcludePrefix: []Text{"user:tmp:"}, ExcludeRegex: []Text{"^user:x$"}}, []string{"user:1", "user:xx"}, []string{"user:tmp:1", "user:x"}},
		{"all but some", Spec{ExcludePrefix: []Text{"tmp:"}}, []string{"a", "", "atmp:"}, []string{"tmp:", "tmp:a"}},
		{"a byte that is not UTF-8", Spec{IncludeRegex: []Text{`^\x{FFFD}a`}}, []string{"\xffa"}, []string{"a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mustNew(t, c.spec)
			for _, key := range c.yes {
				if !s.Has(1, []byte(key)) {
					t.Errorf("%q: got left out, want selected", key)
				}
			}
			for _, key := range c.no {
				if s.Has(1, []byte(key)) {
					t.Errorf("%q: got selected, want left out", key)
				}
			}
		})
	}
}

func TestWhereDatabasesGo(t *testing.T) {
	s := mustNew(t, Spec{DBs: []int{0, 1, 2}, DBMap: map[int]int{1: 3, 2: 1}})
	for db, want := range map[int]int{0: 0, 1: 3, 2: 1} {
		if got := s.To(db); got != want {
			t.Errorf("database %d goes to %d, want %d", db, got, want)
		}
	}
	for target, want := range map[int]int{0: 0, 1: 2, 2: None, 3: 1, 4: None} {
		if got := s.From(target); got != want {
			t.Errorf("database %d of the target is that of %d, want %d", target, got, want)
		}
	}
	if s.Any() != 0 {
		t.Errorf("got database %d, want a selected one", s.Any())
	}
}

// A database of the target is that of one of the sources' at most, and each
// selected one has its place.
func TestNoTwoDatabasesGoToOne(t *testing.T) {
	few := rapid.IntRange(0, 7)
	rapid.Check(t, func(t *rapid.T) {
		spec := Spec{DBMap: rapid.MapOf(few, few).Draw(t, "map")}
		if rapid.Bool().Draw(t, "some") {
			spec.DBs = rapid.SliceOfN(few, 1, 5).Draw(t, "dbs")
		}
		s, err := New(spec)
		places := map[int]int{}
		clash := false
		for db := range 16 {
			if len(spec.DBs) > 0 && !contains(spec.DBs, db) {
				_, moved := spec.DBMap[db]
				clash = clash || moved && spec.DBMap[db] != db
				continue
			}
			to, ok := spec.DBMap[db]
			if !ok {
				to = db
			}
			_, taken := places[to]
			clash = clash || taken
			places[to] = db
		}
		if clash != (err != nil) {
			t.Fatalf("got error %v, want one: %v", err, clash)
		}
		if err != nil {
			return
		}
		for target := range 16 {
			want, ok := places[target]
			if !ok {
				want = None
			}
			if got := s.From(target); got != want {
				t.Fatalf("database %d of the target is that of %d, want %d", target, got, want)
			}
			if ok && s.To(want) != target {
				t.Fatalf("database %d goes to %d, want %d", want, s.To(want), target)
			}
		}
	})
}

func contains(list []int, n int) bool {
	for _, v := range list {
		if v == n {
			return true
		}
	}
	return false
}

func TestWhatMakesNoSense(t *testing.T) {
	for _, c := range []struct {
		name string
		spec Spec
		want string
	}{
		{"two to one", Spec{DBs: []int{1, 2}, DBMap: map[int]int{1: 5, 2: 5}}, "databases 1 and 2 of the sources would both go to database 5 of the target"},
		{"onto one that stays", Spec{DBMap: map[int]int{1: 0}}, "databases 0 and 1 of the sources would both go to database 0"},
		{"one that is not selected", Spec{DBs: []int{0}, DBMap: map[int]int{1: 3}}, "moves database 1, which --db does not select"},
		{"no expression", Spec{IncludeRegex: []Text{"a("}}, `--include-regex "a(": missing closing ): `},
		{"an empty prefix", Spec{ExcludePrefix: []Text{""}}, "--exclude-prefix is empty"},
		{"an empty expression", Spec{ExcludeRegex: []Text{""}}, "--exclude-regex is empty"},
		{"a database below 0", Spec{DBs: []int{-1}}, "out of range"},
	} {
		_, err := New(c.spec)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.What, c.want) || e.Hint == "" {
			t.Errorf("%s: got %v, want %q and a hint", c.name, err, c.want)
		}
	}
	for _, s := range []string{"", "a", "0,", "-1", "0-3", "99999999999", "0,,1"} {
		if dbs, err := ParseDBs(s); err == nil {
			t.Errorf("--db %q: got %v, want an error", s, dbs)
		}
	}
	for _, s := range []string{"", "0", "0:", ":1", "0:1,0:2", "a:1", "0:1:2"} {
		if m, err := ParseDBMap(s); err == nil {
			t.Errorf("--db-map %q: got %v, want an error", s, m)
		}
	}
}

func TestASwapIsNoCollision(t *testing.T) {
	s := mustNew(t, Spec{DBMap: map[int]int{0: 1, 1: 0}})
	if s.To(0) != 1 || s.To(1) != 0 || s.From(0) != 1 || s.From(2) != 2 {
		t.Errorf("got %d %d %d %d, want 1 0 1 2", s.To(0), s.To(1), s.From(0), s.From(2))
	}
}

// What was written down is the same selection when it is read, and one that
// says the same in another order.
func TestSelectionsAreToldApart(t *testing.T) {
	full := Spec{
		DBs: []int{1, 0}, DBMap: map[int]int{1: 3, 0: 0}, IncludePrefix: []Text{"b", "a", "\xff"}, ExcludePrefix: []Text{"x"},
		IncludeRegex: []Text{"a,b"}, ExcludeRegex: []Text{"z"},
	}
	raw, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	var read Spec
	if err := json.Unmarshal(raw, &read); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full, read); diff != "" {
		t.Errorf("want what was written (-want +got):\n%s", diff)
	}
	a := mustNew(t, full)
	b := mustNew(t, Spec{
		DBs: []int{0, 1, 1}, DBMap: map[int]int{1: 3}, IncludePrefix: []Text{"\xff", "a", "b"}, ExcludePrefix: []Text{"x"},
		IncludeRegex: []Text{"a,b"}, ExcludeRegex: []Text{"z"},
	})
	if a.Digest() != b.Digest() || a.String() != b.String() {
		t.Errorf("got %s (%s) and %s (%s), want the same", a.Digest(), a, b.Digest(), b)
	}
	const want = `--db 0,1 --db-map 1:3 --include-prefix "a","b","\xff" --exclude-prefix "x" --include-regex "a,b" --exclude-regex "z"`
	if a.String() != want {
		t.Errorf("got %s, want %s", a, want)
	}
	seen := map[string]string{"": "everything"}
	for _, s := range []Spec{
		{DBs: []int{0}},
		{DBs: []int{0, 1}},
		{DBMap: map[int]int{0: 1, 1: 0}},
		{IncludePrefix: []Text{"a"}},
		{ExcludePrefix: []Text{"a"}},
		{IncludeRegex: []Text{"a"}},
		{ExcludeRegex: []Text{"a"}},
		full,
	} {
		d := mustNew(t, s).Digest()
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s have one digest", s, other)
		}
		seen[d] = s.String()
	}
}

func TestWhatContradicts(t *testing.T) {
	known := Spec{DBs: []int{0, 1}, DBMap: map[int]int{1: 3}, IncludePrefix: []Text{"a"}}
	for _, c := range []struct {
		name  string
		given Spec
		want  string
	}{
		{"nothing is given", Spec{}, ""},
		{"the same", known, ""},
		{"a part of it", Spec{DBs: []int{1, 0}}, ""},
		{"the same with a pair that says nothing", Spec{DBMap: map[int]int{0: 0, 1: 3}}, ""},
		{"other databases", Spec{DBs: []int{0}}, "--db 0 0,1"},
		{"no move where there is one", Spec{DBMap: map[int]int{1: 1}}, "--db-map none 1:3"},
		{"another prefix", Spec{IncludePrefix: []Text{"b"}}, `--include-prefix "b" "a"`},
		{"what was not there", Spec{ExcludeRegex: []Text{"x"}}, `--exclude-regex "x" none`},
	} {
		flag, has, other, yes := c.given.Contradicts(known)
		if got := strings.TrimSpace(strings.Join([]string{flag, has, other}, " ")); got != c.want || yes != (c.want != "") {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestNothingIsAllocatedForAKey(t *testing.T) {
	s := mustNew(t, Spec{
		DBs: []int{0, 1}, DBMap: map[int]int{1: 3}, IncludePrefix: []Text{"user:", "cart:"}, IncludeRegex: []Text{"[a-z]+:[0-9]{2}"},
		ExcludePrefix: []Text{"user:tmp"}, ExcludeRegex: []Text{"(x|y)+$"},
	})
	key := []byte("session:12345")
	if !s.Has(1, key) {
		t.Fatal("got left out, want selected")
	}
	if n := testing.AllocsPerRun(1000, func() { s.Has(1, key); s.To(1); s.From(3) }); n != 0 {
		t.Errorf("got %v allocations for a key, want 0", n)
	}
}

// Whatever is typed is refused, or gives a selection that says of itself what
// was typed.
func FuzzSelection(f *testing.F) {
	f.Add("0,1", "1:3", "a", "^b", []byte("key"))
	f.Add("", "0:1,1:0", "\xff", "a{2,3}", []byte{})
	f.Add("7", "", "", `\`, []byte("\xff\xfe"))
	f.Fuzz(func(t *testing.T, dbs, pairs, prefix, regex string, key []byte) {
		var spec Spec
		var err error
		if dbs != "" {
			if spec.DBs, err = ParseDBs(dbs); err != nil {
				return
			}
		}
		if pairs != "" {
			if spec.DBMap, err = ParseDBMap(pairs); err != nil {
				return
			}
		}
		if prefix != "" {
			spec.IncludePrefix = []Text{Text(prefix)}
		}
		if regex != "" {
			spec.ExcludeRegex = []Text{Text(regex)}
		}
		s, err := New(spec)
		if err != nil {
			return
		}
		raw, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		var read Spec
		if err := json.Unmarshal(raw, &read); err != nil {
			t.Fatal(err)
		}
		again := mustNew(t, read)
		if again.Digest() != s.Digest() {
			t.Fatalf("%s read again is %s", s, again)
		}
		if flag, _, _, yes := spec.Contradicts(read); yes {
			t.Fatalf("%s contradicts itself by %s", s, flag)
		}
		for _, db := range append(spec.DBs, 0, 1) {
			if s.Has(db, key) && s.From(s.To(db)) != db {
				t.Fatalf("%s: database %d goes to %d, which is that of %d", s, db, s.To(db), s.From(s.To(db)))
			}
		}
	})
}
