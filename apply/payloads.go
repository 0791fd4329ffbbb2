package apply

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"tairlift/internal/command"
	"tairlift/internal/rdb"
	"tairlift/internal/resp"
)

// payloads gives the target values that come as payloads behind the RDB: in
// commands of the stream, and in copies of doubtful keys. Those that it does not
// take by RESTORE become commands that make the value, in the same EXEC. It is
// probed when the first one comes.
type payloads struct {
	target target
	probe  func() (*accepts, error)
	made   *natively
}

func (p *payloads) ready() (err error) {
	if p.target.takes != nil {
		return nil
	}
	if p.target.takes, err = p.probe(); err == nil {
		p.made = newNatively(p.target, 0)
	}
	return err
}

// appendEntry appends what writes an entry: n commands. An error but of the probe
// says that nothing makes it.
func (p *payloads) appendEntry(dst []byte, e *rdb.Entry) (out []byte, n int, err error) {
	how, stamp := p.target.way(e)
	return p.target.appendValue(dst, e, how, stamp, p.made)
}

// rewrite replaces, among the n commands that begin at from and stand for one of
// the source, each RESTORE that the target does not take. What nothing can make
// stays: the target says why.
func (p *payloads) rewrite(buf []byte, from, n int, spec *command.Spec, args [][]byte) ([]byte, int, error) {
	if err := p.ready(); err != nil {
		return buf, n, err
	}
	taken := spec.Payloads(args, func(_, payload []byte) bool {
		stamp, ok := p.restorable(payload)
		return ok && stamp == versionOf(payload)
	})
	if taken {
		return buf, n, nil
	}
	if module := p.module(spec, args); module != nil {
		return buf, n, module
	}
	parser := resp.NewParser(0)
	parser.Feed(buf[from:])
	out, count := slices.Clone(buf[:from]), 0
	for range n {
		c, ok, err := parser.Next()
		if err != nil || !ok {
			return buf, n, fmt.Errorf("read a command that was translated: %w", err)
		}
		var m int
		if out, m = p.appendCommand(out, c); m > 0 {
			count += m
			continue
		}
		out, count = append(out, c.Raw...), count+1
	}
	return out, count, nil
}

// module is an error for a payload that is a module's, which must not be sent to a
// target without modules: see accepts.
func (p *payloads) module(spec *command.Spec, args [][]byte) (err error) {
	spec.Payloads(args, func(key, payload []byte) bool {
		if len(payload) > footer && rdb.KindOf(payload[0]) == rdb.KindModule && !p.target.takes.modules {
			err = &noModuleError{slices.Clone(key), payload[0], moduleType(body(payload))}
		}
		return err == nil
	})
	return err
}

// noModuleError is a payload that the target cannot be given.
type noModuleError struct {
	key    []byte
	typ    byte
	module string
}

func (e *noModuleError) Error() string {
	return fmt.Sprintf("key %q would be of type %s, a value of module type %s: %v", short(e.key), rdb.TypeName(e.typ), e.module, noModules)
}

func (p *payloads) restorable(payload []byte) (stamp int, ok bool) {
	if len(payload) <= footer {
		return versionOf(payload), true // the target says what is wrong with it
	}
	return p.target.takes.restorable(payload[0], payload)
}

// appendCommand appends what stands for a RESTORE; n is 0 when it is to be sent
// as it is.
func (p *payloads) appendCommand(dst []byte, c resp.Command) (out []byte, n int) {
	if len(c.Args) < 5 || !bytes.EqualFold(c.Args[0], []byte("RESTORE")) {
		return dst, 0
	}
	payload := c.Args[3]
	switch stamp, ok := p.restorable(payload); {
	case ok && stamp == versionOf(payload):
		return dst, 0
	case ok:
		restamp(payload, stamp) // in the parser's own bytes
		return resp.AppendCommand(dst, c.Args...), 1
	}
	ms := int64(0)
	if slices.ContainsFunc(c.Args[4:], func(a []byte) bool { return bytes.EqualFold(a, []byte("ABSTTL")) }) {
		var err error
		if ms, err = strconv.ParseInt(string(c.Args[2]), 10, 64); err != nil {
			return dst, 0
		}
	}
	out, n, err := p.made.append(dst, c.Args[1], payload[0], body(payload), ms)
	if err != nil {
		return dst, 0
	}
	return out, n
}
