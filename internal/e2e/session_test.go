package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tairlift/internal/redistest"
	"tairlift/internal/redistest/cmdtest"
)

// The whole recording of a codis-server, its RDB and its stream with flushes and slot
// migrations, gives the keys and values that the server had at its end.
func TestRecordedSession(t *testing.T) {
	session := redistest.RecordedSession(t)
	master := redistest.FakeMaster(t, redistest.Script{Session: session, NewlinesPre: 2, NewlinesRDB: 3})
	target := redistest.Target(t)
	run(t, exitOK, "sync", "--dir", filepath.Join(t.TempDir(), "job"), "--group", "1="+master.Addr, "--target", target.Addr,
		"--on-flush", "scoped", "--until", "caught-up")
	got := cmdtest.Keyspace(t, target, 16, false)
	want := recordedKeys(t)
	// A 3.2 propagates INCRBYFLOAT as SET, which takes away the key's deadline on a replica.
	n1 := want["DB0 n1"]
	n1.DeadlineMS = 0
	want["DB0 n1"] = n1
	scratch := redistest.Target(t)
	for name, w := range want { // relative deadlines depend on when the recording is played
		if strings.HasPrefix(w.Elements[0], "HYLL") { // versions store the same in other ways
			scratch.Do(t, "SET", "k", w.Elements[0])
			w.Elements = cmdtest.Keyspace(t, scratch, 1, false)["DB0 k"].Elements
			want[name] = w
		}
		g := got[name]
		if g.DeadlineMS != 0 && w.DeadlineMS != 0 {
			g.DeadlineMS, w.DeadlineMS = 0, 0
			got[name], want[name] = g, w
		}
	}
	for _, line := range cmdtest.Differences(got, want, 0, 20) {
		t.Error(line)
	}
}

// recordedKeys are the keys that session.json has.
func recordedKeys(t *testing.T) map[string]cmdtest.Value {
	t.Helper()
	var file struct {
		Keys []struct {
			DB         int
			Key        []byte
			Type       string
			Value      json.RawMessage
			DeadlineMS *int64 `json:"pexpireat"`
		}
	}
	text, err := os.ReadFile(redistest.Testdata(t, "sessions/session.json"))
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	out := map[string]cmdtest.Value{}
	for _, k := range file.Keys {
		v := cmdtest.Value{Type: k.Type}
		var one []byte
		var pairs [][]string
		var list [][]byte
		switch k.Type {
		case "string":
			err = errors.Join(err, json.Unmarshal(k.Value, &one))
			v.Elements = []string{string(one)}
		case "hash", "zset":
			err = errors.Join(err, json.Unmarshal(k.Value, &pairs))
			for _, p := range pairs {
				name, e1 := base64.StdEncoding.DecodeString(p[0])
				value, e2 := base64.StdEncoding.DecodeString(p[1])
				if k.Type == "zset" {
					var score float64
					score, e2 = strconv.ParseFloat(p[1], 64)
					value = strconv.AppendFloat(nil, score, 'g', -1, 64)
				}
				err = errors.Join(err, e1, e2)
				v.Elements = append(v.Elements, string(name), string(value))
			}
		default:
			err = errors.Join(err, json.Unmarshal(k.Value, &list))
			for _, e := range list {
				v.Elements = append(v.Elements, string(e))
			}
		}
		if k.DeadlineMS != nil {
			v.DeadlineMS = *k.DeadlineMS
		}
		out[fmt.Sprintf("DB%d %s", k.DB, k.Key)] = v
	}
	if err != nil || len(out) == 0 {
		t.Fatalf("read session.json: %v, %d keys", err, len(out))
	}
	return out
}

// deadlineSlack is how far deadlines of the same command may be apart when it is
// replayed twice.
const deadlineSlack = time.Minute

var deadlinesLoosely = within(deadlineSlack)
