package apply

import (
	"tairlift/internal/rdb"
	"tairlift/internal/resp"
)

// way is how a value is written to the target.
type way uint8

const (
	bySet      way = iota // a plain string
	byRestore             // its payload
	byCommands            // of its kind: RESTORE does not take the payload
)

// way decides how an entry is written, and by RESTORE with which RDB version on
// its payload. It is known before anything is sent: the target was probed.
func (t target) way(e *rdb.Entry) (how way, stamp int) {
	if e.IsString && (e.ExpireMS == 0 || t.setPXAT()) {
		return bySet, 0
	}
	stamp, ok := t.takes.restorable(e.Type, e.Payload)
	switch {
	case ok:
		return byRestore, stamp
	case e.IsString:
		return bySet, 0
	}
	return byCommands, 0
}

// appendValue encodes an entry in that way; x writes what goes by commands, of
// which there are n. They belong into one transaction if how is byCommands.
// Errors are those of x.
func (t target) appendValue(dst []byte, e *rdb.Entry, how way, stamp int, x *natively) (out []byte, n int, err error) {
	switch {
	case how == byCommands:
		return x.append(dst, e.Key, e.Type, body(e.Payload), e.ExpireMS)
	case how == byRestore:
		restamp(e.Payload, stamp)
	case e.ExpireMS != 0 && !t.setPXAT():
		dst = resp.AppendCommand(dst, []byte("SET"), e.Key, e.String)
		return appendDeadline(dst, e.Key, e.ExpireMS), 2, nil
	}
	out, n = appendEntry(dst, e, t)
	return out, n, nil
}
