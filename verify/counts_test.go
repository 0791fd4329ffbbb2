package verify

import (
	"fmt"
	"strings"
	"testing"

	"tairlift/internal/redistest"
)

func TestCountsTellAGapFromKeysThatMayHaveExpired(t *testing.T) {
	a, b, dst := redistest.Source(t), redistest.Source(t), redistest.Target(t)
	keys := func(prefix string, n, expiring int) (out cmds) {
		for i := range n {
			k := fmt.Sprintf("%s%d", prefix, i)
			out = append(out, []string{"SET", k, "v"})
			if i < expiring {
				out = append(out, []string{"EXPIRE", k, "100000"})
			}
		}
		return out
	}
	type side struct{ n, expiring int }
	tests := []struct {
		name           string
		src, dst       [2]side // db 0 and 2
		want           Verdict
		missing, extra int64
	}{
		{"the same", [2]side{{20, 5}, {7, 0}}, [2]side{{20, 5}, {7, 0}}, Identical, 0, 0},
		{"gap within the keys with a TTL", [2]side{{20, 5}, {7, 0}}, [2]side{{15, 0}, {7, 0}}, Inconclusive, 5, 0},
		{"gap of one key more", [2]side{{20, 5}, {7, 0}}, [2]side{{14, 0}, {7, 0}}, Different, 6, 0},
		{"keys with a TTL of another db do not explain it", [2]side{{20, 9}, {7, 0}}, [2]side{{20, 9}, {6, 0}}, Different, 1, 0},
		{"too many on the target", [2]side{{20, 0}, {7, 0}}, [2]side{{22, 0}, {7, 0}}, Different, 0, 2},
		{"too many on the target, all may expire", [2]side{{20, 0}, {7, 0}}, [2]side{{22, 2}, {7, 0}}, Inconclusive, 0, 2},
		{"one too many and one too few", [2]side{{20, 0}, {7, 0}}, [2]side{{21, 0}, {6, 0}}, Different, 1, 1},
		{"nothing on the target", [2]side{{20, 0}, {7, 0}}, [2]side{}, Different, 27, 0},
		{"nothing on the source", [2]side{}, [2]side{{1, 0}, {}}, Different, 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, s := range []*redistest.Server{a, b, dst} {
				s.Do(t, "FLUSHALL")
			}
			for i, db := range []int{0, 2} {
				s, d := tt.src[i], tt.dst[i]
				onA := s.n / 3
				load(t, a, db, keys("a", onA, min(s.expiring, onA))...)
				load(t, b, db, keys("b", s.n-onA, s.expiring-min(s.expiring, onA))...)
				load(t, dst, db, keys("k", d.n, d.expiring)...)
			}
			load(t, dst, 0, c("SET tairlift:mark:1 x", "SET tairlift:mark:2 x")...)
			o := options(dst, a, b)
			o.Level = LevelCounts
			rep := verify(t, o)
			if rep.Verdict != tt.want || rep.Missing != tt.missing || rep.Extra != tt.extra {
				t.Errorf("got %s, %d missing, %d extra, want %s, %d, %d\n%s", rep.Verdict, rep.Missing, rep.Extra,
					tt.want, tt.missing, tt.extra, text(t, &rep))
			}
		})
	}
}

func TestCountsTextShowsBothSidesPerDB(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t)
	load(t, src, 0, c("SET a 1", "SET b 1", "SET c 1")...)
	load(t, src, 1, c("SET a 1")...)
	load(t, dst, 0, c("SET a 1", "SET b 1", "SET c 1")...)
	load(t, dst, 1, c("SET a 1")...)
	o := options(dst, src)
	o.Level = LevelCounts
	rep := verify(t, o)
	rep.DurationMS = 0
	want := strings.Join([]string{
		"  db  source keys  with ttl  target keys  with ttl  gap",
		"   0            3         0            3         0   +0",
		"   1            1         0            1         0   +0",
		"",
		"IDENTICAL: 4 keys counted on the source, 4 on the target; the keys themselves were not compared (0s)",
		"",
	}, "\n")
	if got := text(t, &rep); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSampleTakesTheSameKeysOfBothSides(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t, otherEncodings())
	const n = 3000
	load(t, src, 0, mixed(n)...)
	load(t, dst, 0, mixed(n)...)
	load(t, src, 1, c("SET other v")...)
	load(t, dst, 1, c("SET other v")...)
	for _, tt := range []struct {
		name     string
		sample   float64
		min, max int64
	}{
		{"a tenth", 0.1, 200, 400},
		{"900 keys", 900, 700, 1100},
		{"more than there are", 10_000, n + 1, n + 1},
		{"the default", 0, n + 1, n + 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := options(dst, src)
			o.Level, o.Sample, o.Seed = LevelSample, tt.sample, 5
			rep := verify(t, o)
			expect(t, &rep, NoDifferenceInSample, nil)
			if rep.Compared < tt.min || rep.Compared > tt.max {
				t.Errorf("compared: got %d, want %d to %d", rep.Compared, tt.min, tt.max)
			}
			if rep.SourceKeys != n+1 || rep.TargetKeys != n+1 {
				t.Errorf("got %d and %d keys, want all %d", rep.SourceKeys, rep.TargetKeys, n+1)
			}
			if s := rep.Sample; s.Keys != rep.Compared || s.Population != n+1 || !strings.Contains(text(t, &rep), s.Sentence) {
				t.Errorf("got sample %+v, want it of %d of %d keys and its sentence in the text", s, rep.Compared, n+1)
			}
		})
	}
	t.Run("sees what is wrong on either side", func(t *testing.T) {
		for i := range n {
			load(t, dst, 0, []string{"RENAME", fmt.Sprintf("k:%06d", i), fmt.Sprintf("moved:%06d", i)})
			if i == 200 {
				break
			}
		}
		o := options(dst, src)
		o.Level, o.Sample, o.Seed = LevelSample, 0.5, 5
		rep := verify(t, o)
		if rep.Verdict != Different || rep.Missing < 60 || rep.Missing > 140 || rep.Extra < 60 || rep.Extra > 140 {
			t.Errorf("got %s, %d missing, %d extra, want about half of 201 each\n%s", rep.Verdict, rep.Missing, rep.Extra, text(t, &rep))
		}
		if s := rep.Sample; s.AtMost < 201 || s.ExtraAtMost < 201 || s.Different != rep.Missing {
			t.Errorf("got %+v, want bounds of at least the 201 that there are", s)
		}
	})
	t.Run("that holds no key is inconclusive", func(t *testing.T) {
		o := options(dst, src)
		o.Level, o.Sample, o.Seed = LevelSample, 1e-12, 5
		rep := verify(t, o)
		expect(t, &rep, Inconclusive, nil)
	})
}
