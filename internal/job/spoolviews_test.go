package job

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tairlift/internal/repl"
	"tairlift/spool"
)

// smallSegments writes a spool into dir whose entries and commands cross its
// segments.
func smallSegments(t *testing.T, dir string, job spool.JobID) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	id := spool.Identity{Job: job, Group: 1, Epoch: 1, ReplID: repl.ReplID(strings.Repeat("a", 40)), Start: 100}
	w, err := spool.Create(filepath.Join(dir, "spool"), id, spool.WriterOptions{SegmentBytes: 600})
	check(err)
	feed := func(b []byte, add func([]byte, time.Time) error) {
		t.Helper()
		for part := range slices.Chunk(b, 257) {
			check(add(part, noon))
			_, err := w.Sync()
			check(err)
		}
	}
	sizes := []int{10, 20, 60, 5}
	b := []byte("REDIS0009")
	for i := range 20 {
		value := strings.Repeat(string(rune('a'+i)), sizes[i%4])
		b = append(b, 0xfe, byte(i%3), 0, 4)
		b = fmt.Appendf(b, "k:%02d%c%s", i, len(value), value)
	}
	b = append(b, 0xff, 0, 0, 0, 0, 0, 0, 0, 0)
	check(w.BeginRDB(int64(len(b))))
	feed(b, w.AppendRDB)
	check(w.EndRDB(0, false))
	b = []byte("*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n")
	for i := range 40 {
		if i == 20 {
			b = append(b, "*2\r\n$6\r\nselect\r\n$1\r\n5\r\n"...)
		}
		n := sizes[i%4] * (1 + i%7*4) // up to several segments
		b = fmt.Appendf(b, "*3\r\n$3\r\nSET\r\n$5\r\nk%04d\r\n$%d\r\n%0*d\r\n", i, n, n, i)
	}
	feed(b, w.AppendStream)
	check(w.Seal())
}

// However much is pruned, what lies whole in the segments that are left is
// shown as if all were there, and it is told that something lay before it.
func TestDumpOfAPrunedSpoolBeginsWhereSomethingBegins(t *testing.T) {
	whole := t.TempDir()
	job := spool.NewJobID()
	smallSegments(t, whole, job)
	dump := func(dir string, o SpoolOptions) []string {
		t.Helper()
		var out bytes.Buffer
		o.Dir, o.Out = dir, &out
		if err := SpoolDump(context.Background(), o); err != nil {
			t.Fatalf("dump: %v, after %q", err, out.String())
		}
		return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	}
	segments := func(dir string) []spool.SegmentInfo {
		t.Helper()
		g, err := spool.OpenGroup(filepath.Join(dir, "spool"), job, 1)
		if err != nil {
			t.Fatal(err)
		}
		epochs, err := g.Epochs()
		if err != nil {
			t.Fatal(err)
		}
		return epochs[0].Segments
	}
	all := segments(whole)
	allKeys, allCommands := dump(whole, SpoolOptions{Keys: true}), dump(whole, SpoolOptions{Commands: true})
	// Where what a line shows begins: keys bear that, commands their end.
	place := func(line string) (n int64) {
		t.Helper()
		if _, err := fmt.Sscan(line, &n); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		return n
	}
	for n := 1; n < len(all); n++ {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		g, err := spool.OpenGroup(filepath.Join(dir, "spool"), job, 1)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		left := n
		done, _ := g.Prune(ctx, spool.Floor{Epoch: 1, Stream: true, Offset: 1 << 40}, spool.PruneOptions{Now: func() time.Time {
			if left--; left == 0 {
				stop() // behind this segment
			}
			return noon
		}})
		if len(done) != n {
			t.Fatalf("got %d segments pruned, want %d", len(done), n)
		}
		first := all[n]

		keys := dump(dir, SpoolOptions{Keys: true})
		wantKeys := []string{allKeys[0], "           the rdb was pruned"}
		if !first.Stream {
			wantKeys = wantKeys[:1]
			for _, line := range allKeys[1:] {
				if place(line) >= first.From && (strings.Contains(line, `"k:`) || len(wantKeys) > 1) {
					wantKeys = append(wantKeys, line)
				}
			}
			if len(keys) < 2 || !strings.HasSuffix(keys[1], fmt.Sprintf(" begin of what is held of the rdb, %d %s before it pruned", n, plural(n, "segment"))) {
				t.Fatalf("%d segments pruned: got %q, want to be told", n, keys)
			}
			keys = slices.Delete(keys, 1, 2)
			// The last line counts the keys that were shown.
			last := len(wantKeys) - 1
			if shown := last - 1; shown >= 0 {
				wantKeys[last] = strings.Replace(wantKeys[last], "keys 20", fmt.Sprintf("keys %d", shown), 1)
			}
		}
		if !slices.Equal(keys, wantKeys) {
			t.Errorf("keys with %d segments pruned: got\n%s\nwant\n%s", n, strings.Join(keys, "\n"), strings.Join(wantKeys, "\n"))
		}

		commands := dump(dir, SpoolOptions{Commands: true})
		wantCommands := allCommands
		if first.Stream && all[n-1].Stream {
			wantCommands = allCommands[:1:1]
			for i := 1; i < len(allCommands); i++ {
				if i > 1 && place(allCommands[i-1]) >= first.From {
					wantCommands = append(wantCommands, allCommands[i])
				}
			}
			if !strings.HasSuffix(commands[1], fmt.Sprintf(" begin of what is held of the stream, %d segments before it pruned", n)) {
				t.Fatalf("%d segments pruned: got %q, want to be told", n, commands[1])
			}
			commands = slices.Delete(commands, 1, 2)
		}
		if !slices.Equal(commands, wantCommands) {
			t.Errorf("commands with %d segments pruned: got\n%s\nwant\n%s", n, strings.Join(commands, "\n"), strings.Join(wantCommands, "\n"))
		}

		var row struct {
			Row, Phase string
			Segments   int
			Offset, DB *int64
		}
		if err := json.Unmarshal([]byte(dump(dir, SpoolOptions{Keys: true, JSON: true})[0]), &row); err != nil {
			t.Fatal(err)
		}
		if row.Row != "pruned" || row.Phase != "rdb" || row.Segments != n || (row.Offset == nil) != first.Stream || (row.DB == nil) != first.Stream {
			t.Errorf("first row with %d segments pruned: got %+v", n, row)
		}

		// Without the key file, nobody knows where to begin.
		if err := os.Remove(spool.KeysPath(filepath.Join(dir, "spool"), 1, 1, first.Seq-1)); err != nil {
			t.Fatal(err)
		}
		for _, o := range []SpoolOptions{{Keys: true}, {Commands: true}} {
			if o.Commands && !first.Stream {
				continue
			}
			o.Dir, o.Out = dir, &bytes.Buffer{}
			if err := SpoolDump(context.Background(), o); CodeOf(err) != Corrupt {
				t.Errorf("a segment and its key file are gone: got %v, want exit code %d", err, Corrupt)
			}
		}
	}
}
