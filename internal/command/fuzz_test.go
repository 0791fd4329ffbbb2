package command_test

import (
	"bytes"
	"errors"
	"testing"

	"tairlift/internal/command"
)

// FuzzRewrite splits its input at newlines into the arguments of one command. Whatever
// they are: no panic, keys that are arguments, and either an *ArgError with dst as it
// was, or whole commands as many as counted.
func FuzzRewrite(f *testing.F) {
	for _, sample := range append(append([]string(nil), keySamples...), keySamplesApart...) {
		line, _, _ := bytes.Cut([]byte(sample), []byte("|"))
		f.Add(bytes.Join(words(f, string(line)), []byte("\n")), int64(at), true, 7)
	}
	f.Add([]byte("EXPIRE\nk\n9223372036854775807\nNX"), int64(1<<62), false, 4)
	f.Add([]byte("SET\nk\nv\nPX\n-9223372036854775808\nKEEPTTL\nGET"), int64(0), false, 6)
	f.Add([]byte("SLOTSRESTORE-ASYNC\nzset\nk\n9000\n5\nm\n\x00\x00\x00\x00\x00\x00\xf0\x7f"), int64(at), true, 5)
	f.Fuzz(func(t *testing.T, input []byte, at int64, absTTL bool, major int) {
		args := bytes.Split(input, []byte("\n"))
		spec := command.Lookup(args[0])
		for _, key := range spec.AppendKeys(nil, args) {
			if !bytes.Contains(input, key) {
				t.Fatalf("key %q is no argument of %q", key, args)
			}
		}
		spec.Doubtful(args)
		spec.HiddenTTL(args)
		out, n, info, err := spec.AppendRewrite([]byte("kept"), encode(args), args, at, command.Caps{AbsTTL: absTTL, Major: major})
		rest, ok := bytes.CutPrefix(out, []byte("kept"))
		if !ok {
			t.Fatalf("what stood in dst before is gone: %q", out)
		}
		if err != nil {
			var argErr *command.ArgError
			var targetErr *command.TargetError
			if !errors.As(err, &argErr) && !errors.As(err, &targetErr) || n != 0 || len(rest) != 0 {
				t.Fatalf("got %q, %d commands, error %v of type %T", rest, n, err, err)
			}
			return
		}
		if got := len(decode(t, rest)); got != n || n < 1 {
			t.Fatalf("%q became %q: got %d commands, counted %d", args, rest, got, n)
		}
		if !info.Rewritten && !bytes.Equal(rest, encode(args)) {
			t.Fatalf("%q became %q, said to be as it came", args, rest)
		}
		if info.DeadlineMS < 0 {
			t.Fatalf("%q has the deadline %d", args, info.DeadlineMS)
		}
	})
}
