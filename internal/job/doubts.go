package job

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"tairlift/apply"
	"tairlift/checkpoint"
	"tairlift/internal/repl"
)

// Rejected is a command that the target refused for good, and one of whose keys
// is doubtful still.
type Rejected struct {
	Epoch   repl.Epoch  `json:"epoch"`
	Phase   string      `json:"phase"` // rdb | stream
	Offset  repl.Offset `json:"offset"`
	DB      int         `json:"db"`
	Key     string      `json:"key"` // the first
	Command string      `json:"command"`
	Error   string      `json:"error"`
}

// Doubtful is a key whose value on the target may differ.
type Doubtful struct {
	DB     int         `json:"db"`
	Key    string      `json:"key"`
	Why    string      `json:"why"`
	Epoch  repl.Epoch  `json:"epoch"`
	Offset repl.Offset `json:"offset"`
	Held   string      `json:"held,omitempty"` // why it cannot be copied again
}

// maxListed bounds what a status lists of a group's rejects, and of its
// doubtful keys.
const maxListed = 10

// doubtLists tells which commands were rejected and which keys are doubtful, and
// why; it reads the store only when their numbers have changed. It is used by one
// goroutine.
type doubtLists struct {
	store *checkpoint.Apply
	seen  map[repl.GroupID]doubtList
}

type doubtList struct {
	rejects, doubtful, held, healed int

	why      map[string]int
	rejected []Rejected
	doubts   []Doubtful
}

// of completes what is published of a group.
func (d *doubtLists) of(st apply.Status) doubtList {
	l := doubtList{rejects: st.Rejects, doubtful: st.Doubtful, held: st.Held, healed: st.Healed}
	if c := d.seen[st.Group]; c.rejects == l.rejects && c.doubtful == l.doubtful && c.held == l.held && c.healed == l.healed {
		return c
	}
	if err := l.read(d.store, st.Group); err != nil {
		return l // the numbers are what counts
	}
	d.seen[st.Group] = l
	return l
}

var errEnough = errors.New("enough")

func (l *doubtList) read(store *checkpoint.Apply, g repl.GroupID) error {
	l.why, l.rejected, l.doubts = nil, nil, nil
	if l.doubtful > 0 {
		l.why = map[string]int{}
		err := store.Doubts(g, func(d checkpoint.Doubt) error {
			l.why[d.Why]++
			if len(l.doubts) < maxListed {
				l.doubts = append(l.doubts, Doubtful{DB: d.DB, Key: showKey(d.Key), Why: d.Why, Epoch: d.Epoch, Offset: d.Offset, Held: d.Held})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if l.rejects == 0 {
		return nil
	}
	err := store.Rejects(g, func(r checkpoint.Reject) error {
		if r.Healed {
			return nil
		}
		out := Rejected{Epoch: r.Epoch, Phase: string(r.Phase), Offset: r.Offset, DB: r.DB, Command: apply.CommandName(r.Command), Error: oneLine(r.Error)}
		if len(r.Keys) > 0 {
			out.Key = showKey(r.Keys[0])
		}
		if l.rejected = append(l.rejected, out); len(l.rejected) == maxListed {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// showKey is a key's name for a person, and not all of it when it is long.
func showKey(key []byte) string {
	const most = 128
	text := strconv.Quote(string(key[:min(len(key), most)]))
	text = text[1 : len(text)-1]
	if len(key) > most {
		text += "..."
	}
	return text
}

// doubtsText lists rejects and doubtful keys for people.
func (s *Status) doubtsText(b *strings.Builder) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for i := range s.Groups {
		g := &s.Groups[i]
		for _, r := range g.Rejected {
			where := fmt.Sprintf("offset %s", r.Offset)
			if r.Phase == string(checkpoint.PhaseRDB) {
				where = "RDB"
			}
			fmt.Fprintf(t, "rejected\tgroup %s\tepoch %s\t%s\tDB%d\t%s \"%s\"\t%s\n", g.ID, r.Epoch, where, r.DB, r.Command, r.Key, r.Error)
		}
		more(t, "rejected", g.ID, g.Rejects, len(g.Rejected))
		for _, d := range g.Doubts {
			fmt.Fprintf(t, "doubtful\tgroup %s\tepoch %s\toffset %s\tDB%d\t\"%s\"\t%s\n", g.ID, d.Epoch, d.Offset, d.DB, d.Key, because(d))
		}
		more(t, "doubtful", g.ID, g.Doubtful, len(g.Doubts))
	}
	t.Flush()
}

func because(d Doubtful) string {
	if d.Held == "" {
		return d.Why
	}
	return d.Why + "; cannot be copied again: " + oneLine(d.Held)
}

func more(t *tabwriter.Writer, what string, g repl.GroupID, all *int, listed int) {
	if all != nil && *all > listed && listed > 0 {
		fmt.Fprintf(t, "%s\tgroup %s\tand %d more\n", what, g, *all-listed)
	}
}
