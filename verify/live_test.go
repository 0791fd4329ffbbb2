package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

// mutate changes one random element of what key holds, so that it differs.
func mutate(t *testing.T, rng *rand.Rand, s *redistest.Server, key string) {
	t.Helper()
	pick := func(list []string) string { return list[rng.IntN(len(list))] }
	switch typ := s.Do(t, "TYPE", key).String(); typ {
	case "string":
		v := s.Do(t, "GET", key).Str
		if len(v) == 0 {
			s.Do(t, "APPEND", key, "x")
			return
		}
		i := rng.IntN(len(v))
		if strings.HasPrefix(string(v), "HYLL") {
			i = hllHeader + rng.IntN(hllDense)
		}
		s.Do(t, "SETRANGE", key, strconv.Itoa(i), string([]byte{v[i] ^ 1}))
	case "list":
		n := int(s.Do(t, "LLEN", key).Int)
		switch rng.IntN(3) {
		case 0:
			s.Do(t, "LSET", key, strconv.Itoa(rng.IntN(n)), "mutated")
		case 1:
			s.Do(t, "RPOP", key)
		case 2:
			s.Do(t, "LINSERT", key, "BEFORE", s.Do(t, "LINDEX", key, strconv.Itoa(rng.IntN(n))).String(), "mutated")
		}
	case "set":
		members := s.Do(t, "SMEMBERS", key).Strings()
		if rng.IntN(2) == 0 {
			s.Do(t, "SREM", key, pick(members))
		} else {
			s.Do(t, "SADD", key, "mutated")
		}
	case "hash":
		fields := s.Do(t, "HKEYS", key).Strings()
		switch rng.IntN(3) {
		case 0:
			s.Do(t, "HSET", key, pick(fields), "mutated")
		case 1:
			s.Do(t, "HDEL", key, pick(fields))
		case 2:
			s.Do(t, "HSET", key, "mutated", "")
		}
	case "zset":
		members := s.Do(t, "ZRANGE", key, "0", "-1").Strings()
		switch rng.IntN(3) {
		case 0:
			s.Do(t, "ZADD", key, "0.000001", pick(members))
		case 1:
			s.Do(t, "ZREM", key, pick(members))
		case 2:
			s.Do(t, "ZADD", key, "1", "mutated")
		}
	default:
		t.Fatalf("%s is a %s", key, typ)
	}
}

func TestEveryMutatedKeyIsFound(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t, otherEncodings())
	const n = 600
	load(t, src, 0, mixed(n)...)
	load(t, dst, 0, mixed(n)...)
	rng := rand.New(rand.NewPCG(11, 12))
	want := map[Class][]string{}
	for i := range n {
		if rng.IntN(2) == 0 {
			key := fmt.Sprintf("k:%06d", i)
			mutate(t, rng, dst, key)
			want[Value] = append(want[Value], key)
		}
	}
	o := options(dst, src)
	o.Examples = n
	rep := verify(t, o)
	expect(t, &rep, Different, want)
}

// isCommand tells whether args are `name key`.
func isCommand(args [][]byte, name, key string) bool {
	return len(args) == 2 && strings.EqualFold(string(args[0]), name) && string(args[1]) == key
}

func TestKeyThatChangesAtEveryReadIsHot(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t)
	load(t, src, 0, c("SET hot 0", "SET calm v")...)
	load(t, dst, 0, c("SET hot x", "SET calm v")...)
	proxy := redistest.NewProxy(t, src.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if isCommand(args, "DUMP", "hot") {
			src.DoErr("INCR", "hot")
		}
		return redistest.Pass()
	})
	o := options(dst, src)
	o.Sources[0].Addr = proxy.Addr
	rep := verify(t, o)
	expect(t, &rep, Inconclusive, map[Class][]string{Hot: {"hot"}})
	if want := "INCONCLUSIVE: 1 of 2 keys compared; not every key could be judged: 1 hot (still changing) ("; !strings.HasPrefix(rep.Line(), want) {
		t.Errorf("line: got %q, want %q...", rep.Line(), want)
	}
	// A difference elsewhere is one, and beats what is hot.
	load(t, dst, 0, c("SET calm w")...)
	rep = verify(t, o)
	expect(t, &rep, Different, map[Class][]string{Hot: {"hot"}, Value: {"calm"}})
}

func TestKeyThatArrivesLateHasConverged(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t)
	load(t, src, 0, c("SET late v", "SET calm v")...)
	load(t, dst, 0, c("SET calm v")...)
	asked := 0
	proxy := redistest.NewProxy(t, dst.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if isCommand(args, "DUMP", "late") {
			if asked++; asked == 2 {
				dst.DoErr("SET", "late", "v")
			}
		}
		return redistest.Pass()
	})
	o := options(dst, src)
	o.Target.Addr = proxy.Addr
	rep := verify(t, o)
	expect(t, &rep, Identical, nil)
	if rep.Converged != 1 {
		t.Errorf("converged: got %d, want 1", rep.Converged)
	}
}

func TestKeyWrittenAndDeletedDuringTheRunIsNoDifference(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t)
	load(t, src, 0, c("SET calm v", "SET doomed v", "SET kept v")...)
	load(t, dst, 0, c("SET calm v", "SET doomed v", "SET kept v", "SET doomed:too v")...)
	asked := map[string]int{}
	proxy := redistest.NewProxy(t, src.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if len(args) == 2 {
			asked[string(args[0])+string(args[1])]++
		}
		switch {
		case isCommand(args, "DUMP", "doomed"):
			src.DoErr("DEL", "doomed")
		case isCommand(args, "EXISTS", "doomed") && asked["EXISTSdoomed"] == 1:
			dst.DoErr("DEL", "doomed") // the deletion arrives
		case isCommand(args, "EXISTS", "doomed:too") && asked["EXISTSdoomed:too"] == 1:
			dst.DoErr("DEL", "doomed:too")
		case isCommand(args, "DUMP", "kept"):
			src.DoErr("SET", "born", "v")
			dst.DoErr("SET", "born", "v")
		}
		return redistest.Pass()
	})
	o := options(dst, src)
	o.Sources[0].Addr = proxy.Addr
	rep := verify(t, o)
	if rep.Differences() != 0 {
		t.Errorf("got differences, want none\n%s", text(t, &rep))
	}
	if rep.Hot != 1 || rep.Verdict != Inconclusive {
		t.Errorf("key born during the run was not compared: got %s with %d hot, want inconclusive with 1\n%s", rep.Verdict, rep.Hot, text(t, &rep))
	}
}

func TestTTLsThatRunOutDuringTheRunAreNoDifference(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t)
	load(t, src, 0, c("SET calm v", "SET soon v", "PEXPIRE soon 300", "SET stays v", "PEXPIRE stays 900")...)
	load(t, dst, 0, c("SET calm v")...)
	o := options(dst, src)
	o.Interval, o.Rounds = 500*time.Millisecond, 8
	rep := verify(t, o)
	expect(t, &rep, Identical, nil)
	// Rounds that end before the key does leave it unjudged.
	load(t, src, 0, c("SET soon v", "PEXPIRE soon 1000")...)
	o.Interval, o.Rounds = 10*time.Millisecond, 2
	rep = verify(t, o)
	if rep.Differences() != 0 || rep.Compared != 1 || rep.Expiring == 0 && rep.Gone == 0 {
		t.Errorf("got %+v, want no difference and the short-lived key not judged", rep.Counts)
	}
}

// writes makes random commands on few keys, which it often sets back to what
// they were.
func writes(rng *rand.Rand) []string {
	k := strconv.Itoa(rng.IntN(60))
	switch rng.IntN(8) {
	case 0:
		return []string{"INCR", "n:" + k}
	case 1:
		return []string{"SET", "t:" + k, strconv.Itoa(rng.IntN(2))}
	case 2:
		return []string{"RPUSH", "l:" + k, "x"}
	case 3:
		return []string{"LPOP", "l:" + k}
	case 4:
		return []string{"SADD", "s:" + k, strconv.Itoa(rng.IntN(3))}
	case 5:
		return []string{"SREM", "s:" + k, strconv.Itoa(rng.IntN(3))}
	case 6:
		return []string{"DEL", "t:" + k}
	}
	return []string{"PEXPIREAT", "t:" + k, "4102444800000"}
}

// The copying lags by up to a round, in steps that verify's own reads drive: at
// each DUMP the source is written, at each INFO, which begins a round, the
// target catches up.
func TestWritersNeverMakeAFalseDifference(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t)
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 1))
		for _, s := range []*redistest.Server{src, dst} {
			s.Do(t, "FLUSHALL")
			load(t, s, 0, mixed(300)...)
		}
		var mu sync.Mutex
		var lag [][]string
		hook := func(_, _ int, args [][]byte) redistest.Action {
			mu.Lock()
			defer mu.Unlock()
			switch strings.ToUpper(string(args[0])) {
			case "DUMP":
				w := writes(rng)
				if _, err := src.DoErr(w...); err != nil {
					t.Errorf("%v: %v", w, err)
				}
				lag = append(lag, w)
			case "INFO":
				for _, w := range lag {
					if _, err := dst.DoErr(w...); err != nil {
						t.Errorf("%v: %v", w, err)
					}
				}
				lag = nil
			}
			return redistest.Pass()
		}
		proxy := redistest.NewProxy(t, src.Addr, hook)
		o := options(dst, src)
		o.Sources[0].Addr, o.Seed = proxy.Addr, seed+1
		o.Interval = time.Millisecond
		o.holdBytes = int(seed % 2) // all of the values is held, or nothing
		for range 3 {
			rep := verify(t, o)
			if rep.Differences() != 0 {
				t.Errorf("seed %d: got a difference, want none\n%s", seed, text(t, &rep))
			}
		}
		hook(0, 0, [][]byte{[]byte("INFO")})
		rep := verify(t, options(dst, src))
		expect(t, &rep, Identical, nil)
		proxy.Close()
	}
}

// The same with a real link: the target is a replica, and clients write.
func TestWritersOnALiveLinkNeverMakeAFalseDifference(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t)
	load(t, src, 0, mixed(3000)...)
	dst.ReplicaOf(t, src)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range 2 {
		conn := src.Dial(t)
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 9))
			for ctx.Err() == nil {
				if _, err := conn.Do(context.Background(), writes(rng)...); err != nil {
					var se resp.ServerError
					if !errors.As(err, &se) {
						t.Errorf("write: %v", err)
						return
					}
				}
			}
		})
	}
	for range 3 {
		o := options(dst, src)
		o.Interval = 100 * time.Millisecond
		rep := verify(t, o)
		if rep.Differences() != 0 {
			t.Errorf("got a difference, want none\n%s", text(t, &rep))
		}
	}
	stop()
	wg.Wait()
	offset := func(s *redistest.Server) string {
		info := s.Info(t, "replication")
		if info["role"] == "slave" {
			return info["slave_repl_offset"]
		}
		return info["master_repl_offset"]
	}
	dst.Wait(t, "the replica has everything", func() bool { return offset(src) == offset(dst) })
	rep := verify(t, options(dst, src))
	expect(t, &rep, Identical, nil)
	if len(rep.Notes) != 1 || !strings.Contains(rep.Notes[0], "is a replica") {
		t.Errorf("notes: got %q, want one that the target is a replica", rep.Notes)
	}
}
