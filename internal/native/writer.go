package native

import (
	"math"
	"strconv"

	"tairlift/internal/rdb"
	"tairlift/internal/resp"
)

// Target says what the commands must be understood by.
type Target struct {
	// Major and Minor are its redis_version; Major 0 is unknown: then the
	// commands are those of 2.8, and for streams those of 5.0.
	Major, Minor int
	// FieldTTL: it knows HPEXPIREAT, although its version does not say so
	// (Valkey 9, whose redis_version is 7.2.4). Redis does from 7.4 on.
	FieldTTL bool
}

// atLeast tells whether the target is known to be of this version or later.
func (t Target) atLeast(major, minor int) bool {
	return t.Major > major || t.Major == major && t.Minor >= minor
}

// Options of a Writer. The zero value works.
type Options struct {
	Target Target
	// ChunkBytes bounds a chunk, and so a command, unless one element with its
	// key is larger. 0 = 512 KiB.
	ChunkBytes int
	// MaxElements bounds the elements of one command. 0 = 4096.
	MaxElements int
}

// Chunk is one or more whole commands. Its bytes are valid during the call.
type Chunk struct {
	Bytes    []byte
	Commands int   // as many replies come
	Elements int64 // of the value: pieces of a string, entries of a stream
}

const (
	defaultChunk    = 512 << 10
	defaultElements = 4096
	// bufferKeep is the size above which a buffer is given back once the large
	// element that it grew for has been sent.
	bufferKeep = 4 << 20
	// headRoom is what an array header takes, and the most that the frame of
	// a bulk does.
	headRoom = 16
)

// Writer makes commands of the elements of one value after the other. It is
// used by one goroutine.
type Writer struct {
	o    Options
	send func(Chunk) error

	kind rdb.Kind
	name string // of the command that adds an element
	key  []byte
	err  error // sticky until Begin

	chunk Chunk
	open  int // where the command in hand begins in chunk.Bytes, or -1
	args  int // of that command
	items int // elements in it
	num   [64]byte

	stream stream
}

// NewWriter gives each chunk to send, whose error ends the value.
func NewWriter(o Options, send func(Chunk) error) *Writer {
	if o.ChunkBytes <= 0 {
		o.ChunkBytes = defaultChunk
	}
	if o.MaxElements <= 0 {
		o.MaxElements = defaultElements
	}
	return &Writer{o: o, send: send, open: -1}
}

// Bound changes Options.ChunkBytes. It may be called by send.
func (w *Writer) Bound(chunkBytes int) { w.o.ChunkBytes = chunkBytes }

// Begin starts a value, forgetting what there is of the one before. An
// *UnsupportedError says that no command of the target makes such a value.
func (w *Writer) Begin(key []byte, kind rdb.Kind) error {
	w.key = append(w.key[:0], key...)
	w.start(kind)
	w.stream.reset(nil, false)
	return w.err
}

func (w *Writer) start(kind rdb.Kind) {
	w.kind, w.err = kind, nil
	w.chunk = Chunk{Bytes: w.chunk.Bytes[:0]}
	w.open = -1
	switch kind {
	case rdb.KindString:
		w.name = "SET"
	case rdb.KindList:
		w.name = "RPUSH"
	case rdb.KindSet:
		w.name = "SADD"
	case rdb.KindZSet:
		w.name = "ZADD"
	case rdb.KindHash:
		w.name = "HMSET"
		if w.o.Target.atLeast(4, 0) {
			w.name = "HSET"
		}
	case rdb.KindStream:
		if w.o.Target.Major != 0 && !w.o.Target.atLeast(5, 0) {
			w.refuse("the target has no streams, which came with Redis 5.0")
		}
	default:
		w.refuse("no command makes such a value")
	}
}

func (w *Writer) refuse(why string) {
	w.err = &UnsupportedError{Key: string(w.key), Kind: w.kind, Why: why}
}

// Add appends an element, in the order of a list. It may be given, or wrapped,
// as what Elements of package rdb calls.
func (w *Writer) Add(e rdb.Element) error {
	if w.err != nil {
		return w.err
	}
	switch w.kind {
	case rdb.KindString:
		w.addText(e.A)
	case rdb.KindList, rdb.KindSet:
		w.element(len(e.A) + headRoom)
		w.arg(e.A)
	case rdb.KindZSet:
		w.addScored(e)
	case rdb.KindHash:
		w.addField(e)
	case rdb.KindStream:
		w.addStream(e.Stream)
	}
	return w.err
}

// Finish ends the value and sends what is left of it. A value without elements
// makes no command, for no server holds one; an empty stream is a value.
func (w *Writer) Finish() error {
	if w.err == nil && w.kind == rdb.KindStream {
		w.finishStream()
	}
	w.end()
	w.flush()
	return w.err
}

// addText sends a text of any size in pieces: SET, then APPEND.
func (w *Writer) addText(text []byte) {
	most := max(w.o.ChunkBytes-len(w.key)-4*headRoom, 1)
	for first := true; first || len(text) > 0; first = false {
		n := min(len(text), most)
		w.command(w.name, n+headRoom)
		w.arg(text[:n])
		w.end()
		w.chunk.Elements++
		w.name, text = "APPEND", text[n:]
	}
}

func (w *Writer) addScored(e rdb.Element) {
	if math.IsNaN(e.Score) {
		w.refuse("the score of a member is not a number, which no command takes")
		return
	}
	w.element(len(e.A) + scoreRoom)
	w.arg(appendScore(w.num[:0], e.Score))
	w.arg(e.A)
}

// scoreRoom is what a score takes, and the frame of its member.
const scoreRoom = 24 + 2*headRoom

// appendScore writes a score as the shortest text from which strtod reads the
// same double.
func appendScore(dst []byte, f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(dst, "inf"...)
	case math.IsInf(f, -1):
		return append(dst, "-inf"...)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

func (w *Writer) addField(e rdb.Element) {
	at := e.DeadlineMS
	if at != 0 && !w.fieldTTL() {
		w.refuse("the target has no deadlines for fields, which came with Redis 7.4 and Valkey 9")
		return
	}
	w.element(len(e.A) + len(e.B) + 2*headRoom)
	w.arg(e.A)
	w.arg(e.B)
	if at != 0 {
		w.command("HPEXPIREAT", len(e.A)+4*headRoom+20)
		w.number(at)
		w.word("FIELDS")
		w.word("1")
		w.arg(e.A)
		w.end()
	}
}

func (w *Writer) fieldTTL() bool { return w.o.Target.FieldTTL || w.o.Target.atLeast(7, 4) }

// element makes room for an element that takes at most size bytes in a command
// that takes several.
func (w *Writer) element(size int) {
	if w.open < 0 || w.items == w.o.MaxElements || len(w.chunk.Bytes)+size > w.o.ChunkBytes {
		w.command(w.name, size)
		w.items = 0
	}
	w.items++
	w.chunk.Elements++
}

// command begins a command on the key, whose further arguments take at most
// size bytes before it is seen again whether there is room.
func (w *Writer) command(name string, size int) {
	w.begin(name, size)
	w.arg(w.key)
}

// begin is command without the key, which is to follow.
func (w *Writer) begin(name string, size int) {
	w.end()
	if most := w.o.ChunkBytes - 3*headRoom - len(name) - len(w.key); len(w.chunk.Bytes)+size > most {
		w.flush()
	}
	w.open, w.args = len(w.chunk.Bytes), 0
	w.chunk.Bytes = append(w.chunk.Bytes, make([]byte, headRoom)...)
	w.word(name)
}

func (w *Writer) arg(b []byte) {
	w.chunk.Bytes = resp.AppendBulk(w.chunk.Bytes, b)
	w.args++
}

func (w *Writer) number(n int64) {
	w.chunk.Bytes = resp.AppendBulkInt(w.chunk.Bytes, n)
	w.args++
}

func (w *Writer) word(s string) {
	w.chunk.Bytes = resp.AppendBulkString(w.chunk.Bytes, s)
	w.args++
}

// end closes the command in hand: the room before it takes the number of its
// arguments, which is known now.
func (w *Writer) end() {
	if w.open < 0 {
		return
	}
	b := w.chunk.Bytes[w.open:]
	head := copy(b, resp.AppendArrayHeader(w.num[:0], w.args))
	n := head + copy(b[head:], b[headRoom:])
	w.chunk.Bytes = w.chunk.Bytes[:w.open+n]
	w.chunk.Commands++
	w.open = -1
}

// flush sends what there is, all of whose commands have ended.
func (w *Writer) flush() {
	if w.err == nil && w.chunk.Commands > 0 {
		w.err = w.send(w.chunk)
	}
	w.chunk = Chunk{Bytes: w.chunk.Bytes[:0]}
	if cap(w.chunk.Bytes) > max(bufferKeep, 2*w.o.ChunkBytes) {
		w.chunk.Bytes = nil
	}
}
