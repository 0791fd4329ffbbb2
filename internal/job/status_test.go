package job

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/repl"
	"tairlift/spool"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// process is one that runs now.
func process(t *testing.T, until Until) Process {
	t.Helper()
	p := newProcess(jobA, "sync", until)
	p.Started, p.Updated = now.Add(-time.Hour), now.Add(-time.Second/2)
	return p
}

func ended(p Process, how string, exit Code) Process {
	p.Ended, p.How, p.Exit = ptr(now.Add(-time.Minute)), how, int(exit)
	p.Updated = *p.Ended
	return p
}

func killed(p Process) Process {
	p.Updated = now.Add(-staleAfter - time.Second)
	return p
}

// streaming is a capture whose spool ends at durable, while its source was at
// source half a second ago.
func streaming(durable, source repl.Offset) CaptureGroup {
	return CaptureGroup{
		ID: 1, State: "streaming", Epoch: 1, Source: ptr(source), SampledAt: ptr(now.Add(-time.Second)),
		Durable: spool.Durable{Epoch: 1, Seq: 2, Bytes: 1, RDBBytes: 1000, RDBDone: true, Offset: durable}, RDBTotal: ptr(int64(1000)),
	}
}

func stopped(g CaptureGroup) CaptureGroup {
	g.State, g.Done = "stopped", true
	return g
}

func applied(state string, at repl.Offset) ApplyGroup {
	return ApplyGroup{
		ID: 1, State: state, Epoch: 1, Phase: "stream", Applied: ptr(at), AppliedMS: now.Add(-11 * time.Second).UnixMilli(),
		RDBDone: 1000, RDBTotal: ptr(int64(1000)), Keys: 7, Commands: 70,
	}
}

func with[T any](v T, f func(*T)) T {
	f(&v)
	return v
}

func TestStatus(t *testing.T) {
	type summary struct {
		State    State
		Reason   string
		CaughtUp bool
		Running  bool
		LagBytes string
		LagSecs  string
	}
	restoring := ApplyGroup{ID: 1, State: "applying-rdb", Epoch: 1, Phase: "rdb", RDBDone: 400, RDBTotal: ptr(int64(1000)), Keys: 3}
	waiting := ApplyGroup{ID: 1, State: "waiting"}
	fullSync := CaptureGroup{ID: 1, State: "full-sync", Epoch: 1, Durable: spool.Durable{Epoch: 1, Seq: 1, Bytes: 1, RDBBytes: 500}}
	run := process(t, UntilStopped)
	tests := []struct {
		claim string
		cp    *Process
		c     *CaptureGroup
		ap    *Process
		a     *ApplyGroup
		want  summary
	}{
		// Nothing ran, or not yet.
		{"a job that never ran waits", nil, nil, nil, nil, summary{State: Waiting}},

		// Capture alone.
		{
			"capture without a link waits for it", &run, &CaptureGroup{ID: 1, State: "waiting", Reason: "source-unreachable"}, nil, nil,
			summary{State: Waiting, Reason: "source-unreachable", Running: true},
		},
		{"capture of the RDB is a full sync", &run, &fullSync, nil, nil, summary{State: FullSync, Running: true}},
		{
			"capture at the source's offset is in sync", &run, ptr(streaming(900, 900)), nil, nil,
			summary{State: InSync, CaughtUp: true, Running: true, LagBytes: "0", LagSecs: "0"},
		},
		{"capture behind it catches up", &run, ptr(streaming(500, 900)), nil, nil, summary{State: CatchingUp, Running: true, LagBytes: "400"}},
		{
			"an old sample keeps it from being in sync", &run, ptr(with(streaming(900, 900), func(g *CaptureGroup) { g.SampledAt = ptr(now.Add(-4 * time.Second)) })), nil, nil,
			summary{State: CatchingUp, Running: true, LagBytes: "0", LagSecs: "0"},
		},
		{
			"capture that reached its goal has finished", ptr(ended(process(t, UntilCaughtUp), howFinished, OK)), ptr(stopped(streaming(900, 900))), nil, nil,
			summary{State: Finished, CaughtUp: true, LagBytes: "0", LagSecs: "0"},
		},
		{
			"capture of the full phase alone has not caught up", ptr(ended(process(t, UntilFull), howFinished, OK)), ptr(stopped(streaming(900, 900))), nil, nil,
			summary{State: Finished, LagBytes: "0", LagSecs: "0"},
		},
		{
			"interrupted capture is stopped", ptr(ended(run, howInterrupted, Interrupted)), ptr(with(streaming(900, 900), func(g *CaptureGroup) { g.State = "stopped" })), nil, nil,
			summary{State: StateStop, Reason: "interrupted", LagBytes: "0", LagSecs: "0"},
		},
		{
			"killed capture is not running", ptr(killed(run)), ptr(streaming(900, 900)), nil, nil,
			summary{State: StateStop, Reason: "not-running", LagBytes: "0", LagSecs: "0"},
		},
		{
			"a process that is gone is not running at once", ptr(with(run, func(p *Process) { p.PID = 1 << 30 })), ptr(streaming(900, 900)), nil, nil,
			summary{State: StateStop, Reason: "not-running", LagBytes: "0", LagSecs: "0"},
		},
		{
			"a pid of another machine says nothing", ptr(with(run, func(p *Process) { p.PID, p.Host = 1<<30, "elsewhere" })), ptr(streaming(900, 900)), nil, nil,
			summary{State: InSync, CaughtUp: true, Running: true, LagBytes: "0", LagSecs: "0"},
		},
		{
			"stopped capture tells why", &run, &CaptureGroup{ID: 1, State: "stopped", Reason: "disk-full"}, nil, nil,
			summary{State: StateStop, Reason: "disk-full", Running: true},
		},

		// Both.
		{"the RDB arrives first", &run, &fullSync, &run, &waiting, summary{State: FullSync, Running: true}},
		{"then it is applied", &run, ptr(streaming(900, 900)), &run, &restoring, summary{State: ApplyingRDB, Running: true}},
		{
			"a target that is away is the reason", &run, ptr(streaming(900, 900)), &run, ptr(with(restoring, func(g *ApplyGroup) { g.Reason = "target-unreachable" })),
			summary{State: ApplyingRDB, Reason: "target-unreachable", Running: true},
		},
		{
			"behind the source it catches up", &run, ptr(streaming(900, 900)), &run, ptr(applied("streaming", 500)),
			summary{State: CatchingUp, Running: true, LagBytes: "400", LagSecs: "10"},
		},
		{
			"at the source's offset it is in sync", &run, ptr(streaming(900, 900)), &run, ptr(applied("streaming", 900)),
			summary{State: InSync, CaughtUp: true, Running: true, LagBytes: "0", LagSecs: "0"},
		},
		{
			"ahead of the last sample too", &run, ptr(streaming(950, 900)), &run, ptr(applied("streaming", 950)),
			summary{State: InSync, CaughtUp: true, Running: true, LagBytes: "0", LagSecs: "0"},
		},
		{
			"less than a second behind is in sync", &run, ptr(streaming(900, 900)), &run,
			ptr(with(applied("streaming", 890), func(g *ApplyGroup) { g.AppliedMS = now.Add(-1500 * time.Millisecond).UnixMilli() })),
			summary{State: InSync, CaughtUp: true, Running: true, LagBytes: "10", LagSecs: "0.5"},
		},
		{
			"doubtful keys keep it from being in sync", &run, ptr(streaming(900, 900)), &run, ptr(with(applied("streaming", 900), func(g *ApplyGroup) { g.Doubtful = 3 })),
			summary{State: CatchingUp, Reason: "doubtful-keys", Running: true, LagBytes: "0", LagSecs: "0"},
		},
		{
			"so does a flush that was skipped", &run, ptr(streaming(900, 900)), &run, ptr(with(applied("streaming", 900), func(g *ApplyGroup) { g.FlushesIgnored = 1 })),
			summary{State: CatchingUp, Reason: "flush-ignored", Running: true, LagBytes: "0", LagSecs: "0"},
		},
		{
			"a target out of memory is the reason", &run, ptr(streaming(900, 900)), &run, ptr(with(applied("streaming", 500), func(g *ApplyGroup) { g.Reason = "target-oom" })),
			summary{State: CatchingUp, Reason: "target-oom", Running: true, LagBytes: "400", LagSecs: "10"},
		},
		{
			"so it is for a new process that cannot begin", &run, ptr(streaming(900, 900)), &run, ptr(with(applied("waiting", 500), func(g *ApplyGroup) { g.Reason = "target-oom" })),
			summary{State: CatchingUp, Reason: "target-oom", Running: true, LagBytes: "400", LagSecs: "10"},
		},
		{
			"a source that is away is waited for", &run, ptr(with(streaming(900, 900), func(g *CaptureGroup) { g.State, g.Reason = "waiting", "source-unreachable" })), &run, ptr(applied("streaming", 900)),
			summary{State: Waiting, Reason: "source-unreachable", Running: true, LagBytes: "0", LagSecs: "0"},
		},
		{
			"a stopped apply tells why", &run, ptr(streaming(900, 900)), &run, ptr(with(applied("stopped", 500), func(g *ApplyGroup) { g.Reason = "flush-in-stream" })),
			summary{State: StateStop, Reason: "flush-in-stream", Running: true, LagBytes: "400", LagSecs: "10"},
		},
		{
			"offsets of two epochs are not compared", &run, ptr(with(streaming(900, 900), func(g *CaptureGroup) { g.Epoch, g.Durable.Epoch = 2, 2 })), &run, ptr(applied("streaming", 500)),
			summary{State: CatchingUp, Running: true},
		},
		{
			"a sync that reached its goal has finished", ptr(ended(process(t, UntilCaughtUp), howFinished, OK)), ptr(stopped(streaming(900, 950))),
			ptr(ended(process(t, UntilCaughtUp), howFinished, OK)), ptr(with(applied("streaming", 900), func(g *ApplyGroup) { g.Done = true })),
			summary{State: Finished, CaughtUp: true, LagBytes: "50", LagSecs: "10"},
		},
		{
			"beside a stopped group another has finished", ptr(ended(process(t, UntilCaughtUp), howStopped, Stopped)), ptr(stopped(streaming(900, 900))),
			ptr(ended(process(t, UntilCaughtUp), howStopped, Stopped)), ptr(with(applied("streaming", 900), func(g *ApplyGroup) { g.Done = true })),
			summary{State: Finished, CaughtUp: true, LagBytes: "0", LagSecs: "0"},
		},
		{
			"a killed sync is not running", ptr(killed(run)), ptr(streaming(900, 900)), ptr(killed(run)), ptr(applied("streaming", 900)),
			summary{State: StateStop, Reason: "not-running", LagBytes: "0", LagSecs: "0"},
		},

		// One of the two.
		{
			"capture without apply is told", &run, ptr(streaming(900, 900)), ptr(killed(run)), ptr(applied("streaming", 500)),
			summary{State: StateStop, Reason: "apply-not-running", Running: true, LagBytes: "400", LagSecs: "10"},
		},
		{
			"apply at the end of a finished capture waits", ptr(ended(process(t, UntilCaughtUp), howFinished, OK)), ptr(stopped(streaming(900, 900))), &run, ptr(applied("streaming", 900)),
			summary{State: Waiting, Reason: "end-of-spool", CaughtUp: true, Running: true, LagBytes: "0", LagSecs: "0"},
		},
		{
			"apply at the end of a killed capture misses it", ptr(killed(run)), ptr(streaming(900, 900)), &run, ptr(applied("streaming", 900)),
			summary{State: Waiting, Reason: "capture-not-running", Running: true, LagBytes: "0", LagSecs: "0"},
		},
		{
			"apply to the end of the spool has finished", ptr(ended(process(t, UntilCaughtUp), howFinished, OK)), ptr(stopped(streaming(900, 900))),
			ptr(ended(process(t, UntilEnd), howFinished, OK)), ptr(with(applied("finished", 900), func(g *ApplyGroup) { g.Done = true })),
			summary{State: Finished, CaughtUp: true, LagBytes: "0", LagSecs: "0"},
		},
		{
			"the end of an interrupted capture is not the source's", ptr(ended(run, howInterrupted, Interrupted)), ptr(with(streaming(900, 950), func(g *CaptureGroup) { g.State = "stopped" })),
			ptr(ended(process(t, UntilEnd), howFinished, OK)), ptr(with(applied("finished", 900), func(g *ApplyGroup) { g.Done = true })),
			summary{State: Finished, LagBytes: "50", LagSecs: "10"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			v := &view{job: jobA, groups: []Group{{1, "a:1"}}, now: now}
			if tt.cp != nil {
				v.capture = &CaptureFile{Process: *tt.cp, Groups: []CaptureGroup{*tt.c}}
			}
			if tt.ap != nil {
				v.target = "t:1"
				v.apply = &ApplyFile{Process: *tt.ap, Target: "t:1", Groups: []ApplyGroup{*tt.a}}
			}
			s := v.status()
			g := s.Groups[0]
			got := summary{g.State, g.Reason, s.CaughtUp, s.Running, "", ""}
			if g.LagBytes != nil {
				got.LagBytes = known(g.LagBytes)
			}
			if g.LagSecs != nil {
				got.LagSecs = known(g.LagSecs)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Scripts rely on these fields, on null for what is not known, and on lists
// that are never null.
func TestStatusJSON(t *testing.T) {
	v := &view{job: jobA, groups: []Group{{1, "a:1"}}, now: now}
	empty := v.status()
	check := func(s Status, want string) {
		t.Helper()
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var got, wanted map[string]any
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(want), &wanted); err != nil {
			t.Fatal(err)
		}
		for _, m := range []struct{ got, want map[string]any }{{got, wanted}, {group(got), group(wanted)}} {
			for k, w := range m.want {
				g, there := m.got[k]
				if !there {
					t.Errorf("%q is not there", k)
				}
				if k != "groups" && !cmp.Equal(g, w) {
					t.Errorf("%s is %v, want %v", k, g, w)
				}
			}
		}
	}
	check(empty, `{"job": "0a000000000000000000000000000000", "caught_up": false, "taints": [], "running": false, "target": null, "targets": [], "groups": [
		{"id": 1, "state": "waiting", "reason": "", "epoch": null, "source_offset": null, "captured_offset": null, "applied_offset": null,
		 "lag_bytes": null, "lag_seconds": null, "ttl": null, "rdb": {"bytes_done": 0, "bytes_total": null, "keys": null, "native": 0, "writing": null},
		 "commands_applied": null, "rejects": null, "doubtful": null}]}`)
	run := process(t, UntilStopped)
	v.target = "t:1"
	v.capture = &CaptureFile{Process: run, Groups: []CaptureGroup{streaming(900, 900)}}
	v.apply = &ApplyFile{Process: run, Groups: []ApplyGroup{with(applied("streaming", 800), func(g *ApplyGroup) {
		g.Rejects, g.Doubtful, g.DoubtWhy = 2, 37, map[string]int{"unread": 30, "reject": 7}
	})}}
	check(v.status(), `{"caught_up": false, "taints": ["2 rejects in group 1", "37 doubtful keys in group 1 (reject, unread)"], "running": true, "target": "t:1", "groups": [
		{"id": 1, "state": "catching-up", "reason": "doubtful-keys", "epoch": 1, "source_offset": 900, "captured_offset": 900, "applied_offset": 800,
		 "lag_bytes": 100, "lag_seconds": 10, "ttl": "exact", "rdb": {"bytes_done": 1000, "bytes_total": 1000, "keys": 7, "native": 0, "writing": null},
		 "commands_applied": 70, "rejects": 2, "doubtful": 37}]}`)
}

func group(status map[string]any) map[string]any {
	return status["groups"].([]any)[0].(map[string]any)
}

func TestStatusOfACopyWithoutStatusFiles(t *testing.T) {
	dir := t.TempDir()
	writeJob(t, dir, jobText(jobA, `{"id": 1, "addr": "a:1"}, {"id": 2, "addr": "b:1"}`))
	captured(t, dir, jobA, 1)
	s, err := readView(dir, "", "", Only{})
	if err != nil {
		t.Fatal(err)
	}
	g := s.Groups[0]
	if g.Epoch == nil || *g.Epoch != 1 || g.Captured == nil || *g.Captured != 15 || g.RDB.Done != 4 {
		t.Errorf("group 1 is %+v, want epoch 1, captured up to 15, an RDB of 4 bytes", g)
	}
	if g := s.Groups[1]; g.State != Waiting || g.Captured != nil {
		t.Errorf("group 2 is %+v, want nothing known", g)
	}
	only, err := ParseOnly("1")
	if err != nil {
		t.Fatal(err)
	}
	if s, err := readView(dir, "", "", only); err != nil || len(s.Groups) != 1 {
		t.Errorf("got %d groups, %v, want the one picked", len(s.Groups), err)
	}
}

func TestStatusOfNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	_, err := readView(dir, "", "", Only{})
	checkError(t, err, NoSpool, "there is no job in "+dir)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("status made %s", dir)
	}
}

func TestStatusFilesOfAnotherJobAreNotOurs(t *testing.T) {
	dir := t.TempDir()
	writeJob(t, dir, jobText(jobA, `{"id": 1, "addr": "a:1"}`))
	f, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	p := process(t, UntilStopped)
	p.Job = jobB
	if err := writeStatus(f.captureStatus(), &CaptureFile{Process: p, Groups: []CaptureGroup{streaming(5, 5)}}); err != nil {
		t.Fatal(err)
	}
	if m, err := f.vouched(); err != nil || m != nil {
		t.Errorf("got %v, %v, want nothing vouched", m, err)
	}
	p.Job = jobA
	if err := writeStatus(f.captureStatus(), &CaptureFile{Process: p, Groups: []CaptureGroup{streaming(5, 5)}}); err != nil {
		t.Fatal(err)
	}
	m, err := f.vouched()
	if err != nil || m[1].Offset != 5 {
		t.Errorf("got %v, %v, want offset 5 vouched for group 1", m, err)
	}
}

func TestSeveralTargets(t *testing.T) {
	dir := t.TempDir()
	writeJob(t, dir, jobText(jobA, `{"id": 1, "addr": "a:1"}`))
	f, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, target := range []string{"x:1", "y:1"} {
		p := process(t, UntilStopped)
		p.Updated = now.Add(time.Duration(i) * time.Second)
		if err := writeStatus(f.applyStatus(target), &ApplyFile{Process: p, Target: target}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := readView(dir, "", "", Only{})
	if err != nil || *s.Target != "y:1" || !slices.Equal(s.Targets, []string{"x:1", "y:1"}) {
		t.Errorf("got target %s of %v, %v, want the one that ran last", *s.Target, s.Targets, err)
	}
	if s, err = readView(dir, "", "x:1", Only{}); err != nil || *s.Target != "x:1" {
		t.Errorf("got target %s, %v, want the one asked for", *s.Target, err)
	}
	_, err = readView(dir, "", "z:1", Only{})
	checkError(t, err, Usage, dir+" was never used with target z:1")
}

func TestStatusText(t *testing.T) {
	run := process(t, UntilStopped)
	v := &view{job: jobA, groups: []Group{{1, "a:1"}}, now: now, target: "t:1"}
	v.capture = &CaptureFile{Process: run, Groups: []CaptureGroup{streaming(900, 900)}}
	v.apply = &ApplyFile{Process: run, Groups: []ApplyGroup{with(applied("stopped", 500), func(g *ApplyGroup) {
		g.Reason, g.What, g.Hint, g.Rejects = "reject", "the target\nrefused LPUSH", "look at it", 1
		g.Since = ptr(time.Date(2026, 5, 4, 3, 2, 1, 0, time.Local))
	})}}
	s := v.status()
	var b bytes.Buffer
	if err := s.Text(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"job 0a000000000000000000000000000000, target t:1, not caught up\n",
		"1      stopped  1      1000 B/1000 B  900     900       500      400 B 10.0s  70        exact  reject\n",
		"group 1: the target refused LPUSH (reject since 2026-05-04 03:02:01)\nhint: look at it\n",
		"taints: 1 reject in group 1\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in:\n%s", want, b.String())
		}
	}
}

// A copy under way may hold a part of a status file. Status shows what else is
// there; what must know how far capture came says that it does not.
func TestHalfAStatusFile(t *testing.T) {
	dir := t.TempDir()
	writeJob(t, dir, jobText(jobA, `{"id": 1, "addr": "a:1"}`))
	captured(t, dir, jobA, 1)
	for _, half := range []string{"", `{"version": 1, "job": "`} {
		write(t, filepath.Join(dir, "status", "capture.json"), half)
		write(t, filepath.Join(dir, "status", "apply-t_1.json"), half)
		s, err := readView(dir, "", "", Only{})
		if err != nil || s.Capture != nil || *s.Groups[0].Captured != 15 {
			t.Errorf("status with %q: got %+v, %v, want what the spool tells", half, s, err)
		}
		what := filepath.Join(dir, "status", "capture.json") + " is not a status file: unexpected end of JSON input"
		checkError(t, SpoolCheck(t.Context(), SpoolOptions{Dir: dir, Out: io.Discard}), Corrupt, what)
		checkError(t, RunApply(t.Context(), Options{Dir: dir, Target: "127.0.0.1:1", Until: UntilEnd}), Corrupt, what)
	}
}

func TestAJobFileBeingCopiedIsReadWhenItIsWhole(t *testing.T) {
	dir := t.TempDir()
	whole := jobText(jobA, `{"id": 1, "addr": "a:1"}`)
	writeJob(t, dir, whole[:20])
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(filepath.Join(dir, jobFile), []byte(whole), 0o644) }()
	f, err := openFolder(dir)
	if err != nil || f.rec.Job != jobA {
		t.Errorf("got %v, want the job", err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	writeJob(t, dir, whole[:20]) // and stays so
	_, err = openFolder(dir)
	checkError(t, err, Refused, filepath.Join(dir, jobFile)+" is not a job file: unexpected end of JSON input")
}
