package apply

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/internal/selection"
)

// Batch is what one EXEC will execute: commands as bytes, in order, ending at
// a point between two commands of the source, never inside one of its
// transactions. The zero Batch is empty and begins in database 0.
type Batch struct {
	buf  []byte
	cmds []batched
	db   int // of the source, selected behind the last command
	// selection tells which of the target's databases that is.
	selection *selection.Selection
	// end and endDB are the source's position behind the batch; moved tells
	// that they were set.
	end     repl.Offset
	endDB   int
	moved   bool
	sources int64 // commands of the source among cmds, and copies
	copies  []copied
	held    bool  // a deadline in it is held back
	timed   bool  // something in it may be given a deadline
	asked   bool  // see ask
	late    bool  // it was so already when it was sent; see lateAge
	oldest  int64 // when the source executed the first of sources, at the earliest; ms since 1970
	// executed is when the target executed it, by its own clock, in ms since 1970; 0 is
	// not known.
	executed int64
}

// batched is one command of a batch. Several may stem from one of the source.
type batched struct {
	end repl.Offset // of the source's command
	db  int32       // of the source that it runs in
	// renews: it moves or removes the deadline of a key that the source has, and
	// answers 0 when the target has not.
	renews bool
	asks   bool // whether a key is there that a command behind it counts on
	own    bool // that key: see isOwn
	fields bool // it is of the times to live of fields, and answers -2 for one that is gone
	tells  bool // when the batch is executed
	looks  bool // for a key: see look
}

// dbNone makes a batch select a database before its first command.
const dbNone = selection.None

// keepBuffer bounds the memory that is kept for the next batch, or chunk: one
// large transaction or value must not cost it for ever.
const keepBuffer = 4 << 20

func (b *Batch) reset(db int) {
	if cap(b.buf) > keepBuffer {
		b.buf, b.cmds = nil, nil
	}
	b.buf, b.cmds, b.db = b.buf[:0], b.cmds[:0], db
	b.moved, b.sources = false, 0
	b.held, b.timed, b.asked, b.late, b.oldest, b.executed = false, false, false, false, math.MaxInt64, 0
	clear(b.copies)
	b.copies = b.copies[:0]
}

// begin empties a batch ahead of which database 0 of the target is selected.
func (b *Batch) begin(s *selection.Selection) {
	b.selection = s
	b.reset(s.From(0))
}

// use makes sure that what follows runs in the place of the source's db.
func (b *Batch) use(db int, end repl.Offset) {
	if b.db == db {
		return
	}
	b.buf = resp.AppendArrayHeader(b.buf, 2)
	b.buf = resp.AppendBulkString(b.buf, "SELECT")
	b.buf = resp.AppendBulkInt(b.buf, int64(b.selection.To(db)))
	b.cmds = append(b.cmds, batched{end: end, db: int32(db)})
	b.db = db
}

// append adds a command of ours, of what ends at end in the stream.
func (b *Batch) append(end repl.Offset, name string, args ...[]byte) {
	b.buf = resp.AppendArrayHeader(b.buf, 1+len(args))
	b.buf = resp.AppendBulkString(b.buf, name)
	for _, a := range args {
		b.buf = resp.AppendBulk(b.buf, a)
	}
	b.added(1, end)
}

// added records that n commands were appended to buf.
func (b *Batch) added(n int, end repl.Offset) {
	for range n {
		b.cmds = append(b.cmds, batched{end: end, db: int32(b.db)})
	}
}

// join appends o, which must begin with a SELECT or be empty.
func (b *Batch) join(o *Batch) {
	if len(o.cmds) == 0 {
		return
	}
	b.buf = append(b.buf, o.buf...)
	b.cmds = append(b.cmds, o.cmds...)
	b.db = o.db
	b.sources += o.sources
	b.held, b.timed = b.held || o.held, b.timed || o.timed
	b.oldest = min(b.oldest, o.oldest)
}

// command returns the arguments of the i-th command. It reads the batch from
// its start: for errors only.
func (b *Batch) command(i int) (args [][]byte, err error) {
	err = b.commands([]int{i}, func(_ int, a [][]byte) { args = a })
	return args, err
}

// each is commands for all of them.
func (b *Batch) each(fn func(i int, args [][]byte)) error {
	all := make([]int, len(b.cmds))
	for i := range all {
		all[i] = i
	}
	return b.commands(all, fn)
}

// commands calls fn with the arguments of the commands at these indexes, which
// must ascend. They are the parser's: valid during the call, and the last
// one's until they are dropped.
func (b *Batch) commands(at []int, fn func(i int, args [][]byte)) error {
	p := resp.NewParser(0)
	p.Feed(b.buf)
	for i := 0; len(at) > 0; i++ {
		c, ok, err := p.Next()
		if err != nil || !ok {
			return fmt.Errorf("read command %d of a batch of %d: %w", i, len(b.cmds), err)
		}
		if i == at[0] {
			at = at[1:]
			fn(i, c.Args)
		}
	}
	return nil
}

// show is args for a person: the name and the first key. Values are the user's.
func show(args [][]byte) string {
	var s strings.Builder
	for i, a := range args {
		if i == 2 {
			fmt.Fprintf(&s, " ... (%d arguments)", len(args))
			break
		}
		if i > 0 {
			s.WriteByte(' ')
		}
		if len(a) > 64 {
			s.WriteString(strconv.Quote(string(a[:64])) + "...")
		} else {
			s.WriteString(strconv.Quote(string(a)))
		}
	}
	return s.String()
}
