package verify

import (
	"fmt"
	"strconv"

	"tairlift/internal/resp"
)

// scan walks the keys of the selected db of a wire, one SCAN in flight.
type scan struct {
	w      *wire
	count  string
	match  string
	cursor []byte
	asked  bool
	done   bool
	key    []byte
}

func newScan(w *wire, count int, match string) *scan {
	return &scan{w: w, count: strconv.Itoa(count), match: match, cursor: []byte("0")}
}

// put asks for the next keys.
func (s *scan) put() {
	if s.match == "" {
		s.w.putStrings("SCAN", string(s.cursor), "COUNT", s.count)
	} else {
		s.w.putStrings("SCAN", string(s.cursor), "MATCH", s.match, "COUNT", s.count)
	}
	s.asked = true
}

// take reads the answer to put and calls each with every key in it. The bytes
// are valid within the call.
func (s *scan) take(each func(key []byte) error) error {
	s.asked = false
	n, err := s.w.takeArray()
	if err == nil && n != 2 {
		err = fmt.Errorf("%w: SCAN answered %d elements, expected 2", resp.ErrProtocol, n)
	}
	if err != nil {
		return s.w.fail(err)
	}
	if s.cursor, _, err = s.w.c.ReadBulk(s.cursor[:0]); err != nil {
		return s.w.fail(err)
	}
	if n, err = s.w.takeArray(); err != nil {
		return s.w.fail(err)
	}
	for range n {
		if s.key, _, err = s.w.c.ReadBulk(s.key[:0]); err != nil {
			return s.w.fail(err)
		}
		if err := each(s.key); err != nil {
			return err
		}
	}
	s.done = string(s.cursor) == "0"
	return nil
}

// walk scans the whole db; each is called for every key while the next SCAN is
// already under way. each must not use the wire.
func (s *scan) walk(each func(key []byte) error) error {
	s.put()
	var keys keyList
	for {
		if err := s.w.flush(); err != nil {
			return s.w.fail(err)
		}
		keys.reset()
		if err := s.take(func(k []byte) error { keys.add(k); return nil }); err != nil {
			return err
		}
		if !s.done {
			s.put()
			if err := s.w.flush(); err != nil {
				return s.w.fail(err)
			}
		}
		for i := range keys.len() {
			if err := each(keys.at(i)); err != nil {
				return err
			}
		}
		if s.done {
			return nil
		}
	}
}
