package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// frameData is how much of each kind of data the levels are tried on.
const frameData = 16 << 20

var (
	levelLine = regexp.MustCompile(`^BenchmarkLevels/(\w+)/([\w-]+?)/(encode|decode)(?:-\d+)?\s+\d+\s+[\d.]+ ns/op\s+([\d.]+) MB/s(?:\s+([\d.]+) raw/stored)?`)
	frameLine = regexp.MustCompile(`^Benchmark(Encode|Decode)/(\S+?)(?:-\d+)?\s+\d+\s+[\d.]+ ns/op\s+([\d.]+) MB/s`)
)

// frames runs the spool's own benchmarks on this run's data: frames as the
// writer and the readers handle them, and the levels of compression that could
// be chosen.
func (b *bench) frames() error {
	rdb, err := b.rdbData()
	if err != nil {
		return err
	}
	stream, err := b.streamData()
	if err != nil {
		return err
	}
	dir := b.folder("frames")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, data := range map[string][]byte{"rdb": rdb.rdbs[0], "stream": stream.loads[0].bytes, "noise": noise(frameData)} {
		if err := os.WriteFile(filepath.Join(dir, name), data[:min(len(data), frameData)], 0o644); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(b.ctx, "go", "test", "-run", "^$", "-bench", "^Benchmark(Levels|Encode|Decode)$", "-benchtime", "0.3s", "./spool")
	cmd.Env = append(os.Environ(), "TAIRLIFT_BENCH_DATA="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go test ./spool: %w\n%s", err, out)
	}
	encode := map[string][]string{} // data and level: MB/s, ratio
	decode := map[string]string{}
	var order []string
	pieces := table{title: "Frames: compress, checksum, frame, and back, without a disk (go test -bench 'Encode|Decode' ./spool)", head: []string{"", "data and bytes from one sync to the next", "MB/s"}}
	for line := range strings.Lines(string(out)) {
		if m := levelLine.FindStringSubmatch(line); m != nil {
			key := m[1] + "\x00" + m[2]
			if m[3] == "encode" {
				encode[key] = m[4:6]
				order = append(order, key)
			} else {
				decode[key] = m[4]
			}
		}
		if m := frameLine.FindStringSubmatch(line); m != nil {
			pieces.add(strings.ToLower(m[1]), m[2], whole(m[3]))
		}
	}
	if len(order) == 0 || len(order) != len(decode) || len(pieces.rows) == 0 {
		return fmt.Errorf("go test ./spool gave %d levels encoded, %d decoded, %d frames:\n%s", len(order), len(decode), len(pieces.rows), out)
	}
	t := b.table("Levels of compression, frames of 256 KiB, one core (go test -bench Levels ./spool)",
		"data", "level", "encode MB/s", "decode MB/s", "times smaller", "of a core while an RDB comes in")
	for _, key := range order {
		data, level, _ := strings.Cut(key, "\x00")
		t.add(data, level, whole(encode[key][0]), whole(decode[key]), encode[key][1], b.share(encode[key][0]))
	}
	t.note("rdb and stream are the first bytes of this run's data; noise does not compress, and is stored as it is. The spool writes at level "+
		"fastest: the higher ones save less than a fifth of its bytes, and cost more of a core than the third that compression may have "+
		"while a source sends its RDB at the rate that it reaches by itself (%.0f MB/s in this run).", b.rdbRate/mega)
	b.tables = append(b.tables, &pieces)
	return nil
}

// whole is a figure of go test without what follows its point.
func whole(figure string) string {
	n, _, _ := strings.Cut(figure, ".")
	return n
}

// share is how much of a core an encoder takes while an RDB comes in as fast as a
// reader that throws it away can get it.
func (b *bench) share(encode string) string {
	rate, err := strconv.ParseFloat(encode, 64)
	if err != nil || b.rdbRate == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", b.rdbRate/mega/rate)
}
