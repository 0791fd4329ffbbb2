package checkpoint

import (
	"encoding/binary"

	"go.etcd.io/bbolt"

	"tairlift/internal/repl"
)

// Apply is the store of one target's apply.
type Apply struct{ store }

// Phase is how far apply is within an epoch.
type Phase string

// The phases of an epoch on the target.
const (
	PhaseNone   Phase = ""       // nothing of the epoch was sent
	PhaseRDB    Phase = "rdb"    // the snapshot is being restored
	PhaseSweep  Phase = "sweep"  // what earlier epochs left and the snapshot lacks is being removed
	PhaseStream Phase = "stream" // the command stream is being applied
)

// ApplyRecord is what apply knows of a group on its own side. The target's
// mark outranks it.
type ApplyRecord struct {
	Epoch repl.Epoch `json:"epoch"`
	Phase Phase      `json:"phase"`
	// RDBOffset is the entry boundary below which every write was answered.
	RDBOffset int64 `json:"rdb_offset"`
	RDBKeys   int64 `json:"rdb_keys"` // entries below RDBOffset
	// Offset is the stream position up to which every reply was read.
	Offset    repl.Offset `json:"offset"`
	Claimed   bool        `json:"claimed"` // a mark of ours was written to the target
	Owner     string      `json:"owner"`   // token of the last session
	Commands  int64       `json:"commands"`
	UpdatedMS int64       `json:"updated_ms"` // Unix milliseconds
	// Forgotten says that an earlier store was lost, and with it what was
	// rejected or doubtful; ClearDoubts takes it back.
	Forgotten bool `json:"forgotten,omitempty"`
	// ForgottenIn is the epoch in which that was.
	ForgottenIn repl.Epoch `json:"forgotten_in,omitempty"`
	// Past is how many earlier epochs have left something on the target that the
	// RDB of Epoch may lack.
	Past int `json:"past,omitempty"`
	// Flushes are those that were skipped.
	Flushes SkippedFlushes `json:"skipped_flushes,omitzero"`
	// Deadlines is how the mark said that deadlines stand on the target; empty is
	// exact.
	Deadlines string `json:"deadlines,omitempty"`
	// Reseed says that the RDB is to be loaded again, whatever the mark says:
	// somebody asked for it, and it has not begun.
	Reseed bool `json:"reseed,omitempty"`
}

// SkippedFlushes are commands of the source that empty or swap databases and
// were not carried out (--on-flush ignore): the target keeps keys that the source
// has not.
type SkippedFlushes struct {
	// Count is how many since a full sync, or verify, made the target equal.
	Count int64 `json:"count"`
	// Epoch and Offset are where the last of them lies. They stay when Count is
	// cleared: what is read again is not counted again.
	Epoch  repl.Epoch  `json:"epoch"`
	Offset repl.Offset `json:"offset"`
}

// Filled tells whether the target held more of the group than a part of its
// first RDB.
func (r *ApplyRecord) Filled() bool {
	return r.Claimed && (r.Phase == PhaseStream || r.Phase == PhaseSweep || r.Past > 0)
}

// Reject is a command that the target refused for good.
type Reject struct {
	Group   repl.GroupID `json:"group"`
	Epoch   repl.Epoch   `json:"epoch"`
	Offset  repl.Offset  `json:"offset"` // end of the command in the stream; of the entry in the RDB phase
	Phase   Phase        `json:"phase"`
	DB      int          `json:"db"`
	Keys    [][]byte     `json:"keys"`
	Command []byte       `json:"command"` // as sent, cut at 4 KiB
	Error   string       `json:"error"`
	Applied bool         `json:"applied"` // the rest of its batch was executed
	// Healed says that it names keys and none of them is doubtful any more. It
	// is what the doubts of the store tell, and not stored itself.
	Healed bool `json:"-"`
}

var (
	bucketScripts = []byte("scripts")
	bucketRejects = []byte("rejects")
	bucketDoubts  = []byte("doubtful")
	keyTarget     = []byte("target")
)

// OpenApply opens or creates the store at path. It returns ErrInUse when
// another process holds it for longer than a second.
func OpenApply(path string) (*Apply, error) {
	s, err := open(path, "apply", bucketScripts, bucketRejects, bucketDoubts)
	if err != nil {
		return nil, err
	}
	return &Apply{store: s}, nil
}

// Group returns the record of g; ok is false when there is none.
func (a *Apply) Group(g repl.GroupID) (rec ApplyRecord, ok bool, err error) {
	ok, err = a.get(bucketGroups, groupKey(g), &rec)
	return rec, ok, err
}

// Groups lists the groups that have a record, in their order.
func (a *Apply) Groups() (ids []repl.GroupID, err error) {
	err = a.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketGroups).ForEach(func(k, _ []byte) error {
			ids = append(ids, repl.GroupID(binary.BigEndian.Uint32(k)))
			return nil
		})
	})
	return ids, err
}

// PutGroup replaces the record of g and returns once it is on disk.
func (a *Apply) PutGroup(g repl.GroupID, rec ApplyRecord) error {
	return a.put(bucketGroups, groupKey(g), rec)
}

// Target is the address this store was last used with.
func (a *Apply) Target() (addr string, err error) {
	_, err = a.get(bucketMeta, keyTarget, &addr)
	return addr, err
}

// PutTarget records the target's address.
func (a *Apply) PutTarget(addr string) error { return a.put(bucketMeta, keyTarget, addr) }

// PutScript keeps the body of a script under its SHA1 (40 hex digits). It must
// return before a position behind the script is committed: a later EVALSHA has
// no other source of the body.
func (a *Apply) PutScript(sha string, body []byte) error {
	return a.write("scripts", func(tx *bbolt.Tx) error { return tx.Bucket(bucketScripts).Put([]byte(sha), body) })
}

// Scripts returns every body kept, by SHA1.
func (a *Apply) Scripts() (map[string][]byte, error) {
	out := map[string][]byte{}
	err := a.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketScripts).ForEach(func(k, v []byte) error {
			out[string(k)] = append([]byte(nil), v...)
			return nil
		})
	})
	return out, err
}

// AddRejects appends rejects, and with them the doubt about their keys.
func (a *Apply) AddRejects(rejects []Reject, doubts []Doubt) error {
	return a.write("rejects", func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketRejects)
		for _, r := range rejects {
			n, err := b.NextSequence()
			if err != nil {
				return err
			}
			key := binary.BigEndian.AppendUint64(nil, n)
			raw, err := encode(bucketRejects, key, r)
			if err != nil {
				return err
			}
			if err := b.Put(key, raw); err != nil {
				return err
			}
		}
		return putDoubts(tx, doubts)
	})
}

// Rejects calls fn for every reject of g, oldest first.
func (a *Apply) Rejects(g repl.GroupID, fn func(Reject) error) error {
	return a.db.View(func(tx *bbolt.Tx) error {
		return forEach(a.store, tx, bucketRejects, func(_ []byte, r Reject) error {
			if r.Group != g {
				return nil
			}
			var err error
			if r.Healed, err = healed(tx, r); err != nil {
				return &DamagedError{Path: a.db.Path(), Err: err}
			}
			return fn(r)
		})
	})
}

// healed tells whether r names keys of which none is doubtful, wherever SWAPDB has
// moved them.
func healed(tx *bbolt.Tx, r Reject) (bool, error) {
	b := tx.Bucket(bucketDoubts)
	for _, k := range r.Keys {
		at := Doubt{Group: r.Group, DB: r.DB, Key: k}
		for seen := map[int]bool{}; !seen[at.DB]; {
			seen[at.DB] = true
			id := doubtKey(at)
			raw := b.Get(id)
			if raw == nil {
				break
			}
			var d Doubt
			if err := decode(bucketDoubts, id, raw, &d); err != nil || d.Healed == nil {
				return false, err
			}
			if d.Healed.To != nil {
				at.DB = *d.Healed.To
			}
		}
	}
	return len(r.Keys) > 0, nil
}

// ClearDoubts forgets every doubtful key, that any were forgotten, and that
// flushes were skipped: verify found all keys equal.
func (a *Apply) ClearDoubts() error {
	return a.write("doubtful keys", func(tx *bbolt.Tx) error {
		if err := clearTaints(tx); err != nil {
			return err
		}
		if err := tx.DeleteBucket(bucketDoubts); err != nil {
			return err
		}
		_, err := tx.CreateBucket(bucketDoubts)
		return err
	})
}

// Supersede forgets what was rejected, doubtful or skipped of g in epochs before
// e, and that any of it was forgotten: e's RDB has taken the place of all of it.
func (a *Apply) Supersede(g repl.GroupID, e repl.Epoch) error {
	return a.write("rejects", func(tx *bbolt.Tx) error {
		err := drop(tx, bucketRejects, func(r Reject) bool { return r.Group == g && r.Epoch < e })
		if err == nil {
			err = drop(tx, bucketDoubts, func(d Doubt) bool { return d.Group == g && d.Epoch < e })
		}
		if err != nil {
			return err
		}
		k, b := groupKey(g), tx.Bucket(bucketGroups)
		raw := b.Get(k)
		if raw == nil {
			return nil
		}
		var rec ApplyRecord
		if err := decode(bucketGroups, k, raw, &rec); err != nil {
			return err
		}
		old := rec
		if rec.ForgottenIn < e {
			rec.Forgotten = false
		}
		if rec.Flushes.Epoch < e {
			rec.Flushes.Count = 0
		}
		if rec == old {
			return nil
		}
		if raw, err = encode(bucketGroups, k, rec); err != nil {
			return err
		}
		return b.Put(k, raw)
	})
}

// drop deletes the records of a bucket that fn picks.
func drop[T any](tx *bbolt.Tx, bucket []byte, fn func(T) bool) error {
	b := tx.Bucket(bucket)
	var keys [][]byte
	err := b.ForEach(func(k, raw []byte) error {
		var v T
		err := decode(bucket, k, raw, &v)
		if err == nil && fn(v) {
			keys = append(keys, k)
		}
		return err
	})
	for _, k := range keys {
		if err == nil {
			err = b.Delete(k)
		}
	}
	return err
}

func clearTaints(tx *bbolt.Tx) error {
	b := tx.Bucket(bucketGroups)
	changed := map[string][]byte{}
	err := b.ForEach(func(k, raw []byte) error {
		var rec ApplyRecord
		if err := decode(bucketGroups, k, raw, &rec); err != nil || !rec.Forgotten && rec.Flushes.Count == 0 {
			return err
		}
		rec.Forgotten, rec.Flushes.Count = false, 0
		raw, err := encode(bucketGroups, k, rec)
		changed[string(k)] = raw
		return err
	})
	for k, raw := range changed {
		if err == nil {
			err = b.Put([]byte(k), raw)
		}
	}
	return err
}

func forEach[T any](s store, tx *bbolt.Tx, bucket []byte, fn func(k []byte, v T) error) error {
	return tx.Bucket(bucket).ForEach(func(k, raw []byte) error {
		var v T
		if err := decode(bucket, k, raw, &v); err != nil {
			return &DamagedError{Path: s.db.Path(), Err: err}
		}
		return fn(k, v)
	})
}
