package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tairlift/checkpoint"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// Names of our keys on the target, all in database 0.
const (
	keyPrefix = "tairlift:"
	jobsKey   = keyPrefix + "jobs" // a set: the ids of the jobs with marks here
)

// markKey is the name of a group's mark.
func markKey(job spool.JobID, g repl.GroupID) string {
	return groupKey("mark", job, g)
}

// groupKey names a key that a group has for itself.
func groupKey(kind string, job spool.JobID, g repl.GroupID) string {
	return fmt.Sprintf("%s%s:%s:%04d", keyPrefix, kind, job, uint32(g))
}

// markGroup is the group whose mark has the name; ok is false when it is none
// of the job's.
func markGroup(job spool.JobID, name string) (g repl.GroupID, ok bool) {
	num, ok := strings.CutPrefix(name, keyPrefix+"mark:"+job.String()+":")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(num, 10, 32)
	g = repl.GroupID(n)
	return g, err == nil && markKey(job, g) == name
}

// getMark reads a mark; there is false when there is none. A key of another type
// under its name has a text that is no mark.
func getMark(ctx context.Context, c doer, key string) (text string, there bool, err error) {
	r, err := c.Do(ctx, "GET", key)
	switch {
	case isWrongType(err):
		return err.Error(), true, nil
	case err != nil:
		return "", false, fmt.Errorf("get mark %s: %w", key, err)
	}
	return string(r.Str), !r.Null, nil
}

func isWrongType(err error) bool {
	var se resp.ServerError
	return errors.As(err, &se) && se.Code() == "WRONGTYPE"
}

// heartbeatPrefix begins the keys that the incumbent writes into a source.
const heartbeatPrefix = "DTS_REDIS_TIMESTAMP_HEARTBEAT"

// isOurs tells whether key is never copied: a key of tairlift's own or a
// heartbeat of another tool.
func isOurs(key []byte) bool {
	if len(key) == 0 {
		return false
	}
	switch key[0] {
	case 't':
		return len(key) >= len(keyPrefix) && string(key[:len(keyPrefix)]) == keyPrefix
	case 'D':
		return len(key) >= len(heartbeatPrefix) && string(key[:len(heartbeatPrefix)]) == heartbeatPrefix
	}
	return false
}

// Mark is the position of one lane, kept in the target in the same EXEC as the
// data it vouches for. Its text form is a line of key=value pairs.
type Mark struct {
	Owner string           // token of the session that may write
	Epoch repl.Epoch       // 0 until the first epoch begins
	Phase checkpoint.Phase // none, rdb, sweep or stream
	// Clearing says, in the stream phase, that the command behind Offset, which
	// empties databases, is being carried out: the group holds nothing any more
	// of what that empties. In the text it stands for the phase.
	Clearing bool
	// Swap says the same of a SWAPDB; see swap.go.
	Swap   Swap
	ReplID repl.ReplID // the epoch's history
	// Offset is the end of the last applied command; in the RDB phase the
	// offset of the snapshot's cut.
	Offset repl.Offset
	// Start is where the batch that wrote this mark began: the commands in
	// (Start, Offset] are those whose replies may be unread.
	Start   repl.Offset
	StartDB int // selected at Start
	DB      int // selected at Offset
	// RDB is the entry boundary below which every write was answered, and
	// RDBDB the database selected there.
	RDB   int64
	RDBDB int
	Keys  int64 // selected entries below RDB
	// Commands counts those of the source's stream up to Offset that were sent,
	// and the keys copied again among them: two marks at one offset differ by it.
	Commands int64
	RunID    string // of the target when the mark was written
	// Selection is the digest of what is applied; empty is everything.
	Selection string
	// TTL is how the group's deadlines stand on the target.
	TTL Deadlines
	// Timed says that keys of the group, or fields of hashes, have been given
	// deadlines: some may have died on the target. That none is left there tells
	// nothing, as all may have died. It is never taken back.
	Timed bool
	// Asked says that the batch that wrote this mark asked which of its keys were
	// still there: see asks.go.
	Asked bool
	// Past are the epochs before Epoch of which something may be on the target
	// that Epoch's RDB lacks, oldest first. Empty in the stream phase.
	Past []Delivered
	// Turns tell which SWAPDB of the epoch's stream were carried out.
	Turns spool.Turns
}

// Swap is how far a SWAPDB is carried out.
type Swap struct {
	Step int // 0 is none
	A, B int // databases of the source
}

// Delivered is how much of an epoch was applied before another took its place.
type Delivered struct {
	Epoch repl.Epoch
	// Until is the end of the stream's last command that was applied;
	// spool.WalkRDB when none was, of the RDB perhaps all, and spool.WalkAll when
	// it is not known.
	Until repl.Offset
	// Turns and Swap are those of the mark then.
	Turns spool.Turns
	Swap  Swap
}

// swaps begins a walk over what was delivered.
func (d Delivered) swaps() *spool.Swaps {
	if d.Until == spool.WalkAll { // nobody knows which were carried out
		return &spool.Swaps{Turns: spool.EverySwap}
	}
	return &spool.Swaps{Turns: d.Turns}
}

// walked says of the swaps behind that walk what it does not tell.
func (d Delivered) walked(s *spool.Swaps) {
	switch {
	case d.Until == spool.WalkAll:
		s.Loosen()
	case d.Swap.Step > 0:
		s.Halve(d.Swap.A, d.Swap.B)
	}
}

// Deadlines is how the deadlines of a group's keys stand on the target. The zero
// Deadlines is that of marks that do not tell: they were written exact.
type Deadlines uint8

// The ways in which they stand.
const (
	DeadlinesExact Deadlines = iota
	DeadlinesHeld            // all of them are held back: see package held
	DeadlinesMixed           // some are; the others may pass while apply is behind
)

var deadlineNames = [...]string{DeadlinesExact: "exact", DeadlinesHeld: "held", DeadlinesMixed: "mixed"}

// String is the word that stands in a mark.
func (d Deadlines) String() string {
	if int(d) < len(deadlineNames) {
		return deadlineNames[d]
	}
	return "deadlines?"
}

func parseDeadlines(s string) (Deadlines, error) {
	if i := slices.Index(deadlineNames[:], s); i >= 0 {
		return Deadlines(i), nil
	}
	return 0, errors.New("not exact, held or mixed")
}

// holding is what they are once some more are held.
func (d Deadlines) holding() Deadlines {
	if d == DeadlinesExact {
		return DeadlinesMixed
	}
	return d
}

const (
	markVersion = "2"     // 1 had no past
	markFields  = 15      // beside ttl, timed, asked, turns and swap, which older marks do not have
	phaseClear  = "clear" // see Mark.Clearing
	// maxPast bounds what is read as Past. It grows by one with each full sync
	// that comes before the one before it was applied whole.
	maxPast = 4096
	// maxTurns bounds how often in one epoch swaps may begin, or cease, to be
	// carried out.
	maxTurns = 64
)

// left is the past of the epoch that takes m's place.
func (m *Mark) left() []Delivered {
	past := slices.Clone(m.Past)
	if m.Phase == checkpoint.PhaseNone {
		return past
	}
	d := Delivered{Epoch: m.Epoch, Until: spool.WalkRDB}
	if m.Phase == checkpoint.PhaseStream {
		d.Until, d.Turns, d.Swap = m.Offset, m.Turns, m.Swap
	}
	for i, p := range past {
		if p.Epoch == d.Epoch { // it was begun twice, perhaps behind one whose RDB was not whole
			if d.Until > p.Until {
				past[i] = d
			}
			return past
		}
	}
	return append(past, d)
}

// String is the mark as it stands in the target.
func (m Mark) String() string {
	phase, replid, run := string(m.Phase), string(m.ReplID), m.RunID
	switch {
	case phase == "":
		phase = "none"
	case m.Clearing:
		phase = phaseClear
	}
	if replid == "" {
		replid = "-"
	}
	if run == "" {
		run = "-"
	}
	text := fmt.Sprintf("v=%s owner=%s epoch=%d phase=%s replid=%s offset=%d start=%d startdb=%d db=%d rdb=%d rdbdb=%d keys=%d cmds=%d run=%s past=%s ttl=%s",
		markVersion, m.Owner, m.Epoch, phase, replid, m.Offset, m.Start, m.StartDB, m.DB, m.RDB, m.RDBDB, m.Keys, m.Commands, run, pastText(m.Past), m.TTL)
	if m.Selection != "" { // which an older tairlift refuses, as it must
		text += " sel=" + m.Selection
	}
	if m.Timed {
		text += " timed=1"
	}
	if m.Asked {
		text += " asked=1"
	}
	if len(m.Turns) > 0 {
		text += " turns=" + turnsText(m.Turns, ",")
	}
	if m.Swap.Step > 0 {
		text += fmt.Sprintf(" swap=%d:%s", m.Swap.Step, m.Swap.dbs())
	}
	return text
}

func (s Swap) dbs() string { return fmt.Sprintf("%d-%d", s.A, s.B) }

// parseDBs reads what dbs printed.
func (s *Swap) parseDBs(text string) error {
	a, b, _ := strings.Cut(text, "-")
	n, err := strconv.ParseUint(a, 10, 31)
	m, berr := strconv.ParseUint(b, 10, 31)
	if err = errors.Join(err, berr); err == nil && n == m {
		err = fmt.Errorf("%q is no two databases", text)
	}
	s.A, s.B = int(n), int(m)
	return err
}

func turnsText(t spool.Turns, sep string) string {
	var items []string
	for _, o := range t {
		items = append(items, o.String())
	}
	return strings.Join(items, sep)
}

func parseTurns(text, sep string) (t spool.Turns, err error) {
	for item := range strings.SplitSeq(text, sep) {
		o, err := repl.ParseOffset(item)
		if err != nil {
			return nil, err
		}
		if n := len(t); n == maxTurns || n > 0 && t[n-1] >= o {
			return nil, fmt.Errorf("offset %s is not behind the one before, or one of more than %d", item, maxTurns)
		}
		t = append(t, o)
	}
	return t, nil
}

// pastText is "-", or the epochs as 1:rdb,2:8125,3:all; behind @ are turns, and
// behind ~ the databases of a swap under way: 2:8125@700/900~0-1.
func pastText(past []Delivered) string {
	if len(past) == 0 {
		return "-"
	}
	var b strings.Builder
	for i, d := range past {
		if i > 0 {
			b.WriteByte(',')
		}
		end := d.Until.String()
		switch d.Until {
		case spool.WalkRDB:
			end = "rdb"
		case spool.WalkAll:
			end = "all"
		}
		fmt.Fprintf(&b, "%d:%s", d.Epoch, end)
		if len(d.Turns) > 0 {
			b.WriteString("@" + turnsText(d.Turns, "/"))
		}
		if d.Swap.Step > 0 {
			b.WriteString("~" + d.Swap.dbs())
		}
	}
	return b.String()
}

func parsePast(s string) ([]Delivered, error) {
	if s == "-" {
		return nil, nil
	}
	items := strings.Split(s, ",")
	if len(items) > maxPast {
		return nil, fmt.Errorf("%d epochs, expected %d at most", len(items), maxPast)
	}
	var past []Delivered
	for _, item := range items {
		item, dbs, half := strings.Cut(item, "~")
		item, turns, swapped := strings.Cut(item, "@")
		epoch, end, _ := strings.Cut(item, ":")
		n, err := strconv.ParseUint(epoch, 10, 32)
		d := Delivered{Epoch: repl.Epoch(n)}
		if swapped && err == nil {
			d.Turns, err = parseTurns(turns, "/")
		}
		if half && err == nil {
			d.Swap.Step = 1
			err = d.Swap.parseDBs(dbs)
		}
		switch end {
		case "rdb":
			d.Until = spool.WalkRDB
		case "all":
			d.Until = spool.WalkAll
		default:
			if err == nil {
				d.Until, err = repl.ParseOffset(end)
			}
		}
		if err != nil {
			return nil, err
		}
		if last := len(past) - 1; last >= 0 && past[last].Epoch >= d.Epoch {
			return nil, fmt.Errorf("epoch %d is not behind epoch %d", d.Epoch, past[last].Epoch)
		}
		past = append(past, d)
	}
	return past, nil
}

// ParseMark reads what String printed. Fields may come in any order; an
// unknown version, an unknown or a missing field is an error.
func ParseMark(s string) (Mark, error) {
	var m Mark
	seen, told := 0, false
	num := func(v string, bits int) (int64, error) { return strconv.ParseInt(v, 10, bits) }
	for field := range strings.FieldsSeq(s) {
		k, v, ok := strings.Cut(field, "=")
		if !ok {
			return Mark{}, fmt.Errorf("parse mark %q: field %q has no value", s, field)
		}
		var err error
		var n int64
		switch k {
		case "v":
			switch v {
			case markVersion:
			case "1":
				seen++ // the past
			default:
				err = fmt.Errorf("version %q, expected %s or earlier", v, markVersion)
			}
		case "owner":
			m.Owner = v
		case "epoch":
			n, err = num(v, 32)
			m.Epoch = repl.Epoch(n)
		case "phase":
			switch p := checkpoint.Phase(v); p {
			case "none":
			case phaseClear:
				m.Phase, m.Clearing = checkpoint.PhaseStream, true
			case checkpoint.PhaseRDB, checkpoint.PhaseSweep, checkpoint.PhaseStream:
				m.Phase = p
			default:
				err = errors.New("unknown phase")
			}
		case "replid":
			if v != "-" {
				m.ReplID, err = repl.ParseReplID(v)
			}
		case "offset":
			m.Offset, err = repl.ParseOffset(v)
		case "start":
			m.Start, err = repl.ParseOffset(v)
		case "startdb":
			n, err = num(v, 32)
			m.StartDB = int(n)
		case "db":
			n, err = num(v, 32)
			m.DB = int(n)
		case "rdb":
			m.RDB, err = num(v, 64)
		case "rdbdb":
			n, err = num(v, 32)
			m.RDBDB = int(n)
		case "keys":
			m.Keys, err = num(v, 64)
		case "cmds":
			m.Commands, err = num(v, 64)
		case "run":
			if v != "-" {
				m.RunID = v
			}
		case "sel":
			if m.Selection = v; v == "" {
				err = errors.New("empty")
			}
			seen-- // it need not be there
		case "past":
			m.Past, err = parsePast(v)
		case "ttl":
			m.TTL, err = parseDeadlines(v)
			seen--
			told = true
		case "timed":
			if m.Timed = v == "1"; !m.Timed {
				err = errors.New("not 1")
			}
			seen--
		case "asked":
			if m.Asked = v == "1"; !m.Asked {
				err = errors.New("not 1")
			}
			seen--
		case "turns":
			m.Turns, err = parseTurns(v, ",")
			seen--
		case "swap":
			step, dbs, _ := strings.Cut(v, ":")
			if n, err = num(step, 32); err == nil && (n < 1 || n > swapSteps) {
				err = errors.New("no such step")
			}
			m.Swap.Step = int(n)
			err = errors.Join(err, m.Swap.parseDBs(dbs))
			seen--
		default:
			err = errors.New("unknown field")
		}
		if err != nil {
			return Mark{}, fmt.Errorf("parse mark %q: field %s: %w", s, k, err)
		}
		seen++
	}
	if seen != markFields || m.RDB < 0 || m.DB < 0 || m.StartDB < 0 || m.RDBDB < 0 {
		return Mark{}, fmt.Errorf("parse mark %q: %d fields, expected %d and no negative number", s, seen, markFields)
	}
	m.Timed = m.Timed || !told // an older one does not say
	return m, nil
}
