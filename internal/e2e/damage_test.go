package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tairlift/internal/job"
	"tairlift/internal/job/workload"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/spool"
)

// seeds is how many damages are done to each of the two spools.
const seeds = 150

// TestSpoolCheckFindsEveryDamage damages spools that the program captured from
// real servers, as seeds say, and asks `spool check` for its verdict: whatever
// reaches a vouched byte is found, and nothing is invented. One spool ended
// cleanly, the other by kill -9.
//
// By contract these cannot be found, because nothing is left that knows better:
//
//   - what lies behind the last sync frame of an unsealed tail: no fsync has
//     returned behind it, so a crash may leave it in any state;
//   - a tail that ends between the published position and its last sync frame:
//     the sync frame was the only witness, and went with it;
//   - the loss of the newest segments, or of a tail's end, together with
//     status/capture.json: a spool without it vouches for itself only;
//   - an older copy of the whole folder: it is consistent, and was right once.
func TestSpoolCheckFindsEveryDamage(t *testing.T) {
	clean, killed, other := realSpools(t)
	for _, s := range []struct {
		name string
		dir  string
	}{{"clean stop", clean}, {"kill -9", killed}} {
		t.Run(s.name, func(t *testing.T) {
			v := newVictim(t, s.dir, other)
			if code, rep := v.check(); code != job.OK || len(rep.Problems) != 0 {
				t.Fatalf("the spool as it was captured: got exit %d and %+v, want no problem", code, rep.Problems)
			}
			found, harmless, either := map[string]int{}, map[string]int{}, map[string]int{}
			for seed := range uint64(seeds) {
				rnd := rand.New(rand.NewPCG(seed, 7))
				d := damages[rnd.IntN(len(damages))]
				after := maps.Clone(v.files)
				what := d.do(v, rnd, after)
				v.apply(after)
				code, rep := v.check()
				bad := code == job.Corrupt && len(rep.Problems) > 0 || code == job.Refused
				switch want := v.judge(after); {
				case want == mustBeFound && !bad:
					t.Errorf("seed %d, %s: %s: got exit %d, want it to be found", seed, d.name, what, code)
				case want == isHarmless && (code != job.OK || len(rep.Problems) > 0):
					t.Errorf("seed %d, %s: %s: got exit %d and %+v, want nothing", seed, d.name, what, code, rep.Problems)
				case want == mustBeFound:
					found[d.name]++
				case want == isHarmless:
					harmless[d.name]++
				default:
					either[d.name]++
				}
				for _, p := range rep.Problems {
					if !v.concerns(p, after) {
						t.Errorf("seed %d, %s: %s: invented %s", seed, d.name, what, p)
					}
				}
				v.apply(v.files)
			}
			t.Logf("%d seeds: found %v; harmless %v; without a witness %v", seeds, found, harmless, either)
			if code, _ := v.check(); code != job.OK {
				t.Errorf("the spool after all: got exit %d, want 0", code)
			}
		})
	}
}

// realSpools captures two groups with every type of key into two epochs of
// several segments, and returns the folder after a clean stop, the same after a
// kill -9, and one of another job.
func realSpools(t *testing.T) (clean, killed, other string) {
	r := &rig{t: t, dir: filepath.Join(t.TempDir(), "job")}
	small := redistest.Arg("--repl-backlog-size", "16kb")
	for range 2 {
		r.sources = append(r.sources, redistest.Source(t, small))
	}
	r.fill(100)
	args := func(more ...string) []string { return r.captureArgs(append(more, "--segment-size", "4KiB")...) }
	run(t, exitOK, args("--until", "caught-up")...)
	// More than the backlogs hold: the next run begins an epoch.
	r.refill("between", 400)
	p := start(t, args()...)
	p.captured(r.dir, r.offsets())
	for i := range 4 {
		r.refill(fmt.Sprintf("stream-%d", i), 100)
		p.captured(r.dir, r.offsets())
	}
	for !r.vouchedTails() {
		r.refill("tail", 5)
		p.captured(r.dir, r.offsets())
	}
	before := r.spooled()
	r.refill("last", 2)
	p.until("bytes behind those that were published", func() bool { return r.spooled() > before })
	p.kill()
	killed = filepath.Join(t.TempDir(), "killed")
	copyJob(t, r.dir, killed)
	run(t, exitOK, args("--until", "caught-up")...)
	clean = r.dir
	foreign := &rig{t: t, dir: filepath.Join(t.TempDir(), "other"), sources: r.sources}
	run(t, exitOK, foreign.captureArgs("--until", "full")...)
	return clean, killed, foreign.dir
}

// refill writes keys of every type to every source.
func (r *rig) refill(name string, keys int) {
	r.t.Helper()
	for g, s := range r.sources {
		if err := workload.Fill(context.Background(), s.Addr, s.Secret, 100*(g+1)+len(name), g, keys); err != nil {
			r.t.Fatal(err)
		}
	}
}

// vouchedTails tells whether the published position lies in an unsealed
// segment, for every group.
func (r *rig) vouchedTails() bool {
	r.t.Helper()
	for _, g := range published(r.t, r.dir).Groups {
		if g.Durable.Sealed || g.Durable.Bytes < 300 {
			return false
		}
	}
	return true
}

// published is what capture said last.
func published(t *testing.T, dir string) (f job.CaptureFile) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "status", "capture.json"))
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// victim is a folder whose files are known.
type victim struct {
	t     *testing.T
	dir   string
	files map[string][]byte // of the spool, by path below the folder
	names []string          // of the segments, in order
	// durable is how much of a segment is vouched for, proven how much of it
	// something in the folder can speak of.
	durable, proven map[string]int
	tails           []string // unsealed
	foreign         [][]byte // segments of another job
}

func newVictim(t *testing.T, dir, other string) *victim {
	t.Helper()
	v := &victim{t: t, dir: dir, files: readSpool(t, dir), durable: map[string]int{}, proven: map[string]int{}}
	v.names = slices.Sorted(maps.Keys(v.files))
	for _, b := range readSpool(t, other) {
		v.foreign = append(v.foreign, b)
	}
	said := published(t, dir)
	list, err := spool.List(filepath.Join(dir, "spool"))
	if err != nil {
		t.Fatal(err)
	}
	groups, epochs := map[repl.GroupID]bool{}, 0
	for _, g := range list {
		groups[g.Group] = true
		epochs = max(epochs, len(g.Epochs))
		for _, e := range g.Epochs {
			for _, s := range e.Segments {
				name, err := filepath.Rel(dir, spool.Path(filepath.Join(dir, "spool"), g.Group, e.Epoch, s.Seq))
				if err != nil {
					t.Fatal(err)
				}
				v.durable[name], v.proven[name] = len(v.files[name]), len(v.files[name])
				if s.Sealed {
					continue
				}
				v.tails = append(v.tails, name)
				v.durable[name] = 0
				for _, p := range said.Groups {
					if d := p.Durable; p.ID == g.Group && d.Epoch == e.Epoch && d.Seq == s.Seq {
						v.durable[name] = int(d.Bytes)
					}
				}
			}
		}
	}
	if len(groups) != 2 || epochs != 2 || len(v.names) < 9 {
		t.Fatalf("spool: got %d groups, %d epochs, %d segments, want 2, 2 and many", len(groups), epochs, len(v.names))
	}
	for _, name := range v.tails {
		t.Logf("unsealed: %s, %d bytes, %d of them vouched for", name, len(v.files[name]), v.durable[name])
	}
	t.Logf("%d segments, %d unsealed", len(v.names), len(v.tails))
	return v
}

// readSpool reads the segments of a folder.
func readSpool(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "spool", "group-*", "epoch-*", "*.seg"))
	if err != nil || len(names) == 0 {
		t.Fatalf("segments of %s: got %v, %v", dir, names, err)
	}
	out := map[string][]byte{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		out[rel] = b
	}
	return out
}

// apply makes the folder hold the files, and no other of those that a damage
// has made.
func (v *victim) apply(files map[string][]byte) {
	v.t.Helper()
	root := filepath.Join(v.dir, "spool")
	have, err := filepath.Glob(filepath.Join(root, "group-*", "epoch-*", "*"))
	if err != nil {
		v.t.Fatal(err)
	}
	for _, name := range have {
		if rel, err := filepath.Rel(v.dir, name); err != nil || files[rel] != nil {
			continue
		}
		if err := os.Remove(name); err != nil {
			v.t.Fatal(err)
		}
	}
	for name, b := range files {
		path := filepath.Join(v.dir, name)
		if now, err := os.ReadFile(path); err == nil && bytes.Equal(now, b) {
			continue
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			v.t.Fatal(err)
		}
	}
}

// check is `spool check --json`.
func (v *victim) check() (job.Code, spool.Report) {
	v.t.Helper()
	var out bytes.Buffer
	err := job.SpoolCheck(context.Background(), job.SpoolOptions{Dir: v.dir, JSON: true, Out: &out})
	var rep spool.Report
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
			v.t.Fatal(err)
		}
	}
	return job.CodeOf(err), rep
}

type verdict int

const (
	isHarmless  verdict = iota // nothing vouched for is touched, and nothing that speaks of it
	mayBeFound                 // nothing vouched for is touched; a sync frame may tell all the same
	mustBeFound                // vouched bytes are damaged or gone, or a segment is there that was never written
)

// judge says what the damage is, by the bytes alone.
func (v *victim) judge(after map[string][]byte) verdict {
	worst := isHarmless
	for name, now := range after {
		if was := v.files[name]; was == nil && len(now) > 0 && isSegment(name) {
			return mustBeFound
		}
	}
	for name, was := range v.files {
		now := after[name]
		same := 0
		for same < min(len(was), len(now)) && was[same] == now[same] {
			same++
		}
		switch sealed := !slices.Contains(v.tails, name); {
		case same == len(was) && (len(now) == len(was) || !sealed):
		case sealed || same < v.durable[name]:
			return mustBeFound
		case same < v.proven[name]:
			worst = mayBeFound
		}
	}
	return worst
}

func isSegment(name string) bool {
	_, err := spool.ParseSeqFile(filepath.Base(name))
	return err == nil
}

// concerns tells whether a problem names a file that was damaged, or one beside
// it that does not fit any more.
func (v *victim) concerns(p spool.Problem, after map[string][]byte) bool {
	name := filepath.Join("spool", filepath.FromSlash(p.Path))
	if !bytes.Equal(v.files[name], after[name]) {
		return true
	}
	all := slices.Sorted(maps.Keys(after))
	for _, n := range v.names {
		if after[n] == nil {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	i := slices.Index(all, name)
	changed := func(i int) bool {
		return i >= 0 && i < len(all) && !bytes.Equal(v.files[all[i]], after[all[i]])
	}
	return changed(i-1) && strings.Contains(p.Text, "missing") || changed(i+1) && strings.Contains(p.Text, "a later segment follows")
}

// a segment, drawn.
func (v *victim) any(rnd *rand.Rand) string { return v.names[rnd.IntN(len(v.names))] }

// damages are the ways in which disks, copies and people damage a spool. Each
// changes the files and says what it did.
var damages = []struct {
	name string
	do   func(v *victim, rnd *rand.Rand, files map[string][]byte) string
}{
	{"flip a bit", func(v *victim, rnd *rand.Rand, files map[string][]byte) string {
		name := v.any(rnd)
		b := bytes.Clone(files[name])
		at, bit := rnd.IntN(len(b)), rnd.IntN(8)
		b[at] ^= 1 << bit
		files[name] = b
		return fmt.Sprintf("bit %d of byte %d of %s", bit, at, name)
	}},
	{"flip a run of bytes", func(v *victim, rnd *rand.Rand, files map[string][]byte) string {
		name := v.any(rnd)
		b := bytes.Clone(files[name])
		at := rnd.IntN(len(b))
		end := min(len(b), at+1+rnd.IntN(300))
		for i := at; i < end; i++ {
			b[i] ^= byte(1 + rnd.IntN(255))
		}
		files[name] = b
		return fmt.Sprintf("bytes %d to %d of %s", at, end, name)
	}},
	{"zero a block", func(v *victim, rnd *rand.Rand, files map[string][]byte) string {
		name := v.any(rnd)
		b := bytes.Clone(files[name])
		at := rnd.IntN(len(b)) &^ 511
		clear(b[at:min(len(b), at+512)])
		files[name] = b
		return fmt.Sprintf("block at %d of %s", at, name)
	}},
	{"truncate", func(v *victim, rnd *rand.Rand, files map[string][]byte) string {
		name := v.any(rnd)
		n := rnd.IntN(len(files[name]))
		files[name] = files[name][:n:n]
		return fmt.Sprintf("%s to %d bytes", name, n)
	}},
	{"delete a segment", func(v *victim, rnd *rand.Rand, files map[string][]byte) string {
		name := v.any(rnd)
		delete(files, name)
		return name
	}},
	{"delete an epoch", func(v *victim, rnd *rand.Rand, files map[string][]byte) string {
		dir := filepath.Dir(v.any(rnd))
		maps.DeleteFunc(files, func(name string, _ []byte) bool { return filepath.Dir(name) == dir })
		return dir
	}},
	{"swap two segments", func(v *victim, rnd *rand.Rand, files map[string][]byte) string {
		a, b := v.any(rnd), v.any(rnd)
		files[a], files[b] = files[b], files[a]
		return a + " and " + b
	}},
	{"copy a block elsewhere", func(v *victim, rnd *rand.Rand, files map[string][]byte) string {
		from, to := v.any(rnd), v.any(rnd)
		b := bytes.Clone(files[to])
		src, dst := rnd.IntN(len(files[from]))&^511, rnd.IntN(len(b))&^511
		copy(b[dst:], files[from][src:min(len(files[from]), src+512)])
		files[to] = b
		return fmt.Sprintf("block at %d of %s to %d of %s", src, from, dst, to)
	}},
	{"segment of another place", func(v *victim, rnd *rand.Rand, files map[string][]byte) string {
		from, to := v.any(rnd), v.any(rnd)
		files[to] = files[from]
		return from + " in the place of " + to
	}},
	{"segment of another job", func(v *victim, rnd *rand.Rand, files map[string][]byte) string {
		to := v.any(rnd)
		files[to] = v.foreign[rnd.IntN(len(v.foreign))]
		return "in the place of " + to
	}},
	{"segment too many", func(v *victim, rnd *rand.Rand, files map[string][]byte) string {
		from := v.any(rnd)
		last := v.names[len(v.names)-1]
		seq, err := spool.ParseSeqFile(filepath.Base(last))
		if err != nil {
			v.t.Fatal(err)
		}
		to := filepath.Join(filepath.Dir(last), (seq + 1).File())
		files[to] = files[from]
		return from + " once more as " + to
	}},
	{"append garbage", func(v *victim, rnd *rand.Rand, files map[string][]byte) string {
		name := v.any(rnd)
		garbage := make([]byte, 1+rnd.IntN(2000))
		if rnd.IntN(2) == 0 {
			for i := range garbage {
				garbage[i] = byte(rnd.IntN(256))
			}
		}
		files[name] = append(bytes.Clone(files[name]), garbage...)
		return fmt.Sprintf("%d bytes to %s", len(garbage), name)
	}},
	{"stale copy of a tail", func(v *victim, rnd *rand.Rand, files map[string][]byte) string {
		// What a copy that was taken earlier has: the beginning of the newest
		// segment, or all of it without its seal.
		names := v.tails
		if len(names) == 0 {
			names = v.names[len(v.names)-1:]
		}
		name := names[rnd.IntN(len(names))]
		n := len(files[name]) - rnd.IntN(len(files[name])/2)
		files[name] = files[name][:n:n]
		return fmt.Sprintf("the first %d bytes of %s", n, name)
	}},
	{"hidden or other files", func(v *victim, rnd *rand.Rand, files map[string][]byte) string {
		dir := filepath.Dir(v.any(rnd))
		name := []string{".00000001.seg.Xq3a", ".nfs0001", "00000001.seg.tmp", "README"}[rnd.IntN(4)]
		files[filepath.Join(dir, name)] = []byte("a copy under way")
		return name + " in " + dir
	}},
	{"behind the end of a tail", func(v *victim, rnd *rand.Rand, files map[string][]byte) string {
		if len(v.tails) == 0 {
			return "there is none"
		}
		name := v.tails[rnd.IntN(len(v.tails))]
		b := bytes.Clone(files[name])
		for i := v.proven[name]; i < len(b); i++ {
			b[i] ^= byte(rnd.IntN(256))
		}
		files[name] = append(b, make([]byte, rnd.IntN(3000))...)
		return name
	}},
}
