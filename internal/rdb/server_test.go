package rdb

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/redistest"
)

// serverVersion is the RDB version of the server's own payloads.
func serverVersion(t *testing.T, s *redistest.Server) int {
	t.Helper()
	s.Do(t, "SET", "probe", "x")
	_, _, version, err := ParseDump(s.Do(t, "DUMP", "probe").Str)
	if err != nil {
		t.Fatal(err)
	}
	s.Do(t, "DEL", "probe")
	return version
}

// restores tells whether a server of this RDB version reads values of type typ:
// Valkey has no field TTLs in Redis's form, nor Redis in Valkey's.
func restores(typ byte, version int) bool {
	return MinVersion(typ) <= version && (version < valkeyVersion || typ < TypeHashFieldTTLPacked0)
}

// saved is the dump.rdb that the server writes now.
func saved(t *testing.T, s *redistest.Server) []byte {
	t.Helper()
	s.Do(t, "SAVE")
	data, err := os.ReadFile(filepath.Join(s.Dir, "dump.rdb"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestPayloadsAreWhatAServerDumpsAndRestores(t *testing.T) {
	s := redistest.Source(t)
	version := serverVersion(t, s)
	values := map[string][]byte{}
	for _, name := range fixtures(t) {
		for _, e := range mustReadAll(t, NewDecoder(bytes.NewReader(readFixture(t, name)), Options{})) {
			values[fmt.Sprintf("%s/%d/%s", filepath.Base(name), e.DB, e.Key)] = e.Payload
		}
	}
	for name, c := range builtValues() {
		// Servers refuse a value with nothing in it and NaN for a score.
		// Before version 8 lengths had 32 bits.
		if len(c.want) > 0 && name != "zset of text" && (version >= 8 || name != "string of 64-bit length") {
			values["built/"+name] = AppendDump(nil, c.typ, c.body, oldestVersion(c.typ, valkeyVersion))
		}
	}
	restored := 0
	want := map[string]any{}
	for key, payload := range values {
		typ, body, _, err := ParseDump(payload)
		if err != nil {
			t.Fatal(err)
		}
		if !restores(typ, version) {
			continue
		}
		// Newer servers refuse payloads of later versions even of types
		// that they know.
		payload = AppendDump(nil, typ, body, oldestVersion(typ, valkeyVersion))
		if _, err := s.DoErr("RESTORE", key, "0", string(payload)); err != nil {
			t.Errorf("RESTORE %s of type %s: %v", key, TypeName(typ), err)
			continue
		}
		restored++
		if _, want[key], err = decodeValue(payload); err != nil {
			t.Fatal(err)
		}
	}
	if restored < 500 {
		t.Errorf("got %d values restored, want at least 500", restored)
	}
	entries := mustReadAll(t, NewDecoder(bytes.NewReader(saved(t, s)), Options{}))
	if len(entries) != restored {
		t.Errorf("got %d entries in the dump, want %d", len(entries), restored)
	}
	for _, e := range entries {
		if dumped := s.Do(t, "DUMP", string(e.Key)).Str; !bytes.Equal(e.Payload, dumped) {
			t.Errorf("%s of type %s: got payload %.100q of %d bytes, want %.100q of %d bytes as the server dumps it",
				e.Key, TypeName(e.Type), e.Payload, len(e.Payload), dumped, len(dumped))
		}
		_, got, err := decodeValue(e.Payload)
		if err != nil {
			t.Errorf("%s of type %s: %v", e.Key, TypeName(e.Type), err)
		}
		if diff := cmp.Diff(want[string(e.Key)], got, cmp.FilterPath(isStreamMeta, cmp.Ignore())); diff != "" {
			t.Errorf("%s of type %s (-restored +saved):\n%.2000s", e.Key, TypeName(e.Type), diff)
		}
	}
}

// isStreamMeta tells the fields that a server of 7.0 and later makes up when a
// stream comes from an earlier one.
func isStreamMeta(p cmp.Path) bool {
	f, ok := p.Last().(cmp.StructField)
	return ok && (f.Name() == "EntriesAdded" || f.Name() == "MaxDeletedID" || f.Name() == "EntriesRead")
}

func TestFunctionPayloadsAreWhatAServerRestores(t *testing.T) {
	s := redistest.Source(t)
	if major, _ := s.Version(); major < 7 {
		t.Skip("this server has no functions")
	}
	s.Do(t, "FUNCTION", "LOAD", "#!lua name=mylib\nredis.register_function('one', function() return 1 end)")
	var payloads [][]byte
	mustReadAll(t, NewDecoder(bytes.NewReader(saved(t, s)), Options{OnFunction: func(p []byte) {
		payloads = append(payloads, bytes.Clone(p))
	}}))
	if len(payloads) != 1 {
		t.Fatalf("got %d functions, want 1", len(payloads))
	}
	if dumped := s.Do(t, "FUNCTION", "DUMP").Str; !bytes.Equal(payloads[0], dumped) {
		t.Errorf("got %q, want %q as the server dumps it", payloads[0], dumped)
	}
	s.Do(t, "FUNCTION", "FLUSH")
	s.Do(t, "FUNCTION", "RESTORE", string(payloads[0]))
	if got := s.Do(t, "FCALL", "one", "0").Int; got != 1 {
		t.Errorf("restored function: got %d, want 1", got)
	}
}
