package command

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestClears(t *testing.T) {
	for _, tt := range []struct {
		line string
		want Cleared
		ok   bool
	}{
		{"FLUSHALL", Cleared{All: true}, true},
		{"flushall async", Cleared{All: true}, true},
		{"FLUSHALL SYNC", Cleared{All: true}, true},
		{"FLUSHALL now", Cleared{All: true}, false},
		{"FLUSHDB", Cleared{}, true},
		{"FlushDB ASYNC", Cleared{}, true},
		{"FLUSHDB ASYNC SYNC", Cleared{}, false},
		{"SLOTSDEL 386", Cleared{Slots: []uint16{386}}, true},
		{"slotsdel 0 1023", Cleared{Slots: []uint16{0, 1023}}, true},
		{"SLOTSDEL 1024", Cleared{}, false},
		{"SLOTSDEL -1", Cleared{}, false},
		{"SLOTSDEL x", Cleared{}, false},
		{"SLOTSDEL", Cleared{}, false},
		{"SWAPDB 0 1", Cleared{}, false},
		{"DEL k", Cleared{}, false},
	} {
		args := argv(tt.line)
		got, ok := Lookup(args[0]).Clears(args)
		if ok != tt.ok || ok && !cmp.Equal(got, tt.want) {
			t.Errorf("%s: got %+v, %v, want %+v, %v", tt.line, got, ok, tt.want, tt.ok)
		}
	}
}

func TestFlushes(t *testing.T) {
	for script, want := range map[string]bool{
		"EVAL redis.call('flushall') 0":             true,
		"EVAL redis.call(\"FlushDB\",'async') 0":    true,
		"EVAL redis.pcall('SWAPDB',0,1) 0":          true,
		"EVAL redis.call(ARGV[1]) 0 flushall":       true,
		"EVAL redis.call('del',KEYS[1]) 1 flushall": false, // a key
		"EVAL return(flushall_count) 0":             false,
		"EVAL redis.call('set','a',1) 0":            false,
		"EVALSHA flushall 0":                        false,
		"SET k flushall":                            false,
	} {
		args := argv(script)
		if got := Lookup(args[0]).Flushes(args); got != want {
			t.Errorf("%s: got %v, want %v", script, got, want)
		}
	}
}

func TestRenames(t *testing.T) {
	for script, want := range map[string]bool{
		"EVAL redis.call('renameNX',KEYS[1],ARGV[1]) 1 a b": true,
		"EVAL redis.call(ARGV[1],'a','b') 0 move":           true,
		"EVAL redis.call('set','a',1) 1 copy":               false, // a key
		"RENAME a b":                                        false,
	} {
		args := argv(script)
		if got := Lookup(args[0]).Renames(args); got != want {
			t.Errorf("%s: got %v, want %v", script, got, want)
		}
	}
}

// argv is a command whose arguments hold no spaces.
func argv(line string) (args [][]byte) {
	for _, w := range strings.Fields(line) {
		args = append(args, []byte(w))
	}
	return args
}

func TestSwapDBs(t *testing.T) {
	for line, want := range map[string]string{
		"SWAPDB 0 1": "0 1 true", "swapdb 15 3": "15 3 true", "SWAPDB 2 2": "2 2 true", "SWAPDB 0 x": "0 0 false", "SWAPDB -1 0": "0 0 false",
		"SWAPDB 0": "0 0 false", "SWAPDB 0 1 2": "0 0 false", "SWAPDB 0 4294967296": "0 0 false", "MOVE 0 1": "0 0 false",
	} {
		args := argv(line)
		a, b, ok := Lookup(args[0]).SwapDBs(args)
		if !ok {
			a, b = 0, 0
		}
		if got := fmt.Sprint(a, b, ok); got != want {
			t.Errorf("%s: got %s, want %s", line, got, want)
		}
	}
}
