package command_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tairlift/internal/command"
	"tairlift/internal/resp"
)

// cutArgs splits bytes into arguments, each behind a byte that is its length, so
// that they may hold anything.
func cutArgs(b []byte) [][]byte {
	args := [][]byte{}
	for len(b) > 0 {
		n := min(int(b[0]), len(b)-1)
		args, b = append(args, b[1:1+n]), b[1+n:]
	}
	return args
}

func joinArgs(args ...string) []byte {
	var b []byte
	for _, a := range args {
		b = append(append(b, byte(len(a))), a...)
	}
	return b
}

// commandsIn reads what a rewrite has made.
func commandsIn(t *testing.T, b []byte) [][][]byte {
	t.Helper()
	var out [][][]byte
	p := resp.NewParser(0)
	p.Feed(bytes.Clone(b))
	for {
		c, ok, err := p.Next()
		if err != nil || !ok && int(p.Offset()) != len(b) {
			t.Fatalf("%q: got %v at %d, want whole commands", b, err, p.Offset())
		}
		if !ok {
			return out
		}
		args := [][]byte{}
		for _, a := range c.Args {
			args = append(args, bytes.Clone(a))
		}
		out = append(out, args)
	}
}

// FuzzSlots gives SLOTSRESTORE and SLOTSRESTORE-ASYNC any arguments. What comes of
// them names their keys and no other, holds their payloads byte for byte, ends in
// the deadlines that they mean, and is none of Codis's own commands.
func FuzzSlots(f *testing.F) {
	score := "\x00\x00\x00\x00\x00\x00\xf8\x3f"
	for _, args := range [][]string{
		{"a", "0", "payload", "b", "500", "p\x00\r\n"},
		{"a", "9223372036854775807", "p"},
		{"a", "0"},
		{},
	} {
		f.Add(false, joinArgs(args...), int64(at), true)
	}
	for _, args := range [][]string{
		{"delete", "k"},
		{"expire", "k", "7"},
		{"string", "k", "0", "v"},
		{"STRING", "k", "10", "\r\n"},
		{"object", "k", "3", "payload"},
		{"list", "k", "9", "2", "a", "", "\x00"},
		{"dict", "k", "0", "1", "m"},
		{"hash", "k", "5", "1", "f", "v"},
		{"zset", "k", "5", "1", "m", score},
		{"zset", "k", "5", "1", "m", "\x01\x00\x00\x00\x00\x00\xf0\x7f"},
		{"zset", "k", "5", "1"},
	} {
		f.Add(true, joinArgs(args...), int64(at), false)
	}
	f.Fuzz(func(t *testing.T, async bool, packed []byte, at int64, absTTL bool) {
		name := "SLOTSRESTORE"
		if async {
			name += "-ASYNC"
		}
		args := append([][]byte{[]byte(name)}, cutArgs(packed)...)
		spec := command.Lookup(args[0])
		if spec.Name != name {
			t.Fatalf("looked %s up, got %s", name, spec.Name)
		}
		keys := spec.AppendKeys(nil, args)
		out, n, info, err := spec.AppendRewrite([]byte("kept"), encode(args), args, at, command.Caps{AbsTTL: absTTL, Major: 7})
		if err != nil {
			var argErr *command.ArgError
			if !errors.As(err, &argErr) || n != 0 || string(out) != "kept" {
				t.Fatalf("%q: got %q, %d commands, error %v of type %T", args, out, n, err, err)
			}
			return
		}
		cmds := commandsIn(t, bytes.TrimPrefix(out, []byte("kept")))
		if len(cmds) != n || !info.Rewritten {
			t.Fatalf("%q became %q: counted %d", args, cmds, n)
		}
		for _, c := range cmds {
			name := string(c[0])
			if !slices.Contains([]string{"RESTORE", "SET", "DEL", "PEXPIREAT", "PERSIST", "RPUSH", "SADD", "HMSET", "ZADD"}, name) {
				t.Fatalf("%q became %q", args, c)
			}
			if !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, c[1]) }) {
				t.Fatalf("%q became %q, of a key that is none of %q", args, c, keys)
			}
		}
		if !async {
			whole := restored(t, cmds)
			for i := 1; i+2 < len(args); i += 3 {
				if len(whole) == 0 {
					t.Fatalf("%q became %q: key %q is missing", args, cmds, args[i])
				}
				r := whole[0]
				ttl, _ := strconv.ParseInt(string(args[i+1]), 10, 64)
				want := ttl
				if ttl != 0 {
					want += at
				}
				if !bytes.Equal(r.key, args[i]) || !bytes.Equal(r.payload, args[i+2]) || r.deadline != want {
					t.Fatalf("%q became %q: got %+v, want deadline %d", args, cmds, r, want)
				}
				whole = whole[1:]
			}
			if len(whole) != 0 {
				t.Fatalf("%q became %q: too many", args, cmds)
			}
			return
		}
		switch step := strings.ToLower(string(args[1])); {
		case step == "list", step == "dict", step == "hash":
			if elements := args[5:]; len(elements) > 0 && !slices.EqualFunc(cmds[0][2:], elements, bytes.Equal) {
				t.Fatalf("%q became %q: other elements", args, cmds)
			}
		case step == "zset":
			for i := 5; i+1 < len(args); i += 2 {
				got, err := strconv.ParseFloat(string(cmds[0][2+i-5]), 64)
				want := math.Float64frombits(binary.LittleEndian.Uint64(args[i+1]))
				if err != nil || math.Float64bits(got) != math.Float64bits(want) || !bytes.Equal(cmds[0][3+i-5], args[i]) {
					t.Fatalf("%q became %q: got score %v, %v, want %v", args, cmds, got, err, want)
				}
			}
		case step == "string", step == "object":
			if !slices.ContainsFunc(cmds[0], func(a []byte) bool { return bytes.Equal(a, args[4]) }) {
				t.Fatalf("%q became %q: without its value", args, cmds)
			}
		}
	})
}

type restoredKey struct {
	key, payload []byte
	deadline     int64 // 0: none
}

// restored reads RESTOREs with their deadlines, inside or behind.
func restored(t *testing.T, cmds [][][]byte) (out []restoredKey) {
	t.Helper()
	for _, c := range cmds {
		switch string(c[0]) {
		case "RESTORE":
			ms, err := strconv.ParseInt(string(c[2]), 10, 64)
			if err != nil || string(c[4]) != "REPLACE" || (ms != 0) != (string(c[len(c)-1]) == "ABSTTL") {
				t.Fatalf("%q: %v", c, err)
			}
			out = append(out, restoredKey{c[1], c[3], ms})
		case "PEXPIREAT":
			ms, err := strconv.ParseInt(string(c[2]), 10, 64)
			if last := len(out) - 1; err != nil || last < 0 || !bytes.Equal(out[last].key, c[1]) {
				t.Fatalf("%q in %q: %v", c, cmds, err)
			} else {
				out[last].deadline = ms
			}
		default:
			t.Fatalf("got %q, want RESTORE or PEXPIREAT", c)
		}
	}
	return out
}
