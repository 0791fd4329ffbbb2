package command_test

import (
	"encoding/json"
	"os"
	"testing"

	"tairlift/internal/command"
	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

// Every command that the recorded codis-server propagated has a row and can be sent.
func TestRecordedSession(t *testing.T) {
	var meta struct {
		Session struct {
			StreamOffset int `json:"stream_offset"`
			Commands     int `json:"commands"`
		} `json:"session"`
	}
	text, err := os.ReadFile(redistest.Testdata(t, "sessions/session.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &meta); err != nil {
		t.Fatal(err)
	}
	stream, err := os.ReadFile(redistest.Testdata(t, "sessions/session.bin"))
	if err != nil {
		t.Fatal(err)
	}
	p := resp.NewParser(0)
	p.Feed(stream[meta.Session.StreamOffset:])
	commands, doubtful := 0, 0
	for {
		cmd, ok, err := p.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		commands++
		spec := command.Lookup(cmd.Args[0])
		if spec.Class == command.Unknown || spec.Class == command.Unsupported {
			t.Errorf("%q is %s", cmd.Args, spec.Class)
		}
		if spec.Doubtful(cmd.Args) {
			doubtful++
		}
		if _, _, _, err := spec.AppendRewrite(nil, cmd.Raw, cmd.Args, at, redis7); err != nil && string(cmd.Args[0]) != "SLOTSDEL" {
			t.Errorf("rewrite %q: %v", cmd.Args, err)
		}
		if keys := spec.AppendKeys(nil, cmd.Args); (spec.Class == command.Write) != (len(keys) > 0) &&
			spec.Class != command.Slots && spec.Class != command.Eval && spec.Class != command.EvalSHA {
			t.Errorf("%q is %s and has the keys %q", cmd.Args, spec.Class, keys)
		}
	}
	if commands != meta.Session.Commands {
		t.Errorf("commands: got %d, want %d", commands, meta.Session.Commands)
	}
	if doubtful != 0 {
		t.Errorf("doubtful commands: got %d, want 0", doubtful)
	}
}
