package rdb

import (
	"encoding/binary"
	"fmt"
	"strconv"
)

// maxFieldDeadline is the largest deadline of a field (EB_EXPIRE_TIME_MAX).
const maxFieldDeadline = 1<<48 - 1

// readsType tells the types whose values can be read in a file of this version.
// Type 22 is Valkey's; release candidates of Redis 7.4 had another one of that
// number, with another layout.
func readsType(typ byte, version int) bool {
	return readable(typ) && (typ != TypeHashValkey || version >= valkeyVersion)
}

// valkeyVersion is the first RDB version of Valkey's own.
const valkeyVersion = 80

// skipFields passes what skipStrings(2) does, with each field's deadline: as a
// length before it, or as 8 bytes behind its value.
func (s *source) skipFields(typ byte) error {
	if typ == TypeHashFieldTTL {
		if err := s.skip(8); err != nil { // the first deadline
			return err
		}
	}
	n, err := s.readLength()
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		if typ == TypeHashFieldTTL {
			if err := s.skipLengths(1); err != nil {
				return err
			}
		}
		for range 2 {
			if err := s.skipString(); err != nil {
				return err
			}
		}
		if typ == TypeHashValkey {
			if err := s.skip(8); err != nil {
				return err
			}
		}
	}
	return nil
}

// fieldTTLs reads a table of fields whose deadlines count from the first one,
// which comes before them: 0 is none, 1 is that one.
func (w *walker) fieldTTLs() error {
	first, err := w.readUint64()
	if err != nil {
		return err
	}
	return w.counted(func() error {
		for {
			moves := w.moves
			after, err := w.readLength()
			if err != nil {
				return err
			}
			f, err := w.readString(0)
			if err != nil {
				return err
			}
			v, err := w.readString(1)
			if err != nil {
				return err
			}
			if w.moves != moves {
				w.pos = w.keep
				continue
			}
			e := Element{A: f, B: v}
			if after != 0 {
				if first > maxFieldDeadline || after > maxFieldDeadline+1 || first+after-1 > maxFieldDeadline {
					return fmt.Errorf("field deadline %d after %d", after-1, first)
				}
				e.DeadlineMS = max(int64(first+after-1), 1)
			}
			return w.emit(e)
		}
	})
}

// valkeyField reads a field, its value and its deadline, -1 for none.
func (w *walker) valkeyField() error {
	return w.pairUntil(func() (int64, error) {
		at, err := w.readUint64()
		return deadline(int64(at)), err
	})
}

// parseDeadline reads the third value of a field in a listpack, 0 for none.
func parseDeadline(text []byte) (int64, error) {
	ms, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil || ms > maxFieldDeadline {
		return 0, fmt.Errorf("field deadline %q", text)
	}
	return int64(ms), nil
}

// FirstFieldDeadline is when the first field of a hash ends, of which the beginning
// of the body is given: 0 if none has a deadline, and 1 if that does not say.
func FirstFieldDeadline(typ byte, body []byte) int64 {
	switch typ {
	case TypeHashFieldTTL, TypeHashFieldTTLPacked:
		if len(body) < 8 {
			return 1
		}
		return int64(min(binary.LittleEndian.Uint64(body), maxFieldDeadline))
	case TypeHashValkey, TypeHashFieldTTLPacked0:
		return 1
	}
	return 0
}
