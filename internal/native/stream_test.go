package native

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"tairlift/internal/rdb"
)

// streams are commands that leave a stream k of each sort behind, as servers
// since 5.0 know them.
var streams = map[string][]string{
	"entries":                        {"XADD k 1-1 f v", "XADD k 1-2 f v g w", "XADD k 7-0 f v"},
	"nothing":                        {"XGROUP CREATE k g 0 MKSTREAM", "XGROUP DESTROY k g"},
	"nothing any more":               {"XADD k 5-5 f v", "XDEL k 5-5"},
	"nothing any more, with a group": {"XADD k 5-5 f v", "XGROUP CREATE k g 0", "XREADGROUP GROUP g c COUNT 5 STREAMS k >", "XACK k g 5-5", "XDEL k 5-5"},
	"the last deleted":               {"XADD k 1-1 f v", "XADD k 2-1 f v", "XADD k 3-1 f v", "XDEL k 3-1 2-1"},
	"one inside deleted":             {"XADD k 1-1 f v", "XADD k 2-1 f v", "XADD k 3-1 f v", "XDEL k 2-1"},
	"trimmed":                        {"XADD k 1-1 f v", "XADD k 2-1 f v", "XADD k 3-1 f v", "XTRIM k MAXLEN 1"},
	"a last id of its own":           {"XADD k 1-1 f v", "XSETID k 99-9"},
	"groups": {
		"XADD k 1-1 f v", "XADD k 2-1 f v", "XADD k 3-1 f v", "XGROUP CREATE k none 0", "XGROUP CREATE k all $", "XGROUP CREATE k some 2-1", "XGROUP CREATE k before 0-5",
		"XGROUP CREATE k first 1-1", "XGROUP CREATE k far 1000-0",
	},
	"pending": {
		"XADD k 1-1 f v", "XADD k 2-1 f v", "XADD k 3-1 f v", "XADD k 4-1 f v", "XGROUP CREATE k g 0", "XGROUP CREATE k h 0",
		"XREADGROUP GROUP g a COUNT 2 STREAMS k >", "XREADGROUP GROUP g b COUNT 1 STREAMS k >", "XREADGROUP GROUP h a COUNT 9 STREAMS k >",
		"XCLAIM k g c 0 1-1 TIME 1000 RETRYCOUNT 17 JUSTID", "XCLAIM k g c 0 2-1 TIME 1000 RETRYCOUNT 3 JUSTID", "XACK k h 2-1",
	},
	"consumers of nothing": {"XADD k 1-1 f v", "XGROUP CREATE k g $", "XREADGROUP GROUP g idle STREAMS k >", "XREADGROUP GROUP g other STREAMS k >"},
	"pending, deleted inside": {
		"XADD k 1-1 f v", "XADD k 2-1 f v", "XADD k 3-1 f v", "XGROUP CREATE k g 0", "XREADGROUP GROUP g a COUNT 9 STREAMS k >",
		"XCLAIM k g c 0 2-1 TIME 1000 RETRYCOUNT 3 JUSTID", "XDEL k 2-1",
	},
	"pending, trimmed": {
		"XADD k 1-1 f v", "XADD k 2-1 f v", "XADD k 3-1 f v", "XGROUP CREATE k g 0", "XREADGROUP GROUP g a COUNT 9 STREAMS k >", "XTRIM k MAXLEN 1",
	},
	"pending, trimmed and deleted": {
		"XADD k 1-1 f v", "XADD k 2-1 f v", "XADD k 3-1 f v", "XADD k 4-1 f v", "XADD k 5-1 f v", "XGROUP CREATE k g 0", "XREADGROUP GROUP g a COUNT 4 STREAMS k >",
		"XGROUP CREATE k h 0", "XREADGROUP GROUP h b COUNT 3 STREAMS k >", "XDEL k 3-1", "XTRIM k MAXLEN 3", "XDEL k 5-1",
	},
	"pending, all deleted": {
		"XADD k 1-1 f v", "XADD k 2-1 f v", "XGROUP CREATE k g 0", "XREADGROUP GROUP g a COUNT 9 STREAMS k >", "XDEL k 1-1 2-1",
	},
	"pending, all trimmed": {
		"XADD k 1-1 f v", "XADD k 2-1 f v", "XGROUP CREATE k g 0", "XREADGROUP GROUP g a COUNT 9 STREAMS k >", "XTRIM k MAXLEN 0",
	},
}

// many are commands for a stream of a few thousand entries, half of them pending.
func many() []string {
	var cmds []string
	for i := range 3000 {
		cmds = append(cmds, fmt.Sprintf("XADD k %d-%d field %d", 1000+i/3, 1+i%3, i))
	}
	return append(cmds, "XGROUP CREATE k g 0", "XREADGROUP GROUP g a COUNT 700 STREAMS k >", "XREADGROUP GROUP g b COUNT 800 STREAMS k >", "XDEL k 1001-1 1002-2", "XTRIM k MAXLEN 2900")
}

func made(p *pipe, cmds []string) []byte {
	p.do("DEL", "k")
	for _, c := range cmds {
		p.do(strings.Fields(c)...)
	}
	payload := slices.Clone(p.do("DUMP", "k").Str)
	p.do("DEL", "k")
	return payload
}

// sameStream compares what is at key with a payload, of which a server before
// 7.0 keeps less.
func sameStream(t *testing.T, p *pipe, o Target, what, key string, payload []byte) {
	t.Helper()
	want, got := canon(t, payload), canon(t, p.do("DUMP", key).Str)
	switch typ, b := body(t, payload); {
	case !o.atLeast(7, 0):
		want, got = withoutMeta(want), withoutMeta(got)
	case typ == rdb.TypeStreamListpacks:
		// What the server makes of one that does not say is the measure.
		p.do("RESTORE", "restored", "0", string(rdb.AppendDump(nil, typ, b, 9)), "REPLACE")
		want = canon(t, p.do("DUMP", "restored").Str)
		p.do("DEL", "restored")
		// But it does not know what was deleted, as removing a ghost tells it.
		want, got = withoutDeleted(want), withoutDeleted(got)
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%.3000s", what, diff)
	}
}

var infoMeta = regexp.MustCompile(`^(2 .*\{true \S+) \S+ `)

func withoutDeleted(lines []string) []string {
	out := slices.Clone(lines)
	for i, l := range out {
		out[i] = infoMeta.ReplaceAllString(l, "$1 any ")
	}
	return out
}

func TestStreamsWrittenByCommandsAreTheSame(t *testing.T) {
	payloads := map[string][]byte{}
	for name, e := range fixtures(t) {
		if rdb.KindOf(e.Type) == rdb.KindStream {
			payloads[name] = e.Payload
		}
	}
	if len(payloads) < 5 {
		t.Errorf("got %d streams from the dumps, want some of each", len(payloads))
	}
	eachTarget(t, func(t *testing.T, p *pipe, target Target) {
		if !target.atLeast(5, 0) {
			t.Skip("this server has no streams")
		}
		payloads["many"] = made(p, many())
		for name, cmds := range streams {
			payloads[t.Name()+", "+name] = made(p, cmds)
		}
	})
	eachTarget(t, func(t *testing.T, p *pipe, target Target) {
		if !target.atLeast(5, 0) {
			t.Skip("this server has no streams")
		}
		for _, o := range []Options{{Target: target}, {Target: target, ChunkBytes: 1}, {Target: target, ChunkBytes: 600, MaxElements: 7}} {
			w := NewWriter(o, p.send)
			for name, payload := range payloads {
				what := fmt.Sprintf("%s in chunks of %d", name, o.ChunkBytes)
				p.do("DEL", "k")
				if err := cmp.Or(write(w, "k", payload), p.settle()); err != nil || w.Lost() != 0 {
					t.Errorf("%s: %v, %d lost", what, err, w.Lost())
					continue
				}
				sameStream(t, p, target, what, "k", payload)
			}
		}
	})
}

func TestEntriesThatAGroupHasReadAreEstimatedAsServersDo(t *testing.T) {
	full := stream{entries: 5, first: rdb.StreamID{MS: 2}}
	full.end.ID = rdb.StreamID{MS: 9}
	empty := stream{}
	empty.end.ID = rdb.StreamID{MS: 9}
	for _, c := range []struct {
		s    *stream
		ms   uint64
		want int64
	}{{&full, 0, 0}, {&full, 1, 0}, {&full, 2, 1}, {&full, 3, -1}, {&full, 9, 5}, {&full, 10, -1}, {&empty, 0, 0}, {&empty, 9, 0}, {&empty, 10, 0}} {
		e := rdb.StreamElement{Part: rdb.StreamGroup, ID: rdb.StreamID{MS: c.ms}}
		if got := c.s.entriesRead(&e); got != c.want {
			t.Errorf("group at %d of %d entries: got %d, want %d", c.ms, c.s.entries, got, c.want)
		}
		e.Meta.Known, e.Meta.EntriesRead = true, 77
		if got := c.s.entriesRead(&e); got != 77 {
			t.Errorf("where it is known: got %d, want 77", got)
		}
	}
}

func TestDeletedPendingEntriesAreLostOnlyOnce(t *testing.T) {
	eachTarget(t, func(t *testing.T, p *pipe, o Target) {
		if !o.atLeast(5, 0) {
			t.Skip("this server has no streams")
		}
		for name, want := range map[string]int64{
			"pending": 0, "pending, deleted inside": 1, "pending, trimmed": 2, "pending, trimmed and deleted": 4, "pending, all trimmed": 2,
		} {
			payload := made(p, streams[name])
			typ, b := body(t, payload)
			w := NewWriter(Options{Target: o}, p.send)
			if err := w.Begin([]byte("k"), rdb.KindStream); err != nil {
				t.Fatal(err)
			}
			walk := func() {
				t.Helper()
				p.do("DEL", "k")
				if _, _, err := rdb.Elements(typ, b, w.Add); err != nil {
					t.Fatal(err)
				}
				if err := w.Finish(); err != nil {
					t.Fatal(err)
				}
				if err := p.settle(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			walk()
			if w.Lost() != want {
				t.Errorf("%s: got %d lost, want %d", name, w.Lost(), want)
			}
			if got, all := pending(t, p), pendingOf(t, payload); got != all-want {
				t.Errorf("%s: got %d pending entries, want %d", name, got, all-want)
			}
			w.Again()
			walk()
			if w.Lost() != 0 {
				t.Errorf("%s again: got %d lost, want none", name, w.Lost())
			}
			sameStream(t, p, o, name, "k", payload)
		}
	})
}

func pending(t *testing.T, p *pipe) int64 { return pendingOf(t, p.do("DUMP", "k").Str) }

// pendingOf counts the pending entries of all groups.
func pendingOf(t *testing.T, payload []byte) (n int64) {
	typ, b := body(t, payload)
	if _, _, err := rdb.Elements(typ, b, func(e rdb.Element) error {
		if e.Stream.Part == rdb.StreamPending {
			n++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}
