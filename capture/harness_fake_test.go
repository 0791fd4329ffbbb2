package capture

import (
	"strings"

	"tairlift/internal/rdb"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

const (
	historyA repl.ReplID = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	historyB repl.ReplID = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// smallSession is an RDB without keys and three commands.
func smallSession(id repl.ReplID) redistest.Session {
	body := []byte("REDIS0007\xfa\x09redis-ver\x063.2.11\xff")
	crc := rdb.CRC64(0, body)
	for range 8 {
		body = append(body, byte(crc))
		crc >>= 8
	}
	return redistest.Session{ReplID: id, Offset: 1000, RDB: body, Stream: commands("SELECT 0", "SET k v", "INCR n")}
}

func commands(lines ...string) []byte {
	var b []byte
	for _, l := range lines {
		b = resp.AppendCommandStrings(b, strings.Fields(l)...)
	}
	return b
}
