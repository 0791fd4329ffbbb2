package job

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
	"unicode/utf8"

	"tairlift/internal/rdb"
	"tairlift/internal/repl"
)

// RDBOptions say what to show of an RDB file. File is required.
type RDBOptions struct {
	File   string
	Values bool // the elements of values too
	JSON   bool
	Out    io.Writer
}

// ShowRDB shows the keys of an RDB file, and their values.
func ShowRDB(ctx context.Context, o RDBOptions) error {
	f, err := os.Open(o.File)
	if err != nil {
		return &Error{Code: Failed, What: err.Error(), Hint: "give --file an RDB file that this user may read, such as a server's dump.rdb", Err: err}
	}
	defer f.Close()
	v := newListing(o.Out, o.JSON)
	err = v.rdb(ctx, rdb.NewDecoder(f, rdb.Options{Hold: -1}), o.Values, nil)
	if ferr := v.w.Flush(); err == nil {
		err = ferr
	}
	return explainRDB(o.File, err)
}

// explainRDB is explain for an RDB of the given name.
func explainRDB(name string, err error) error {
	var fe *rdb.FormatError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &fe):
		return explain(err)
	case errors.Is(err, rdb.ErrUnknownType):
		return &Error{
			Code: Failed, What: fmt.Sprintf("%s: %v", name, err), Err: err,
			Hint: "a newer server, or one with modules of its time, wrote this: what lies before that offset is as shown; report the type",
		}
	}
	return &Error{
		Code: Corrupt, What: fmt.Sprintf("%s: %v", name, err), Err: err,
		Hint: "the file is cut, damaged or no RDB: copy it again, or have the server write it anew; what lies before that offset is as shown",
	}
}

// listing writes what it is shown, as lines of text or as one JSON object a line.
// Bytes that came from a server are quoted: in text as "\x00\n", in JSON as a
// string where they are UTF-8, and else as {"base64": ...}.
type listing struct {
	w     *bufio.Writer
	json  *json.Encoder // nil for text
	where map[string]any
	bytes bool // a piece of a string has been begun
}

func newListing(out io.Writer, asJSON bool) *listing {
	v := &listing{w: bufio.NewWriterSize(out, 64<<10)}
	if asJSON {
		v.json = json.NewEncoder(v.w)
		v.json.SetEscapeHTML(false)
	}
	return v
}

// text is bytes of a server in JSON.
type text []byte

func (t text) MarshalJSON() ([]byte, error) {
	if utf8.Valid(t) {
		return json.Marshal(string(t))
	}
	return json.Marshal(map[string][]byte{"base64": t})
}

func texts(list [][]byte) []text {
	out := make([]text, len(list))
	for i := range list {
		out[i] = list[i]
	}
	return out
}

// put writes s. An error of the writer stays with it, and ends the listing at
// the next line.
func (v *listing) put(s string) { _, _ = v.w.WriteString(s) }

// quote writes b in quotes, whatever its size.
func (v *listing) quote(b []byte) {
	v.put(`"`)
	v.escape(b)
	v.put(`"`)
}

func (v *listing) escape(b []byte) {
	const hex = "0123456789abcdef"
	for _, c := range b {
		switch {
		case c == '"' || c == '\\':
			_ = v.w.WriteByte('\\')
			_ = v.w.WriteByte(c)
		case c == '\n':
			v.put(`\n`)
		case c == '\r':
			v.put(`\r`)
		case c == '\t':
			v.put(`\t`)
		case c >= ' ' && c < 0x7f:
			_ = v.w.WriteByte(c)
		default:
			v.put(`\x`)
			_ = v.w.WriteByte(hex[c>>4])
			_ = v.w.WriteByte(hex[c&15])
		}
	}
}

// row writes a JSON object, with what says where it belongs.
func (v *listing) row(kind string, fields map[string]any) error {
	fields["row"] = kind
	for k, w := range v.where {
		fields[k] = w
	}
	return v.json.Encode(fields)
}

// in says where the coming rows belong.
func (v *listing) in(g repl.GroupID, e repl.Epoch) error {
	if v.json != nil {
		v.where = map[string]any{"group": g, "epoch": e}
		return nil
	}
	_, err := fmt.Fprintf(v.w, "group %s epoch %s\n", g, e)
	return err
}

// rdb shows the RDB that d reads. size, where it is known, is what the whole
// has to come to.
func (v *listing) rdb(ctx context.Context, d *rdb.Decoder, values bool, size *int64) error {
	keys := 0
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := d.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		keys++
		if !values {
			if err := d.Skip(); err != nil {
				return err
			}
		}
		if err := v.key(e, !values); err != nil {
			return err
		}
		if values {
			if err := v.value(d, e); err != nil {
				return err
			}
		}
	}
	if size != nil && *size != d.Offset() {
		return fmt.Errorf("rdb ends at %d, expected %d", d.Offset(), *size)
	}
	if v.json != nil {
		return v.row("rdb", map[string]any{"version": d.Version(), "bytes": d.Offset(), "keys": keys, "checksum": checksum(d)})
	}
	_, err := fmt.Fprintf(v.w, "%10d end of rdb version %d, keys %d, checksum %s\n", d.Offset(), d.Version(), keys, checksum(d))
	return err
}

func checksum(d *rdb.Decoder) string {
	if d.Checked() {
		return "good"
	}
	return "none"
}

// key writes one key; passed tells that its end is known.
func (v *listing) key(e *rdb.Entry, passed bool) error {
	if v.json != nil {
		row := map[string]any{
			"offset": e.Offset, "db": e.DB, "key": text(e.Key), "type": rdb.KindOf(e.Type).String(),
			"encoding": rdb.TypeName(e.Type), "body": e.Body,
		}
		if passed {
			row["bytes"], row["end"] = e.End.Offset-e.Body, e.End.Offset
		}
		if e.ExpireMS != 0 {
			row["deadline_ms"] = e.ExpireMS
		}
		if e.Idle >= 0 {
			row["idle"] = e.Idle
		}
		if e.Freq >= 0 {
			row["freq"] = e.Freq
		}
		return v.row("key", row)
	}
	fmt.Fprintf(v.w, "%10d db %d ", e.Offset, e.DB)
	v.quote(e.Key)
	fmt.Fprintf(v.w, ", %s, type %s, body %d", rdb.KindOf(e.Type), rdb.TypeName(e.Type), e.Body)
	if passed {
		fmt.Fprintf(v.w, ", bytes %d, end %d", e.End.Offset-e.Body, e.End.Offset)
	}
	if e.ExpireMS != 0 {
		fmt.Fprintf(v.w, ", deadline %s", instant(e.ExpireMS))
	}
	if e.Idle >= 0 {
		fmt.Fprintf(v.w, ", idle %d", e.Idle)
	}
	if e.Freq >= 0 {
		fmt.Fprintf(v.w, ", freq %d", e.Freq)
	}
	return v.w.WriteByte('\n')
}

// value writes the elements of the entry in hand.
func (v *listing) value(d *rdb.Decoder, e *rdb.Entry) error {
	kind, n, err := d.Elements(func(el rdb.Element) error {
		if v.json != nil {
			return v.row("element", elementRow(rdb.KindOf(e.Type), el))
		}
		return v.element(rdb.KindOf(e.Type), el)
	})
	module := errors.Is(err, rdb.ErrModule)
	if err != nil && !module {
		return err
	}
	bytes := e.End.Offset - e.Body
	if v.json != nil {
		row := map[string]any{"end": e.End.Offset, "bytes": bytes, "elements": n}
		if module {
			row["elements"] = nil
		}
		return v.row("value", row)
	}
	if module {
		_, err = fmt.Fprintf(v.w, "%10d end of a %s's value, which only it can read, bytes %d\n", e.End.Offset, kind, bytes)
	} else {
		_, err = fmt.Fprintf(v.w, "%10d end of value, bytes %d, elements %d\n", e.End.Offset, bytes, n)
	}
	return err
}

func (v *listing) element(kind rdb.Kind, e rdb.Element) error {
	const indent = "           "
	if v.bytes { // a string goes on
		v.escape(e.A)
		if v.bytes = e.More; e.More {
			return nil
		}
		_, err := v.w.WriteString("\"\n")
		return err
	}
	v.put(indent)
	switch kind {
	case rdb.KindStream:
		v.stream(e.Stream)
	case rdb.KindString:
		if v.bytes = e.More; e.More {
			v.put(`"`)
			v.escape(e.A)
			return nil
		}
		v.quote(e.A)
	default:
		v.quote(e.A)
		switch kind {
		case rdb.KindHash:
			v.put(" = ")
			v.quote(e.B)
			if e.DeadlineMS != 0 {
				v.put(" until " + instant(e.DeadlineMS))
			}
		case rdb.KindZSet:
			v.put(" score " + score(e.Score))
		}
	}
	return v.w.WriteByte('\n')
}

func instant(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

func score(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

func (v *listing) stream(s *rdb.StreamElement) {
	named := func(word string, name []byte) {
		v.put(word + " ")
		v.quote(name)
	}
	switch s.Part {
	case rdb.StreamEntry:
		fmt.Fprintf(v.w, "entry %s", s.ID)
		for _, f := range s.Fields {
			v.put(" ")
			v.quote(f)
		}
	case rdb.StreamInfo:
		fmt.Fprintf(v.w, "stream of %d entries, last id %s", s.Count, s.ID)
		if s.Meta.Known {
			fmt.Fprintf(v.w, ", first id %s, max deleted id %s, entries added %d", s.Meta.FirstID, s.Meta.MaxDeletedID, s.Meta.EntriesAdded)
		}
	case rdb.StreamGroup:
		named("group", s.Group)
		fmt.Fprintf(v.w, ", last id %s", s.ID)
		if s.Meta.Known {
			fmt.Fprintf(v.w, ", entries read %d", s.Meta.EntriesRead)
		}
	case rdb.StreamPending:
		named("pending in", s.Group)
		fmt.Fprintf(v.w, " %s, deliveries %d, last %d", s.ID, s.Count, s.TimeMS)
	case rdb.StreamConsumer:
		named("consumer of", s.Group)
		named(" is", s.Consumer)
		fmt.Fprintf(v.w, ", seen %d", s.Meta.SeenMS)
	case rdb.StreamOwned:
		named("pending for", s.Consumer)
		fmt.Fprintf(v.w, " %s", s.ID)
	}
}

// elementRow is an element in JSON.
func elementRow(kind rdb.Kind, e rdb.Element) map[string]any {
	switch kind {
	case rdb.KindString:
		row := map[string]any{"text": text(e.A)}
		if e.More {
			row["more"] = true
		}
		return row
	case rdb.KindHash:
		row := map[string]any{"field": text(e.A), "value": text(e.B)}
		if e.DeadlineMS != 0 {
			row["deadline_ms"] = e.DeadlineMS
		}
		return row
	case rdb.KindZSet:
		return map[string]any{"member": text(e.A), "score": score(e.Score)}
	case rdb.KindStream:
		return streamRow(e.Stream)
	}
	return map[string]any{"member": text(e.A)}
}

func streamRow(s *rdb.StreamElement) map[string]any {
	id := s.ID.String()
	switch s.Part {
	case rdb.StreamEntry:
		return map[string]any{"part": "entry", "id": id, "fields": texts(s.Fields)}
	case rdb.StreamInfo:
		row := map[string]any{"part": "stream", "last_id": id, "entries": s.Count}
		if s.Meta.Known {
			row["first_id"], row["max_deleted_id"] = s.Meta.FirstID.String(), s.Meta.MaxDeletedID.String()
			row["entries_added"] = s.Meta.EntriesAdded
		}
		return row
	case rdb.StreamGroup:
		row := map[string]any{"part": "group", "group_name": text(s.Group), "last_id": id}
		if s.Meta.Known {
			row["entries_read"] = s.Meta.EntriesRead
		}
		return row
	case rdb.StreamPending:
		return map[string]any{"part": "pending", "group_name": text(s.Group), "id": id, "deliveries": s.Count, "delivered_ms": s.TimeMS}
	case rdb.StreamConsumer:
		return map[string]any{"part": "consumer", "group_name": text(s.Group), "consumer": text(s.Consumer), "seen_ms": s.Meta.SeenMS}
	}
	return map[string]any{"part": "owned", "group_name": text(s.Group), "consumer": text(s.Consumer), "id": id}
}
