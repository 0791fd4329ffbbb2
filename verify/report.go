package verify

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"tairlift/internal/repl"
)

// Verdict is the one word of a Report.
type Verdict string

// The verdicts.
const (
	Identical            Verdict = "identical"
	Different            Verdict = "different"
	Inconclusive         Verdict = "inconclusive"
	NoDifferenceInSample Verdict = "no-difference-in-sample"
)

// The exit codes of Report.Exit.
const (
	exitOK           = 0
	exitDifferent    = 1
	exitInconclusive = 3
)

// Counts are exact, in keys. Compared = Equal + Missing + Value + Type + TTL.
// What is not judged makes up the rest of SourceKeys: Unverifiable, Hot,
// Expiring, Duplicate, Unjudged (in which keys of the target alone, and second
// copies in another group, may be counted too). In a sample, SourceKeys and
// TargetKeys are all keys, the others those of the sample. At level counts,
// Compared is the keys counted on the source, and Missing and Extra the gaps.
type Counts struct {
	SourceKeys   int64 `json:"source_keys"` // a key that several groups hold counts once
	TargetKeys   int64 `json:"target_keys"`
	Compared     int64 `json:"compared"`
	Equal        int64 `json:"equal"`
	Missing      int64 `json:"missing"`
	Extra        int64 `json:"extra"`
	Value        int64 `json:"value"`
	Type         int64 `json:"type"`
	TTL          int64 `json:"ttl"` // the three TTL classes together
	Unverifiable int64 `json:"unverifiable"`
	Hot          int64 `json:"hot"`

	TTLMissing int64 `json:"ttl_missing"`
	TTLExtra   int64 `json:"ttl_extra"`
	TTLDrift   int64 `json:"ttl_drift"`
	Expiring   int64 `json:"expiring"`
	Duplicate  int64 `json:"duplicate"`
	Unjudged   int64 `json:"unjudged"`  // differed when last read; the run ended before they settled
	Converged  int64 `json:"converged"` // of Equal: differed at first and did not later
	Gone       int64 `json:"gone"`      // expired or deleted on both sides during the run; in no other count
	Copies     int64 `json:"copies"`    // keys found in another group too
}

func (c *Counts) add(d *Counts) {
	for _, p := range [...]struct{ to, from *int64 }{
		{&c.SourceKeys, &d.SourceKeys},
		{&c.TargetKeys, &d.TargetKeys},
		{&c.Compared, &d.Compared},
		{&c.Equal, &d.Equal},
		{&c.Missing, &d.Missing},
		{&c.Extra, &d.Extra},
		{&c.Value, &d.Value},
		{&c.Type, &d.Type},
		{&c.TTL, &d.TTL},
		{&c.Unverifiable, &d.Unverifiable},
		{&c.Hot, &d.Hot},
		{&c.TTLMissing, &d.TTLMissing},
		{&c.TTLExtra, &d.TTLExtra},
		{&c.TTLDrift, &d.TTLDrift},
		{&c.Expiring, &d.Expiring},
		{&c.Duplicate, &d.Duplicate},
		{&c.Unjudged, &d.Unjudged},
		{&c.Converged, &d.Converged},
		{&c.Gone, &d.Gone},
		{&c.Copies, &d.Copies},
	} {
		*p.to += *p.from
	}
}

// Differences is the number of keys that settled as different.
func (c *Counts) Differences() int64 { return c.Missing + c.Extra + c.Value + c.Type + c.TTL }

// undecided is the number of keys that keep a run from being conclusive.
func (c *Counts) undecided() int64 {
	return c.Unverifiable + c.Hot + c.Expiring + c.Duplicate + c.Unjudged
}

// count adds one key of a settled class.
func (c *Counts) count(class Class) {
	switch class {
	case equal:
		c.Equal++
	case Missing:
		c.Missing++
	case Extra:
		c.Extra++
		return // not a source key: not in Compared
	case Value:
		c.Value++
	case Type:
		c.Type++
	case TTLMissing:
		c.TTLMissing++
		c.TTL++
	case TTLExtra:
		c.TTLExtra++
		c.TTL++
	case TTLDrift:
		c.TTLDrift++
		c.TTL++
	case Unverifiable:
		c.Unverifiable++
		return
	case Hot:
		c.Hot++
		return
	case Expiring:
		c.Expiring++
		return
	case Duplicate:
		c.Duplicate++
		return
	}
	c.Compared++
}

// DBCounts are the counts of one db.
type DBCounts struct {
	DB       int  `json:"db"`                  // of the sources
	TargetDB *int `json:"target_db,omitempty"` // where it has another number there
	Counts
	SourceExpires int64 `json:"source_expires,omitempty"` // level counts: keys with a TTL
	TargetExpires int64 `json:"target_expires,omitempty"`
}

// Example is one key that is not equal.
type Example struct {
	Class  Class        `json:"class"`
	DB     int          `json:"db"`
	Group  repl.GroupID `json:"group,omitempty"` // that holds it; 0 for extra keys
	KeyB64 string       `json:"key_b64"`
	Key    string       `json:"key,omitempty"` // when it is printable
	Detail string       `json:"detail,omitempty"`
}

// Report is what a run found. Its JSON form is one object.
type Report struct {
	Verdict Verdict `json:"verdict"`
	Level   Level   `json:"level"`
	Counts
	PerDB     []DBCounts `json:"per_db"`
	Sample    *Sample    `json:"sample,omitempty"`
	TTLDrifts *Drift     `json:"ttl_drifts,omitempty"`
	// TTLHeld is how many of the deadlines that agree are held back on the target: its
	// keys do not expire before apply has set them exact.
	TTLHeld    int64     `json:"ttl_held"`
	Examples   []Example `json:"examples,omitempty"` // at most Options.Examples of each class
	Taints     []string  `json:"taints"`             // what makes the target doubtful, whatever is equal; see Taint
	Notes      []string  `json:"notes,omitempty"`
	Reason     string    `json:"reason,omitempty"` // why an inconclusive run is
	DurationMS int64     `json:"duration_ms"`
}

// Exit is the exit code of a verify that ended with this report: 0 identical or
// no difference in the sample, 1 different, 3 inconclusive.
func (r *Report) Exit() int {
	switch r.Verdict {
	case Identical, NoDifferenceInSample:
		return exitOK
	case Different:
		return exitDifferent
	}
	return exitInconclusive
}

// decide sets the verdict from the counts. failed is why the run ended early,
// nil when it did not.
func (r *Report) decide(failed error) {
	c := &r.Counts
	switch {
	case c.Differences() > 0:
		r.Verdict = Different
	case failed != nil:
		r.Verdict, r.Reason = Inconclusive, "the run ended early: "+failed.Error()
		if errors.Is(failed, errInterrupted) {
			r.Reason = "the run was interrupted"
		}
	case c.undecided() > 0:
		r.Verdict = Inconclusive
		r.Reason = "not every key could be judged: " + c.undecidedText()
	case c.Compared == 0 && r.Level == LevelSample && c.SourceKeys > 0:
		r.Verdict, r.Reason = Inconclusive, "the sample holds no key"
	case c.Compared == 0:
		r.Verdict, r.Reason = Inconclusive, "zero keys compared"
	case r.Level == LevelSample:
		r.Verdict = NoDifferenceInSample
	default:
		r.Verdict = Identical
	}
}

// Taint adds what makes the target doubtful. Only a comparison of every value
// can say that it is equal all the same, and not even that one of what happened
// during it.
func (r *Report) Taint(what string, during bool) {
	r.Taints = append(r.Taints, what)
	if r.Verdict == Identical && (during || r.Level != LevelFull) {
		r.Verdict, r.Reason = Inconclusive, what
	}
}

// tally collects counts and examples from all workers of a run.
type tally struct {
	mu       sync.Mutex
	dbs      map[int]*Counts
	examples map[Class][]Example
	keep     int
	place    func(db int) int // the target's number of a db
	expires  map[int][2]int64 // level counts: keys with a TTL, source and target
	drift    driftStats
	notes    []string
}

func newTally(keep int) *tally {
	return &tally{dbs: map[int]*Counts{}, examples: map[Class][]Example{}, expires: map[int][2]int64{}, keep: keep, place: func(db int) int { return db }}
}

// add moves c into the sums of db and clears it.
func (t *tally) add(db int, c *Counts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := t.dbs[db]
	if sum == nil {
		sum = &Counts{}
		t.dbs[db] = sum
	}
	sum.add(c)
	*c = Counts{}
}

// counts is what db has so far.
func (t *tally) counts(db int) Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.dbs[db]; c != nil {
		return *c
	}
	return Counts{}
}

// wants tells whether there is still room for an example: its text costs time.
func (t *tally) wants(class Class) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.examples[class]) < t.keep
}

func (t *tally) example(class Class, g repl.GroupID, db int, key, detail string) {
	e := Example{Class: class, DB: db, Group: g, KeyB64: base64.StdEncoding.EncodeToString([]byte(key)), Detail: detail}
	if printable(key) {
		e.Key = key
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.examples[class]) < t.keep {
		t.examples[class] = append(t.examples[class], e)
	}
}

func (t *tally) addDrift(d *driftStats) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drift.merge(d)
}

func (t *tally) note(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.notes = append(t.notes, text)
}

// classes are all classes of a report in the order in which it shows them.
var classes = []Class{Missing, Extra, Value, Type, TTLMissing, TTLExtra, TTLDrift, Unverifiable, Hot, Expiring, Duplicate}

// of is the number of keys of a class.
func (c *Counts) of(class Class) int64 {
	switch class {
	case Missing:
		return c.Missing
	case Extra:
		return c.Extra
	case Value:
		return c.Value
	case Type:
		return c.Type
	case TTLMissing:
		return c.TTLMissing
	case TTLExtra:
		return c.TTLExtra
	case TTLDrift:
		return c.TTLDrift
	case Unverifiable:
		return c.Unverifiable
	case Hot:
		return c.Hot
	case Expiring:
		return c.Expiring
	case Duplicate:
		return c.Duplicate
	}
	return 0
}

// report puts the sums into a Report, still without a verdict.
func (t *tally) report(level Level, took time.Duration) Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := Report{Level: level, PerDB: []DBCounts{}, Taints: []string{}, DurationMS: took.Milliseconds(), TTLDrifts: t.drift.summary(), TTLHeld: t.drift.held}
	for db, c := range t.dbs {
		e := t.expires[db]
		counts := DBCounts{DB: db, Counts: *c, SourceExpires: e[0], TargetExpires: e[1]}
		if at := t.place(db); at != db {
			counts.TargetDB = &at
		}
		r.PerDB = append(r.PerDB, counts)
		r.Counts.add(c)
	}
	slices.SortFunc(r.PerDB, func(a, b DBCounts) int { return a.DB - b.DB })
	for _, class := range classes {
		list := slices.Clone(t.examples[class])
		slices.SortStableFunc(list, func(a, b Example) int {
			if a.DB != b.DB {
				return a.DB - b.DB
			}
			return strings.Compare(a.KeyB64, b.KeyB64)
		})
		r.Examples = append(r.Examples, list...)
	}
	r.Notes = slices.Clone(t.notes)
	slices.Sort(r.Notes)
	return r
}

// printable tells whether a key can be shown to a person as it is.
func printable(key string) bool {
	if !utf8.ValidString(key) {
		return false
	}
	for _, r := range key {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
