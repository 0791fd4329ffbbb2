package apply

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"tairlift/internal/rdb"
	"tairlift/internal/redistest"
	"tairlift/spool"
)

// rdbFile is an RDB of a version: its records, each as it stands in the file.
func rdbFile(version string, records ...[]byte) []byte {
	b := append([]byte("REDIS"+version), 0xFE, 0)
	b = append(b, bytes.Join(records, nil)...)
	b = append(b, 0xFF)
	return binary.LittleEndian.AppendUint64(b, rdb.CRC64(0, b))
}

// text is a string of up to 16 KiB as an RDB has it.
func text(s string) []byte {
	return append([]byte{0x40 | byte(len(s)>>8), byte(len(s))}, s...)
}

// listpackSet is the body of a set listpack, which came with RDB version 11.
func listpackSet(members ...string) []byte {
	var b []byte
	for _, m := range members {
		b = append(append(append(b, 0x80|byte(len(m))), m...), byte(len(m)+1))
	}
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(b)+7))
	head = binary.LittleEndian.AppendUint16(head, uint16(len(members)))
	return text(string(append(append(head, b...), 0xFF)))
}

// spooled is a rig whose first epoch has this RDB.
func spooled(t *testing.T, file []byte) (*rig, *pen) {
	t.Helper()
	r := bareRig(t, 1)
	p := r.craftBegin(1, 1, spool.WriterOptions{})
	p.rdb(file)
	return r, p
}

// Payloads of a newer source in its stream become, where the target does not
// take them, commands in the same EXEC.
func TestNewerPayloadsInTheStream(t *testing.T) {
	r, p := spooled(t, rdbFile("0007"))
	set := string(rdb.AppendDump(nil, rdb.TypeSetListpack, listpackSet("a", "bc"), 11))
	list := string(rdb.AppendDump(nil, rdb.TypeList, append([]byte{2}, append(text("x"), text("y")...)...), 9000))
	p.write("SADD set old", "SET list old", "SADD twin old", "EXPIRE set 5000")
	p.command("RESTORE", "set", "1900000000000", set, "REPLACE", "ABSTTL")
	p.command("RESTORE", "list", "0", list, "REPLACE")
	p.command("SLOTSRESTORE", "one", "0", set, "two", "0", list)
	p.command("MULTI").command("SET", "beside", "v").command("RESTORE", "twin", "0", set, "REPLACE").command("EXEC")
	p.command("SADD", "set", "behind")
	p.seal()
	job := r.applyAll(Options{})
	r.want("by payloads that are too new", map[string]string{
		"0 SCARD set": "3", "0 SISMEMBER set bc": "1", "0 SISMEMBER set old": "0", "0 SISMEMBER set behind": "1",
		"0 LRANGE list 0 -1": "[x y]", "0 TTL list": "-1", "0 SCARD one": "2", "0 LRANGE two 0 -1": "[x y]", "0 SCARD twin": "2", "0 GET beside": "v",
	})
	left := time.Until(time.UnixMilli(1_900_000_000_000))
	if got := time.Duration(r.target.Do(t, "PTTL", "set").Int) * time.Millisecond; got < left-time.Minute || got > left+time.Minute {
		t.Errorf("time to live: got %s, want %s", got, left)
	}
	if st := job.Status()[0]; st.Rejects != 0 || st.Doubtful != 0 {
		t.Errorf("status: got %d rejects, %d doubtful, want none", st.Rejects, st.Doubtful)
	}
}

// What a payload says that is no payload is for the target to judge.
func TestABadPayloadInTheStreamIsAReject(t *testing.T) {
	r, p := spooled(t, rdbFile("0007"))
	p.command("RESTORE", "short", "0", "xx", "REPLACE")
	broken := rdb.AppendDump(nil, rdb.TypeSetListpack, listpackSet("a"), 9000)
	broken[3]++
	p.command("RESTORE", "broken", "0", string(broken), "REPLACE")
	p.command("SET", "behind", "v")
	p.seal()
	job := r.applyAll(Options{OnReject: RejectContinue})
	r.want("beside them", map[string]string{"0 GET behind": "v", "0 EXISTS short": "0", "0 EXISTS broken": "0"})
	if st := job.Status()[0]; st.Rejects != 2 {
		t.Errorf("status: got %d rejects, want 2", st.Rejects)
	}
}

// moduleValue is a value of module type "tairtest_", with one part.
func moduleValue(key string, size int) []byte {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	id := uint64(0)
	for _, c := range "tairtest_" {
		id = id<<6 | uint64(strings.IndexRune(letters, c))
	}
	b := append([]byte{rdb.TypeModule2}, text(key)...)
	b = append(b, 0x81)
	b = binary.BigEndian.AppendUint64(b, id<<10|1)
	b = append(b, 5)
	b = append(b, text(strings.Repeat("m", size))...)
	return append(b, 0)
}

func TestAModuleValueStopsByName(t *testing.T) {
	beside := append([]byte{rdb.TypeString}, append(text("beside"), text("v")...)...)
	for _, tt := range []struct {
		claim string
		o     Options
		size  int
	}{
		{"held", Options{}, 10},
		{"larger than what is held", small(Options{}), 5000},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			r, p := spooled(t, rdbFile("0009", moduleValue("mod", tt.size), beside))
			p.seal()
			stop := r.stopped(tt.o, "module-unsupported")
			for _, want := range []string{`"mod"`, "database 0", "tairtest_"} {
				if !strings.Contains(stop.What, want) {
					t.Errorf("stop: got %q, want %s named", stop.What, want)
				}
			}
			tt.o.OnReject = RejectContinue
			job := r.applyAll(tt.o)
			if st := job.Status()[0]; st.Rejects != 1 || st.Doubtful != 1 || st.Keys != 2 {
				t.Errorf("status: got %d rejects, %d doubtful, %d keys, want 1, 1, 2", st.Rejects, st.Doubtful, st.Keys)
			}
			r.want("beside it", map[string]string{"0 GET beside": "v", "0 EXISTS mod": "0"})
		})
	}
}

// A server before 6.2 without modules ends when it is given a module's value.
func TestAModuleValueInTheStreamStops(t *testing.T) {
	r, p := spooled(t, rdbFile("0007"))
	value := moduleValue("", 10)
	p.write("SET before v")
	p.command("RESTORE", "mod", "0", string(rdb.AppendDump(nil, rdb.TypeModule2, value[3:], 8)), "REPLACE")
	p.seal()
	if stop := r.stopped(Options{}, "module-unsupported"); !strings.Contains(stop.What, `"mod"`) || !strings.Contains(stop.What, "tairtest_") {
		t.Errorf("stop: got %q, want the key and the module named", stop.What)
	}
	r.want("before it", map[string]string{"0 GET before": "v", "0 EXISTS mod": "0"})
}

// With --on-reject continue it is left out, wherever it stands, and its key is doubtful.
func TestAModuleValueInTheStreamIsAReject(t *testing.T) {
	r, p := spooled(t, rdbFile("0007"))
	value := string(rdb.AppendDump(nil, rdb.TypeModule2, moduleValue("", 10)[3:], 8))
	p.write("SET before v").command("SLOTSRESTORE", "plain", "0", string(rdb.AppendDump(nil, rdb.TypeString, text("v"), 8)), "mod1", "0", value)
	p.write("MULTI", "SET a v", "INCR n").command("RESTORE", "mod2", "0", value, "REPLACE").write("INCR n", "EXEC", "SET behind v").seal()
	stop := r.stopped(Options{}, "module-unsupported")
	for _, want := range []string{`"mod1"`, "tairtest_", rdb.TypeName(rdb.TypeModule2), "SLOTSRESTORE"} {
		if !strings.Contains(stop.What, want) {
			t.Errorf("stop: got %q, want %s named", stop.What, want)
		}
	}
	for range 2 { // the second time, what was recorded tells
		job := r.applyAll(Options{OnReject: RejectContinue})
		if st := job.Status()[0]; st.Rejects != 2 || st.Doubtful != 3 {
			t.Errorf("status: got %d rejects, %d doubtful, want 2, 3", st.Rejects, st.Doubtful)
		}
		r.want("beside them", map[string]string{
			"0 GET before": "v", "0 EXISTS mod1 mod2 plain": "0", "0 GET a": "v", "0 GET n": "2", "0 GET behind": "v",
		})
	}
}

func TestAFunctionLibraryOfANewerSource(t *testing.T) {
	code := "#!lua name=mylib\nredis.register_function('f', function() return 7 end)"
	library := append([]byte{245}, text(code)...)
	r, p := spooled(t, rdbFile("9000", library))
	p.seal()
	if major, _ := r.target.Version(); major < 7 {
		r.stopped(Options{}, "functions-unsupported")
		return
	}
	r.applyAll(Options{})
	r.want("of the library", map[string]string{"0 FCALL f 0": "7"})

	r, p = spooled(t, rdbFile("9000", append([]byte{245}, text("#!js name=other\n")...)))
	p.seal()
	if stop := r.stopped(Options{}, "functions-refused"); !strings.Contains(stop.What, "ngine") {
		t.Errorf("stop: got %q, want the target's words", stop.What)
	}
}

// A value that no command of the target makes stops the group by its name.
func TestAValueThatNothingMakesStopsByName(t *testing.T) {
	nan := append([]byte{rdb.TypeZSet2}, append(text("odd"), 1)...)
	nan = append(nan, text("member")...)
	nan = binary.LittleEndian.AppendUint64(nan, 0x7ff8000000000001)
	r, p := spooled(t, rdbFile("0009", nan))
	p.seal()
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if isWord(args, "RESTORE") {
			return redistest.ReplyError("ERR Bad data format")
		}
		return redistest.Pass()
	})
	for _, o := range []Options{{}, small(Options{})} {
		o.Addr = proxy.Addr
		if stop := r.stopped(o, "value-unsupported"); !strings.Contains(stop.What, `"odd"`) {
			t.Errorf("stop: got %q, want the key named", stop.What)
		}
	}
}
