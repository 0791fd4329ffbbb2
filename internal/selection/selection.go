package selection

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// None is no database.
const None = -1

// Selection is a Spec to be asked. It never changes; a nil one is everything.
type Selection struct {
	spec   Spec
	digest string
	dbs    map[int]bool // nil is all
	to     map[int]int  // of those that are moved
	from   map[int]int  // the same, by where they go
	names  bool         // keys are told by their names too

	include, exclude names
}

// names is a set of names.
type names struct {
	prefixes []string
	regexes  []*regexp.Regexp
}

// New makes a selection; nil for a Spec that selects everything and moves
// nothing. Its errors are *Error.
func New(spec Spec) (*Selection, error) {
	spec = spec.tidy()
	if spec.IsZero() {
		return nil, nil
	}
	s := &Selection{spec: spec, digest: spec.digest(), to: spec.DBMap, from: map[int]int{}}
	if len(spec.DBs) > 0 {
		s.dbs = map[int]bool{}
		for _, db := range spec.DBs {
			s.dbs[db] = true
		}
	}
	if err := s.place(); err != nil {
		return nil, err
	}
	var err error
	if s.include, err = newNames("--include", spec.IncludePrefix, spec.IncludeRegex); err != nil {
		return nil, err
	}
	if s.exclude, err = newNames("--exclude", spec.ExcludePrefix, spec.ExcludeRegex); err != nil {
		return nil, err
	}
	s.names = !s.include.none() || !s.exclude.none()
	return s, nil
}

// place makes sure that no two databases go to one.
func (s *Selection) place() error {
	for _, db := range slices.Concat(s.spec.DBs, slices.Sorted(maps.Keys(s.to))) {
		if to, ok := s.to[db]; db < 0 || db > maxDB || ok && (to < 0 || to > maxDB) {
			return wrong(dbsHint, "database %d, or where it goes, is out of range", db)
		}
	}
	for _, from := range slices.Sorted(maps.Keys(s.to)) {
		to := s.to[from]
		if !s.DB(from) {
			return wrong(fmt.Sprintf("add %d to --db, or leave it out of --db-map", from), "--db-map moves database %d, which --db does not select", from)
		}
		other, taken := s.from[to]
		if _, moves := s.to[to]; !taken && !moves && s.DB(to) {
			other, taken = to, true // it stays
		}
		if taken {
			return wrong("give each selected database a place of its own by --db-map, or select fewer by --db",
				"databases %d and %d of the sources would both go to database %d of the target", min(from, other), max(from, other), to)
		}
		s.from[to] = from
	}
	return nil
}

func newNames(flag string, prefixes, regexes []Text) (n names, err error) {
	for _, p := range prefixes {
		if p == "" {
			return n, wrong("give the first bytes of names, or leave the flag out", "%s-prefix is empty", flag)
		}
		n.prefixes = append(n.prefixes, string(p))
	}
	for _, r := range regexes {
		if r == "" {
			return n, wrong("give an expression, or leave the flag out", "%s-regex is empty", flag)
		}
		re, err := regexp.Compile(string(r))
		if err != nil {
			what := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
			return n, wrong("write an expression as RE2 knows it, such as '^user:[0-9]+$'", "%s-regex %q: %s", flag, string(r), what)
		}
		n.regexes = append(n.regexes, re)
	}
	return n, nil
}

func (n *names) none() bool { return len(n.prefixes)+len(n.regexes) == 0 }

func (n *names) has(key []byte) bool {
	for _, p := range n.prefixes {
		if len(key) >= len(p) && string(key[:len(p)]) == p {
			return true
		}
	}
	for _, r := range n.regexes {
		if r.Match(key) {
			return true
		}
	}
	return false
}

// DB tells whether any key of a database of the sources is selected.
func (s *Selection) DB(db int) bool { return s == nil || s.dbs == nil || s.dbs[db] }

// Key tells whether a key of that name is selected in a database that is.
func (s *Selection) Key(key []byte) bool {
	return s == nil || !s.names || (s.include.none() || s.include.has(key)) && !s.exclude.has(key)
}

// Has tells whether a key in a database of the sources is selected.
func (s *Selection) Has(db int, key []byte) bool { return s == nil || s.DB(db) && s.Key(key) }

// ByName tells whether keys of one database may differ in being selected.
func (s *Selection) ByName() bool { return s != nil && s.names }

// To is the database of the target for one of the sources', which is selected.
func (s *Selection) To(db int) int {
	if s != nil {
		if to, ok := s.to[db]; ok {
			return to
		}
	}
	return db
}

// From is the database of the sources whose keys go to one of the target, or
// None.
func (s *Selection) From(target int) int {
	if s == nil {
		return target
	}
	if from, ok := s.from[target]; ok {
		return from
	}
	if _, moves := s.to[target]; moves || !s.DB(target) {
		return None
	}
	return target
}

// Any is a selected database of the sources.
func (s *Selection) Any() int {
	if s == nil || len(s.spec.DBs) == 0 {
		return 0
	}
	return s.spec.DBs[0]
}

// Spec is what the selection was made of, in order; the zero of a nil one.
func (s *Selection) Spec() Spec {
	if s == nil {
		return Spec{}
	}
	return s.spec
}

// String is one line.
func (s *Selection) String() string { return s.Spec().String() }

// Digest tells selections apart; empty of a nil one.
func (s *Selection) Digest() string {
	if s == nil {
		return ""
	}
	return s.digest
}
