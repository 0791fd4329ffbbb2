package verify

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"tairlift/internal/redistest"
)

func decodeKey(e Example) (string, error) {
	b, err := base64.StdEncoding.DecodeString(e.KeyB64)
	return string(b), err
}

// mixed is n keys of all kinds that every server since 2.8 knows.
func mixed(n int) cmds {
	var out cmds
	for i := range n {
		k := fmt.Sprintf("k:%06d", i)
		switch i % 10 {
		case 0:
			out = append(out, []string{"SET", k, strconv.Itoa(i * 7919)})
		case 1:
			out = append(out, []string{"SET", k, strings.Repeat("text ", i%50)})
		case 2:
			out = append(out, []string{"HMSET", k, "f1", strconv.Itoa(i), "f2", strings.Repeat("v", i%100), "f3", "", "n", "-1"})
		case 3:
			out = append(out, []string{"RPUSH", k, "a", "b", strconv.Itoa(i), "", "a", strings.Repeat("long", 30)})
		case 4:
			out = append(out, []string{"SADD", k, strconv.Itoa(i), strconv.Itoa(-i), "5", "6"})
		case 5:
			out = append(out, []string{"SADD", k, "x" + strconv.Itoa(i), "y", "z", "12"})
		case 6:
			out = append(out, []string{"ZADD", k, strconv.FormatFloat(float64(i)/7, 'g', -1, 64), "m", "-1.5", "n", "1e300", "o", "-inf", "p", "3", "q"})
		case 7:
			out = append(out, []string{"PFADD", k, "a", strconv.Itoa(i)})
		case 8:
			out = append(out, []string{"SET", k, "ttl"}, []string{"PEXPIREAT", k, strconv.Itoa(4102444800000 + i)})
		case 9:
			args := []string{"HMSET", k}
			for f := range 40 {
				args = append(args, fmt.Sprintf("field:%d", f), fmt.Sprint(f*i))
			}
			out = append(out, args)
		}
	}
	return out
}

// otherEncodings makes a server keep small values as it keeps big ones.
func otherEncodings() redistest.Option {
	return redistest.Arg("--hash-max-ziplist-entries", "2", "--zset-max-ziplist-entries", "2", "--set-max-intset-entries", "1",
		"--list-max-ziplist-size", "2", "--list-compress-depth", "1", "--hll-sparse-max-bytes", "0", "--rdbcompression", "no")
}

func TestEqualDataInOtherEncodingsIsIdentical(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t, otherEncodings())
	const n = 3000
	for db, data := range map[int]cmds{0: mixed(n), 3: mixed(50)} {
		load(t, src, db, data...)
		load(t, dst, db, data...)
	}
	enc := func(s *redistest.Server, k string) string { return s.Do(t, "OBJECT", "ENCODING", k).String() }
	if a, b := enc(src, "k:000009"), enc(dst, "k:000009"); a == b {
		t.Fatalf("both sides encode a hash of 40 fields as %s: the test compares bytes only", a)
	}
	for _, batch := range []int{0, 1, 7, 1000, -1} {
		o := options(dst, src)
		if o.Batch = batch; batch < 0 {
			o.Batch, o.holdBytes = 0, 1 // nothing is held
		}
		rep := verify(t, o)
		expect(t, &rep, Identical, nil)
		if rep.SourceKeys != n+50 || rep.TargetKeys != n+50 || rep.Compared != n+50 || rep.Converged != 0 {
			t.Errorf("batch %d: got %+v, want %d keys on both sides, all equal at first sight", batch, rep.Counts, n+50)
		}
		if len(rep.PerDB) != 2 || rep.PerDB[1].DB != 3 || rep.PerDB[1].Equal != 50 {
			t.Errorf("per db: got %+v, want db 0 and db 3 with 50 keys", rep.PerDB)
		}
	}
	o := options(dst, src)
	o.Level = LevelKeys
	rep := verify(t, o)
	expect(t, &rep, Identical, nil)
	if !strings.Contains(rep.Line(), "values were not compared") {
		t.Errorf("line of level keys: got %q, want it to say that values were not compared", rep.Line())
	}
}

func TestStreamsPackedOtherwiseAreEqual(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t, redistest.Arg("--stream-node-max-entries", "3"))
	if major, _ := src.Version(); major < 5 {
		t.Skip("the source has no streams")
	}
	data := c("XGROUP CREATE s g 0 MKSTREAM", "XGROUP CREATE s h $")
	for i := range 20 {
		data = append(data, []string{"XADD", "s", fmt.Sprintf("%d-1", i+1), "a", strconv.Itoa(i), "b", "x"})
	}
	data = append(data, c("XDEL s 4-1", "XADD s 30-2 other 1", "XSETID s 40-1")...)
	load(t, src, 0, data...)
	load(t, dst, 0, data...)
	rep := verify(t, options(dst, src))
	expect(t, &rep, Identical, nil)
	dst.Do(t, "XADD", "s", "50-1", "a", "1")
	rep = verify(t, options(dst, src))
	expect(t, &rep, Different, map[Class][]string{Value: {"s"}})
}

func TestEachDifferenceIsFound(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t, otherEncodings())
	long := strings.Repeat("x", 200)
	tests := []struct {
		name     string
		key      string
		src, dst cmds
		full     Class
		keys     Class // at level keys
	}{
		{"key lost", "k", c("SET k v"), nil, Missing, Missing},
		{"key with an empty value lost", "k", cmds{{"SET", "k", ""}}, nil, Missing, Missing},
		{"binary key lost", "a\xff\x00\n\t\"", cmds{{"SET", "a\xff\x00\n\t\"", "v"}}, nil, Missing, Missing},
		{"key too many", "k", nil, c("SET k v"), Extra, Extra},
		{"value of the same length", "k", c("SET k abc"), c("SET k abd"), Value, equal},
		{"value that lost its empty text", "k", cmds{{"SET", "k", ""}}, c("SET k v"), Value, equal},
		{"number with a leading zero", "k", c("SET k 007"), c("SET k 7"), Value, equal},
		{"list cut at its end", "k", c("RPUSH k 1 2 3 4"), c("RPUSH k 1 2 3"), Value, equal},
		{"list in another order", "k", c("RPUSH k 1 2 3"), c("RPUSH k 1 3 2"), Value, equal},
		{"list with an element twice", "k", c("RPUSH k a b"), c("RPUSH k a b b"), Value, equal},
		{"list cut into other elements", "k", c("RPUSH k ab c"), c("RPUSH k a bc"), Value, equal},
		{"set with another member", "k", c("SADD k a b c"), c("SADD k a b d"), Value, equal},
		{"set of numbers short of one", "k", c("SADD k 1 2 3"), c("SADD k 1 2"), Value, equal},
		{"hash with another value", "k", c("HMSET k f 1 g 2"), c("HMSET k f 1 g 3"), Value, equal},
		{"hash with values exchanged", "k", c("HMSET k f 1 g 2"), c("HMSET k f 2 g 1"), Value, equal},
		{"hash with field and value exchanged", "k", c("HMSET k f g"), c("HMSET k g f"), Value, equal},
		{"big hash with a field lost", "k", c("HMSET k a " + long + " b " + long + " c 1"), c("HMSET k a " + long + " b " + long), Value, equal},
		{"zset with another score", "k", c("ZADD k 0.1 m 2 n"), c("ZADD k 0.10000000000000002 m 2 n"), Value, equal},
		{"zset with scores exchanged", "k", c("ZADD k 1 m 2 n 3 o"), c("ZADD k 2 m 1 n 3 o"), Value, equal},
		{"HyperLogLog with another element", "k", c("PFADD k a b c"), c("PFADD k a b d"), Value, equal},
		{"text that begins like a HyperLogLog", "k", c("SET k HYLLaaaaaaaaaaaaaaaaaaaa"), c("SET k HYLLaaaaaaaaaaaaaaaaaaab"), Value, equal},
		{"set for list", "k", c("RPUSH k a"), c("SADD k a"), Type, Type},
		{"hash for string", "k", c("SET k v"), c("HSET k f v"), Type, Type},
		{"zset for set", "k", c("SADD k a"), c("ZADD k 0 a"), Type, Type},
		{"TTL lost", "k", c("SET k v", "EXPIRE k 10000"), c("SET k v"), TTLMissing, TTLMissing},
		{"TTL too many", "k", c("SET k v"), c("SET k v", "EXPIRE k 10000"), TTLExtra, TTLExtra},
		{"TTL too short", "k", c("SET k v", "EXPIRE k 100000"), c("SET k v", "EXPIRE k 500"), TTLDrift, equal},
		{"TTL 30 s off", "k", c("SET k v", "PEXPIREAT k 4102444830000"), c("SET k v", "PEXPIREAT k 4102444800000"), TTLDrift, equal},
		{"TTL lost of an equal hash in another encoding", "k", c("HMSET k a 1 b 2 c 3", "EXPIRE k 10000"), c("HMSET k a 1 b 2 c 3"), TTLMissing, TTLMissing},
		{"nothing: float scores, and zeros of both signs", "k", c("ZADD k 0.1 m -0 n 1e-320 o inf p"), c("ZADD k 0.10000000000000001 m 0 n 1e-320 o +inf p"), equal, equal},
		{"nothing: HyperLogLog counted on one side", "k", c("PFADD k a b c", "PFCOUNT k"), c("PFADD k a b c"), equal, equal},
		{"nothing: HyperLogLog counted, then extended", "k", c("PFADD k a", "PFCOUNT k", "PFADD k b", "PFCOUNT k"), c("PFADD k b a"), equal, equal},
		{"nothing: TTL half a second off", "k", c("SET k v", "PEXPIREAT k 4102444800500"), c("SET k v", "PEXPIREAT k 4102444800000"), equal, equal},
		{"nothing: set built in another order", "k", c("SADD k c b a 1"), c("SADD k 1 a b c"), equal, equal},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src.Do(t, "FLUSHALL")
			dst.Do(t, "FLUSHALL")
			both := c("SET bystander v", "RPUSH list a b c")
			load(t, src, 0, append(both, tt.src...)...)
			load(t, dst, 0, append(both, tt.dst...)...)
			for level, class := range map[Level]Class{LevelFull: tt.full, LevelKeys: tt.keys} {
				for _, hold := range []int{0, 1, 10 * dumpFooter} { // all of it is held, nothing, some
					o := options(dst, src)
					o.Level, o.holdBytes = level, hold
					rep := verify(t, o)
					if class == equal {
						expect(t, &rep, Identical, nil)
					} else {
						expect(t, &rep, Different, map[Class][]string{class: {tt.key}})
					}
				}
			}
		})
	}
}

func TestAllDifferencesTogetherAreCountedExactly(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t, otherEncodings())
	const n = 2000
	data := mixed(n)
	load(t, src, 0, data...)
	load(t, dst, 0, data...)
	load(t, src, 0, c("SET e:1 v", "SET e:2 v")...)
	load(t, dst, 0, c("DEL k:000002 k:000003 k:000004", "SET x:1 1", "SET x:2 2", "LPOP k:000013", "PERSIST k:000008", "PERSIST k:000018",
		"EXPIRE k:000028 77", "DEL k:000021", "SADD k:000021 a", "EXPIRE k:000022 9999", "HSET k:000032 new 1", "SET e:1 v", "SET e:2 v")...)
	rep := verify(t, options(dst, src))
	expect(t, &rep, Different, map[Class][]string{
		Missing: {"k:000002", "k:000003", "k:000004"}, Extra: {"x:1", "x:2"}, Value: {"k:000013", "k:000032"}, Type: {"k:000021"},
		TTLMissing: {"k:000008", "k:000018"}, TTLDrift: {"k:000028"}, TTLExtra: {"k:000022"},
	})
	if want := int64(n + 2 - 10); rep.Equal != want || rep.SourceKeys != n+2 || rep.TargetKeys != n+1 {
		t.Errorf("got %d equal, %d and %d keys, want %d, %d, %d", rep.Equal, rep.SourceKeys, rep.TargetKeys, want, n+2, n+1)
	}
	want := "DIFFERENT: 2,002 of 2,002 keys compared, 3 missing, 2 extra, 2 value, 1 type, 4 ttl ("
	if got := rep.Line(); !strings.HasPrefix(got, want) {
		t.Errorf("line: got %q, want %q...", got, want)
	}
	lines := strings.Split(strings.TrimSuffix(text(t, &rep), "\n"), "\n")
	if got := lines[len(lines)-1]; got != rep.Line() {
		t.Errorf("last line of the text: got %q, want the verdict", got)
	}
	m := asJSON(t, &rep)
	for field, want := range map[string]any{
		"verdict": "different", "level": "full", "source_keys": 2002.0, "target_keys": 2001.0, "compared": 2002.0, "equal": 1992.0,
		"missing": 3.0, "extra": 2.0, "value": 2.0, "type": 1.0, "ttl": 4.0, "unverifiable": 0.0, "hot": 0.0,
	} {
		if got := m[field]; got != want {
			t.Errorf("JSON %s: got %v, want %v", field, got, want)
		}
	}
}

func TestExamplesAreBoundedAndCountsAreNot(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t)
	const n = 4000
	load(t, src, 0, mixed(n)...)
	load(t, dst, 0, c("SET a 1", "SET b 1", "SET c 1")...)
	o := options(dst, src)
	o.Examples = 2
	o.queueBytes = 1 // the smallest: some 70 keys, so the pass stops for rounds many times
	rep := verify(t, o)
	if rep.Missing != n || rep.Extra != 3 || rep.Compared != n {
		t.Errorf("got %d missing, %d extra, %d compared, want %d, 3, %d", rep.Missing, rep.Extra, rep.Compared, n, n)
	}
	if got := len(rep.Examples); got != 4 {
		t.Errorf("examples: got %d, want 2 of each of 2 classes: %v", got, rep.Examples)
	}
}

func TestGroupsAreComparedWithOneTargetDBByDB(t *testing.T) {
	a, b, dst := redistest.Source(t), redistest.Source(t), redistest.Target(t)
	all := mixed(1200)
	var onA, onB cmds
	for _, cmd := range all {
		if cmd[1][len(cmd[1])-2]%2 == 0 {
			onA = append(onA, cmd)
		} else {
			onB = append(onB, cmd)
		}
	}
	for db := range 2 {
		load(t, a, db, onA...)
		load(t, b, db, onB...)
		load(t, dst, db, all...)
	}
	rep := verify(t, options(dst, a, b))
	expect(t, &rep, Identical, nil)
	if rep.Compared != 2400 {
		t.Errorf("compared: got %d, want 2400", rep.Compared)
	}
	// A group left out: all its keys are too many.
	rep = verify(t, options(dst, a))
	if rep.Verdict != Different || rep.Extra != int64(1200) || rep.Missing != 0 {
		t.Errorf("without the second group: got %s with %d extra, want different with 1200", rep.Verdict, rep.Extra)
	}
	// A key in the other db is missing in one and extra in the other.
	load(t, a, 0, c("SET wanderer v")...)
	load(t, dst, 1, c("SET wanderer v")...)
	rep = verify(t, options(dst, a, b))
	expect(t, &rep, Different, map[Class][]string{Missing: {"wanderer"}, Extra: {"wanderer"}})
}

func TestKeysInSeveralGroupsAreNamed(t *testing.T) {
	a, b, dst := redistest.Source(t), redistest.Source(t), redistest.Target(t)
	load(t, a, 0, c("SET same v", "SET older a", "SET newer a", "SET neither a", "SET lost v", "SET onlyA v")...)
	load(t, b, 0, c("SET same v", "SET older b", "SET newer b", "SET neither b", "SET lost v", "SET onlyB v")...)
	load(t, dst, 0, c("SET same v", "SET older a", "SET newer b", "SET onlyA v", "SET onlyB v")...)
	for _, hold := range []int{0, 1} {
		t.Run(fmt.Sprint("hold ", hold), func(t *testing.T) { keysInSeveralGroups(t, a, b, dst, hold) })
	}
}

func keysInSeveralGroups(t *testing.T, a, b, dst *redistest.Server, hold int) {
	load(t, dst, 0, c("DEL lost neither")...)
	o := options(dst, a, b)
	o.holdBytes = hold
	rep := verify(t, o)
	if rep.Missing != 2 || rep.Value != 0 || rep.Verdict != Different {
		t.Errorf("got %s, %d missing, %d value, want different for the two lost ones alone\n%s", rep.Verdict, rep.Missing, rep.Value, text(t, &rep))
	}
	load(t, dst, 0, c("SET lost v", "SET neither a")...)
	rep = verify(t, o)
	expect(t, &rep, Inconclusive, map[Class][]string{Duplicate: {"older", "newer", "neither"}})
	if rep.SourceKeys != 7 || rep.Copies != 5 {
		t.Errorf("got %d source keys, %d copies, want 7 and 5", rep.SourceKeys, rep.Copies)
	}
	load(t, dst, 0, c("SET neither c")...)
	rep = verify(t, o)
	if rep.Verdict != Different || rep.Value != 1 {
		t.Errorf("target has neither copy: got %s with %d value, want different with 1\n%s", rep.Verdict, rep.Value, text(t, &rep))
	}
}

func TestOwnKeysAreNeitherComparedNorCounted(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t)
	load(t, src, 0, c("SET k v", "SET tairlif v", "SET DTS_REDIS_TIMESTAMP_HEARTBEAT 1")...)
	load(t, src, 5, c("SET k v", "SET DTS_REDIS_TIMESTAMP_HEARTBEAT:7 1")...)
	load(t, dst, 0, c("SET k v", "SET tairlif v", "SET tairlift:mark:1 x", "SET tairlift:mark:2 x")...)
	load(t, dst, 5, c("SET k v", "SET tairlift: x")...)
	for _, level := range []Level{LevelCounts, LevelKeys, LevelSample, LevelFull} {
		o := options(dst, src)
		o.Level, o.Sample = level, 1
		rep := verify(t, o)
		want := Identical
		if level == LevelSample {
			want = NoDifferenceInSample
		}
		expect(t, &rep, want, nil)
		if rep.SourceKeys != 3 || rep.TargetKeys != 3 {
			t.Errorf("level %s: got %d and %d keys, want 3 on both sides", level, rep.SourceKeys, rep.TargetKeys)
		}
	}
	load(t, dst, 0, c("SET tairlift:only x", "DEL k")...)
	o := options(dst, src)
	rep := verify(t, o)
	expect(t, &rep, Different, map[Class][]string{Missing: {"k"}})
}

func TestZeroKeysComparedIsInconclusive(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t)
	load(t, dst, 0, c("SET tairlift:mark x")...)
	for _, level := range []Level{LevelCounts, LevelKeys, LevelSample, LevelFull} {
		o := options(dst, src)
		o.Level = level
		rep := verify(t, o)
		expect(t, &rep, Inconclusive, nil)
	}
}
