package apply

import (
	"strings"
	"sync/atomic"
	"testing"

	"tairlift/internal/redistest"
)

// An account that may DEL and not UNLINK sweeps by DEL.
func TestASweepByAnAccountWithoutUnlink(t *testing.T) {
	r := bareRig(t, 1)
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if strings.EqualFold(string(args[0]), "UNLINK") {
			return redistest.Reject("NOPERM this user has no permissions to run the 'unlink' command")
		}
		return redistest.Pass()
	})
	r.craft(1, 1, "a v", "b v").seal()
	r.applyAll(Options{Addr: proxy.Addr})
	r.craft(1, 2, "a v").seal()
	r.applyAll(Options{Addr: proxy.Addr, MaxDeletes: 100})
	r.want("behind the sweep", map[string]string{"0 GET a": "v", "0 EXISTS b": "0"})
}

// A target that does not tell its modules is asked by RESTORE, from 6.2 on, where
// that is safe.
func TestATargetThatDoesNotTellItsModules(t *testing.T) {
	r, p := spooled(t, rdbFile("0009", moduleValue("mod", 10)))
	if major, minor := r.target.Version(); major < 6 || major == 6 && minor < 2 {
		t.Skip("RESTORE of an unknown module's value ends this target")
	}
	p.seal()
	var restores atomic.Int64
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		switch {
		case strings.EqualFold(string(args[0]), "MODULE"):
			return redistest.Reject("NOPERM this user has no permissions to run the 'module|list' command")
		case strings.EqualFold(string(args[0]), "RESTORE") && string(args[1]) == "mod":
			restores.Add(1)
			return redistest.Reply("+OK\r\n") // as one that has it
		}
		return redistest.Pass()
	})
	r.applyAll(Options{Addr: proxy.Addr})
	if n := restores.Load(); n != 1 {
		t.Errorf("RESTOREs of the module's value: got %d, want 1", n)
	}
}
