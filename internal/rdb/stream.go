package rdb

import (
	"encoding/binary"
	"fmt"
	"strconv"
)

// StreamPart says which part of a stream a StreamElement is.
type StreamPart uint8

// The parts of a stream, in the order in which Elements gives them: all
// entries, the stream itself, then each group followed by its pending entries
// and its consumers, each of those followed by the entries it owns.
const (
	StreamEntry    StreamPart = iota + 1 // ID, Fields
	StreamInfo                           // ID: the last one given out; Count: entries. Meta: FirstID, MaxDeletedID, EntriesAdded
	StreamGroup                          // Group, ID: the last one delivered. Meta: EntriesRead
	StreamPending                        // Group, ID, Count: deliveries, TimeMS: the last delivery
	StreamConsumer                       // Group, Consumer. Meta: SeenMS, ActiveMS
	StreamOwned                          // Group, Consumer, ID: an entry pending for this consumer
)

// StreamID is an entry's id.
type StreamID struct{ MS, Seq uint64 }

// String is the id as the server prints it: ms-seq.
func (id StreamID) String() string {
	return strconv.FormatUint(id.MS, 10) + "-" + strconv.FormatUint(id.Seq, 10)
}

// StreamElement is one part of a stream. Apart from Meta, two streams are the
// same when they have the same parts in any order; the packing into nodes does
// not show.
type StreamElement struct {
	Part     StreamPart
	ID       StreamID
	Fields   [][]byte // field, value, field, value, ...
	Group    []byte
	Consumer []byte
	Count    uint64
	TimeMS   int64 // ms since 1970
	Meta     StreamMeta
}

// StreamMeta is what equal streams may differ in: newer versions of the server
// write more of it, and reading a stream changes it.
type StreamMeta struct {
	Known        bool // the fields up to EntriesRead are in the file (since 7.0)
	FirstID      StreamID
	MaxDeletedID StreamID
	EntriesAdded uint64
	EntriesRead  int64 // -1: the server does not know
	SeenMS       int64
	ActiveMS     int64 // since 7.2; -1: never
}

// streamWalker is what decoding a stream needs beside the walker.
type streamWalker struct {
	el       StreamElement
	names    [][]byte // the node's own fields, which most entries share
	fields   [][]byte // of the entry in hand
	nums     []byte   // integers among the fields, in decimal
	nameNs   []byte   // and among the names
	group    []byte   // names that outlive the window
	consumer []byte
	used     bool // since reset
}

func (st *streamWalker) size() int {
	return cap(st.nums) + cap(st.nameNs) + cap(st.group) + cap(st.consumer) + 24*(cap(st.names)+cap(st.fields))
}

// reset forgets all references to the caller's bytes.
func (st *streamWalker) reset() {
	if !st.used {
		return
	}
	st.used = false
	clear(st.names[:cap(st.names)])
	clear(st.fields[:cap(st.fields)])
	st.el = StreamElement{}
}

func (w *walker) walkStream(typ byte) error {
	w.stream.used = true
	if err := w.counted(w.streamNode); err != nil {
		return err
	}
	el := w.part(StreamInfo)
	var err error
	if el.Count, err = w.readLength(); err != nil {
		return err
	}
	if el.ID, err = w.readID(); err != nil {
		return err
	}
	if typ >= TypeStreamListpacks2 {
		el.Meta.Known = true
		if el.Meta.FirstID, err = w.readID(); err != nil {
			return err
		}
		if el.Meta.MaxDeletedID, err = w.readID(); err != nil {
			return err
		}
		if el.Meta.EntriesAdded, err = w.readLength(); err != nil {
			return err
		}
	}
	if err := w.call(Element{Stream: el}); err != nil {
		return err
	}
	return w.counted(func() error { return w.streamGroup(typ) })
}

// part gives the one StreamElement, emptied.
func (w *walker) part(p StreamPart) *StreamElement {
	w.stream.el = StreamElement{Part: p}
	return &w.stream.el
}

// readID reads an id stored as two lengths.
func (w *walker) readID() (id StreamID, err error) {
	if id.MS, err = w.readLength(); err == nil {
		id.Seq, err = w.readLength()
	}
	return id, err
}

// readRawID reads an id stored as it is in the server's radix tree.
func (w *walker) readRawID() (StreamID, error) {
	if err := w.skip(16); err != nil {
		return StreamID{}, err
	}
	return rawID(w.buf[w.pos-16:]), nil
}

func rawID(b []byte) StreamID {
	return StreamID{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

// streamNode reads a node: the id that its entries count from, and a listpack
// of a master entry (entries, deleted ones, number of fields, fields, 0)
// followed by the entries (t_stream.c, streamAppendItem).
func (w *walker) streamNode() error {
	key, err := w.readString(1)
	if err != nil {
		return err
	}
	if len(key) != 16 {
		return fmt.Errorf("stream node key of %d bytes, expected 16", len(key))
	}
	base := rawID(key)
	text, size, err := w.openBlob()
	if err != nil {
		return err
	}
	l := &w.list
	if err := l.open(text, size); err != nil {
		return err
	}
	var valid, deleted int64
	for cut := true; cut; {
		was := l.place
		valid, deleted, err = w.streamMaster()
		if cut, err = w.again(&l.blob, was, err); err != nil {
			return err
		}
	}
	if w.long {
		w.stream.ownNames()
	}
	for l.at() < l.limit {
		was := l.place
		gone, err := w.streamEntry(base)
		switch cut, err := w.again(&l.blob, was, err); {
		case err != nil:
			return err
		case cut:
		case gone:
			deleted--
		default:
			valid--
		}
	}
	if _, _, _, _, err := l.read(); err != nil { // the list's own count
		return err
	}
	if valid != 0 || deleted != 0 {
		return fmt.Errorf("stream node lacks %d entries and %d deleted ones", valid, deleted)
	}
	return w.closeBlob(&l.blob, true)
}

// streamMaster reads a node's master entry.
func (w *walker) streamMaster() (valid, deleted int64, err error) {
	l, st := &w.list, &w.stream
	if valid, err = l.readCount(); err != nil {
		return 0, 0, err
	}
	if deleted, err = l.readCount(); err != nil {
		return 0, 0, err
	}
	n, err := l.readCount()
	if err != nil {
		return 0, 0, err
	}
	st.names, st.nameNs = st.names[:0], st.nameNs[:0]
	for range n {
		if st.names, st.nameNs, err = l.appendText(st.names, st.nameNs); err != nil {
			return 0, 0, err
		}
	}
	if end, err := l.readInt(); err != nil {
		return 0, 0, err
	} else if end != 0 {
		return 0, 0, fmt.Errorf("stream node's master entry ends in %d, expected 0", end)
	}
	return valid, deleted, nil
}

// ownNames copies the names out of a window that moves on.
func (st *streamWalker) ownNames() {
	for i, name := range st.names {
		from := len(st.nameNs)
		st.nameNs = append(st.nameNs, name...)
		st.names[i] = st.nameNs[from:len(st.nameNs):len(st.nameNs)]
	}
}

// Flags of a stream's entry.
const (
	entryDeleted    = 1
	entrySameFields = 2
)

// streamEntry reads an entry: flags, id as two differences, unless it has the
// node's fields their number, then fields and values, and the number of
// listpack values all that took.
func (w *walker) streamEntry(base StreamID) (gone bool, err error) {
	l, st := &w.list, &w.stream
	start := l.count
	flags, err := l.readInt()
	if err != nil {
		return false, err
	}
	if flags&^(entryDeleted|entrySameFields) != 0 {
		return false, fmt.Errorf("stream entry has flags %#x", flags)
	}
	ms, err := l.readInt()
	if err != nil {
		return false, err
	}
	seq, err := l.readInt()
	if err != nil {
		return false, err
	}
	st.fields, st.nums = st.fields[:0], st.nums[:0]
	if flags&entrySameFields != 0 {
		for _, name := range st.names {
			st.fields = append(st.fields, name)
			if st.fields, st.nums, err = l.appendText(st.fields, st.nums); err != nil {
				return false, err
			}
		}
	} else {
		n, err := l.readCount()
		if err != nil {
			return false, err
		}
		for range 2 * n {
			if st.fields, st.nums, err = l.appendText(st.fields, st.nums); err != nil {
				return false, err
			}
		}
	}
	took := l.count - start
	if n, err := l.readInt(); err != nil {
		return false, err
	} else if n != int64(took) {
		return false, fmt.Errorf("stream entry says it took %d values, took %d", n, took)
	}
	if flags&entryDeleted != 0 {
		return true, nil
	}
	el := w.part(StreamEntry)
	el.ID = StreamID{base.MS + uint64(ms), base.Seq + uint64(seq)}
	el.Fields = st.fields
	return false, w.emit(Element{Stream: el})
}

// readInt reads a value that must be an integer.
func (l *listpack) readInt() (int64, error) {
	_, v, isInt, ok, err := l.read()
	if err == nil && (!ok || !isInt) {
		err = fmt.Errorf("no integer where a stream entry has one")
	}
	return v, err
}

// readCount reads an integer that counts values of this same listpack.
func (l *listpack) readCount() (int64, error) {
	v, err := l.readInt()
	if err == nil && (v < 0 || v > int64(l.limit)) {
		err = fmt.Errorf("count %d in a listpack of %d bytes", v, l.limit+1)
	}
	return v, err
}

// appendText reads a value and appends it to list; integers are rendered
// behind nums.
func (l *listpack) appendText(list [][]byte, nums []byte) ([][]byte, []byte, error) {
	text, v, isInt, ok, err := l.read()
	if err == nil && !ok {
		err = fmt.Errorf("stream entry leaves its listpack")
	}
	if err != nil {
		return list, nums, err
	}
	if isInt {
		from := len(nums)
		nums = strconv.AppendInt(nums, v, 10)
		text = nums[from:len(nums):len(nums)]
	}
	return append(list, text), nums, nil
}

func (w *walker) streamGroup(typ byte) error {
	el := w.part(StreamGroup)
	group, err := w.readString(0)
	if err != nil {
		return err
	}
	group = w.own(&w.stream.group, group)
	el.Group = group
	if el.ID, err = w.readID(); err != nil {
		return err
	}
	if typ >= TypeStreamListpacks2 {
		read, err := w.readLength()
		if err != nil {
			return err
		}
		el.Meta.Known, el.Meta.EntriesRead = true, int64(read)
	}
	if err := w.call(Element{Stream: el}); err != nil {
		return err
	}
	if err := w.counted(func() error { return w.streamPending(group) }); err != nil {
		return err
	}
	return w.counted(func() error { return w.streamConsumer(typ, group) })
}

// own copies text to buf where the window moves on while it is in use.
func (w *walker) own(buf *[]byte, text []byte) []byte {
	if w.r == nil {
		return text
	}
	*buf = append((*buf)[:0], text...)
	return *buf
}

func (w *walker) streamPending(group []byte) error {
	el := w.part(StreamPending)
	el.Group = group
	var err error
	if el.ID, err = w.readRawID(); err != nil {
		return err
	}
	at, err := w.readUint64()
	if err != nil {
		return err
	}
	el.TimeMS = int64(at)
	if el.Count, err = w.readLength(); err != nil {
		return err
	}
	return w.call(Element{Stream: el})
}

func (w *walker) streamConsumer(typ byte, group []byte) error {
	name, err := w.readString(1)
	if err != nil {
		return err
	}
	name = w.own(&w.stream.consumer, name)
	el := w.part(StreamConsumer)
	el.Group, el.Consumer = group, name
	seen, err := w.readUint64()
	if err != nil {
		return err
	}
	el.Meta.SeenMS = int64(seen)
	if typ >= TypeStreamListpacks3 {
		active, err := w.readUint64()
		if err != nil {
			return err
		}
		el.Meta.ActiveMS = int64(active)
	}
	if err := w.call(Element{Stream: el}); err != nil {
		return err
	}
	return w.counted(func() error {
		el := w.part(StreamOwned)
		el.Group, el.Consumer = group, name
		var err error
		if el.ID, err = w.readRawID(); err != nil {
			return err
		}
		return w.call(Element{Stream: el})
	})
}
