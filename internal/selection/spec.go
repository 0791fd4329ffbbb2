package selection

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Spec is a selection in its parts. A part that is nil was not given.
type Spec struct {
	DBs           []int       `json:"db,omitempty"`     // of the sources
	DBMap         map[int]int `json:"db_map,omitempty"` // database of the sources -> of the target
	IncludePrefix []Text      `json:"include_prefix,omitempty"`
	ExcludePrefix []Text      `json:"exclude_prefix,omitempty"`
	IncludeRegex  []Text      `json:"include_regex,omitempty"`
	ExcludeRegex  []Text      `json:"exclude_regex,omitempty"`
}

// Text is a string of bytes. In JSON one that is not UTF-8 is {"base64": "..."}.
type Text string

type base64Text struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON implements json.Marshaler.
func (t Text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(base64Text{[]byte(t)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Text) UnmarshalJSON(raw []byte) error {
	var b base64Text
	if len(raw) > 0 && raw[0] == '{' {
		err := json.Unmarshal(raw, &b)
		*t = Text(b.Base64)
		return err
	}
	return json.Unmarshal(raw, (*string)(t))
}

// Error says why a selection makes no sense.
type Error struct {
	What string // one line of what
	Hint string // one line of what to do
}

func (e *Error) Error() string { return e.What }

func wrong(hint, format string, args ...any) error {
	return &Error{What: fmt.Sprintf(format, args...), Hint: hint}
}

// maxDB is above every number of a database that a server takes.
const maxDB = 1<<31 - 1

const (
	dbsHint = "write the numbers of databases: --db 0,1"
	mapHint = "write pairs of databases, source:target: --db-map 0:0,1:3"
)

// ParseDBs reads databases such as "0,1".
func ParseDBs(s string) ([]int, error) {
	dbs := []int{}
	for part := range strings.SplitSeq(s, ",") {
		db, err := parseDB(part)
		if err != nil {
			return nil, wrong(dbsHint, "--db %q: %v", s, err)
		}
		dbs = append(dbs, db)
	}
	slices.Sort(dbs)
	return slices.Compact(dbs), nil
}

// ParseDBMap reads pairs such as "0:0,1:3".
func ParseDBMap(s string) (map[int]int, error) {
	pairs := map[int]int{}
	for part := range strings.SplitSeq(s, ",") {
		source, target, ok := strings.Cut(part, ":")
		if !ok {
			return nil, wrong(mapHint, "--db-map %q: %q is no pair", s, part)
		}
		from, err := parseDB(source)
		if err != nil {
			return nil, wrong(mapHint, "--db-map %q: %v", s, err)
		}
		to, err := parseDB(target)
		if err != nil {
			return nil, wrong(mapHint, "--db-map %q: %v", s, err)
		}
		if was, ok := pairs[from]; ok && was != to {
			return nil, wrong(mapHint, "--db-map %q: database %d is mapped twice", s, from)
		}
		pairs[from] = to
	}
	return pairs, nil
}

func parseDB(s string) (int, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 64)
	if err != nil || n > maxDB {
		return 0, fmt.Errorf("%q is not the number of a database", s)
	}
	return int(n), nil
}

// tidy is s with each part in order and nothing twice.
func (s Spec) tidy() Spec {
	s.DBs = sorted(s.DBs)
	s.IncludePrefix, s.ExcludePrefix = sorted(s.IncludePrefix), sorted(s.ExcludePrefix)
	s.IncludeRegex, s.ExcludeRegex = sorted(s.IncludeRegex), sorted(s.ExcludeRegex)
	if s.DBMap != nil { // a database that keeps its number is as one that is not named
		s.DBMap = maps.Clone(s.DBMap)
		maps.DeleteFunc(s.DBMap, func(from, to int) bool { return from == to })
	}
	return s
}

func sorted[T int | Text](list []T) []T {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// IsZero tells whether s selects everything and moves nothing.
func (s Spec) IsZero() bool {
	return len(s.DBs)+len(s.IncludePrefix)+len(s.ExcludePrefix)+len(s.IncludeRegex)+len(s.ExcludeRegex) == 0 && len(s.tidy().DBMap) == 0
}

// Contradicts compares the parts of s that were given with those of another, and
// names the first that is not the same there, with both values.
func (s Spec) Contradicts(o Spec) (flag, has, other string, yes bool) {
	s, o = s.tidy(), o.tidy()
	a, b := s.parts(), o.parts()
	for i := range a {
		if a[i].given && a[i].text() != b[i].text() {
			return a[i].flag, a[i].text(), b[i].text(), true
		}
	}
	return "", "", "", false
}

// part is one of a Spec's, by the flag that gives it.
type part struct {
	flag   string
	given  bool
	values []string
}

func (p part) text() string {
	if len(p.values) == 0 {
		return "none"
	}
	return strings.Join(p.values, ",")
}

func (s Spec) parts() []part {
	pairs := []string{}
	for _, from := range slices.Sorted(maps.Keys(s.DBMap)) {
		pairs = append(pairs, fmt.Sprintf("%d:%d", from, s.DBMap[from]))
	}
	dbs := []string{}
	for _, db := range s.DBs {
		dbs = append(dbs, strconv.Itoa(db))
	}
	return []part{
		{"--db", s.DBs != nil, dbs},
		{"--db-map", s.DBMap != nil, pairs},
		{"--include-prefix", s.IncludePrefix != nil, quoted(s.IncludePrefix)},
		{"--exclude-prefix", s.ExcludePrefix != nil, quoted(s.ExcludePrefix)},
		{"--include-regex", s.IncludeRegex != nil, quoted(s.IncludeRegex)},
		{"--exclude-regex", s.ExcludeRegex != nil, quoted(s.ExcludeRegex)},
	}
}

func quoted(list []Text) []string {
	out := make([]string, len(list))
	for i, t := range list {
		out[i] = strconv.Quote(string(t))
	}
	return out
}

// String is the selection in one line, by the flags that give it; "everything"
// when there are none.
func (s Spec) String() string {
	var out []string
	for _, p := range s.tidy().parts() {
		if len(p.values) > 0 {
			out = append(out, p.flag+" "+p.text())
		}
	}
	if len(out) == 0 {
		return "everything"
	}
	return strings.Join(out, " ")
}

// digest tells selections apart: it is a part of a job's marks.
func (s Spec) digest() string {
	raw, err := json.Marshal(s.tidy())
	if err != nil {
		panic("selection: " + err.Error()) // numbers and strings can be written
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}
