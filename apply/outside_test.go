package apply

import (
	"bytes"
	"encoding/binary"
	"sync"
	"testing"

	"tairlift/checkpoint"
	"tairlift/internal/rdb"
	"tairlift/internal/redistest"
	"tairlift/spool"
)

// named tells, for each connection of a proxy, what it has sent of what a
// connection must before it writes outside the mark.
type named struct {
	mu    sync.Mutex
	named map[int]bool
	read  map[int]bool // the mark, when it had its name
}

func (n *named) saw(conn int, args [][]byte) (name, read bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.named == nil {
		n.named, n.read = map[int]bool{}, map[int]bool{}
	}
	switch {
	case bytes.EqualFold(args[0], []byte("CLIENT")) && bytes.EqualFold(args[1], []byte("SETNAME")):
		n.named[conn] = true
	case bytes.EqualFold(args[0], []byte("GET")) && n.named[conn]:
		n.read[conn] = true
	}
	return n.named[conn], n.read[conn]
}

// TestARestorerWritesInItsPhaseAlone puts the mark into the stream phase, as a
// target may that goes back, with the session's own token in it, just before
// the first restorer reads it.
func TestARestorerWritesInItsPhaseAlone(t *testing.T) {
	r := bareRig(t, 1)
	r.craft(1, 1, "k v").write("INCR n").seal()
	var (
		seen  named
		back  sync.Once
		first error
	)
	proxy := redistest.NewProxy(t, r.target.Addr, func(conn, _ int, args [][]byte) redistest.Action {
		if _, read := seen.saw(conn, args); read {
			back.Do(func() { first = r.toStream() })
		}
		return redistest.Pass()
	})
	r.applyAll(Options{Addr: proxy.Addr})
	if first != nil {
		t.Fatal(first)
	}
	r.want("restored in no other phase", map[string]string{"0 EXISTS k": "0", "0 GET n": "1"})
}

func (r *rig) toStream() error {
	key := markKey(r.job, 1)
	got, err := r.target.DoErr("GET", key)
	if err != nil {
		return err
	}
	m, err := ParseMark(string(got.Str))
	if err != nil {
		return err
	}
	m.Phase = checkpoint.PhaseStream
	_, err = r.target.DoErr("SET", key, m.String())
	return err
}

// TestFunctionLibrariesAreLoadedOverANamedConnection: one that hangs is ended by
// the next session, before the stream can have changed the library.
func TestFunctionLibrariesAreLoadedOverANamedConnection(t *testing.T) {
	r := bareRig(t, 1)
	if major, _ := r.target.Version(); major < 7 {
		t.Skip("the target knows no functions")
	}
	const library = "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
	body := append([]byte("REDIS0010"), 0xF5, 0x40, byte(len(library)))
	body = append(append(body, library...), 0xFF)
	body = binary.LittleEndian.AppendUint64(body, rdb.CRC64(0, body))
	p := r.craftBegin(1, 1, spool.WriterOptions{})
	p.rdb(body)
	p.seal()
	var (
		seen   named
		mu     sync.Mutex
		loaded int
	)
	proxy := redistest.NewProxy(t, r.target.Addr, func(conn, _ int, args [][]byte) redistest.Action {
		name, read := seen.saw(conn, args)
		if bytes.EqualFold(args[0], []byte("FUNCTION")) {
			mu.Lock()
			defer mu.Unlock()
			loaded++
			if !name || !read {
				t.Errorf("FUNCTION RESTORE on connection %d: named %t, mark read %t, want both", conn, name, read)
			}
		}
		return redistest.Pass()
	})
	r.applyAll(Options{Addr: proxy.Addr})
	if loaded != 1 {
		t.Errorf("FUNCTION RESTORE: got %d, want 1", loaded)
	}
	if got := r.target.Do(t, "FCALL", "f", "0"); got.Int != 1 {
		t.Errorf("FCALL f: got %s, want 1", got)
	}
}
