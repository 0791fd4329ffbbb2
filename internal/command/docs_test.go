package command_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tairlift/internal/command"
	"tairlift/internal/redistest/cmdtest"
)

var update = flag.Bool("update", false, "write docs/commands.md anew")

const docsHead = `# Commands

What becomes of each command that can stand in a source's stream, on a new target and on the oldest one. This page is made from the table in
internal/command by ` + "`go test ./internal/command -run Docs -update`" + `, and a test compares both.

- **as it is**: the same bytes. A relative time to live becomes the deadline that it meant at the source, however late it is applied; here the source
  executed every command at 1700000000000 ms. Deadlines of keys are given a margin of 800 ms, and held back while a group is behind, which is left out here:
  see [operations.md](operations.md).
- **not sent**: the position moves, and the command is counted (` + "`ignored_commands`" + `). So are commands on the keys ` + "`tairlift:*`" + ` and
  ` + "`DTS_REDIS_TIMESTAMP_HEARTBEAT*`" + `, in the full sync as well; of DEL, UNLINK, MSET, MSETNX and SLOTSRESTORE the other keys are sent.
- **script**: EVAL with the keys named, for what an older target has no command for. It must be allowed to the target's account.
- **refused**: the group stops with ` + "`unsupported-command`" + `, the command, its place and the version that brought it, before anything of it ran.
  A target that has a command which its version does not (Valkey, a port back) is asked for it by COMMAND INFO first.
- MULTI and EXEC stay one transaction of the target, with SELECT inside. Conditions (NX, XX, GT, IFEQ, ...) are dropped where a command is rewritten: it
  stands in the stream because the source found them true. A blocking command is sent as what it did.
- A command that is not listed is passed on as it is, its first argument taken for its key; ` + "`--on-unknown stop`" + ` stops the group instead
  (` + "`unknown-command`" + `). ` + "`status --json`" + ` counts both by name (` + "`unknown_list`" + `).
- A source propagates some commands in another form: GEOADD as ZADD, SPOP as SREM, XREADGROUP and XAUTOCLAIM as XCLAIM and XGROUP, LMPOP as LPOP,
  scripts (from 7.0 on) and functions as their effects, HEXPIRE as HPEXPIREAT. Those rows are there for the sources that do not.

Known limits:

- SPOP with a count through a Codis proxy, and a script on Redis 3.2 that calls SPOP, give another result wherever they are replayed: their keys are
  doubtful and are copied again from the source. So are keys to which a script gives a relative time to live.
- INCRBYFLOAT of a source before 6.0 is propagated as SET: it takes the key's time to live away on every replica, and here.
- A script that failed at a source before 7.0 after it had written is propagated as it was, and fails on the target too: a ` + "`reject`" + `.
- A deadline of a hash field is given no margin, nor held back while a group is behind: hashes that may have lost fields by that are doubtful (` + "`fields`" + `), and are copied
  again from the source. See Deadlines in [operations.md](operations.md).
- A consumer of a stream that has read nothing yet is not propagated by any version: no replica has it, nor the target, and verify tells the difference.
- XCLAIM of an entry that was deleted leaves it pending before 7.0, and drops it from then on; a library's functions need a target of 7.0.

| command | to a target of 8.4 | to a target of 4.0 |
| --- | --- | --- |
`

// sampleWords stand for the words of a template that are no names of keys.
var sampleWords = map[string]string{
	"value": "v", "member": "m", "place": "m", "field": "f", "group": "g", "consumer": "c", "int": "5", "small": "2", "index": "7", "bit": "1",
	"double": "1.5", "rawdouble": "\x00\x00\x00\x00\x00\x00\xf8\x3f", "lon": "15", "lat": "37", "sec": "100", "ms": "100000", "at": "1700000100",
	"atms": "1700000100000", "lastms": "1700000000000", "payload": "payload", "host": "host", "port": "6379", "library": "code",
	"incr": "body", "several": "body", "effects": "body", "nothing": "body", "incr.sha": "sha1", "several.sha": "sha1", "nothing.sha": "sha1",
}

// samples are the row's own commands in its templates, with words in the place of
// random ones.
func samples(row string) (out [][][]byte) {
	var seen []string
	for _, template := range cmdtest.Templates(row, true) {
		for line := range strings.SplitSeq(template, " ; ") {
			words := strings.Fields(line)
			if words[0] != row {
				continue
			}
			var args [][]byte
			for _, w := range words {
				if name, ok := strings.CutPrefix(w, "{"); ok && strings.HasSuffix(w, "}") {
					name = strings.TrimSuffix(name, "}")
					if w, ok = sampleWords[name]; !ok {
						w = strings.TrimRight(name, "0123456789")
					}
				}
				args = append(args, []byte(w))
			}
			if text := fmt.Sprintf("%q", args); !slices.Contains(seen, text) {
				seen = append(seen, text)
				out = append(out, args)
			}
		}
	}
	return out
}

// fate is what becomes of a command, in words.
func fate(t *testing.T, args [][]byte, caps command.Caps) string {
	spec := command.Lookup(args[0])
	switch spec.Class {
	case command.Select, command.Multi, command.Exec, command.Discard:
		return "followed"
	case command.Ignore:
		return "not sent"
	case command.Script:
		return "not sent; the body is kept"
	case command.EvalSHA:
		return "EVAL with the body that was kept"
	case command.Flush:
		if spec.Name == "SWAPDB" {
			return "by `--on-flush`: stops the group, exchanges its own keys, or not sent"
		}
		return "by `--on-flush`: stops the group, deletes its own keys, or not sent"
	case command.Unsupported:
		return "stops the group: `unsupported-command`"
	}
	out, _, info, err := spec.AppendRewrite(nil, encode(args), args, at, caps)
	var old *command.TargetError
	beside := ""
	switch {
	case spec.Name == "SLOTSDEL":
		return "deletes this group's keys of the slots"
	case spec.Class == command.Slots && err != nil:
		return "stops the group: `slots-moving`"
	case spec.Class == command.Slots:
		beside = "; beside other groups stops: `slots-moving`"
	case spec.Class == command.Function && (len(args) == 2 || strings.EqualFold(string(args[1]), "DELETE")):
		beside = "; beside other groups not sent"
	}
	switch {
	case errors.As(err, &old):
		return "refused: " + err.Error()
	case err != nil:
		t.Errorf("%q: %v", args, err)
	case !info.Rewritten:
		return "as it is" + beside
	}
	var lines []string
	for _, line := range decode(t, out) {
		if strings.HasPrefix(line, "EVAL ") {
			words := words(t, line)
			line = "script"
			for _, w := range words[2:] {
				line += " " + string(w)
			}
		}
		lines = append(lines, "`"+line+"`")
	}
	return strings.Join(lines, " ") + beside
}

func TestDocsSayWhatHappensWithEachRow(t *testing.T) {
	var b strings.Builder
	b.WriteString(docsHead)
	var rows []string
	command.All(func(s *command.Spec) { rows = append(rows, s.Name) })
	slices.Sort(rows)
	for _, row := range rows {
		lines := samples(row)
		if len(lines) == 0 {
			t.Errorf("row %s has no template", row)
		}
		for _, args := range lines {
			shown := decode(t, encode(args))[0]
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", shown, fate(t, args, command.Caps{AbsTTL: true, Major: 8, Minor: 4}), fate(t, args, redis4))
		}
	}
	path := filepath.Join("..", "..", "docs", "commands.md")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != b.String() {
		t.Errorf("docs/commands.md is not what the table says: %v (hint: go test ./internal/command -run Docs -update)", err)
	}
}
