package rdb

import (
	"errors"
	"fmt"
)

var (
	// ErrUnknownType is a type or opcode that this package has no reader for.
	ErrUnknownType = errors.New("not supported")
	// ErrModule is a module's value met by Elements: only the module can read it.
	ErrModule = errors.New("a module's value cannot be decoded")
	// ErrChecksum is a CRC64 that does not match the bytes before it.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrTooLarge is a value above Options.MaxBytes.
	ErrTooLarge = errors.New("value too large")
)

// NoType is FormatError.Type where no type or opcode has been read: in the
// header, at a footer, around a payload.
const NoType = -1

// FormatError says where an RDB file or a payload cannot be understood, and
// why. A file that ends too early has io.ErrUnexpectedEOF in it.
type FormatError struct {
	Offset int64 // of the type or opcode byte, from the file's first byte (Elements: from the body's)
	Type   int   // that byte, or NoType
	At     int64 // where reading stopped; never below Offset
	Err    error
}

func (e *FormatError) Error() string {
	at := ""
	if e.At > e.Offset+1 { // beyond that byte itself
		at = fmt.Sprintf(" (stopped at %d)", e.At)
	}
	if e.Type == NoType {
		return fmt.Sprintf("read rdb at offset %d%s: %v", e.Offset, at, e.Err)
	}
	return fmt.Sprintf("read rdb at offset %d, type %s%s: %v", e.Offset, TypeName(byte(e.Type)), at, e.Err)
}

func (e *FormatError) Unwrap() error { return e.Err }

func checksumError(got, want uint64) error {
	return fmt.Errorf("%w: computed %016x, stored %016x", ErrChecksum, got, want)
}
