package apply

import (
	"errors"

	"tairlift/internal/native"
	"tairlift/internal/rdb"
	"tairlift/internal/resp"
)

// errLarge says that a value takes more bytes of commands than may be held.
var errLarge = errors.New("a value of more commands than are sent at once")

// natively writes a value that RESTORE does not take by commands of its kind,
// behind those that are appended already. One goroutine uses it.
type natively struct {
	w     *native.Writer
	out   []byte
	n     int
	limit int // bytes that a value may take; 0: any number
}

func newNatively(t target, limit int) *natively {
	x := &natively{limit: limit}
	x.w = native.NewWriter(native.Options{Target: t.native()}, func(c native.Chunk) error {
		if x.limit > 0 && len(x.out)+len(c.Bytes) > x.limit {
			return errLarge
		}
		x.out = append(x.out, c.Bytes...)
		x.n += c.Commands
		return nil
	})
	return x
}

// append appends what makes the value of a key, whatever it was before, with its
// deadline (0: none), and tells of how many commands that is. They belong into
// one transaction. Errors leave dst as it was: errLarge, *native.UnsupportedError
// when no commands make this, or of what cannot be decoded.
func (x *natively) append(dst, key []byte, typ byte, body []byte, ms int64) ([]byte, int, error) {
	x.out, x.n = dst, 1
	x.out = resp.AppendArrayHeader(x.out, 2)
	x.out = resp.AppendBulkString(x.out, "DEL")
	x.out = resp.AppendBulk(x.out, key)
	err := x.elements(key, typ, body)
	out, n := x.out, x.n
	x.out = nil
	if err != nil {
		return dst, 0, err
	}
	if ms != 0 {
		out = appendDeadline(out, key, ms)
		n++
	}
	return out, n, nil
}

func (x *natively) elements(key []byte, typ byte, body []byte) error {
	if err := x.w.Begin(key, rdb.KindOf(typ)); err != nil {
		return err
	}
	if rdb.KindOf(typ) == rdb.KindStream {
		if _, _, err := rdb.Elements(typ, body, x.w.Survey); err != nil {
			return err
		}
	}
	if _, _, err := rdb.Elements(typ, body, x.w.Add); err != nil {
		return err
	}
	return x.w.Finish()
}

// appendDeadline appends the command that gives a key its deadline.
func appendDeadline(dst, key []byte, ms int64) []byte {
	dst = resp.AppendArrayHeader(dst, 3)
	dst = resp.AppendBulkString(dst, "PEXPIREAT")
	dst = resp.AppendBulk(dst, key)
	return resp.AppendBulkInt(dst, ms)
}

// native is what commands that make values must be understood by.
func (t target) native() native.Target {
	n := native.Target{Major: t.major, Minor: t.minor}
	if t.takes != nil {
		n.FieldTTL = t.takes.fieldTTL
	}
	return n
}
