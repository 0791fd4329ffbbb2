package native

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"tairlift/internal/rdb"
	"tairlift/internal/resp"
)

func TestEveryFixtureWrittenByCommandsIsTheSameValue(t *testing.T) {
	all := fixtures(t)
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	eachTarget(t, func(t *testing.T, p *pipe, target Target) {
		for _, o := range []Options{
			{Target: target},
			{Target: target, ChunkBytes: 1},
			{ChunkBytes: 300, MaxElements: 3},
		} {
			p.do("FLUSHALL")
			w := NewWriter(o, p.send)
			written := 0
			for _, name := range names {
				e := all[name]
				if k := rdb.KindOf(e.Type); k == rdb.KindStream || k == rdb.KindModule {
					continue
				}
				what := fmt.Sprintf("%s of type %s in chunks of %d", name, rdb.TypeName(e.Type), o.ChunkBytes)
				if err := cmp.Or(write(w, name, e.Payload), p.settle()); err != nil {
					t.Errorf("%s: %v", what, err)
					continue
				}
				written++
				if diff := gocmp.Diff(canon(t, e.Payload), canon(t, p.do("DUMP", name).Str)); diff != "" {
					t.Errorf("%s (-want +got):\n%.2000s", what, diff)
				}
			}
			if written < 500 {
				t.Errorf("got %d values written, want at least 500", written)
			}
		}
	})
}

func TestFieldDeadlinesWrittenByCommandsAreTheSame(t *testing.T) {
	eachTarget(t, func(t *testing.T, p *pipe, target Target) {
		for _, name := range []string{"field-ttl", "field-ttl-table"} {
			for _, e := range entries(t, "../../testdata/rdb/7.4.1/"+name+".rdb") {
				if rdb.KindOf(e.Type) != rdb.KindHash {
					continue
				}
				// The dump's own deadlines are soon over.
				later := func(e rdb.Element) rdb.Element {
					if e.DeadlineMS != 0 {
						e.DeadlineMS = 4102444800123
					}
					return e
				}
				err := cmp.Or(writeAs(NewWriter(Options{Target: target}, p.send), "k", e.Payload, later), p.settle())
				if !target.FieldTTL {
					var ue *UnsupportedError
					if !errors.As(err, &ue) {
						t.Errorf("%s: got %v, want an UnsupportedError", e.Key, err)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", e.Key, err)
					continue
				}
				want := canon(t, e.Payload)
				for i, line := range want {
					if text, _, ok := strings.Cut(line, " until 17"); ok {
						want[i] = text + " until 4102444800123"
					}
				}
				if diff := gocmp.Diff(want, canon(t, p.do("DUMP", "k").Str)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", e.Key, diff)
				}
				p.do("DEL", "k")
			}
		}
	})
}

func TestFunctionsAreLoadedFromTheirPayloads(t *testing.T) {
	var payloads [][]byte
	read(t, "../../testdata/rdb/7.2.6/dump-7.2.6.rdb", rdb.Options{OnFunction: func(b []byte) { payloads = append(payloads, bytes.Clone(b)) }})
	if len(payloads) == 0 {
		t.Fatal("the dump has no function")
	}
	eachTarget(t, func(t *testing.T, p *pipe, target Target) {
		if !target.atLeast(7, 0) {
			t.Skip("this server has no functions")
		}
		for range 2 { // one of its name is replaced
			for _, payload := range payloads {
				code, err := rdb.FunctionCode(nil, payload)
				if err != nil {
					t.Fatal(err)
				}
				b := resp.AppendCommandStrings(nil, "FUNCTION", "LOAD", "REPLACE", string(code))
				if err := cmp.Or(p.send(Chunk{Bytes: b, Commands: 1}), p.settle()); err != nil {
					t.Errorf("%q: %v", b, err)
				}
			}
		}
		if got := len(p.do("FUNCTION", "LIST").Elems); got != len(payloads) {
			t.Errorf("got %d libraries, want %d", got, len(payloads))
		}
	})
}

// TestPayloadsOfTheOldestVersionAreRestoredByOlderServers restores what each
// server saves on each that knows its types.
func TestPayloadsOfTheOldestVersionAreRestoredByOlderServers(t *testing.T) {
	all := fixtures(t)
	var saved [][]rdb.Entry
	eachTarget(t, func(t *testing.T, p *pipe, target Target) {
		p.do("FLUSHALL")
		w := NewWriter(Options{Target: target}, p.send)
		for name, e := range all {
			if k := rdb.KindOf(e.Type); k == rdb.KindModule || k == rdb.KindStream && !target.atLeast(5, 0) {
				continue
			}
			if err := cmp.Or(write(w, name, e.Payload), p.settle()); err != nil {
				t.Fatal(err)
			}
		}
		if target.FieldTTL {
			p.do("HSET", "fields", "f", "v", "g", "w")
			p.do("HPEXPIREAT", "fields", "4102444800123", "FIELDS", "1", "f")
		}
		p.do("SAVE")
		saved = append(saved, read(t, filepath.Join(p.dir, "dump.rdb"), rdb.Options{OldestVersion: true}))
	})
	eachTarget(t, func(t *testing.T, p *pipe, target Target) {
		version := p.rdbVersion()
		if want := rdb.RestoreVersion(target.Major, target.Minor); version != want && version < 80 {
			t.Errorf("redis_version %d.%d: got RDB version %d, want %d", target.Major, target.Minor, version, want)
		}
		for _, entries := range saved {
			p.do("FLUSHALL")
			n := 0
			for _, e := range entries {
				if rdb.MinVersion(e.Type) > version || version >= 80 && e.Type > rdb.TypeHashValkey {
					continue
				}
				if _, err := p.c.Do(context.Background(), "RESTORE", string(e.Key), "0", string(e.Payload)); err != nil {
					t.Errorf("RESTORE %s of type %s: %v", e.Key, rdb.TypeName(e.Type), err)
					continue
				}
				n++
				want, got := canon(t, e.Payload), canon(t, p.do("DUMP", string(e.Key)).Str)
				if rdb.KindOf(e.Type) == rdb.KindStream {
					want, got = withoutMeta(want), withoutMeta(got)
				}
				if diff := gocmp.Diff(want, got); diff != "" {
					t.Errorf("%s of type %s (-want +got):\n%.2000s", e.Key, rdb.TypeName(e.Type), diff)
				}
			}
			t.Logf("%d of %d values restored", n, len(entries))
		}
	})
}
