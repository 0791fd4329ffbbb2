package checkpoint

import (
	"bytes"
	"encoding/binary"

	"go.etcd.io/bbolt"

	"tairlift/internal/repl"
)

// Doubt is a key whose value on the target may differ from the source's.
type Doubt struct {
	Group repl.GroupID `json:"group"`
	// Epoch and Offset are where the newest command lies that makes the key
	// doubtful; Offset is 0 for the RDB. An older tairlift left Epoch out.
	Epoch  repl.Epoch  `json:"epoch,omitempty"`
	DB     int         `json:"db"`
	Key    []byte      `json:"key"`
	Why    string      `json:"why"` // reject | unread | nondeterministic | gone | deadline | fields | derived | shared | selection; the first
	Offset repl.Offset `json:"offset"`
	// Own says that a proxy sent the command to the group for this key's sake:
	// it was the first, or of the RDB. Another key may be another group's, and is
	// not deleted for not being there.
	Own bool `json:"own,omitempty"`
	// Held says why it could not be copied again, when that was tried last.
	Held string `json:"held,omitempty"`
	// Healed is set once its value was copied again: then it is not doubtful,
	// unless the target loses that.
	Healed *Heal `json:"healed,omitempty"`
}

// Heal is the place at which a doubtful key was given the source's value.
type Heal struct {
	Epoch  repl.Epoch  `json:"epoch"`
	Offset repl.Offset `json:"offset"` // of the source's value
	// Commands is that of the mark that was written beside it: a mark with fewer
	// is older.
	Commands int64 `json:"commands"`
	// To is the database into which SWAPDB moved the key at that place: it is as
	// doubtful there as it was here.
	To *int `json:"to,omitempty"`
}

// maxDoubtKey keeps a doubtful key's name within bbolt's limit for keys
// (32,768 bytes); two longer names that agree so far share one entry.
const maxDoubtKey = 32000

// Shares tells whether the entry of d may be that of another key too.
func (d Doubt) Shares() bool { return len(d.Key) > maxDoubtKey }

func doubtKey(d Doubt) []byte {
	k := groupKey(d.Group)
	k = binary.BigEndian.AppendUint32(k, uint32(d.DB))
	return append(k, d.Key[:min(len(d.Key), maxDoubtKey)]...)
}

// AddDoubts records keys as doubtful; a key already there keeps its first
// reason, and one that was healed is doubtful again.
func (a *Apply) AddDoubts(doubts []Doubt) error {
	return a.write("doubtful keys", func(tx *bbolt.Tx) error { return putDoubts(tx, doubts) })
}

func putDoubts(tx *bbolt.Tx, doubts []Doubt) error {
	for _, d := range doubts {
		err := changeDoubt(tx, doubtKey(d), func(old *Doubt) *Doubt {
			if old == nil || old.Healed != nil {
				return &d
			}
			if d.Epoch > old.Epoch || d.Epoch == old.Epoch && d.Offset > old.Offset {
				old.Epoch, old.Offset = d.Epoch, d.Offset
			}
			old.Own = old.Own || d.Own
			return old
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// changeDoubt replaces a record, nil when there is none, by what fn returns;
// nil leaves it.
func changeDoubt(tx *bbolt.Tx, k []byte, fn func(old *Doubt) *Doubt) error {
	b := tx.Bucket(bucketDoubts)
	var old *Doubt
	if raw := b.Get(k); raw != nil {
		old = &Doubt{}
		if err := decode(bucketDoubts, k, raw, old); err != nil {
			return err
		}
	}
	d := fn(old)
	if d == nil {
		return nil
	}
	raw, err := encode(bucketDoubts, k, d)
	if err != nil {
		return err
	}
	return b.Put(k, raw)
}

// HealDoubts records that these keys were given the values that the source had
// at the place. A key that a later command has made doubtful stays so.
func (a *Apply) HealDoubts(keys []Doubt, at Heal) error {
	return a.write("doubtful keys", func(tx *bbolt.Tx) error {
		for _, k := range keys {
			err := changeDoubt(tx, doubtKey(k), func(old *Doubt) *Doubt {
				if old == nil || old.Healed != nil || !old.Before(at.Epoch, at.Offset) {
					return nil
				}
				old.Healed, old.Held = &at, ""
				return old
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Before tells whether a value of that place is free of the doubt.
func (d Doubt) Before(e repl.Epoch, o repl.Offset) bool {
	return d.Epoch < e || d.Epoch == e && d.Offset <= o
}

// SwapDoubts records that SWAPDB has exchanged the databases x and y at a place:
// a key that was doubtful in one is so in the other, and no more where it was, unless
// the target loses the mark. It may be repeated. Doubts about what that place or a
// later one has made of a key stay. It returns what is doubtful now, and what no more.
func (a *Apply) SwapDoubts(g repl.GroupID, x, y int, at Heal) (added, healed []Doubt, err error) {
	err = a.write("doubtful keys", func(tx *bbolt.Tx) error {
		added, healed = nil, nil
		was := map[string]Doubt{} // before, by their keys in the bucket
		err := forEach(a.store, tx, bucketDoubts, func(k []byte, d Doubt) error {
			if d.Group == g && (d.DB == x || d.DB == y) && d.Healed == nil && d.behind(at) {
				was[string(k)] = d
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, d := range was {
			d.DB, d.Epoch, d.Offset, d.Held = x+y-d.DB, at.Epoch, at.Offset, ""
			added = append(added, d)
		}
		if err := putDoubts(tx, added); err != nil {
			return err
		}
		for _, d := range was {
			to := x + y - d.DB
			there := d
			there.DB = to
			if _, both := was[string(doubtKey(there))]; both || d.Shares() {
				continue
			}
			heal := at
			heal.To = &to
			err := changeDoubt(tx, doubtKey(d), func(old *Doubt) *Doubt {
				old.Healed, old.Held = &heal, ""
				return old
			})
			if err != nil {
				return err
			}
			healed = append(healed, d)
		}
		return nil
	})
	return added, healed, err
}

// behind tells whether a place is behind that of the doubt.
func (d Doubt) behind(at Heal) bool {
	return d.Epoch < at.Epoch || d.Epoch == at.Epoch && d.Offset < at.Offset
}

// HoldDoubts records why keys, by their Held, could not be copied again.
func (a *Apply) HoldDoubts(keys []Doubt) error {
	return a.write("doubtful keys", func(tx *bbolt.Tx) error {
		for _, k := range keys {
			err := changeDoubt(tx, doubtKey(k), func(old *Doubt) *Doubt {
				if old == nil || old.Healed != nil || old.Held == k.Held {
					return nil
				}
				old.Held = k.Held
				return old
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// ReviveDoubts makes keys of g doubtful again that were healed beside a mark
// newer than the one given: the target has lost it. It returns them.
func (a *Apply) ReviveDoubts(g repl.GroupID, e repl.Epoch, commands int64) ([]Doubt, error) {
	var lost []Doubt
	err := a.Healed(g, func(d Doubt) error {
		if h := d.Healed; h.Epoch > e || h.Epoch == e && h.Commands > commands {
			d.Healed = nil
			lost = append(lost, d)
		}
		return nil
	})
	if err != nil || len(lost) == 0 {
		return nil, err
	}
	return lost, a.write("doubtful keys", func(tx *bbolt.Tx) error {
		for _, d := range lost {
			if err := changeDoubt(tx, doubtKey(d), func(*Doubt) *Doubt { return &d }); err != nil {
				return err
			}
		}
		return nil
	})
}

// Doubts calls fn for every doubtful key of g, by db and name.
func (a *Apply) Doubts(g repl.GroupID, fn func(Doubt) error) error {
	return a.eachDoubt(g, func(d Doubt) error {
		if d.Healed != nil {
			return nil
		}
		return fn(d)
	})
}

// Healed calls fn for every key of g that was doubtful and is healed.
func (a *Apply) Healed(g repl.GroupID, fn func(Doubt) error) error {
	return a.eachDoubt(g, func(d Doubt) error {
		if d.Healed == nil {
			return nil
		}
		return fn(d)
	})
}

func (a *Apply) eachDoubt(g repl.GroupID, fn func(Doubt) error) error {
	return a.db.View(func(tx *bbolt.Tx) error {
		return forEach(a.store, tx, bucketDoubts, func(_ []byte, d Doubt) error {
			if d.Group != g {
				return nil
			}
			return fn(d)
		})
	})
}

// Place is where the key stands in the order of Doubts.
func (d Doubt) Place() []byte { return doubtKey(d) }

// DoubtsBehind calls fn for the doubtful keys of g behind a place, nil for all,
// in the order of Doubts, until it returns false.
func (a *Apply) DoubtsBehind(g repl.GroupID, after []byte, fn func(Doubt) bool) error {
	return a.db.View(func(tx *bbolt.Tx) error {
		c, prefix := tx.Bucket(bucketDoubts).Cursor(), groupKey(g)
		k, raw := c.Seek(prefix)
		if after != nil {
			if k, raw = c.Seek(after); bytes.Equal(k, after) {
				k, raw = c.Next()
			}
		}
		for ; bytes.HasPrefix(k, prefix); k, raw = c.Next() {
			var d Doubt
			if err := decode(bucketDoubts, k, raw, &d); err != nil {
				return &DamagedError{Path: a.db.Path(), Err: err}
			}
			if d.Healed == nil && !fn(d) {
				return nil
			}
		}
		return nil
	})
}
