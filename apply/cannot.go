package apply

import (
	"encoding/binary"
	"fmt"

	"tairlift/internal/native"
	"tairlift/internal/rdb"
	"tairlift/internal/resp"
)

// cannot handles a value of the RDB that nothing makes on this target.
func (s *snapshot) cannot(db int, key []byte, typ byte, why error) error {
	if s.g.onReject == RejectContinue {
		return s.reject(db, key, resp.ServerError(why.Error()))
	}
	stop := &StopError{
		Reason: "value-unsupported",
		What: fmt.Sprintf("group %s: the target, of version %s, cannot hold key %q of database %d, of type %s: %v",
			s.g.id, s.target.version, short(key), db, rdb.TypeName(typ), why),
		Hint: "use a target that knows the type, or delete the key on the source and start with --new-epoch; or go on without the key by --on-reject continue, which lists it as doubtful",
		Err:  why,
	}
	if rdb.KindOf(typ) == rdb.KindModule {
		stop.Reason = "module-unsupported"
		stop.Hint = "load the module on the target (a version that reads what the source's wrote), then start the same command again; or go on without the key by --on-reject continue, which lists it as doubtful"
	}
	return stop
}

// noModules stands for the answer to what is not sent.
const noModules resp.ServerError = "the target has no modules loaded"

// unmade says why no commands make an entry.
func unmade(u *native.UnsupportedError, e *rdb.Entry) error {
	if rdb.KindOf(e.Type) == rdb.KindModule {
		return moduleError(body(e.Payload), noModules)
	}
	return u
}

// moduleError says which module's value was refused; body is the value's.
func moduleError(body []byte, why resp.ServerError) error {
	return fmt.Errorf("a value of module type %s: %w", moduleType(body), why)
}

// moduleType is the name of a module's type, nine letters of six bits above ten
// of a version (moduleTypeEncodeId in module.c).
func moduleType(body []byte) string {
	if len(body) < 9 || body[0] != 0x81 {
		return "unknown"
	}
	id := binary.BigEndian.Uint64(body[1:]) >> 10
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	var name [9]byte
	for i := len(name) - 1; i >= 0; i-- {
		name[i] = letters[id&63]
		id >>= 6
	}
	return string(name[:])
}
