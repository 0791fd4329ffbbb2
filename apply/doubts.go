package apply

import (
	"sync"
	"sync/atomic"

	"tairlift/checkpoint"
	"tairlift/internal/command"
	"tairlift/internal/repl"
	"tairlift/internal/slot"
)

// isOwn tells whether the i-th of a command's keys is why a proxy sent it to
// this group, or lies in the Codis slot of that one. What else a script or a RENAME
// names may be another group's, and a command that no table knows may name none.
func isOwn(spec *command.Spec, keys [][]byte, i int) bool {
	r := spec.Routed()
	return spec.Class != command.Unknown && (i == r || r < len(keys) && slot.Codis(keys[i]) == slot.Codis(keys[r]))
}

// place is where a command lies.
type place struct {
	epoch  repl.Epoch
	offset repl.Offset
}

func (p place) behind(o place) bool {
	return p.epoch > o.epoch || p.epoch == o.epoch && p.offset > o.offset
}

// doubtSet knows the keys that the store holds as doubtful, by fingerprints, so
// that each is written and counted once, and the newest command that made each
// so: the store learns of that when the key is healed, and no earlier.
type doubtSet struct {
	size atomic.Int64 // of keys

	mu   sync.Mutex // guards what follows
	keys map[uint64]place
	held map[uint64]struct{} // of keys: those that could not be copied again
}

// renew notes that a later command makes a key doubtful, if it is so already.
func (s *doubtSet) renew(d checkpoint.Doubt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renewed(fingerprint(d.DB, d.Key), d)
}

func (s *doubtSet) renewed(fp uint64, d checkpoint.Doubt) bool {
	known, ok := s.keys[fp]
	if ok = ok && known.epoch >= d.Epoch; !ok { // what the store has of an earlier epoch, it will forget
		return false
	}
	if at := (place{d.Epoch, d.Offset}); at.behind(known) {
		s.keys[fp] = at
	}
	return true
}

// fresh returns those of ds that are not known, each once and with the last of
// its places, and renews the others.
func (s *doubtSet) fresh(ds []checkpoint.Doubt) []checkpoint.Doubt {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []checkpoint.Doubt
	seen := map[uint64]int{}
	for _, d := range ds {
		fp := fingerprint(d.DB, d.Key)
		if s.renewed(fp, d) {
			continue
		}
		i, ok := seen[fp]
		if !ok {
			seen[fp] = len(out)
			out = append(out, d)
			continue
		}
		if first := &out[i]; (place{d.Epoch, d.Offset}).behind(place{first.Epoch, first.Offset}) {
			first.Epoch, first.Offset = d.Epoch, d.Offset
		}
		out[i].Own = out[i].Own || d.Own
	}
	return out
}

// clear forgets all.
func (s *doubtSet) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys, s.held = map[uint64]place{}, map[uint64]struct{}{}
	s.size.Store(0)
}

// add takes in what the store holds now.
func (s *doubtSet) add(ds []checkpoint.Doubt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range ds {
		s.keys[fingerprint(d.DB, d.Key)] = place{d.Epoch, d.Offset}
	}
	s.size.Store(int64(len(s.keys)))
}

// freed returns those of ds that no command behind the place has made doubtful.
func (s *doubtSet) freed(ds []checkpoint.Doubt, by place) []checkpoint.Doubt {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []checkpoint.Doubt
	for _, d := range ds {
		if known, ok := s.keys[fingerprint(d.DB, d.Key)]; ok && !known.behind(by) {
			out = append(out, d)
		}
	}
	return out
}

// remove forgets keys that the store holds as healed.
func (s *doubtSet) remove(ds []checkpoint.Doubt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range ds {
		fp := fingerprint(d.DB, d.Key)
		delete(s.keys, fp)
		delete(s.held, fp)
	}
	s.size.Store(int64(len(s.keys)))
}

// empty tells, without a lock, whether no key is doubtful.
func (s *doubtSet) empty() bool { return s.size.Load() == 0 }

// is tells whether a key is doubtful.
func (s *doubtSet) is(db int, key []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.has(fingerprint(db, key))
}

// hold takes keys out of those that may be copied again.
func (s *doubtSet) hold(ds []checkpoint.Doubt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range ds {
		if fp := fingerprint(d.DB, d.Key); s.has(fp) {
			s.held[fp] = struct{}{}
		}
	}
}

func (s *doubtSet) has(fp uint64) bool {
	_, ok := s.keys[fp]
	return ok
}

// isHeld tells whether a key is not to be copied again for now.
func (s *doubtSet) isHeld(d checkpoint.Doubt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.held[fingerprint(d.DB, d.Key)]
	return ok
}

// release lets every key be tried again.
func (s *doubtSet) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.held)
}

// counts are the doubtful keys, and those of them that are held.
func (s *doubtSet) counts() (all, held int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.keys), len(s.held)
}
