package apply

import (
	"encoding/binary"

	"tairlift/internal/rdb"
)

// A payload, of RESTORE, is a type byte, the body as an RDB has it, and a footer
// of 10 bytes: the RDB version, and the CRC64 of all before.
const footer = 10

func versionOf(payload []byte) int {
	if len(payload) <= footer {
		return 0
	}
	return int(binary.LittleEndian.Uint16(payload[len(payload)-footer:]))
}

func body(payload []byte) []byte { return payload[1 : len(payload)-footer] }

// restamp puts another version on a payload.
func restamp(payload []byte, version int) {
	if len(payload) <= footer || versionOf(payload) == version {
		return
	}
	n := len(payload) - footer
	binary.LittleEndian.PutUint16(payload[n:], uint16(version))
	binary.LittleEndian.PutUint64(payload[n+2:], rdb.CRC64(0, payload[:n+2]))
}
