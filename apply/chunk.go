package apply

import (
	"sync"

	"tairlift/checkpoint"
	"tairlift/internal/rdb"
	"tairlift/internal/resp"
)

const (
	// chunkBytes and chunkEntries bound what is sent before replies are read.
	chunkBytes   = 128 << 10
	chunkEntries = 500
	// markEntries is how many entries are answered from one mark to the next.
	markEntries = 5000
)

// chunk is a run of RDB entries of one database, sent over one connection, which
// has selected that before. Entries of an RDB are keys of their own, so chunks may
// overtake each other.
type chunk struct {
	seq     int64
	buf     []byte
	cmds    []chunkCmd
	strings []byte     // keys and values of plain strings without a deadline, as one MSET takes them
	plain   []chunkCmd // the same, within strings
	keys    []byte
	db      int // dbNone before the first command
	entries int64
	seen    counts
	end     rdb.Boundary
	doubts  []checkpoint.Doubt // of its keys; stored before it is sent
}

// chunkCmd is a command of a chunk, and what to make of its answer.
type chunkCmd struct {
	from, to int // the entry's key within chunk.keys
	at, end  int // the entry's commands within chunk.buf
	ms       int64
	kind     cmdKind
}

type cmdKind uint8

const (
	cmdPlain   cmdKind = iota
	cmdRestore         // refused, its value is written by other commands
	cmdExec            // of the transaction that makes one value
	cmdMSet            // of all plain strings; its key is none
)

func (c *chunk) reset(seq int64) {
	if cap(c.buf) > keepBuffer {
		c.buf = nil
	}
	if cap(c.strings) > keepBuffer {
		c.strings = nil
	}
	*c = chunk{seq: seq, buf: c.buf[:0], cmds: c.cmds[:0], keys: c.keys[:0], strings: c.strings[:0], plain: c.plain[:0], db: dbNone}
}

// size is how many bytes the chunk sends, and commands how many it stands for.
func (c *chunk) size() int     { return len(c.buf) + len(c.strings) }
func (c *chunk) commands() int { return len(c.cmds) + len(c.plain) }

// seal puts the plain strings behind the rest: in one MSET, which costs a target
// less than half of what as many SETs do, or where it takes none, in those.
func (c *chunk) seal(mset bool) {
	switch {
	case len(c.plain) == 0:
	case mset && len(c.plain) > 1:
		at := len(c.buf)
		c.buf = resp.AppendArrayHeader(c.buf, 1+2*len(c.plain))
		c.buf = resp.AppendBulkString(c.buf, "MSET")
		c.buf = append(c.buf, c.strings...)
		c.cmds = append(c.cmds, chunkCmd{at: at, end: len(c.buf), kind: cmdMSet})
	default:
		for _, cmd := range c.plain {
			pair := c.strings[cmd.at:cmd.end]
			cmd.at = len(c.buf)
			c.buf = appendSet(c.buf, pair)
			cmd.end = len(c.buf)
			c.cmds = append(c.cmds, cmd)
		}
		c.plain = c.plain[:0]
	}
}

// appendSet encodes the SET of a key and a value that are encoded.
func appendSet(dst, pair []byte) []byte {
	dst = resp.AppendArrayHeader(dst, 3)
	dst = resp.AppendBulkString(dst, "SET")
	return append(dst, pair...)
}

// add appends an entry; x writes what RESTORE does not take. An error, of x,
// leaves the chunk as it was.
func (c *chunk) add(e *rdb.Entry, t target, x *natively) error {
	cmd := chunkCmd{from: len(c.keys), to: len(c.keys) + len(e.Key), at: len(c.buf), ms: e.ExpireMS}
	first, last := cmdPlain, cmdPlain
	how, stamp := t.way(e)
	if how == bySet && e.ExpireMS == 0 {
		cmd.at = len(c.strings)
		c.strings = resp.AppendBulk(c.strings, e.Key)
		c.strings = resp.AppendBulk(c.strings, e.String)
		cmd.end = len(c.strings)
		c.keys = append(c.keys, e.Key...)
		c.plain = append(c.plain, cmd)
		c.db = e.DB
		return nil
	}
	switch how {
	case byRestore:
		first = cmdRestore
	case byCommands:
		c.buf, last = append(c.buf, multiCommand...), cmdExec
	}
	buf, n, err := t.appendValue(c.buf, e, how, stamp, x)
	if err != nil {
		c.buf = c.buf[:cmd.at]
		return err
	}
	if how == byCommands {
		buf, n = append(buf, execCommand...), n+2
		c.seen.native++
	}
	c.buf, c.db = buf, e.DB
	c.keys = append(c.keys, e.Key...)
	cmd.end = len(c.buf)
	c.seen.timed = c.seen.timed || e.ExpireMS != 0
	for i := range n {
		switch cmd.kind = cmdPlain; i {
		case 0:
			cmd.kind = first
		case n - 1:
			cmd.kind = last
		}
		c.cmds = append(c.cmds, cmd)
	}
	return nil
}

var multiCommand = resp.AppendCommandStrings(nil, "MULTI")

// appendEntry encodes one entry: SET for a plain string, RESTORE REPLACE for
// everything else, with an absolute deadline where the target takes one. An
// older target is given the deadline by a PEXPIREAT behind a RESTORE without
// one: a relative time would count from when the target executes it, by which
// it could end before PEXPIREAT says that it does not.
func appendEntry(dst []byte, e *rdb.Entry, t target) ([]byte, int) {
	word := func(s string) { dst = resp.AppendBulkString(dst, s) }
	if e.IsString && (e.ExpireMS == 0 || t.setPXAT()) {
		n := 3
		if e.ExpireMS != 0 {
			n = 5
		}
		dst = resp.AppendArrayHeader(dst, n)
		word("SET")
		dst = resp.AppendBulk(dst, e.Key)
		dst = resp.AppendBulk(dst, e.String)
		if e.ExpireMS != 0 {
			word("PXAT")
			dst = resp.AppendBulkInt(dst, e.ExpireMS)
		}
		return dst, 1
	}
	n, ttl := 5, int64(0)
	if e.ExpireMS != 0 && t.caps().AbsTTL {
		n, ttl = 6, e.ExpireMS
	}
	dst = resp.AppendArrayHeader(dst, n)
	word("RESTORE")
	dst = resp.AppendBulk(dst, e.Key)
	dst = resp.AppendBulkInt(dst, ttl)
	dst = resp.AppendBulk(dst, e.Payload)
	word("REPLACE")
	if ttl != 0 {
		word("ABSTTL")
	}
	if e.ExpireMS == ttl {
		return dst, 1
	}
	return appendDeadline(dst, e.Key, e.ExpireMS), 2
}

// lowWater is the entry boundary below which every chunk was answered.
type lowWater struct {
	mu       sync.Mutex
	boundary rdb.Boundary
	keys     int64 // see finished
	next     int64 // seq of the first chunk not answered
	ahead    map[int64]finished
	seen     counts // not handed out by get yet
	every    int64  // entries between two wakes
	since    int64
	wake     chan struct{}
}

type finished struct {
	end     rdb.Boundary
	entries int64
	keys    int64 // without those that are not selected
	seen    counts
}

func (w *lowWater) done(c *chunk) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ahead == nil {
		w.ahead = map[int64]finished{}
	}
	w.ahead[c.seq] = finished{end: c.end, entries: c.entries, keys: c.entries - c.seen.filtered, seen: c.seen}
	for {
		f, ok := w.ahead[w.next]
		if !ok {
			break
		}
		delete(w.ahead, w.next)
		w.next++
		w.boundary = f.end
		w.keys += f.keys
		w.seen.add(f.seen)
		w.since += f.entries
	}
	if w.since >= w.every && w.wake != nil {
		close(w.wake)
		w.wake, w.since = nil, 0
	}
}

// due is closed when enough entries were answered for the next mark.
func (w *lowWater) due() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wake == nil {
		w.wake = make(chan struct{})
	}
	return w.wake
}

// reached is where the boundary stands.
func (w *lowWater) reached() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.boundary.Offset
}

// get returns the boundary, the keys below it, and what was counted among
// them since the last call.
func (w *lowWater) get() (rdb.Boundary, int64, counts) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	w.seen = counts{}
	return w.boundary, w.keys, seen
}
