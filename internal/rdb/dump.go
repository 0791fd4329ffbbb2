package rdb

import (
	"encoding/binary"
	"fmt"
	"io"
)

// dumpTail is what DUMP appends to type and body: RDB version (LE16), CRC64 (LE64).
const dumpTail = 10

// AppendDump appends to dst the payload that DUMP would give for a value of
// type typ with this encoded body: type byte, body, RDB version as 16-bit
// little endian, CRC64 of all before it as 64-bit little endian
// (createDumpPayload in cluster.c).
func AppendDump(dst []byte, typ byte, body []byte, version int) []byte {
	start := len(dst)
	dst = append(dst, typ)
	dst = append(dst, body...)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(version))
	return binary.LittleEndian.AppendUint64(dst, CRC64(0, dst[start:]))
}

// FunctionCode appends to dst the source text of the function library in a
// payload that Options.OnFunction was told: what FUNCTION LOAD takes, whatever
// the RDB version.
func FunctionCode(dst, payload []byte) ([]byte, error) {
	typ, body, _, err := ParseDump(payload)
	if err != nil {
		return dst, err
	}
	s := source{buf: body, end: len(body), max: defaultMaxBytes}
	if typ != opFunction2 {
		err = ErrUnknownType
	} else if dst, err = s.appendString(dst); err == nil && s.pos != s.end {
		err = fmt.Errorf("%d bytes follow the library", s.end-s.pos)
	}
	if err != nil {
		return dst, &FormatError{Type: int(typ), At: s.offset(), Err: err}
	}
	return dst, nil
}

// ParseDump takes a DUMP payload apart. Body is a part of payload, not a
// copy. The checksum is verified; the version is only reported, since targets
// with numbers of their own exist. Errors are *FormatError.
func ParseDump(payload []byte) (typ byte, body []byte, version int, err error) {
	n := len(payload) - dumpTail
	if n < 1 {
		return 0, nil, 0, &FormatError{
			Type: NoType, At: int64(len(payload)),
			Err: fmt.Errorf("dump payload has %d bytes: %w", len(payload), io.ErrUnexpectedEOF),
		}
	}
	typ = payload[0]
	version = int(binary.LittleEndian.Uint16(payload[n:]))
	stored := binary.LittleEndian.Uint64(payload[n+2:])
	if sum := CRC64(0, payload[:n+2]); sum != stored {
		return 0, nil, 0, &FormatError{Type: int(typ), At: int64(n + 2), Err: checksumError(sum, stored)}
	}
	if version == 0 {
		return 0, nil, 0, &FormatError{Type: int(typ), At: int64(n), Err: fmt.Errorf("dump payload has version 0")}
	}
	return typ, payload[1:n], version, nil
}
