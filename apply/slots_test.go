package apply

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tairlift/internal/held"
	"tairlift/internal/redistest"
	"tairlift/internal/redistest/cmdtest"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// With other groups beside it, a key that a group receives may be one that another
// group's DEL is yet to come for.
func TestAHandOverStopsAGroupThatIsNotAlone(t *testing.T) {
	alone := bareRig(t, 1)
	for claim, beside := range map[string]func(*rig, *Options){
		"the job has another group in the spool":      func(r *rig, _ *Options) { r.craft(2, 1) },
		"the job has another group, not captured yet": func(_ *rig, o *Options) { o.JobGroups = append(o.JobGroups, 1, 2) },
		"another job writes to the target": func(r *rig, o *Options) {
			r.target.Do(r.t, "SADD", jobsKey, spool.NewJobID().String())
			o.OnExisting = ExistingReplace
		},
		"it is alone": nil,
	} {
		for _, line := range []string{"SLOTSRESTORE-ASYNC string k 0 v", "slotsrestore-async delete k"} {
			t.Run(claim+"/"+line, func(t *testing.T) {
				r := alone.again(t)
				p := r.craft(1, 1).write("SET k 1", "INCR n")
				p.write("MULTI", line, "EXEC", "INCR n")
				if beside == nil {
					r.applyAll(Options{})
					r.want("the hand-over", map[string]string{"0 GET n": "2"})
					return
				}
				o := Options{}
				beside(r, &o)
				r.stopped(o, "slots-moving")
				r.want("before it", map[string]string{"0 GET n": "1", "0 GET k": "1"})
			})
		}
	}
}

// recorded are the digests of what a codis-server 3.2.11 holds behind the recorded
// streams of a group that slots moved into; run with SOURCE_SERVER=codis-server to see
// that they are.
var recorded = map[string]string{
	"live-sync-receiver.bin":       "a454ef5c3c4a8388fafc5be0ad65464fd8dd1529b45f8c719184bcbad0e62721",
	"live-semi-async-receiver.bin": "d3e7f5c4223f2c838c4f4e374a31de18c9dc82c4031886efd69ef44a2066c489",
}

func TestRecordedHandOvers(t *testing.T) {
	for name, want := range recorded {
		t.Run(name, func(t *testing.T) {
			stream, err := os.ReadFile(redistest.Testdata(t, filepath.Join("sessions", name)))
			if err != nil {
				t.Fatal(err)
			}
			r := bareRig(t, 1)
			r.craft(1, 1).bytes(stream)
			r.applyAll(Options{})
			got := cmdtest.Keyspace(t, r.target, 16, false)
			if d := digest(got); d != want {
				t.Errorf("%d keys with the digest %s, want %s", len(got), d, want)
			}
			if s := redistest.Source(t); s.IsCodis() {
				feed(t, s, stream)
				if d := digest(cmdtest.Keyspace(t, s, 16, false)); d != want {
					t.Errorf("the codis-server has the digest %s, want %s", d, want)
				}
			}
		})
	}
}

// digest is of a keyspace without its deadlines: they depend on when it was filled.
func digest(keys map[string]cmdtest.Value) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		fmt.Fprintf(h, "%q %s %q %v\n", name, keys[name].Type, keys[name].Elements, keys[name].DeadlineMS != 0)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// feed gives a server a stream as if it were a client's.
func feed(t *testing.T, s *redistest.Server, stream []byte) {
	t.Helper()
	c := s.Dial(t)
	for p := resp.NewParser(0); ; {
		if p.Offset() == 0 {
			p.Feed(stream)
		}
		cmd, ok, err := p.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return
		}
		args := make([]string, len(cmd.Args))
		for i, a := range cmd.Args {
			args[i] = string(a)
		}
		if _, err := c.Do(t.Context(), args...); err != nil {
			t.Fatalf("%q: %v", args, err)
		}
	}
}

// Real migrations, of every form, into a group that is captured: the target ends as
// the server that received them.
func TestMigrationsIntoTheGroup(t *testing.T) {
	sender, receiver := redistest.Source(t), redistest.Source(t)
	if !sender.IsCodis() {
		t.Skip("the source is no codis-server")
	}
	r := bareRig(t, 1)
	r.sources = []*redistest.Server{receiver}
	host, port, err := net.SplitHostPort(receiver.Addr)
	if err != nil {
		t.Fatal(err)
	}
	big := make([]string, 0, 2000)
	for i := range 1000 {
		big = append(big, fmt.Sprint(float64(i)/7), fmt.Sprintf("member-%d", i))
	}
	fill := func(prefix string) {
		f := cmdtest.NewFiller(7, prefix)
		for _, args := range f.Populate() {
			_, _ = sender.DoErr(args...) // of a newer version, some
		}
		sender.Do(t, append([]string{"RPUSH", prefix + "biglist"}, big...)...)
		sender.Do(t, append([]string{"SADD", prefix + "bigset"}, big...)...)
		sender.Do(t, append([]string{"HMSET", prefix + "bighash"}, big...)...)
		sender.Do(t, append([]string{"ZADD", prefix + "bigzset"}, append(big, "inf", "most", "-inf", "least")...)...)
		for _, key := range []string{"biglist", "bighash", "string1", "list1", "zset1"} {
			sender.Do(t, "EXPIRE", prefix+key, "5000")
		}
	}
	// keys of a prefix are brought to the receiver by a command.
	move := func(prefix string, command func(key string) []string) {
		fill(prefix)
		for _, key := range sender.Do(t, "KEYS", prefix+"*").Strings() {
			if args := command(key); sender.Do(t, "EXISTS", key).Int == 1 {
				sender.Do(t, args...)
			}
		}
		if left := sender.Do(t, "KEYS", prefix+"*").Strings(); len(left) > 0 {
			t.Errorf("keys left behind: %q", left)
		}
	}
	// What is there already is replaced.
	receiver.Do(t, "RPUSH", "{sync}list0", "old")
	r.capture()
	receiver.Do(t, "SADD", "{one}string0", "old")
	move("{sync}", func(k string) []string { return []string{"SLOTSMGRTONE", host, port, "5000", k} })
	move("{tag}", func(k string) []string { return []string{"SLOTSMGRTTAGONE", host, port, "5000", k} })
	move("{one}", func(k string) []string { return []string{"SLOTSMGRTONE-ASYNC", host, port, "5000", "100", "1000", k} })
	move("{all}", func(k string) []string { return []string{"SLOTSMGRTTAGONE-ASYNC", host, port, "5000", "100", "0", k} })
	receiver.Do(t, "SELECT", "0")
	receiver.Do(t, "APPEND", "{sync}string0", "more")
	receiver.Do(t, "RPUSH", "{all}biglist", "more")
	r.stopCapture()
	r.applyAll(Options{})
	if got := receiver.Do(t, "DBSIZE").Int; got < 4*40 {
		t.Errorf("keys at the receiver: got %d, want at least 160", got)
	}
	r.equal(receiver)
}

// What a stream may hold of a migration that was broken off and begun again.
func TestAMigrationThatIsBegunAgain(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1)
	score := func(b ...byte) string { return string(b) }
	for _, args := range [][]string{
		{"list", "l", "9000", "4", "a", "b"},
		{"delete", "l"}, // partial, then the retry
		{"list", "l", "9000", "4", "a", "b"},
		{"list", "l", "9000", "4", "c"},
		{"list", "l", "9000", "4"},
		{"expire", "l", "0"},
		{"zset", "z", "9000", "3", "max", score(0, 0, 0, 0, 0, 0, 0xf0, 0x7f), "tenth", score(0x9a, 0x99, 0x99, 0x99, 0x99, 0x99, 0xb9, 0x3f)},
		{"zset", "z", "9000", "3", "zero", score(0, 0, 0, 0, 0, 0, 0, 0x80)},
		{"zset", "z", "9000", "3"},
		{"expire", "z", "0"},
		{"dict", "s", "9000", "2", "a", "b"},
		{"dict", "s", "9000", "2", "b"},
		{"expire", "s", "0"},
		{"hash", "h", "9000", "1", "f", "v"},
		{"expire", "h", "500000"},
		{"string", "k", "0", "\x00\r\nraw"},
		{"list", "abandoned", "9000", "4", "a"},
	} {
		p.command(append([]string{"SLOTSRESTORE-ASYNC"}, args...)...)
	}
	p.write("DEL abandoned") // the source's, when the time of safety was over
	r.applyAll(Options{})
	r.want("of it", map[string]string{
		"0 LRANGE l 0 -1": "[a b c]", "0 PTTL l": "-1", "0 ZRANGEBYSCORE z 0.1 0.1": "[tenth]", "0 ZSCORE z max": "inf", "0 PTTL z": "-1",
		"0 SCARD s": "2", "0 PTTL s": "-1", "0 HGETALL h": "[f v]", "0 GET k": "\x00\r\nraw", "0 EXISTS abandoned": "0",
	})
	if got := r.target.Do(t, "PTTL", "h").Int; got < 400_000 || held.Off(got, 500_000) > 0 {
		t.Errorf("PTTL h: got %d, want what `expire` said", got)
	}
}

// Keys that are never copied are left out of a command, and what belongs to them too.
func TestHeartbeatsAreLeftOutOfCommandsOfSeveralKeys(t *testing.T) {
	const beat = "DTS_REDIS_TIMESTAMP_HEARTBEAT"
	r := bareRig(t, 1)
	payload := bytes.Clone(r.target.DoIn(t, 0, "PING").Str)
	r.target.Do(t, "SET", "model", string(payload))
	dump := string(r.target.Do(t, "DUMP", "model").Str)
	r.target.Do(t, "DEL", "model")
	p := r.craft(1, 1, beat+" 1", "rdb 1")
	p.command("MSET", beat+":1", "x", "a", beat, beat, "y", "b", "2")
	p.command("MSETNX", "c", "3", beat, "y")
	p.command("DEL", beat, "rdb", "tairlift:x").command("UNLINK", beat, "c")
	p.command("SLOTSRESTORE", beat, "0", dump, "restored", "0", dump)
	p.command("SLOTSRESTORE-ASYNC", "string", beat, "0", "x")
	p.command("MSET", beat, "1").command("TOUCH", "a", beat).command("SETEX", beat, "100", "v")
	job := r.applyAll(Options{})
	r.want("the others", map[string]string{
		"0 GET a": beat, "0 GET b": "2", "0 GET restored": string(payload), "0 EXISTS rdb c": "0",
		"0 EXISTS " + beat + " " + beat + ":1": "0", "0 DBSIZE": "5",
	})
	if st := job.Status()[0]; st.Commands != 5 || st.Ignored != 5 {
		t.Errorf("status: got %d commands, %d ignored, want 5, 5", st.Commands, st.Ignored)
	}
	for _, line := range []string{"SUNIONSTORE d a " + beat, "RENAME " + beat + " a", "EVAL x 2 a " + beat} {
		t.Run(line, func(t *testing.T) {
			r := r.again(t)
			r.craft(1, 1).write(line)
			if stop := r.stopped(Options{}, "unsupported-command"); !strings.Contains(stop.What, "never copied") {
				t.Errorf("stop: got %q", stop.What)
			}
		})
	}
}

// Commands that no table knows are passed on and counted by name, or stop the group.
func TestUnknownCommands(t *testing.T) {
	r := bareRig(t, 1)
	known := []string{"STRLEN a", "strlen b", "GETRANGE a 0 1"} // to the target, and of no row
	p := r.craft(1, 1).write("SET a v").write(known...)
	job := r.applyAll(Options{})
	st := job.Status()[0]
	if want := map[string]int64{"STRLEN": 2, "GETRANGE": 1}; st.Unknown != 3 || !maps.Equal(st.UnknownNames, want) {
		t.Errorf("unknown: got %d, %v, want 3, %v", st.Unknown, st.UnknownNames, want)
	}
	p.write("SET a w", "STRLEN a", "SET a x")
	if stop := r.stopped(Options{OnUnknown: UnknownStop}, "unknown-command"); !strings.Contains(stop.What, `"STRLEN"`) || !strings.Contains(stop.Hint, "--on-unknown pass") {
		t.Errorf("stop: got %q, %q", stop.What, stop.Hint)
	}
	r.want("before it", map[string]string{"0 GET a": "w"})
	r.applyAll(Options{})
	r.want("with the other policy", map[string]string{"0 GET a": "x"})
}

func TestUnknownNamesAreBounded(t *testing.T) {
	var u unknowns
	for i := range 1000 {
		u.count(fmt.Appendf(nil, "name%d%s", i, strings.Repeat("x", 100)))
	}
	u.count([]byte("name0" + strings.Repeat("x", 200)))
	if len(u) != maxUnknown+1 || u.total() != 1001 || u[otherUnknown] != 1000-maxUnknown {
		t.Errorf("got %d names, %d in all, %d others, want %d, 1001, %d", len(u), u.total(), u[otherUnknown], maxUnknown+1, 1000-maxUnknown)
	}
}

// A fork may know more than its version says.
func TestATargetIsAskedForACommandThatIsTooNewForIt(t *testing.T) {
	r := bareRig(t, 1)
	if major, _ := r.target.Version(); major < 7 {
		t.Skip("the target does not know LMPOP")
	}
	asked := 0
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		switch strings.ToUpper(string(args[0])) {
		case "INFO":
			text := "redis_version:6.2.0\r\nrun_id:" + strings.Repeat("a", 40) + "\r\nrole:master\r\n"
			return redistest.Reply(fmt.Sprintf("$%d\r\n%s\r\n", len(text), text))
		case "COMMAND":
			asked++
		}
		return redistest.Pass()
	})
	p := r.craft(1, 1).write("RPUSH l a b c d e", "LMPOP 1 l LEFT", "BLMPOP 0 1 l RIGHT", "LMPOP 1 l LEFT")
	r.applyAll(Options{Addr: proxy.Addr})
	r.want("what it knows all the same", map[string]string{"0 LRANGE l 0 -1": "[c d]"})
	if asked != 1 {
		t.Errorf("COMMAND INFO: got %d, want 1", asked)
	}
	p.write("XDELEX s IDS 1 1-1")
	if stop := r.stopped(Options{Addr: proxy.Addr}, "unsupported-command"); !strings.Contains(stop.What, "version 6.2: XDELEX is of version 8.2") {
		t.Errorf("stop: got %q", stop.What)
	}
}
