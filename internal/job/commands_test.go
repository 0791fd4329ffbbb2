package job

import (
	"maps"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"tairlift/internal/redistest"
)

func TestUnknownCommandsByPolicy(t *testing.T) {
	target := redistest.Target(t)
	m := redistest.FakeMaster(t, redistest.Script{Session: crafted()})
	o := Options{Dir: filepath.Join(t.TempDir(), "job"), Groups: []Group{{1, m.Addr}}, Target: target.Addr, Until: UntilCaughtUp}
	m.Append(commandsOf("STRLEN n", "strlen n", "SET k v")) // of no row of the table
	if err := RunSync(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	s, err := readView(o.Dir, "", "", Only{})
	if err != nil {
		t.Fatal(err)
	}
	if g := s.Groups[0]; g.Unknown != 2 || !maps.Equal(g.Unknowns, map[string]int64{"STRLEN": 2}) {
		t.Errorf("status: got %d unknown, %v, want STRLEN twice", g.Unknown, g.Unknowns)
	}
	o.StopOnUnknown = true
	m.Append(commandsOf("STRLEN n", "SET k w"))
	end{Stopped, "unknown-command", `command "STRLEN" "n"`, "--on-unknown pass"}.check(t, o, RunSync(t.Context(), o))
	if got := target.Do(t, "GET", "k").String(); got != "v" {
		t.Errorf("k on the target: got %s, want v: nothing behind it is applied", got)
	}
}

func TestFunctionsForATargetThatHasNone(t *testing.T) {
	text := "redis_version:6.2.0\r\nrun_id:" + strings.Repeat("a", 40) + "\r\nrole:master\r\n"
	proxy := redistest.NewProxy(t, redistest.Target(t).Addr, func(_, _ int, args [][]byte) redistest.Action {
		switch strings.ToUpper(string(args[0])) {
		case "INFO":
			return redistest.Reply("$" + strconv.Itoa(len(text)) + "\r\n" + text + "\r\n")
		case "COMMAND":
			return redistest.Reply("*1\r\n*-1\r\n")
		}
		return redistest.Pass()
	})
	m := redistest.FakeMaster(t, redistest.Script{Session: crafted()})
	o := Options{Dir: filepath.Join(t.TempDir(), "job"), Groups: []Group{{1, m.Addr}}, Target: proxy.Addr, Until: UntilCaughtUp}
	m.Append(commandsOf("FUNCTION LOAD code"))
	end{Stopped, "functions-unsupported", "cannot be replayed on a target of version 6.2: FUNCTION is of version 7.0", "use a target of version 7.0"}.check(t, o, RunSync(t.Context(), o))
}
