package apply

import (
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"testing"

	"tairlift/internal/rdb"
	"tairlift/internal/redistest"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// tell gives the source lines of words, on one connection; those that it does not
// know are left out, and how many it took is returned.
func tell(t *testing.T, s *redistest.Server, lines ...string) (taken int) {
	t.Helper()
	c := s.Dial(t)
	for _, line := range lines {
		_, err := c.Do(t.Context(), strings.Fields(line)...)
		var se resp.ServerError
		switch {
		case err == nil:
			taken++
		case !errors.As(err, &se):
			t.Fatalf("%s: %v", line, err)
		}
	}
	return taken
}

// Each is what the title says, told by a real source; the target ends as the source,
// applied in two halves by two processes' worth of apply.
func TestStreamsOfARealSource(t *testing.T) {
	r := newRig(t, 1)
	s := r.sources[0]
	tell(t, s, "RPUSH l a b c d e f g", "SADD s 1 2 3", "ZADD z 1 a 2 b 3 c", "GEOADD geo 13.36 38.11 p 15.08 37.5 c", "SET n 5", "EXPIRE n 5000",
		"XADD x 1-1 a b", "XADD x 2-1 a b", "XADD x 3-1 a b", "XADD x 4-1 a b", "XGROUP CREATE x g 0", "SET mv 1", "SADD cp a b")
	r.capture()
	loaded := s.Do(t, "SCRIPT", "LOAD", "return redis.call('RPUSH', KEYS[1], ARGV[1])").String()
	cases := [][]string{
		{"MULTI", "SELECT 5", "SET in-tx 1", "SELECT 0", "INCR after", "EXEC"},
		{"MOVE mv 3", "SELECT 3", "APPEND mv x", "SELECT 0"},
		{"COPY cp cp2", "COPY cp other DB 4", "SELECT 4", "SADD other c", "SELECT 0"},
		{"SORT s DESC STORE sorted"},
		{"GEORADIUS geo 15 37 200 km STORE near", "GEORADIUS geo 15 37 200 km STOREDIST far"},
		{"BITFIELD bf SET u8 0 200 INCRBY u8 0 100 OVERFLOW FAIL INCRBY u8 0 200"},
		{"PFADD hll a b c d", "PFCOUNT hll"},
		{"INCRBYFLOAT f 0.1", "INCRBYFLOAT f 0.2", "HINCRBYFLOAT hf f 1.5"},
		{"BRPOPLPUSH l moved 0", "BLMOVE l moved LEFT LEFT 0", "BLPOP l 0", "BRPOP nothing l 0", "BZPOPMIN z 0", "BLMPOP 0 2 nothing l LEFT COUNT 2"},
		{"XREADGROUP GROUP g c1 COUNT 2 STREAMS x >", "XACK x g 1-1", "XREADGROUP GROUP g c2 COUNT 1 STREAMS x >", "XCLAIM x g c2 0 2-1", "XAUTOCLAIM x g c3 0 0 COUNT 1", "XGROUP SETID x g 3-1", "XREADGROUP GROUP g c2 NOACK STREAMS x >"},
		{"EVALSHA " + loaded + " 1 scripted a", "SCRIPT FLUSH", "EVALSHA " + loaded + " 1 scripted refused"},
	}
	taken := 0
	for _, lines := range cases {
		taken += tell(t, s, lines...)
	}
	s.Do(t, "EVAL", "if redis.replicate_commands then redis.replicate_commands() end redis.call('SADD', KEYS[1], redis.call('TIME')[1]) return redis.call('INCR', KEYS[2])", "2", "times", "effects")
	if major, _ := s.Version(); major >= 7 {
		s.Do(t, "FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function(k, a) return redis.call('SET', k[1], a[1]) end)")
		s.Do(t, "FCALL", "f", "1", "called", "1")
		dump := string(s.Do(t, "FUNCTION", "DUMP").Str)
		tell(t, s, "FUNCTION DELETE lib")
		s.Do(t, "FUNCTION", "RESTORE", dump)
		tell(t, s, "FCALL f 1 called 2", "FUNCTION FLUSH")
		s.Do(t, "FUNCTION", "RESTORE", dump, "FLUSH")
	}
	blocked(t, s, "BLPOP queue 0", "RPUSH queue a b")
	blocked(t, s, "BRPOPLPUSH queue2 queue3 0", "RPUSH queue2 a b")
	r.stopCapture()
	r.applyAll(Options{})
	if taken < 25 {
		t.Errorf("commands that the source took: got %d, want at least 25", taken)
	}
	r.equal(s)
	if major, _ := r.target.Version(); major >= 7 && len(s.Do(t, "COMMAND", "INFO", "FUNCTION").Elems[0].Elems) > 0 {
		if got, want := r.target.Do(t, "FUNCTION", "LIST").String(), s.Do(t, "FUNCTION", "LIST").String(); got != want {
			t.Errorf("functions: got %s, want %s", got, want)
		}
	}
}

// blocked has a client wait in a command until another serves it.
func blocked(t *testing.T, s *redistest.Server, waits, serves string) {
	t.Helper()
	c := s.Dial(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Do(t.Context(), strings.Fields(waits)...); err != nil {
			t.Errorf("%s: %v", waits, err)
		}
	})
	redistest.Eventually(t, "a client that waits", func() bool { return s.Info(t, "clients")["blocked_clients"] == "1" })
	s.Do(t, strings.Fields(serves)...)
	wg.Wait()
}

// A source names by its SHA1 what it has sent once, to an apply that began again
// in between, and the source may have forgotten it since.
func TestScriptsOfARealSourceAcrossARestart(t *testing.T) {
	r := newRig(t, 1)
	s := r.sources[0]
	const body = "return redis.call('RPUSH', KEYS[1], ARGV[1])"
	sha := s.Do(t, "SCRIPT", "LOAD", body).String() // before the full sync: Redis 4 to 6.2 put it into the RDB
	r.capture()
	s.Do(t, "EVALSHA", sha, "1", "list", "a")
	s.Do(t, "EVALSHA", sha, "1", "list", "b")
	a := r.start(Options{})
	r.caughtUp(a)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	s.Do(t, "EVALSHA", sha, "1", "list", "c")
	other := s.Do(t, "SCRIPT", "LOAD", body+" + 1").String()
	s.Do(t, "EVALSHA", other, "1", "list", "d")
	a = r.start(Options{})
	r.caughtUp(a)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	s.Do(t, "SCRIPT", "FLUSH")
	s.Do(t, "EVAL", body, "1", "list", "e")
	s.Do(t, "SCRIPT", "LOAD", body)
	s.Do(t, "EVALSHA", sha, "1", "list", "f")
	r.stopCapture()
	r.applyAll(Options{})
	r.equal(s)
}

// auxRDB is an RDB without keys, and with one field of its own.
func auxRDB(name, value string) []byte {
	b := []byte("REDIS0009")
	b = append(b, 0xFA, byte(len(name)))
	b = append(b, name...)
	b = append(b, byte(len(value)))
	b = append(append(b, value...), 0xFF)
	return binary.LittleEndian.AppendUint64(b, rdb.CRC64(0, b))
}

// A script that the RDB brings in a lua field is known, whatever has become of the
// source's cache, and one of a stream outlives SCRIPT FLUSH.
func TestScriptsOfTheRDB(t *testing.T) {
	const body = "return redis.call('INCR', KEYS[1])"
	r := bareRig(t, 1)
	sha := r.target.Do(t, "SCRIPT", "LOAD", body).String()
	r.target.Do(t, "SCRIPT", "FLUSH")
	p := r.craftBegin(1, 1, spool.WriterOptions{})
	p.rdb(auxRDB("lua", body))
	p.write("SCRIPT FLUSH", "EVALSHA "+sha+" 1 n")
	r.applyAll(Options{})
	p.write("EVALSHA " + sha + " 1 n")
	r.applyAll(Options{})
	r.want("by the body of the RDB", map[string]string{"0 GET n": "2"})
}

// Libraries belong to the whole target: where other groups may have brought the same
// one, it is not removed.
func TestLibrariesAreNotRemovedBesideOtherGroups(t *testing.T) {
	r := bareRig(t, 2)
	if major, _ := r.target.Version(); major < 7 {
		t.Skip("the target knows no functions")
	}
	code := func(name string) string {
		return "#!lua name=" + name + "\nredis.register_function('" + name + "', function() return 1 end)"
	}
	r.target.Do(t, "FUNCTION", "LOAD", code("a"))
	dump := string(r.target.Do(t, "FUNCTION", "DUMP").Str)
	r.target.Do(t, "FUNCTION", "FLUSH")
	r.craft(2, 1).command("FUNCTION", "LOAD", code("theirs"))
	p := r.craft(1, 1).command("FUNCTION", "LOAD", code("a")).command("FUNCTION", "LOAD", code("b"))
	p.write("FUNCTION DELETE b", "FUNCTION FLUSH").command("FUNCTION", "RESTORE", dump, "FLUSH")
	job := r.applyAll(Options{})
	if got := len(r.target.Do(t, "FUNCTION", "LIST").Elems); got != 3 {
		t.Errorf("libraries: got %d, want 3", got)
	}
	if st := job.Status()[0]; st.Ignored != 2 {
		t.Errorf("status: got %d ignored, want 2", st.Ignored)
	}
}
