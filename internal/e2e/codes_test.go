package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"tairlift/internal/job"
	"tairlift/internal/redistest"
)

// TestNoDamageIsApplied damages one bit of a small spool, or cuts a segment
// short, as seeds say, and applies it: the exit code is 12, and what reached the
// target before is right. Apply proves what it reads: behind the last byte of
// data of a segment, where clock samples and its seal are, it may end with 0, and
// all is there.
func TestNoDamageIsApplied(t *testing.T) {
	r := newRig(t, 1)
	src := r.sources[0]
	for i := range 8 {
		src.Do(t, "SET", fmt.Sprintf("key:%d", i), fmt.Sprintf("value %d", i))
	}
	src.Do(t, "RPUSH", "list", "a", "b")
	run(t, exitOK, r.captureArgs("--until", "caught-up")...)
	for range 5 {
		src.Do(t, "INCR", "n")
		src.Do(t, "RPUSH", "list", "c")
	}
	run(t, exitOK, r.captureArgs("--until", "caught-up")...)
	want := src.Do(t, "LRANGE", "list", "0", "-1").Strings()

	read := readByApply(t, r.dir)
	files := readSpool(t, r.dir)
	v := &victim{t: t, dir: r.dir, files: files}
	for name := range files {
		v.names = append(v.names, name)
	}
	apply := func() error {
		r.target.Do(t, "FLUSHALL")
		for _, name := range []string{"apply", "status/apply-" + strings.ReplaceAll(r.target.Addr, ":", "_") + ".json"} {
			remove(t, filepath.Join(r.dir, name))
		}
		return job.RunApply(t.Context(), job.Options{Dir: r.dir, Target: r.target.Addr, Until: job.UntilEnd})
	}
	if err := apply(); err != nil {
		t.Fatalf("apply of the spool as it was captured: %v", err)
	}
	whole := 0
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 11))
		name := v.any(rnd)
		b := bytes.Clone(files[name])
		at, what := rnd.IntN(len(b)), "bit flipped"
		if seed%4 == 0 {
			b, what = b[:at], "cut"
		} else {
			b[at] ^= 1 << rnd.IntN(8)
		}
		if err := os.WriteFile(filepath.Join(r.dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
		where := fmt.Sprintf("seed %d: %s at %d of %s", seed, what, at, name)
		if code, _ := v.check(); code != job.Corrupt {
			t.Errorf("%s: spool check: got exit %d, want 12", where, code)
		}
		var text bytes.Buffer
		err := apply()
		if e, ok := err.(*job.Error); ok {
			e.Print(&text)
		}
		got := right(t, where, r.target, want)
		if code := job.CodeOf(err); code == job.OK && int64(at) >= read[name] && got == 8+5+len(want) {
			whole++ // apply needs nothing of what is damaged
		} else if code != job.Corrupt || !strings.Contains(text.String(), "\nhint: ") {
			t.Errorf("%s: apply: got exit %d and %q, want 12 with a hint", where, code, text.String())
		}
		if err := job.RunStatus(t.Context(), job.StatusOptions{Dir: r.dir, JSON: true, Out: io.Discard}); err != nil {
			t.Errorf("%s: status: got %v, want it shown", where, err)
		}
		if err := os.WriteFile(filepath.Join(r.dir, name), files[name], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("40 seeds, %d of them where apply reads nothing", whole)
	if err := apply(); err != nil {
		t.Errorf("apply of the spool after all: %v", err)
	}
	r.identical()
}

// readByApply tells of each segment where the last frame ends that holds bytes of
// the source, or the end of the RDB; 0 when it has none.
func readByApply(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	var out bytes.Buffer
	if err := job.SpoolDump(t.Context(), job.SpoolOptions{Dir: dir, JSON: true, Out: &out}); err != nil {
		t.Fatal(err)
	}
	read, name := map[string]int64{}, ""
	for dec := json.NewDecoder(&out); ; {
		var row struct {
			Row, Path string
			Pos       int64
			Frame     struct {
				Kind   string
				Stored int64
			}
		}
		if err := dec.Decode(&row); err == io.EOF {
			return read
		} else if err != nil {
			t.Fatal(err)
		}
		const head, rdbEnd = 36, 16 // see FORMAT.md
		switch {
		case row.Row == "segment":
			name = filepath.Join("spool", filepath.FromSlash(row.Path))
		case row.Frame.Kind == "rdb", row.Frame.Kind == "stream":
			read[name] = row.Pos + head + row.Frame.Stored
		case row.Frame.Kind == "rdb-end":
			read[name] = row.Pos + head + rdbEnd
		}
	}
}

// right fails the test if the target holds what the source never held, and
// returns how much it holds: keys, and steps of the counter and the list.
func right(t *testing.T, where string, target *redistest.Server, list []string) (held int) {
	t.Helper()
	for i := range 8 {
		if got := target.Do(t, "GET", fmt.Sprintf("key:%d", i)).String(); got != "(nil)" && got != fmt.Sprintf("value %d", i) {
			t.Errorf("%s: key:%d on the target: got %q", where, i, got)
		} else if got != "(nil)" {
			held++
		}
	}
	n, err := strconv.Atoi(target.Do(t, "GET", "n").String())
	if err == nil && (n < 1 || n > 5) {
		t.Errorf("%s: n on the target: got %d, want 1 to 5", where, n)
	}
	got := target.Do(t, "LRANGE", "list", "0", "-1").Strings()
	if len(got) > len(list) || strings.Join(got, " ") != strings.Join(list[:len(got)], " ") {
		t.Errorf("%s: list on the target: got %q, want a beginning of %q", where, got, list)
	}
	for _, k := range target.Do(t, "KEYS", "*").Strings() {
		if !strings.HasPrefix(k, "key:") && !strings.HasPrefix(k, "tairlift:") && k != "n" && k != "list" {
			t.Errorf("%s: got key %q on the target", where, k)
		}
	}
	return held + n + len(got)
}
