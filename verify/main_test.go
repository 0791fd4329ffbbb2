package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tairlift/internal/redistest"
	"tairlift/internal/repl"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type cmds [][]string

// c splits commands at spaces.
func c(lines ...string) cmds {
	var out cmds
	for _, l := range lines {
		out = append(out, strings.Fields(l))
	}
	return out
}

// load runs commands in a db, pipelined, and fails on the first error.
func load(t testing.TB, s *redistest.Server, db int, list ...[]string) {
	t.Helper()
	conn := s.Dial(t)
	defer conn.Close()
	list = append([][]string{{"SELECT", strconv.Itoa(db)}}, list...)
	const window = 500
	for len(list) > 0 {
		part := list[:min(window, len(list))]
		list = list[len(part):]
		for _, args := range part {
			if err := conn.WriteCommand(args...); err != nil {
				t.Fatal(err)
			}
		}
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
		for _, args := range part {
			if _, err := conn.ReadReply(); err != nil {
				t.Fatalf("%q: %v", args, err)
			}
		}
	}
}

// options name running servers and quick rounds.
func options(target *redistest.Server, sources ...*redistest.Server) Options {
	o := Options{
		Target:   Target{Addr: target.Addr, Secret: target.Secret},
		Level:    LevelFull,
		Interval: 10 * time.Millisecond,
	}
	for i, s := range sources {
		o.Sources = append(o.Sources, Source{Group: repl.GroupID(i + 1), Addr: s.Addr, Secret: s.Secret})
	}
	return o
}

func verify(t testing.TB, o Options) Report {
	t.Helper()
	rep, err := Run(context.Background(), o)
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	checkSums(t, &rep)
	return rep
}

// checkSums tests what every finished report promises.
func checkSums(t testing.TB, r *Report) {
	t.Helper()
	if r.Level == LevelCounts {
		return
	}
	if got, want := r.Compared, r.Equal+r.Missing+r.Value+r.Type+r.TTL; got != want {
		t.Errorf("compared: got %d, want the sum %d\n%s", got, want, text(t, r))
	}
	if got, want := r.TTL, r.TTLMissing+r.TTLExtra+r.TTLDrift; got != want {
		t.Errorf("ttl: got %d, want the sum %d", got, want)
	}
	if got, want := r.Compared+r.undecided(), r.SourceKeys; r.Level != LevelSample && r.Copies == 0 && r.Extra == 0 && got != want {
		t.Errorf("compared and not judged: got %d, want all %d source keys\n%s", got, want, text(t, r))
	}
	if r.Verdict == Identical && r.Compared != r.SourceKeys {
		t.Errorf("identical with %d of %d keys compared", r.Compared, r.SourceKeys)
	}
}

func text(t testing.TB, r *Report) string {
	t.Helper()
	var b strings.Builder
	if err := r.Text(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// expect compares the verdict, the exit code and, for each class, the keys.
func expect(t testing.TB, r *Report, verdict Verdict, keys map[Class][]string) {
	t.Helper()
	if r.Verdict != verdict {
		t.Errorf("verdict: got %s (%s), want %s\n%s", r.Verdict, r.Reason, verdict, text(t, r))
	}
	wantExit := map[Verdict]int{Identical: 0, NoDifferenceInSample: 0, Different: 1, Inconclusive: 3}[verdict]
	if got := r.Exit(); got != wantExit {
		t.Errorf("exit: got %d, want %d", got, wantExit)
	}
	for _, class := range classes {
		if got, want := r.of(class), int64(len(keys[class])); got != want {
			t.Errorf("%s: got %d, want %d\n%s", class, got, want, text(t, r))
		}
		for _, k := range keys[class] {
			found := false
			for _, e := range r.Examples {
				raw, err := decodeKey(e)
				if err != nil {
					t.Fatal(err)
				}
				found = found || e.Class == class && raw == k
			}
			if !found {
				t.Errorf("%s: %q is not among the examples %v", class, k, r.Examples)
			}
		}
	}
}

// lastLine is the JSON form as a map.
func asJSON(t testing.TB, r *Report) map[string]any {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.ContainsRune(b, '\n') {
		t.Errorf("JSON form has more than one line: %s", b)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}
