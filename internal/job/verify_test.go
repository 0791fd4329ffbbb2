package job

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"tairlift/checkpoint"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/verify"
)

// doubtful makes a DIR of two groups, in which one key of group 2 is doubtful.
func doubtful(t *testing.T) (*folder, string) {
	t.Helper()
	dir := t.TempDir()
	writeJob(t, dir, jobText(jobA, `{"id": 1, "addr": "a:1"}, {"id": 2, "addr": "b:1"}`))
	f, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.applyDir("t:1"), "apply.db")
	store, err := checkpoint.OpenApply(path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	key := []byte("k")
	rejects := []checkpoint.Reject{{Group: 2, Keys: [][]byte{key}}, {Group: 2}} // the second is of no key
	if err := store.AddRejects(rejects, []checkpoint.Doubt{{Group: 2, Key: key, Why: "reject"}}); err != nil {
		t.Fatal(err)
	}
	a := &ApplyFile{Process: process(t, UntilStopped), Target: "t:1", Groups: []ApplyGroup{{ID: 2, Rejects: 2, Doubtful: 1, DoubtWhy: map[string]int{"reject": 1}}}}
	if err := writeStatus(f.applyStatus("t:1"), a); err != nil {
		t.Fatal(err)
	}
	return f, path
}

// doubts are how many keys the store and the status file call doubtful.
func doubts(t *testing.T, f *folder, path string) (stored, published int) {
	t.Helper()
	store, err := checkpoint.OpenApply(path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, g := range []repl.GroupID{1, 2} {
		if err := store.Doubts(g, func(checkpoint.Doubt) error { stored++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	a, err := f.readApply("t:1")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := a.Groups[0].Rejects, 1+a.Groups[0].Doubtful; got != want {
		t.Errorf("rejects: got %d, want %d: one is cleared with its key, and the one of no key stays", got, want)
	}
	return stored, a.Groups[0].Doubtful
}

func TestDoubts(t *testing.T) {
	both := []Group{{1, "a:1"}, {2, "b:1"}}
	tests := []struct {
		claim  string
		groups []Group
		target string
		want   int
	}{
		{"are cleared when all groups were found equal", both, "t:1", 0},
		{"stay when a group was left out", both[1:], "t:1", 1},
		{"stay when another source was compared", []Group{{1, "a:1"}, {2, "other:1"}}, "t:1", 1},
		{"stay when another target was compared", both, "u:1", 1},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			f, path := doubtful(t)
			f.clearTaints(tt.groups, tt.target, checkpoint.Evictions{}, NewConsole(nil, ConsoleOptions{}))
			if stored, published := doubts(t, f, path); stored != tt.want || published != tt.want {
				t.Errorf("got %d stored and %d published, want %d", stored, published, tt.want)
			}
		})
	}
	t.Run("stay while apply runs", func(t *testing.T) {
		f, path := doubtful(t)
		held, err := checkpoint.OpenApply(path)
		if err != nil {
			t.Fatal(err)
		}
		f.clearTaints(both, "t:1", checkpoint.Evictions{}, NewConsole(nil, ConsoleOptions{}))
		held.Close()
		if stored, published := doubts(t, f, path); stored != 1 || published != 1 {
			t.Errorf("got %d stored and %d published, want 1", stored, published)
		}
	})
	t.Run("of a fresh folder are none, and nothing is made", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "fresh")
		(&folder{dir: dir, fresh: true}).clearTaints(both, "t:1", checkpoint.Evictions{}, NewConsole(nil, ConsoleOptions{}))
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s was made", dir)
		}
	})
}

func TestVerifyEnd(t *testing.T) {
	report := func(v verify.Verdict) *verify.Report { return &verify.Report{Verdict: v, Level: verify.LevelFull} }
	tests := []struct {
		claim  string
		report *verify.Report
		err    error
		want   Code
	}{
		{"identical is done", report(verify.Identical), nil, OK},
		{"a sample without a difference too", report(verify.NoDifferenceInSample), nil, OK},
		{"different is 1", report(verify.Different), nil, Failed},
		{"inconclusive is 3", report(verify.Inconclusive), nil, Inconclusive},
		{"a server never reached is 4", report(verify.Inconclusive), &verify.Error{What: "ask", Hint: "h", Err: &resp.DialError{Addr: "a:1", Err: errors.New("refused")}}, NeverReached},
		{"a wrong password is 4", report(verify.Inconclusive), &verify.Error{What: "ask source", Hint: "h", Err: &resp.AuthError{Addr: "a:1", Reply: "WRONGPASS"}}, NeverReached},
		{"a missing password is 4", report(verify.Inconclusive), &verify.Error{What: "ask target", Hint: "h", Err: resp.ServerError("NOAUTH Authentication required.")}, NeverReached},
		{"a comparison with itself is refused", report(verify.Inconclusive), &verify.Error{What: "same server", Hint: "h"}, Refused},
		{"a connection lost on the way is 3", report(verify.Inconclusive), &verify.Error{What: "read", Hint: "h", Err: errors.New("reset")}, Inconclusive},
		{"but what was found different stays so", report(verify.Different), &verify.Error{What: "read", Hint: "h", Err: errors.New("reset")}, Failed},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			end := verifyEnd(t.Context(), tt.report, tt.err)
			if end == nil {
				if tt.want != OK {
					t.Errorf("got done, want %d", tt.want)
				}
				return
			}
			if end.Code != tt.want || end.What == "" || end.Hint == "" {
				t.Errorf("got %d %q, hint %q, want %d with both lines", end.Code, end.What, end.Hint, tt.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if end := verifyEnd(ctx, report(verify.Inconclusive), context.Canceled); end == nil || end.Code != Interrupted {
		t.Errorf("got %v for an interrupted verify, want %d", end, Interrupted)
	}
}
