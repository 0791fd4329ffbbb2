package repl

import (
	"strings"
	"testing"
)

func TestNamesRoundTrip(t *testing.T) {
	for _, g := range []GroupID{1, 7, 40, 9999} {
		if got, err := ParseGroupID(g.String()); err != nil || got != g {
			t.Errorf("ParseGroupID(%q): got %v, %v, want %v", g.String(), got, err, g)
		}
		if got, err := ParseGroupDir(g.Dir()); err != nil || got != g {
			t.Errorf("ParseGroupDir(%q): got %v, %v, want %v", g.Dir(), got, err, g)
		}
	}
	for _, e := range []Epoch{1, 42, 10000, 123456} {
		if got, err := ParseEpochDir(e.Dir()); err != nil || got != e {
			t.Errorf("ParseEpochDir(%q): got %v, %v, want %v", e.Dir(), got, err, e)
		}
	}
	id := strings.Repeat("0a", 20)
	for _, p := range []Position{{}, {ReplID: ReplID(id)}, {ReplID: ReplID(id), Offset: 1 << 60}} {
		if got, err := ParsePosition(p.String()); err != nil || got != p {
			t.Errorf("ParsePosition(%q): got %v, %v, want %v", p.String(), got, err, p)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	id := strings.Repeat("0a", 20)
	for name, err := range map[string]error{
		"group zero":           second(ParseGroupID("0")),
		"group too large":      second(ParseGroupID("10000")),
		"group with a sign":    second(ParseGroupID("-1")),
		"group folder short":   second(ParseGroupDir("group-1")),
		"group folder of zero": second(ParseGroupDir("group-0000")),
		"epoch zero":           second(ParseEpochDir("epoch-0000")),
		"epoch short":          second(ParseEpochDir("epoch-1")),
		"replid short":         second(ParseReplID(id[1:])),
		"replid upper case":    second(ParseReplID(strings.ToUpper(id))),
		"offset negative":      second(ParseOffset("-1")),
		"offset overflow":      second(ParseOffset("9223372036854775808")),
		"position bare":        second(ParsePosition(id)),
	} {
		if err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }
