package rdb

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fixtures are dumps of real servers, each beside what the server itself said
// it held.
func fixtures(t testing.TB) []string {
	t.Helper()
	names, err := filepath.Glob("../../testdata/rdb/*/dump-*.rdb")
	if err != nil || len(names) != 9 {
		t.Fatalf("got %d dumps (%v), want 9", len(names), err)
	}
	return names
}

func readFixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// oracle is the json of a dump.
type oracle struct {
	Functions []string `json:"functions"`
	Keys      []struct {
		DB        int             `json:"db"`
		Key       []byte          `json:"key"`
		Type      string          `json:"type"`
		Value     json.RawMessage `json:"value"`
		PExpireAt *int64          `json:"pexpireat"`
	} `json:"keys"`
}

type streamValue struct {
	Entries []streamEntryValue `json:"entries"`
	LastID  string             `json:"last_id"`
	Groups  []streamGroupValue `json:"groups"`
	// Known to servers since 7.0 only.
	EntriesAdded *uint64 `json:"entries-added"`
	MaxDeletedID *string `json:"max-deleted-entry-id"`
}

type streamEntryValue struct {
	ID     string
	Fields [][]byte
}

func (v *streamEntryValue) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&v.ID, &v.Fields})
}

type streamGroupValue struct {
	Name        []byte                `json:"name"`
	LastID      string                `json:"last_delivered_id"`
	EntriesRead *int64                `json:"entries_read"`
	Consumers   []streamConsumerValue `json:"consumers"`
	Pending     []streamPendingValue  `json:"pending"`
}

type streamConsumerValue struct {
	Name    []byte `json:"name"`
	Pending int    `json:"pending"`
}

type streamPendingValue struct {
	ID       string
	Consumer []byte
	Count    uint64
}

func (v *streamPendingValue) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&v.ID, &v.Consumer, &v.Count})
}

// wanted turns the json of a value into what decodeValue makes of a payload.
func wanted(t *testing.T, typ string, raw json.RawMessage) any {
	t.Helper()
	into := func(v any) {
		t.Helper()
		if err := json.Unmarshal(raw, v); err != nil {
			t.Fatal(err)
		}
	}
	switch typ {
	case "string":
		var v []byte
		into(&v)
		return []string{string(v)}
	case "list", "set":
		var v [][]byte
		into(&v)
		out := make([]string, len(v))
		for i := range v {
			out[i] = string(v[i])
		}
		if typ == "set" {
			slices.Sort(out)
		}
		return out
	case "hash":
		var v [][2][]byte
		into(&v)
		out := map[string]string{}
		for _, p := range v {
			out[string(p[0])] = string(p[1])
		}
		return out
	case "zset":
		var v [][2]string
		into(&v)
		out := map[string]float64{}
		for _, p := range v {
			member, err := base64.StdEncoding.DecodeString(p[0])
			if err != nil {
				t.Fatal(err)
			}
			if out[string(member)], err = strconv.ParseFloat(p[1], 64); err != nil {
				t.Fatal(err)
			}
		}
		return out
	case "stream":
		var v streamValue
		into(&v)
		return v
	}
	t.Fatalf("oracle holds type %q", typ)
	return nil
}

// decodeValue reads a DUMP payload whole.
func decodeValue(payload []byte) (Kind, any, error) {
	typ, body, _, err := ParseDump(payload)
	if err != nil {
		return 0, nil, err
	}
	return gather(typ, func(fn func(Element) error) (Kind, int64, error) { return Elements(typ, body, fn) })
}

// gather makes one value of the elements that walk gives.
func gather(typ byte, walk func(func(Element) error) (Kind, int64, error)) (Kind, any, error) {
	list := []string{}
	hash := map[string]string{}
	zset := map[string]float64{}
	stream := streamValue{Entries: []streamEntryValue{}, Groups: []streamGroupValue{}}
	more := false
	kind, n, err := walk(func(e Element) error {
		if more {
			list[len(list)-1] += string(e.A)
			more = e.More
			return nil
		}
		more = e.More
		switch KindOf(typ) {
		case KindHash:
			hash[string(e.A)] = strings.TrimPrefix(elementText(KindHash, e), string(e.A)+"=")
		case KindZSet:
			zset[string(e.A)] = e.Score
		case KindStream:
			return stream.add(e.Stream)
		default:
			list = append(list, string(e.A))
		}
		return nil
	})
	if err != nil {
		return kind, nil, err
	}
	var v any
	var size int
	switch kind {
	case KindHash:
		v, size = hash, len(hash)
	case KindZSet:
		v, size = zset, len(zset)
	case KindStream:
		v, size = stream, len(stream.Entries)
	case KindSet:
		slices.Sort(list)
		fallthrough
	default:
		v, size = list, len(list)
	}
	if n != int64(size) {
		return kind, nil, fmt.Errorf("counted %d elements, got %d", n, size)
	}
	return kind, v, nil
}

func (v *streamValue) add(e *StreamElement) error {
	clone := func(b []byte) []byte { return append([]byte{}, b...) }
	var g *streamGroupValue
	if len(v.Groups) > 0 {
		g = &v.Groups[len(v.Groups)-1]
	}
	switch e.Part {
	case StreamEntry:
		entry := streamEntryValue{ID: e.ID.String()}
		for _, f := range e.Fields {
			entry.Fields = append(entry.Fields, clone(f))
		}
		v.Entries = append(v.Entries, entry)
	case StreamInfo:
		if e.Count != uint64(len(v.Entries)) {
			return fmt.Errorf("stream says it has %d entries, gave %d", e.Count, len(v.Entries))
		}
		v.LastID = e.ID.String()
		if e.Meta.Known {
			added, deleted := e.Meta.EntriesAdded, e.Meta.MaxDeletedID.String()
			v.EntriesAdded, v.MaxDeletedID = &added, &deleted
		}
	case StreamGroup:
		ng := streamGroupValue{
			Name: clone(e.Group), LastID: e.ID.String(),
			Consumers: []streamConsumerValue{}, Pending: []streamPendingValue{},
		}
		if e.Meta.Known && e.Meta.EntriesRead >= 0 {
			read := e.Meta.EntriesRead
			ng.EntriesRead = &read
		}
		v.Groups = append(v.Groups, ng)
	case StreamPending:
		if !bytes.Equal(e.Group, g.Name) || e.TimeMS < 1e12 {
			return fmt.Errorf("pending entry of group %q delivered at %d inside group %q", e.Group, e.TimeMS, g.Name)
		}
		g.Pending = append(g.Pending, streamPendingValue{ID: e.ID.String(), Count: e.Count})
	case StreamConsumer:
		if e.Meta.SeenMS < 1e12 {
			return fmt.Errorf("consumer %q seen at %d", e.Consumer, e.Meta.SeenMS)
		}
		g.Consumers = append(g.Consumers, streamConsumerValue{Name: clone(e.Consumer)})
	case StreamOwned:
		g.Consumers[len(g.Consumers)-1].Pending++
		at := slices.IndexFunc(g.Pending, func(p streamPendingValue) bool { return p.ID == e.ID.String() })
		if at < 0 || g.Pending[at].Consumer != nil {
			return fmt.Errorf("consumer %q owns %v, which is not pending or not free", e.Consumer, e.ID)
		}
		g.Pending[at].Consumer = clone(e.Consumer)
	}
	return nil
}

func TestEveryFixtureDecodesToWhatItsServerSaid(t *testing.T) {
	for _, name := range fixtures(t) {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".rdb"), func(t *testing.T) {
			var want oracle
			if err := json.Unmarshal(readFixture(t, strings.TrimSuffix(name, "rdb")+"json"), &want); err != nil {
				t.Fatal(err)
			}
			functions := 0
			d := NewDecoder(bytes.NewReader(readFixture(t, name)), Options{OnFunction: func(p []byte) {
				functions++
				if typ, _, _, err := ParseDump(p); err != nil || typ != opFunction2 {
					t.Errorf("function payload: got type %d, %v, want %d", typ, err, opFunction2)
				}
			}})
			type keyPlace struct {
				db  int
				key string
			}
			got := map[keyPlace]Entry{}
			for _, e := range mustReadAll(t, d) {
				got[keyPlace{e.DB, string(e.Key)}] = e
			}
			values := map[keyPlace]any{}
			d = NewDecoder(bytes.NewReader(readFixture(t, name)), Options{Hold: -1})
			for {
				e, err := d.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				_, v, err := gather(e.Type, d.Elements)
				if err != nil {
					t.Errorf("db %d key %q: %v", e.DB, e.Key, err)
				}
				values[keyPlace{e.DB, string(e.Key)}] = v
			}
			if len(got) != len(want.Keys) || functions != len(want.Functions) {
				t.Errorf("got %d keys and %d functions, want %d and %d", len(got), functions, len(want.Keys), len(want.Functions))
			}
			for _, k := range want.Keys {
				e, ok := got[keyPlace{k.DB, string(k.Key)}]
				if !ok {
					t.Errorf("db %d key %q is missing", k.DB, k.Key)
					continue
				}
				expire := int64(0)
				if k.PExpireAt != nil {
					expire = *k.PExpireAt
				}
				if e.ExpireMS != expire {
					t.Errorf("db %d key %q: got deadline %d, want %d", k.DB, k.Key, e.ExpireMS, expire)
				}
				kind, v, err := decodeValue(e.Payload)
				if err != nil || kind.String() != k.Type || KindOf(e.Type) != kind {
					t.Errorf("db %d key %q: got a %v (type %s), %v, want a %s", k.DB, k.Key, kind, TypeName(e.Type), err, k.Type)
					continue
				}
				value := wanted(t, k.Type, k.Value)
				if diff := cmp.Diff(value, v); diff != "" {
					t.Errorf("db %d key %q, type %s (-want +got):\n%.2000s", k.DB, k.Key, TypeName(e.Type), diff)
				}
				if diff := cmp.Diff(value, values[keyPlace{k.DB, string(k.Key)}]); diff != "" {
					t.Errorf("db %d key %q, type %s walked (-want +got):\n%.2000s", k.DB, k.Key, TypeName(e.Type), diff)
				}
				if text, is := v.([]string); e.IsString != (kind == KindString) || e.IsString && (!is || string(e.String) != text[0]) {
					t.Errorf("db %d key %q: IsString %v with %d bytes", k.DB, k.Key, e.IsString, len(e.String))
				}
			}
		})
	}
}

func TestFixturesHoldTheAccessFieldsOfTheirPolicy(t *testing.T) {
	for name, want := range map[string]struct{ idle, freq bool }{
		"codis-3.2.11": {}, "5.0.14": {freq: true}, "7.2.6": {freq: true}, "7.2.6-lru": {idle: true},
	} {
		d := NewDecoder(bytes.NewReader(readFixture(t, "../../testdata/rdb/"+name+"/dump-"+name+".rdb")), Options{})
		for _, e := range mustReadAll(t, d) {
			if e.Idle >= 0 != want.idle || e.Freq >= 0 != want.freq {
				t.Errorf("%s key %q: got idle %d and freq %d, want known: %v and %v", name, e.Key, e.Idle, e.Freq, want.idle, want.freq)
			}
		}
	}
}

func TestScoresKeepTheirBits(t *testing.T) {
	values := []float64{0, math.Copysign(0, -1), 1.5, math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64}
	body := enc(len(values) + 1)
	for i, v := range values {
		body = append(body, enc(strconv.Itoa(i), int64(math.Float64bits(v)))...)
	}
	body = append(body, enc("nan", int64(math.Float64bits(math.NaN())))...)
	i := 0
	_, _, err := Elements(TypeZSet2, body, func(e Element) error {
		if i == len(values) {
			if !math.IsNaN(e.Score) {
				t.Errorf("got %v, want NaN", e.Score)
			}
		} else if math.Float64bits(e.Score) != math.Float64bits(values[i]) {
			t.Errorf("got %v, want %v", e.Score, values[i])
		}
		i++
		return nil
	})
	if err != nil || i != len(values)+1 {
		t.Errorf("got %d scores, %v, want %d", i, err, len(values)+1)
	}
}
