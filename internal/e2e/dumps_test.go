package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tairlift/internal/redistest"
	"tairlift/internal/repl"
)

// dumpSlack is how far a deadline that an RDB tells may be off.
const dumpSlack = 10 * time.Millisecond

// paths are the ways of a value into the target.
var paths = []struct {
	name   string
	target []redistest.Option
}{
	{"RESTORE", nil},
	// What cannot be restored is written by native commands.
	{"native", []redistest.Option{redistest.Arg("--rename-command", "RESTORE", "")}},
}

// The RDBs of servers of all versions, each with what the server itself said it
// held: every key, value and deadline arrives, both ways.
func TestRecordedDumps(t *testing.T) {
	files, err := filepath.Glob(redistest.Testdata(t, "rdb/*/dump-*.rdb"))
	if err != nil || len(files) != 9 {
		t.Fatalf("recorded dumps: got %d, want 9 (%v)", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".rdb")
		for _, path := range paths {
			t.Run(name+" by "+path.name, func(t *testing.T) {
				rdb, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				record := readRecord(t, strings.TrimSuffix(file, ".rdb")+".json")
				source := redistest.FakeMaster(t, redistest.Script{Session: redistest.Session{
					ReplID: repl.ReplID(strings.Repeat("c", 40)), Offset: 1000, RDB: rdb,
				}})
				target := redistest.Target(t, path.target...)
				run(t, exitOK, "sync", "--dir", filepath.Join(t.TempDir(), "job"), "--group", "1="+source.Addr,
					"--target", target.Addr, "--until", "caught-up")
				r := newReader(t, target)
				r.counters = r.counters && record.counters()
				r.reads = r.counters
				want := record.keyspace(t, r)
				if diff := cmp.Diff(want, r.keyspace(), within(dumpSlack), cmpopts.IgnoreFields(value{}, "Delivered")); diff != "" {
					t.Errorf("keyspace (-recorded +target):\n%s", diff)
				}
				if diff := cmp.Diff(record.Functions, libraries(t, target)); diff != "" {
					t.Errorf("function libraries (-recorded +target):\n%s", diff)
				}
			})
		}
	}
}

// record is what a server told of its keyspace when it was recorded.
type record struct {
	CapturedMS int64    `json:"captured_ms"`
	Functions  []string `json:"functions"` // names of libraries
	Keys       []struct {
		DB        int             `json:"db"`
		Key       []byte          `json:"key"`
		Type      string          `json:"type"`
		Value     json.RawMessage `json:"value"`
		PExpireAt *int64          `json:"pexpireat"`
	} `json:"keys"`
}

func readRecord(t *testing.T, file string) (r record) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// counters tells whether the server counted what was added to its streams.
func (r record) counters() bool {
	for _, k := range r.Keys {
		if bytes.Contains(k.Value, []byte(`"entries-added"`)) {
			return true
		}
	}
	return false
}

// keyspace leaves out keys that have expired since.
func (r record) keyspace(t *testing.T, as reader) map[string]value {
	t.Helper()
	keys := map[string]value{}
	for _, k := range r.Keys {
		v := value{Type: k.Type, Elements: recordedElements(t, as, k.Type, k.Value)}
		if k.PExpireAt != nil {
			if v.Deadline = time.UnixMilli(*k.PExpireAt); time.Now().After(v.Deadline) {
				continue
			}
		}
		keys[place(k.DB, string(k.Key))] = v
	}
	return keys
}

// recordedElements are a value's elements as the reader would give them.
func recordedElements(t *testing.T, as reader, typ string, raw json.RawMessage) []string {
	t.Helper()
	into := func(v any) {
		t.Helper()
		if err := json.Unmarshal(raw, v); err != nil {
			t.Fatalf("%s: %v", typ, err)
		}
	}
	var out []string
	switch typ {
	case "string":
		var v []byte
		into(&v)
		return []string{as.text(string(v))}
	case "list", "set":
		var v [][]byte
		into(&v)
		for _, e := range v {
			out = append(out, string(e))
		}
		if typ == "list" {
			return out
		}
	case "hash":
		var v [][2][]byte
		into(&v)
		for _, e := range v {
			out = append(out, fmt.Sprintf("%q=%q", e[0], e[1]))
		}
	case "zset":
		var v [][2]string
		into(&v)
		for _, e := range v {
			member, err := base64.StdEncoding.DecodeString(e[0])
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, scored(t, string(member), e[1]))
		}
	case "stream":
		var v recordedStream
		into(&v)
		return v.elements(as.counters)
	default:
		t.Fatalf("a value of type %q was recorded", typ)
	}
	slices.Sort(out)
	return out
}

// recordedStream is a stream in a recording's json.
type recordedStream struct {
	Entries    []recordedEntry `json:"entries"`
	LastID     string          `json:"last_id"`
	Added      int64           `json:"entries-added"`
	MaxDeleted string          `json:"max-deleted-entry-id"`
	Groups     []struct {
		Name      []byte `json:"name"`
		LastID    string `json:"last_delivered_id"`
		Read      *int64 `json:"entries_read"`
		Consumers []struct {
			Name []byte `json:"name"`
		} `json:"consumers"`
		Pending []recordedPending `json:"pending"`
	} `json:"groups"`
}

// recordedEntry is [id, [field, text, ...]].
type recordedEntry struct {
	id     string
	fields [][]byte
}

func (e *recordedEntry) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&e.id, &e.fields})
}

// recordedPending is [id, consumer, times delivered].
type recordedPending struct {
	id       string
	consumer []byte
	times    int64
}

func (p *recordedPending) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&p.id, &p.consumer, &p.times})
}

func (v recordedStream) elements(counters bool) []string {
	var out []string
	for _, e := range v.Entries {
		fields := make([]string, len(e.fields))
		for i, f := range e.fields {
			fields[i] = string(f)
		}
		out = append(out, streamEntry(e.id, fields))
	}
	out = append(out, "last id "+v.LastID)
	if counters {
		out = append(out, streamCounters(v.Added, v.MaxDeleted))
	}
	for _, g := range v.Groups {
		out = append(out, streamGroup(string(g.Name), g.LastID))
		if counters {
			read := "(nil)"
			if g.Read != nil {
				read = strconv.FormatInt(*g.Read, 10)
			}
			out = append(out, streamRead(string(g.Name), read))
		}
		var lines []string
		for _, c := range g.Consumers {
			lines = append(lines, streamConsumer(string(g.Name), string(c.Name)))
		}
		for _, p := range g.Pending {
			lines = append(lines, streamPending(string(g.Name), p.id, string(p.consumer), p.times))
		}
		slices.Sort(lines)
		out = append(out, lines...)
	}
	return out
}
