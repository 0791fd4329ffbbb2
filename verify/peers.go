package verify

import (
	"context"

	"tairlift/internal/repl"
)

// peers asks the other groups about the keys of one group, or all groups about
// keys that the target has. Connections are made when they are first needed. It
// is used by one goroutine.
type peers struct {
	run   *run
	ctx   context.Context
	self  int // index of the source not to ask; -1 none
	wires []*wire
	held  []int // index of the source + 1
	buf   reading
	keys  keyList
}

func newPeers(ctx context.Context, r *run, self int) *peers {
	return &peers{run: r, ctx: ctx, self: self, wires: make([]*wire, len(r.sources)), buf: reading{most: r.o.holdBytes, digests: newDigester(r.o.Seed)}}
}

func (p *peers) close() {
	for _, w := range p.wires {
		if w != nil {
			w.close()
		}
	}
}

// holding tells for each key which of the groups has it: its index + 1, or 0
// for none. The result is valid until the next call.
func (p *peers) holding(db int, keys *keyList) ([]int, error) {
	p.held = append(p.held[:0], make([]int, keys.len())...)
	for i, srv := range p.run.sources {
		if i == p.self {
			continue
		}
		if p.wires[i] == nil {
			c, err := srv.dial(p.ctx)
			if err != nil {
				return nil, err
			}
			p.wires[i] = c
		}
		w := p.wires[i]
		if err := w.selectDB(db); err != nil {
			return nil, err
		}
		w.putExists(keys)
		if err := w.flush(); err != nil {
			return nil, w.fail(err)
		}
	}
	for i, w := range p.wires {
		if i == p.self {
			continue
		}
		for k := range p.held {
			n, err := w.takeInt()
			if err != nil {
				return nil, w.fail(err)
			}
			if n > 0 && p.held[k] == 0 {
				p.held[k] = i + 1
			}
		}
	}
	return p.held, nil
}

// read asks the group with index i about one key, in the db of the last holding.
func (p *peers) read(i int, key string) (*reading, error) {
	w := p.wires[i]
	p.keys.reset()
	p.keys.addString(key)
	w.putProbe(p.run.probe, &p.keys)
	if err := w.flush(); err != nil {
		return nil, w.fail(err)
	}
	return &p.buf, w.takeProbe(p.run.probe, 1, &p.buf)
}

func (p *peers) group(i int) repl.GroupID { return p.run.sources[i].group }
