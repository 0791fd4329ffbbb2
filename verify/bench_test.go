package verify

import (
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"tairlift/internal/redistest"
)

// rawBound reads DUMP and PTTL of all keys from both sides at once, with what
// came thrown away: no tool that asks for them can be faster. It returns keys/s.
func rawBound(b *testing.B, keys []string, batch int, servers ...*redistest.Server) float64 {
	b.Helper()
	begun := time.Now()
	var wg sync.WaitGroup
	for _, s := range servers {
		conn := s.Dial(b)
		wg.Go(func() {
			defer conn.Close()
			flying := 0
			for at := 0; at < len(keys) || flying > 0; {
				for flying < 2 && at < len(keys) {
					part := keys[at:min(at+batch, len(keys))]
					for _, k := range part {
						conn.WriteCommand("DUMP", k)
						conn.WriteCommand("PTTL", k)
					}
					if err := conn.Flush(); err != nil {
						b.Error(err)
						return
					}
					at += len(part)
					flying++
				}
				// The oldest batch is a full one, except for the last.
				n := batch
				if flying == 1 && at == len(keys) {
					n = (len(keys)-1)%batch + 1
				}
				for range 2 * n {
					if _, err := conn.SkipReply(); err != nil {
						b.Error(err)
						return
					}
				}
				flying--
			}
		})
	}
	wg.Wait()
	return float64(len(keys)) / time.Since(begun).Seconds()
}

// scanned lists all keys in the order in which SCAN gives them, which is not
// the order in which they lie in the server's memory.
func scanned(b *testing.B, s *redistest.Server) (keys []string) {
	b.Helper()
	for cursor := "0"; ; {
		rep := s.Do(b, "SCAN", cursor, "COUNT", "1000")
		keys = append(keys, rep.Elems[1].Strings()...)
		if cursor = rep.Elems[0].String(); cursor == "0" {
			return keys
		}
	}
}

// cpuSeconds is the CPU time used so far by this process and the servers. On a
// machine that does other work too it says more than the wall clock.
func cpuSeconds(b *testing.B, servers ...*redistest.Server) float64 {
	b.Helper()
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		b.Fatal(err)
	}
	sum := time.Duration(self.Utime.Nano() + self.Stime.Nano()).Seconds()
	for _, s := range servers {
		info := s.Info(b, "cpu")
		for _, field := range []string{"used_cpu_user", "used_cpu_sys"} {
			v, err := strconv.ParseFloat(info[field], 64)
			if err != nil {
				b.Fatal(err)
			}
			sum += v
		}
	}
	return sum
}

// BenchmarkFull tells the speed of level full as a share of the raw bound,
// for equal bytes and for values that must all be decoded.
func BenchmarkFull(b *testing.B) {
	const n = 200_000
	var data cmds
	for _, cmd := range mixed(n) {
		if cmd[0] == "PFADD" { // 12 KB each on one side: rare, and they would be all that is measured
			cmd = []string{"SET", cmd[1], "in place of a HyperLogLog"}
		}
		data = append(data, cmd)
	}
	for name, opts := range map[string][]redistest.Option{"same-encodings": nil, "other-encodings": {otherEncodings()}} {
		b.Run(name, func(b *testing.B) {
			src, dst := redistest.Source(b), redistest.Target(b, opts...)
			load(b, src, 0, data...)
			load(b, dst, 0, data...)
			keys := scanned(b, src)
			var raw, ours, rawCPU, oursCPU float64
			for b.Loop() {
				cpu := cpuSeconds(b, src, dst)
				raw += rawBound(b, keys, 128, src, dst)
				rawCPU += cpuSeconds(b, src, dst) - cpu
				cpu = cpuSeconds(b, src, dst)
				begun := time.Now()
				rep := verify(b, options(dst, src))
				ours += n / time.Since(begun).Seconds()
				oursCPU += cpuSeconds(b, src, dst) - cpu
				if rep.Verdict != Identical {
					b.Fatal(text(b, &rep))
				}
			}
			b.ReportMetric(raw/float64(b.N), "raw-keys/s")
			b.ReportMetric(ours/float64(b.N), "keys/s")
			b.ReportMetric(ours/raw, "of-raw")
			b.ReportMetric(rawCPU*1e6/n/float64(b.N), "raw-cpu-µs/key")
			b.ReportMetric(oursCPU*1e6/n/float64(b.N), "cpu-µs/key")
		})
	}
}
