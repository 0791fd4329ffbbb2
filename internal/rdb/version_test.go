package rdb

import (
	"bytes"
	"io"
	"testing"
)

func TestPayloadsOfTheOldestVersionThatHasTheirType(t *testing.T) {
	for _, name := range fixtures(t) {
		data := readFixture(t, name)
		file := mustReadAll(t, NewDecoder(bytes.NewReader(data), Options{}))
		for i, e := range mustReadAll(t, NewDecoder(bytes.NewReader(data), Options{OldestVersion: true})) {
			typ, body, version, err := ParseDump(e.Payload)
			if err != nil {
				t.Fatal(err)
			}
			_, want, at, _ := ParseDump(file[i].Payload)
			if typ != e.Type || !bytes.Equal(body, want) || version != max(MinVersion(typ), 6) || version > at {
				t.Errorf("%s key %q of type %s: got version %d in a file of version %d, want %d", name, e.Key, TypeName(typ), version, at, max(MinVersion(typ), 6))
			}
		}
	}
}

func TestAnOlderFileIsNotMadeNewer(t *testing.T) {
	data := newFile("0003").raw(byte(TypeString), "k", "v", byte(opEOF))
	d := NewDecoder(bytes.NewReader(*data), Options{OldestVersion: true})
	e, err := d.Next()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, version, err := ParseDump(e.Payload); version != 3 || err != nil {
		t.Errorf("got version %d, %v, want 3", version, err)
	}
	if _, err := d.Next(); err != io.EOF {
		t.Errorf("got %v, want io.EOF", err)
	}
}

func TestEveryTypeHasAVersion(t *testing.T) {
	for typ := range 256 {
		if typ := byte(typ); readable(typ) != (MinVersion(typ) > 0) && typ != opFunction2 {
			t.Errorf("type %s: got version %d, want one if and only if it can be read", TypeName(typ), MinVersion(typ))
		}
	}
}

func TestRestoreVersions(t *testing.T) {
	for v, want := range map[[2]int]int{
		{2, 4}: 0, {2, 8}: 6, {3, 2}: 7, {4, 0}: 8, {5, 0}: 9, {6, 2}: 9, {7, 0}: 10, {7, 2}: 11, {7, 4}: 12, {8, 0}: 12, {9, 1}: 12,
	} {
		if got := RestoreVersion(v[0], v[1]); got != want {
			t.Errorf("Redis %d.%d: got %d, want %d", v[0], v[1], got, want)
		}
	}
}

func TestTheCodeOfAFunction(t *testing.T) {
	const code = "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
	good := AppendDump(nil, opFunction2, enc(code), 10)
	for _, p := range [][]byte{good, AppendDump(nil, opFunction2, lzfOf([]byte(code)), 12)} {
		if got, err := FunctionCode([]byte("kept"), p); string(got) != "kept"+code || err != nil {
			t.Errorf("got %q, %v, want the code", got, err)
		}
	}
	for name, p := range map[string][]byte{
		"another type":     AppendDump(nil, TypeString, enc(code), 10),
		"more behind it":   AppendDump(nil, opFunction2, enc(code, code), 10),
		"less than it":     AppendDump(nil, opFunction2, enc(code)[:9], 10),
		"a payload broken": good[:len(good)-1],
	} {
		if got, err := FunctionCode(nil, p); err == nil {
			t.Errorf("%s: got %q, no error", name, got)
		}
	}
}
