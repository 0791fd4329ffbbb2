package rdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

// streamText is all of a stream's part on one line.
func streamText(e *StreamElement) string {
	var b strings.Builder
	switch e.Part {
	case StreamEntry:
		fmt.Fprintf(&b, "entry %v %q", e.ID, e.Fields)
	case StreamInfo:
		fmt.Fprintf(&b, "info %v x%d", e.ID, e.Count)
	case StreamGroup:
		fmt.Fprintf(&b, "group %s %v", e.Group, e.ID)
	case StreamPending:
		fmt.Fprintf(&b, "pending %s %v x%d at %d", e.Group, e.ID, e.Count, e.TimeMS)
	case StreamConsumer:
		fmt.Fprintf(&b, "consumer %s %s", e.Group, e.Consumer)
	case StreamOwned:
		fmt.Fprintf(&b, "owned %s %s %v", e.Group, e.Consumer, e.ID)
	default:
		return fmt.Sprintf("part %d", e.Part)
	}
	if e.Meta != (StreamMeta{}) {
		fmt.Fprintf(&b, " %v", e.Meta)
	}
	return b.String()
}

func rawStreamID(ms, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, ms), seq)
}

// node is a stream node of two live entries and a deleted one: one with the
// node's fields, one with its own.
func node(valid, deleted int64, extra ...any) []byte {
	return listpackOf(append([]any{
		valid, deleted, int64(2), "f", int64(7), int64(0),
		int64(2), int64(0), int64(0), "v", int64(8), int64(5),
		int64(3), int64(1), int64(0), "x", "y", int64(5),
		int64(0), int64(5), int64(-1), int64(1), "own", "value", int64(6),
	}, extra...)...)
}

func streamBody(typ byte) []byte {
	b := enc(1, string(rawStreamID(100, 1)), string(node(2, 1)), 2, 105, 0)
	if typ >= TypeStreamListpacks2 {
		b = append(b, enc(100, 1, 101, 1, 3)...)
	}
	b = append(b, enc(2, "g", 100, 1)...)
	if typ >= TypeStreamListpacks2 {
		b = append(b, enc(uint64(math.MaxUint64))...)
	}
	b = append(b, enc(1, rawStreamID(100, 1), int64(1700000000000), 4, 1, "alice", int64(1700000000001))...)
	if typ >= TypeStreamListpacks3 {
		b = append(b, enc(int64(-1))...)
	}
	b = append(b, enc(1, rawStreamID(100, 1), "h", 0, 0)...)
	if typ >= TypeStreamListpacks2 {
		b = append(b, enc(0)...)
	}
	return append(b, enc(0, 0)...)
}

func streamParts(typ byte) []string {
	info, group, other, consumer := "", "", "", " {false 0-0 0-0 0 0 1700000000001 0}"
	if typ >= TypeStreamListpacks2 {
		info, group, other = " {true 100-1 101-1 3 0 0 0}", " {true 0-0 0-0 0 -1 0 0}", " {true 0-0 0-0 0 0 0 0}"
	}
	if typ >= TypeStreamListpacks3 {
		consumer = " {false 0-0 0-0 0 0 1700000000001 -1}"
	}
	return []string{
		`entry 100-1 ["f" "v" "7" "8"]`,
		`entry 105-0 ["own" "value"]`,
		"info 105-0 x2" + info,
		"group g 100-1" + group,
		"pending g 100-1 x4 at 1700000000000",
		"consumer g alice" + consumer,
		"owned g alice 100-1",
		"group h 0-0" + other,
	}
}

func TestBadStreamsAreRefused(t *testing.T) {
	body := func(key, node []byte) []byte { return enc(1, string(key), string(node), 0, 0, 0, 0) }
	id := rawStreamID(1, 1)
	head := []any{int64(1), int64(0), int64(1), "f", int64(0)}
	entry := func(values ...any) []byte { return body(id, listpackOf(append(head[:5:5], values...)...)) }
	if _, err := collect(TypeStreamListpacks, entry(int64(2), int64(0), int64(0), "v", int64(4))); err != nil {
		t.Fatalf("the entry that the others are made from: %v", err)
	}
	for name, b := range map[string][]byte{
		"a node key of 15 bytes":        body(id[:15], node(2, 1)),
		"an empty node":                 body(id, listpackOf()),
		"more entries than counted":     body(id, node(1, 1)),
		"fewer entries than counted":    body(id, node(3, 1)),
		"deleted entries not counted":   body(id, node(2, 0)),
		"half an entry more":            body(id, node(2, 1, int64(2), int64(0))),
		"a negative count":              body(id, node(-1, 1)),
		"more fields than bytes":        body(id, listpackOf(int64(0), int64(0), int64(1000000))),
		"fields cut":                    body(id, listpackOf(int64(0), int64(0), int64(3), "f")),
		"a master entry that goes on":   body(id, listpackOf(int64(0), int64(0), int64(1), "f", int64(1))),
		"text for a count":              body(id, listpackOf("1", int64(0), int64(1), "f", int64(0))),
		"flags of no meaning":           entry(int64(4), int64(0), int64(0), "v", int64(4)),
		"text for flags":                entry("2", int64(0), int64(0), "v", int64(4)),
		"a wrong number of values":      entry(int64(2), int64(0), int64(0), "v", int64(5)),
		"text for the number of values": entry(int64(2), int64(0), int64(0), "v", "4"),
		"an own field count too large":  entry(int64(0), int64(0), int64(0), int64(9), "f", "v", int64(6)),
		"a pending id cut":              enc(0, 0, 0, 0, 1, "g", 0, 0, 1, id[:15]),
		"a consumer's id cut":           enc(0, 0, 0, 0, 1, "g", 0, 0, 0, 1, "c", int64(1), 1, id[:15]),
	} {
		t.Run(name, func(t *testing.T) {
			var fe *FormatError
			if got, err := collect(TypeStreamListpacks, b); !errors.As(err, &fe) {
				t.Errorf("got %q, %v, want a FormatError", got, err)
			}
		})
	}
}

func TestListpackEntriesOfTheLengthsWhereTheirOwnLengthGrows(t *testing.T) {
	for _, edge := range []int{127, 128, 16382, 16383, 16384, 2097150, 2097151, 2097152} {
		for head := 1; head <= 5; head++ {
			n := edge - head
			if n < 0 {
				continue
			}
			want := []string{strings.Repeat("x", n), "after"}
			got, err := collect(TypeSetListpack, enc(string(listpackOf(want[0], want[1]))))
			if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
				t.Errorf("text of %d bytes: got %d values, %v, want both", n, len(got), err)
			}
		}
	}
}
