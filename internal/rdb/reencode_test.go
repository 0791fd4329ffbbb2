package rdb

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/redistest"
)

// encoder makes of elements a value in the plain encoding of its kind that a
// server of the given RDB version reads.
type encoder struct {
	version int
	n       int
	items   []byte

	// Of a stream, whose parts come in the order of the file.
	info     []byte
	groups   int
	group    []byte // done ones
	pending  []byte // of the group in hand
	pendings int
	tail     []byte // its consumers
	tails    int
	owned    []byte // of the consumer in hand
	owneds   int
}

func (x *encoder) streamType() byte {
	switch {
	case x.version >= 11:
		return TypeStreamListpacks3
	case x.version == 10:
		return TypeStreamListpacks2
	}
	return TypeStreamListpacks
}

func (x *encoder) add(kind Kind, e Element) error {
	if kind != KindStream || e.Stream.Part == StreamEntry {
		x.n++
	}
	switch kind {
	case KindString:
		x.items = append(x.items, e.A...)
	case KindList, KindSet:
		x.items = append(x.items, enc(string(e.A))...)
	case KindHash:
		x.items = append(x.items, enc(string(e.A), string(e.B))...)
	case KindZSet:
		x.items = append(x.items, enc(string(e.A))...)
		if x.version >= 8 {
			x.items = append(x.items, enc(int64(math.Float64bits(e.Score)))...)
			break
		}
		text := strconv.FormatFloat(e.Score, 'g', 17, 64)
		switch {
		case math.IsInf(e.Score, 1):
			text = "\xfe"
		case math.IsInf(e.Score, -1):
			text = "\xff"
		default:
			text = string(rune(len(text))) + text
		}
		x.items = append(x.items, text...)
	case KindStream:
		return x.stream(e.Stream)
	default:
		return fmt.Errorf("no encoding for a %v", kind)
	}
	return nil
}

// stream gives each entry a node of its own.
func (x *encoder) stream(e *StreamElement) error {
	typ := x.streamType()
	switch e.Part {
	case StreamEntry:
		values := []any{int64(1), int64(0), int64(len(e.Fields) / 2)}
		for i := 0; i < len(e.Fields); i += 2 {
			values = append(values, string(e.Fields[i]))
		}
		values = append(values, int64(0), int64(entrySameFields), int64(0), int64(0))
		for i := 1; i < len(e.Fields); i += 2 {
			values = append(values, string(e.Fields[i]))
		}
		values = append(values, int64(3+len(e.Fields)/2))
		x.items = append(x.items, enc(string(rawStreamID(e.ID.MS, e.ID.Seq)), string(listpackOf(values...)))...)
	case StreamInfo:
		x.info = enc(e.Count, e.ID.MS, e.ID.Seq)
		if typ >= TypeStreamListpacks2 {
			m := e.Meta
			if !m.Known {
				m.EntriesAdded = e.Count
			}
			x.info = append(x.info, enc(m.FirstID.MS, m.FirstID.Seq, m.MaxDeletedID.MS, m.MaxDeletedID.Seq, m.EntriesAdded)...)
		}
	case StreamGroup:
		x.endGroup()
		x.groups++
		x.group = append(x.group, enc(string(e.Group), e.ID.MS, e.ID.Seq)...)
		if typ >= TypeStreamListpacks2 {
			read := int64(-1)
			if e.Meta.Known {
				read = e.Meta.EntriesRead
			}
			x.group = append(x.group, enc(uint64(read))...)
		}
	case StreamPending:
		x.pendings++
		x.pending = append(x.pending, enc(rawStreamID(e.ID.MS, e.ID.Seq), e.TimeMS, e.Count)...)
	case StreamConsumer:
		x.endConsumer()
		x.tails++
		x.tail = append(x.tail, enc(string(e.Consumer), e.Meta.SeenMS)...)
		if typ >= TypeStreamListpacks3 {
			x.tail = append(x.tail, enc(e.Meta.ActiveMS)...)
		}
	case StreamOwned:
		x.owneds++
		x.owned = append(x.owned, rawStreamID(e.ID.MS, e.ID.Seq)...)
	}
	return nil
}

func (x *encoder) endConsumer() {
	if x.tails > 0 {
		x.tail = append(append(x.tail, enc(x.owneds)...), x.owned...)
	}
	x.owneds, x.owned = 0, nil
}

func (x *encoder) endGroup() {
	x.endConsumer()
	if x.groups > 0 {
		x.group = append(append(x.group, enc(x.pendings)...), x.pending...)
		x.group = append(append(x.group, enc(x.tails)...), x.tail...)
	}
	x.pendings, x.pending, x.tails, x.tail = 0, nil, 0, nil
}

// payload ends the value.
func (x *encoder) payload(kind Kind) []byte {
	var typ byte
	body := enc(x.n)
	switch kind {
	case KindString:
		typ, body = TypeString, enc(len(x.items))
	case KindList:
		typ = TypeList
	case KindSet:
		typ = TypeSet
	case KindHash:
		typ = TypeHash
	case KindZSet:
		if typ = TypeZSet2; x.version < 8 {
			typ = TypeZSet
		}
	case KindStream:
		typ = x.streamType()
		x.endGroup()
		x.items = append(append(append(x.items, x.info...), enc(x.groups)...), x.group...)
	}
	return AppendDump(nil, typ, append(body, x.items...), min(x.version, 12))
}

func TestEveryFixtureReencodedIsWhatAServerHolds(t *testing.T) {
	s := redistest.Source(t)
	version := serverVersion(t, s)
	restored := 0
	for _, name := range fixtures(t) {
		var want oracle
		if err := json.Unmarshal(readFixture(t, strings.TrimSuffix(name, "rdb")+"json"), &want); err != nil {
			t.Fatal(err)
		}
		values := map[string]any{}
		for _, k := range want.Keys {
			if k.Type != "stream" || version >= 9 {
				values[fmt.Sprintf("%d/%s", k.DB, k.Key)] = wanted(t, k.Type, k.Value)
			}
		}
		d := narrow(NewDecoder(bytes.NewReader(readFixture(t, name)), Options{Hold: -1}))
		for {
			e, err := d.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			x, kind := encoder{version: version}, KindOf(e.Type)
			if kind == KindStream && version < 9 {
				continue
			}
			if _, _, err := d.Elements(func(el Element) error { return x.add(kind, el) }); err != nil {
				t.Fatal(err)
			}
			at := fmt.Sprintf("%d/%s", e.DB, e.Key)
			key := filepath.Base(name) + "/" + at
			if _, err := s.DoErr("RESTORE", key, "0", string(x.payload(kind))); err != nil {
				t.Errorf("RESTORE %s of type %s as a plain %v: %v", key, TypeName(e.Type), kind, err)
				continue
			}
			restored++
			gotKind, got, err := decodeValue(s.Do(t, "DUMP", key).Str)
			if err != nil || gotKind != kind {
				t.Errorf("%s: got a %v, %v, want a %v", key, gotKind, err, kind)
				continue
			}
			if diff := cmp.Diff(values[at], got, cmp.FilterPath(isStreamMeta, cmp.Ignore())); diff != "" {
				t.Errorf("%s of type %s (-json +restored):\n%.2000s", key, TypeName(e.Type), diff)
			}
			delete(values, at)
		}
		for at := range values {
			t.Errorf("%s: key %s was not restored", name, at)
		}
	}
	if restored < 500 {
		t.Errorf("got %d values restored, want at least 500", restored)
	}
}
