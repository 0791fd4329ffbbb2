package apply

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tairlift/internal/redistest"
	"tairlift/spool"
)

// fixtureKey is a key as the server that wrote a dump said it held it.
type fixtureKey struct {
	DB     int
	Key    []byte
	Type   string
	Expire *int64 `json:"pexpireat"`
	Value  json.RawMessage
}

// text is the value in a form that fixtureText gives too. Scores are compared as
// doubles, and of a stream the entries and its groups.
func (k fixtureKey) text(t *testing.T) string {
	t.Helper()
	var (
		one    []byte
		many   [][]byte
		pairs  [][2][]byte
		stream struct {
			Entries []json.RawMessage
			Groups  []json.RawMessage
		}
		err error
	)
	var parts []string
	switch k.Type {
	case "string":
		err = json.Unmarshal(k.Value, &one)
		parts = []string{strconv.Quote(string(one))}
	case "list", "set":
		err = json.Unmarshal(k.Value, &many)
		for _, v := range many {
			parts = append(parts, strconv.Quote(string(v)))
		}
	case "hash":
		err = json.Unmarshal(k.Value, &pairs)
		for _, p := range pairs {
			parts = append(parts, strconv.Quote(string(p[0]))+"="+strconv.Quote(string(p[1])))
		}
	case "zset":
		var raw [][2]json.RawMessage
		err = json.Unmarshal(k.Value, &raw)
		for _, p := range raw {
			var member []byte
			var score string
			if json.Unmarshal(p[0], &member) != nil || json.Unmarshal(p[1], &score) != nil {
				t.Fatalf("zset %q: %s", k.Key, p)
			}
			parts = append(parts, scored(t, string(member), score))
		}
	case "stream":
		err = json.Unmarshal(k.Value, &stream)
		parts = []string{fmt.Sprint(len(stream.Entries), " entries, ", len(stream.Groups), " groups")}
	}
	if err != nil {
		t.Fatalf("%s %q: %v", k.Type, k.Key, err)
	}
	return joined(k.Type, parts)
}

func scored(t *testing.T, member, score string) string {
	t.Helper()
	f, err := strconv.ParseFloat(score, 64)
	if err != nil {
		t.Fatal(err)
	}
	if f == 0 {
		f = math.Abs(f) // a listpack keeps no sign of it
	}
	return strconv.Quote(member) + "=" + strconv.FormatFloat(f, 'g', -1, 64)
}

func joined(typ string, parts []string) string {
	if typ != "list" {
		slices.Sort(parts)
	}
	return typ + " " + strings.Join(parts, " ")
}

// fixtureText reads a key of the target.
func fixtureText(t *testing.T, s *redistest.Server, db int, key string) string {
	t.Helper()
	typ := s.DoIn(t, db, "TYPE", key).String()
	var parts []string
	switch typ {
	case "string":
		parts = []string{strconv.Quote(string(s.DoIn(t, db, "GET", key).Str))}
	case "list", "set":
		read := map[string][]string{"list": {"LRANGE", key, "0", "-1"}, "set": {"SMEMBERS", key}}[typ]
		for _, v := range s.DoIn(t, db, read...).Elems {
			parts = append(parts, strconv.Quote(string(v.Str)))
		}
	case "hash":
		all := s.DoIn(t, db, "HGETALL", key).Elems
		for i := 0; i < len(all); i += 2 {
			parts = append(parts, strconv.Quote(string(all[i].Str))+"="+strconv.Quote(string(all[i+1].Str)))
		}
	case "zset":
		all := s.DoIn(t, db, "ZRANGE", key, "0", "-1", "WITHSCORES").Elems
		for i := 0; i < len(all); i += 2 {
			parts = append(parts, scored(t, string(all[i].Str), string(all[i+1].Str)))
		}
	case "stream":
		parts = []string{fmt.Sprint(s.DoIn(t, db, "XLEN", key).Int, " entries, ", len(s.DoIn(t, db, "XINFO", "GROUPS", key).Elems), " groups")}
	}
	return joined(typ, parts)
}

// targets runs a test against each server in TARGET_SERVERS, paths parted by
// commas, or else against the one that is the other tests' target.
func targets(t *testing.T, test func(*testing.T, *redistest.Server)) {
	t.Helper()
	paths := os.Getenv("TARGET_SERVERS")
	if paths == "" {
		test(t, redistest.Target(t))
		return
	}
	for path := range strings.SplitSeq(paths, ",") {
		t.Run(path, func(t *testing.T) { test(t, redistest.Start(t, path)) })
	}
}

// Every dump of a real server is on the target what that server said it held,
// whichever of the two is newer; held or in chunks.
func TestDumpsOfEveryVersion(t *testing.T) {
	files, err := filepath.Glob("../testdata/rdb/*/*.rdb")
	if err != nil || len(files) < 9 {
		t.Fatalf("dumps: got %q, %v", files, err)
	}
	targets(t, func(t *testing.T, target *redistest.Server) {
		for _, file := range files {
			said, err := os.ReadFile(strings.TrimSuffix(file, ".rdb") + ".json")
			if err != nil {
				continue // of modules
			}
			var want struct {
				Keys []fixtureKey
			}
			if err := json.Unmarshal(said, &want); err != nil {
				t.Fatal(err)
			}
			dump, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, way := range []struct {
				claim string
				o     Options
			}{{"held", Options{}}, {"in chunks", small(Options{})}} {
				t.Run(filepath.Base(file)+", "+way.claim, func(t *testing.T) {
					target.Do(t, "FLUSHALL")
					r := &rig{t: t, dir: t.TempDir(), job: spool.NewJobID(), groups: 1, target: target, log: bareRig(t, 1).log}
					p := r.craftBegin(1, 1, spool.WriterOptions{})
					p.rdb(dump)
					p.seal()
					way.o.OnReject = RejectContinue // without functions, or streams, where there are none
					job := r.applyAll(way.o)
					rejects := 0
					major, _ := target.Version()
					for _, k := range want.Keys {
						switch {
						case k.Expire != nil && *k.Expire < time.Now().UnixMilli(), isOurs(k.Key):
							continue
						case k.Type == "stream" && major < 5:
							rejects++
							continue
						}
						if got, want := fixtureText(t, target, k.DB, string(k.Key)), k.text(t); got != want {
							t.Errorf("%q of database %d: got %.300s, want %.300s", k.Key, k.DB, got, want)
						}
						if left := target.DoIn(t, k.DB, "PTTL", string(k.Key)).Int; (left < 0) != (k.Expire == nil) {
							t.Errorf("%q of database %d: got %d ms left, want a deadline: %t", k.Key, k.DB, left, k.Expire != nil)
						}
					}
					if st := job.Status()[0]; st.Doubtful != rejects {
						t.Errorf("doubtful keys: got %d, want %d", st.Doubtful, rejects)
					}
				})
			}
		}
	})
}
