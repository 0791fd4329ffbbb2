package verify

import (
	"runtime"
	"strconv"
	"testing"

	"tairlift/internal/redistest"
)

const (
	farElements = 4 << 10 // of 4000 bytes each
	farScript   = 2 << 10 // made by one script
)

// fillFar makes a value of 16 MiB of a kind, with the elements that have no order in the
// order of their numbers, or the other way round.
func fillFar(t *testing.T, s *redistest.Server, kind string, descending bool) {
	t.Helper()
	for at := 0; at < farElements; at += farScript {
		from, to, step := at, at+farScript-1, 1
		if descending && kind != "list" && kind != "string" && kind != "stream" {
			from, to, step = farElements-1-at, farElements-farScript-at, -1
		}
		s.Do(t, "EVAL", `
for i = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]) do
	local e = string.rep(redis.sha1hex(i), 100)
	if ARGV[1] == 'list' then redis.call('RPUSH', KEYS[1], e)
	elseif ARGV[1] == 'hash' then redis.call('HSET', KEYS[1], 'f' .. i, e)
	elseif ARGV[1] == 'set' then redis.call('SADD', KEYS[1], e)
	elseif ARGV[1] == 'zset' then redis.call('ZADD', KEYS[1], i / 7, e)
	elseif ARGV[1] == 'string' then redis.call('APPEND', KEYS[1], e)
	else redis.call('XADD', KEYS[1], i + 1 .. '-0', 'f', e)
	end
end
return 1`, "1", kind, kind, strconv.Itoa(from), strconv.Itoa(to), strconv.Itoa(step))
	}
	if kind == "stream" {
		s.Do(t, "XGROUP", "CREATE", kind, "g", "0")
		for id := 1000; id < 3000; id += 500 {
			s.Do(t, "XCLAIM", kind, "g", "c", "0", strconv.Itoa(id)+"-0", "TIME", "1700000000000", "RETRYCOUNT", "3", "FORCE", "JUSTID")
		}
	}
}

// Values of any size are compared in little memory, and the one element that is
// another one is found, whatever both sides packed them into.
func TestLargeValuesAreComparedInLittleMemory(t *testing.T) {
	src := redistest.Source(t, redistest.Arg("--rdbcompression", "no"))
	dst := redistest.Target(t)
	for kind, other := range map[string][]string{
		"list":   {"LSET", "list", "2000", "another"},
		"hash":   {"HSET", "hash", "f2000", "another"},
		"set":    {"SADD", "set", "one more"},
		"zset":   {"ZADD", "zset", "0.1", "one more"},
		"stream": {"XCLAIM", "stream", "g", "c", "0", "1500-0", "TIME", "1700000000000", "RETRYCOUNT", "4", "FORCE", "JUSTID"},
		"string": {"SETRANGE", "string", "9000000", "another"},
	} {
		t.Run(kind, func(t *testing.T) {
			for _, s := range []*redistest.Server{src, dst} {
				if major, _ := s.Version(); major < 5 && kind == "stream" {
					t.Skip("a server has no streams")
				}
				defer s.Do(t, "FLUSHALL")
			}
			fillFar(t, src, kind, false)
			fillFar(t, dst, kind, true)
			load(t, src, 0, c("SET small v")...)
			load(t, dst, 0, c("SET small v")...)
			rep, took := measured(t, options(dst, src))
			expect(t, &rep, Identical, nil)
			dst.Do(t, other...)
			rep, tookToo := measured(t, options(dst, src))
			expect(t, &rep, Different, map[Class][]string{Value: {kind}})
			t.Logf("allocated: %d and %d KiB", took>>10, tookToo>>10)
			if most := int64(16 << 20); took > most || tookToo > most {
				t.Errorf("allocated for 16 MiB on both sides: got %d and %d bytes, want %d at most", took, tookToo, most)
			}
		})
	}
}

// measured tells what a run allocates in all, which bounds what it holds.
func measured(t *testing.T, o Options) (rep Report, bytes int64) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	rep = verify(t, o)
	runtime.ReadMemStats(&after)
	return rep, int64(after.TotalAlloc - before.TotalAlloc)
}
