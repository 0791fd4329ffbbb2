package checkpoint

import "time"

// Evictions is how many keys the target has evicted since the job first wrote
// to it, as far as it was seen. Whose keys they were nobody can tell.
type Evictions struct {
	RunID   string `json:"run_id"` // of the server that Seen is of; empty: never looked
	Seen    int64  `json:"seen"`   // its count of evicted keys at the last look
	Count   int64  `json:"count"`  // evicted since the job began, or since all keys were last found equal
	SinceMS int64  `json:"since_ms"`
	Policy  string `json:"policy"` // its maxmemory-policy
}

// Look is what the target says of itself now. It returns the record with that in
// it: the first look is where counting begins; a server that has restarted, or
// whose statistics were reset, counts from 0.
func (e Evictions) Look(runID string, evicted int64, policy string, now time.Time) Evictions {
	more := int64(0)
	switch {
	case e.RunID == "":
	case e.RunID != runID, evicted < e.Seen:
		more = evicted
	default:
		more = evicted - e.Seen
	}
	if more > 0 && e.Count == 0 {
		e.SinceMS = now.UnixMilli()
	}
	e.Count += more
	e.RunID, e.Seen, e.Policy = runID, evicted, policy
	return e
}

// Cleared is the record once all keys were found equal after a look.
func (e Evictions) Cleared() Evictions {
	e.Count, e.SinceMS = 0, 0
	return e
}

// Since is when the first of them was noticed; zero without any.
func (e Evictions) Since() time.Time {
	if e.SinceMS == 0 {
		return time.Time{}
	}
	return time.UnixMilli(e.SinceMS)
}

var keyEvictions = []byte("evictions")

// Evictions is the record of the store's target; zero when there is none.
func (a *Apply) Evictions() (e Evictions, err error) {
	_, err = a.get(bucketMeta, keyEvictions, &e)
	return e, err
}

// PutEvictions replaces it.
func (a *Apply) PutEvictions(e Evictions) error { return a.put(bucketMeta, keyEvictions, e) }
