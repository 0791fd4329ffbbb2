package native

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/rdb"
)

func el(a string, b ...string) rdb.Element {
	return rdb.Element{A: []byte(a), B: []byte(strings.Join(b, ""))}
}

func TestCommandsOfEachKind(t *testing.T) {
	hundred := strings.Repeat("x", 100)
	for name, c := range map[string]struct {
		kind rdb.Kind
		o    Options
		all  []rdb.Element
		want string
	}{
		"a string":                        {rdb.KindString, Options{}, []rdb.Element{el("v")}, "SET k v\n"},
		"an empty string":                 {rdb.KindString, Options{}, []rdb.Element{el("")}, "SET k \n"},
		"a string in pieces":              {rdb.KindString, Options{}, []rdb.Element{el("a"), el("b"), el("c")}, "SET k a\nAPPEND k b\nAPPEND k c\n"},
		"a string larger than a chunk":    {rdb.KindString, Options{ChunkBytes: 125}, []rdb.Element{el(hundred)}, "SET k " + hundred[:60] + "\nAPPEND k " + hundred[60:] + "\n"},
		"a list in order":                 {rdb.KindList, Options{}, []rdb.Element{el("c"), el("a"), el("b")}, "RPUSH k c a b\n"},
		"a list of more than a command's": {rdb.KindList, Options{MaxElements: 2}, []rdb.Element{el("c"), el("a"), el("b")}, "RPUSH k c a\nRPUSH k b\n"},
		"a list of large elements":        {rdb.KindList, Options{ChunkBytes: 100}, []rdb.Element{el("a"), el(hundred), el("b")}, "RPUSH k a\nRPUSH k " + hundred + "\nRPUSH k b\n"},
		"a set":                           {rdb.KindSet, Options{}, []rdb.Element{el("a"), el("b")}, "SADD k a b\n"},
		"a hash of an unknown target":     {rdb.KindHash, Options{}, []rdb.Element{el("f", "v"), el("g", "w")}, "HMSET k f v g w\n"},
		"a hash before 4.0":               {rdb.KindHash, Options{Target: Target{Major: 3, Minor: 2}}, []rdb.Element{el("f", "v")}, "HMSET k f v\n"},
		"a hash since 4.0":                {rdb.KindHash, Options{Target: Target{Major: 4}}, []rdb.Element{el("f", "v"), el("g", "w")}, "HSET k f v g w\n"},
		"fields with deadlines": {
			rdb.KindHash,
			Options{Target: Target{Major: 7, Minor: 4}},
			[]rdb.Element{el("e", "u"), {A: []byte("f"), B: []byte("v"), DeadlineMS: 5}, el("g", "w")},
			"HSET k e u f v\nHPEXPIREAT k 5 FIELDS 1 f\nHSET k g w\n",
		},
		"fields with deadlines of Valkey 9": {
			rdb.KindHash,
			Options{Target: Target{Major: 7, Minor: 2, FieldTTL: true}},
			[]rdb.Element{{A: []byte("f"), B: []byte("v"), DeadlineMS: 5}},
			"HSET k f v\nHPEXPIREAT k 5 FIELDS 1 f\n",
		},
		"scores": {
			rdb.KindZSet,
			Options{},
			[]rdb.Element{
				{A: []byte("a"), Score: math.Inf(1)},
				{A: []byte("b"), Score: math.Inf(-1)},
				{A: []byte("c"), Score: 0.1},
				{A: []byte("d"), Score: math.Copysign(0, -1)},
				{A: []byte("e"), Score: 1.0000000000000002},
				{A: []byte("f"), Score: math.MaxFloat64},
				{A: []byte("g"), Score: 3},
			},
			"ZADD k inf a -inf b 0.1 c -0 d 1.0000000000000002 e 1.7976931348623157e+308 f 3 g\n",
		},
		"a value of nothing": {rdb.KindList, Options{}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w, r := recorder(c.o)
			if err := elements(t, w, c.kind, c.all...); err != nil {
				t.Fatal(err)
			}
			if r.wrong != nil {
				t.Error(r.wrong)
			}
			if diff := cmp.Diff(c.want, lines(r.commands)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatNoCommandMakesIsToldByName(t *testing.T) {
	timed := rdb.Element{A: []byte("f"), DeadlineMS: 5}
	for name, c := range map[string]struct {
		kind   rdb.Kind
		target Target
		all    []rdb.Element
		want   string
	}{
		"a module":                   {rdb.KindModule, Target{Major: 7}, nil, `key "k" (module) cannot be written by commands: `},
		"a stream of 4.0":            {rdb.KindStream, Target{Major: 4}, nil, `key "k" (stream) cannot be written by commands: the target has no streams`},
		"a field's deadline before":  {rdb.KindHash, Target{Major: 7, Minor: 2}, []rdb.Element{timed}, `key "k" (hash) cannot be written by commands: the target has no deadlines for fields`},
		"a field's deadline, anyhow": {rdb.KindHash, Target{}, []rdb.Element{timed}, `key "k" (hash) cannot be written by commands: the target has no deadlines for fields`},
		"not a number":               {rdb.KindZSet, Target{Major: 7}, []rdb.Element{{A: []byte("m"), Score: math.NaN()}}, `key "k" (zset) cannot be written by commands: the score of a member is not a number`},
	} {
		t.Run(name, func(t *testing.T) {
			w, r := recorder(Options{Target: c.target})
			err := elements(t, w, c.kind, c.all...)
			var ue *UnsupportedError
			if !errors.As(err, &ue) || !strings.HasPrefix(err.Error(), c.want) || len(r.commands) > 0 {
				t.Errorf("got %v and commands %q, want %q and none", err, r.commands, c.want)
			}
			if err := elements(t, w, rdb.KindSet, el("a")); err != nil || len(r.commands) != 1 {
				t.Errorf("the value after it: got %v and commands %q", err, r.commands)
			}
		})
	}
}

func TestAnErrorOfTheCallerEndsTheValue(t *testing.T) {
	stop, calls := errors.New("enough"), 0
	w := NewWriter(Options{MaxElements: 1, ChunkBytes: 1}, func(Chunk) error { calls++; return stop })
	if err := elements(t, w, rdb.KindList, el("a"), el("b"), el("c")); err != stop || calls != 1 {
		t.Errorf("got %v after %d calls, want %v after 1", err, calls, stop)
	}
	if err := w.Add(el("d")); err != stop || w.Finish() != stop || calls != 1 {
		t.Errorf("more of it: got %v after %d calls, want %v after 1", err, calls, stop)
	}
	if err := w.Begin([]byte("k"), rdb.KindList); err != nil {
		t.Errorf("the next value: %v", err)
	}
}

func TestNothingIsSentOfAValueThatIsBegunAnew(t *testing.T) {
	w, r := recorder(Options{})
	for i := range 3 {
		if err := w.Begin([]byte("k"+strconv.Itoa(i)), rdb.KindList); err != nil {
			t.Fatal(err)
		}
		if err := w.Add(el("a")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(); err != nil || lines(r.commands) != "RPUSH k2 a\n" || r.elements != 1 {
		t.Errorf("got %q of %d elements, %v, want the last one", lines(r.commands), r.elements, err)
	}
}

func TestWritingAllocatesNothingPerElement(t *testing.T) {
	w := NewWriter(Options{Target: Target{Major: 7, Minor: 4}, ChunkBytes: 4096}, func(Chunk) error { return nil })
	key, a, b := []byte("key"), []byte("member"), []byte("value")
	stream := rdb.StreamElement{Part: rdb.StreamEntry, Fields: [][]byte{a, b}}
	for kind := rdb.KindString; kind < rdb.KindModule; kind++ {
		if allocs := testing.AllocsPerRun(20, func() {
			_ = w.Begin(key, kind)
			for i := range 500 {
				e := rdb.Element{A: a}
				switch kind {
				case rdb.KindHash:
					e.B, e.DeadlineMS = b, int64(i%2)
				case rdb.KindZSet:
					e.Score = float64(i) / 3
				case rdb.KindStream:
					stream.ID.Seq = uint64(i + 1)
					e.Stream = &stream
				}
				if err := w.Add(e); err != nil {
					t.Fatal(err)
				}
			}
			_ = w.Finish()
		}); allocs > 1 {
			t.Errorf("%v: got %v allocations for 500 elements, want none", kind, allocs)
		}
	}
}

func TestABufferOfALargeElementIsGivenBack(t *testing.T) {
	w, _ := recorder(Options{})
	if err := elements(t, w, rdb.KindList, rdb.Element{A: make([]byte, 2*bufferKeep)}, el("b")); err != nil {
		t.Fatal(err)
	}
	if c := cap(w.chunk.Bytes); c > bufferKeep {
		t.Errorf("got a buffer of %d bytes kept, want at most %d", c, bufferKeep)
	}
}
