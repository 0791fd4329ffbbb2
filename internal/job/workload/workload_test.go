package workload

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"tairlift/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// unequal are the names of the entries that differ.
func unequal(t *testing.T, w *Writer, s *redistest.Server) []string {
	t.Helper()
	entries, err := w.Check(t.Context(), s.Addr, s.Secret)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		if !e.Equal() {
			t.Logf("%s on %s: got %s, want %s", e.Name, e.Key, e.Got, e.Want)
			names = append(names, e.Name)
		}
	}
	return names
}

func TestFillMakesEveryKey(t *testing.T) {
	s := redistest.Source(t)
	if err := Fill(t.Context(), s.Addr, s.Secret, 1, 1, 1234); err != nil {
		t.Fatal(err)
	}
	if got := s.DoIn(t, 1, "DBSIZE").Int; got != 1234 {
		t.Errorf("keys: got %d, want 1234", got)
	}
	types := map[string]bool{}
	for _, k := range []string{"0", "4", "5", "7", "8", "9"} {
		types[s.DoIn(t, 1, "TYPE", "k:1:"+k).String()] = true
	}
	want := map[string]bool{"string": true, "hash": true, "list": true, "set": true, "zset": true}
	if diff := cmp.Diff(want, types); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
}

// A tally that cannot tell a lost command from a doubled one would prove nothing.
func TestCheckSeesEveryDifference(t *testing.T) {
	s := redistest.Source(t)
	w, err := Start(s.Addr, s.Secret, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, "some bursts", func() bool { return w.Bursts() > 2*expires })
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := unequal(t, w, s); len(got) > 0 {
		t.Fatalf("untouched, these differ: %q", got)
	}
	if got := s.Do(t, "KEYS", "w:1:px:*").Elems; len(got) > 0 {
		t.Errorf("keys set with PX behind Stop: got %d, want 0", len(got))
	}
	last := s.Do(t, "LINDEX", "w:1:list", "-1").String()
	for _, tt := range []struct {
		claim  string
		name   string
		change []string
		undo   []string
	}{
		{"a doubled INCR", "INCR, INCRBY", []string{"INCR", "w:1:counter"}, []string{"DECR", "w:1:counter"}},
		{"half a transaction", "MULTI 2nd", []string{"DECR", "w:1:pair:b"}, []string{"INCR", "w:1:pair:b"}},
		{"a doubled script", "EVAL RPUSH", []string{"RPUSH", "w:1:script:list", "1"}, []string{"RPOP", "w:1:script:list"}},
		{"a doubled RPUSH", "RPUSH, LPOP", []string{"RPUSH", "w:1:list", last}, []string{"RPOP", "w:1:list"}},
		{"a lost element", "RPUSH, LPOP", []string{"RPOP", "w:1:list"}, []string{"RPUSH", "w:1:list", last}},
		{"a doubled LPOP", "RPUSH, LPOP", []string{"LPOP", "w:1:list"}, []string{"LPUSH", "w:1:list", s.Do(t, "LINDEX", "w:1:list", "0").String()}},
		{"a doubled HINCRBY", "HINCRBY", []string{"HINCRBY", "w:1:hash", "3", "1"}, []string{"HINCRBY", "w:1:hash", "3", "-1"}},
		{"a lost ZINCRBY", "ZINCRBY", []string{"ZINCRBY", "w:1:zset", "-0.5", "3"}, []string{"ZINCRBY", "w:1:zset", "0.5", "3"}},
		{"a lost time to live", "SET EX", []string{"PERSIST", "w:1:ex:7"}, []string{"EXPIRE", "w:1:ex:7", "3000"}},
		{"an older value", "SET EX", []string{"SET", "w:1:ex:7", "7", "EX", "3000"}, []string{"SET", "w:1:ex:7", s.Do(t, "GET", "w:1:ex:7").String(), "EX", "3000"}},
		{"a doubled APPEND", "APPEND", []string{"APPEND", "w:1:text", "1;"}, nil},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			s.Do(t, tt.change...)
			if diff := cmp.Diff([]string{tt.name}, unequal(t, w, s)); diff != "" {
				t.Errorf("entries that differ (-want +got):\n%s", diff)
			}
			if tt.undo == nil {
				return
			}
			s.Do(t, tt.undo...)
			if got := unequal(t, w, s); len(got) > 0 {
				t.Errorf("undone, these differ: %q", got)
			}
		})
	}
}
