package job

import (
	"path/filepath"
	"strings"
	"testing"

	"tairlift/internal/repl"
)

func TestAQuotaThatTheGroupsCannotGoOnWithIsRefused(t *testing.T) {
	groups := func(n int) (out []Group) {
		for i := range n {
			out = append(out, Group{ID: repl.GroupID(i + 1)})
		}
		return out
	}
	for _, c := range []struct {
		groups int
		quota  int64
		least  string // in the hint; empty: it will do
	}{
		{40, 0, ""},
		{1, 2 << 20, ""},
		{40, 80 << 20, ""},
		{1, 1, "2MiB"},
		{40, 80<<20 - 1, "80MiB"},
	} {
		r := &run{o: Options{MaxSpool: c.quota}, groups: groups(c.groups)}
		err := explain(r.checkQuota())
		switch {
		case c.least == "" && err != nil, c.least != "" && err == nil:
			t.Errorf("%d groups, --max-spool %d: got %v, want it to be refused: %t", c.groups, c.quota, err, c.least != "")
		case err != nil && (err.Code != Usage || !strings.Contains(err.Hint, "at least "+c.least+",")):
			t.Errorf("%d groups, --max-spool %d: got %d and hint %q, want %d and %s in it", c.groups, c.quota, err.Code, err.Hint, Usage, c.least)
		}
	}
}

func TestARefusedQuotaLeavesNothingBehind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "job")
	err := RunCapture(t.Context(), Options{Dir: dir, Groups: []Group{{1, "127.0.0.1:1"}, {2, "127.0.0.1:2"}}, MaxSpool: 3 << 20})
	checkError(t, err, Usage, "--max-spool 3.0 MiB is too small for 2 groups")
	if found, _ := filepath.Glob(dir); found != nil {
		t.Errorf("got %v, want no folder", found)
	}
}
