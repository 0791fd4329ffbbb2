package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tairlift/internal/redistest"
)

// patience bounds the wait for a process, for slow machines.
const patience = 2 * time.Minute

// The exit codes that tests expect; see the design's table.
const (
	exitOK           = 0
	exitFailed       = 1
	exitUsage        = 2
	exitRefused      = 5
	exitInconclusive = 3
	exitStopped      = 6
	exitInUse        = 11
	exitCorrupt      = 12
	exitInterrupted  = 130
)

// process is one run of the binary.
type process struct {
	t      testing.TB
	args   []string
	pid    int
	exited chan struct{} // closed when it has ended
	code   int           // valid then; -1 if a signal ended it
	out    output
	err    output
}

// output is what a process has written so far.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start starts the binary; it is killed when the test ends, and if the test
// failed, the end of its stderr is shown.
func start(t testing.TB, args ...string) *process {
	t.Helper()
	return startAs(t, nil, args...)
}

// startAs is start by another user, when that is named.
func startAs(t testing.TB, user *syscall.Credential, args ...string) *process {
	t.Helper()
	p := &process{t: t, args: args, exited: make(chan struct{})}
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = &p.out, &p.err
	cmd.SysProcAttr = dieWithParent()
	if user != nil {
		if cmd.SysProcAttr == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
		}
		cmd.SysProcAttr.Credential = user
	}
	begun := make(chan error)
	go func() {
		// Linux sends the parent-death signal when the starting thread
		// ends, so that thread is kept for as long as the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.exited)
		err := cmd.Start()
		begun <- err
		if err == nil {
			cmd.Wait()
			p.code = cmd.ProcessState.ExitCode()
		}
	}()
	if err := <-begun; err != nil {
		t.Fatalf("start %s: %v", p, err)
	}
	p.pid = cmd.Process.Pid
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("end of stderr of `%s`:\n%s", p, tail(p.err.String(), 25))
		}
	})
	return p
}

// run starts the binary, waits for its end and fails the test if it does not
// exit with the code wanted.
func run(t testing.TB, want int, args ...string) *process {
	t.Helper()
	p := start(t, args...)
	p.wait(want)
	return p
}

func (p *process) String() string { return "tairlift " + strings.Join(p.args, " ") }

// ended tells whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func (p *process) signal(sig syscall.Signal) {
	if p.ended() {
		return // its pid may be another's by now
	}
	if q, err := os.FindProcess(p.pid); err == nil {
		q.Signal(sig)
	}
}

// kill ends the process by SIGKILL, if it has not ended.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// interrupt ends the process as a person would.
func (p *process) interrupt() {
	p.t.Helper()
	p.alive()
	p.signal(syscall.SIGINT)
	p.wait(exitInterrupted)
}

// wait waits for the end of the process.
func (p *process) wait(want int) {
	p.t.Helper()
	bound := time.NewTimer(patience)
	defer bound.Stop()
	select {
	case <-p.exited:
	case <-bound.C:
		p.t.Fatalf("`%s` has not ended after %s; stderr:\n%s", p, patience, tail(p.err.String(), 25))
	}
	if p.code != want {
		p.t.Fatalf("exit code of `%s`: got %d, want %d; stderr:\n%s", p, p.code, want, tail(p.err.String(), 25))
	}
}

// alive fails the test if the process has ended by itself.
func (p *process) alive() {
	p.t.Helper()
	if p.ended() {
		p.t.Fatalf("`%s` has ended with code %d; stderr:\n%s", p, p.code, tail(p.err.String(), 25))
	}
}

// until waits for a condition while the process runs.
func (p *process) until(what string, cond func() bool) {
	p.t.Helper()
	redistest.Eventually(p.t, what, func() bool {
		p.t.Helper()
		p.alive()
		return cond()
	})
}

// lastLine decodes the last line of stdout, which is where --json puts the
// result.
func (p *process) lastLine(v any) {
	p.t.Helper()
	lines := strings.Split(strings.TrimSpace(p.out.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), v); err != nil {
		p.t.Fatalf("last line of `%s`: %v: %q", p, err, lines[len(lines)-1])
	}
}

// status is what `status --json` tells, as far as the tests read it.
type status struct {
	CaughtUp bool          `json:"caught_up"`
	Target   string        `json:"target"`
	Targets  []string      `json:"targets"`
	Taints   []string      `json:"taints"`
	Groups   []groupStatus `json:"groups"`
	Rate     struct {
		Apply struct {
			MaxOps       int64   `json:"max_ops"`
			MaxBandwidth int64   `json:"max_bandwidth"`
			BackoffMS    float64 `json:"backoff_latency_ms"`
			Speed        float64 `json:"speed"`
			Slowed       int64   `json:"slowed"`
		} `json:"apply"`
	} `json:"rate"`
}

type groupStatus struct {
	ID       int     `json:"id"`
	State    string  `json:"state"`
	Reason   string  `json:"reason"`
	What     string  `json:"what"`
	Epoch    int     `json:"epoch"`
	Hint     string  `json:"hint"`
	Since    string  `json:"since"`
	Source   *int64  `json:"source_offset"`
	Captured *int64  `json:"captured_offset"`
	Applied  *int64  `json:"applied_offset"`
	TTL      *string `json:"ttl"`
	RDB      struct {
		Keys *int64 `json:"keys"`
	} `json:"rdb"`
	Rejects  *int `json:"rejects"`
	Doubtful *int `json:"doubtful"`
	Healed   *int `json:"healed"`
}

// exitNoSpool is also what status says before a process has made the folder.
const exitNoSpool = 10

// statusOf is the status of a folder, without groups before there is one.
func statusOf(t testing.TB, dir string, more ...string) (s status) {
	t.Helper()
	out, err := exec.Command(binary, append([]string{"status", "--dir", dir, "--json"}, more...)...).Output()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == exitNoSpool:
		return s
	case errors.As(err, &exit):
		t.Fatalf("status --dir %s: %v: %s", dir, err, exit.Stderr)
	case err != nil:
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("status --dir %s: %v: %q", dir, err, out)
	}
	return s
}

// statusEvery is the pace of looking at status, which is published once a second.
const statusEvery = 50 * time.Millisecond

// untilStatus waits until the status of a folder is as told, while the process
// runs.
func (p *process) untilStatus(what, dir string, cond func(status) bool, more ...string) status {
	p.t.Helper()
	var (
		s    status
		next time.Time
	)
	p.until(what, func() bool {
		p.t.Helper()
		if time.Now().Before(next) {
			return false
		}
		s = statusOf(p.t, dir, more...)
		next = time.Now().Add(statusEvery)
		return cond(s)
	})
	return s
}

// streaming waits until every group's RDB is on the target.
func (p *process) streaming(dir string, more ...string) {
	p.t.Helper()
	p.untilStatus("the stream phase", dir, func(s status) bool {
		return len(s.Groups) > 0 && !slices.ContainsFunc(s.Groups, func(g groupStatus) bool { return g.Applied == nil })
	}, more...)
}

// captured waits until what the sources had at the offsets is in the spool.
func (p *process) captured(dir string, offsets []int64) {
	p.t.Helper()
	p.untilStatus(fmt.Sprintf("capture of everything up to %d", offsets), dir, func(s status) bool {
		return reached(s, offsets, func(g groupStatus) *int64 { return g.Captured })
	})
}

// applied waits until what the sources had at the offsets is on the target.
func (p *process) applied(dir string, offsets []int64, more ...string) {
	p.t.Helper()
	p.untilStatus(fmt.Sprintf("apply of everything up to %d", offsets), dir, func(s status) bool {
		return reached(s, offsets, func(g groupStatus) *int64 { return g.Applied })
	}, more...)
}

// settled waits until what the sources had at the offsets is on the target, with
// deadlines as they are there. That comes only while the sources are listened to.
func (p *process) settled(dir string, offsets []int64, more ...string) status {
	p.t.Helper()
	return p.untilStatus(fmt.Sprintf("apply of everything up to %d, with exact deadlines", offsets), dir, func(s status) bool {
		held := slices.ContainsFunc(s.Groups, func(g groupStatus) bool { return g.TTL == nil || *g.TTL != "exact" })
		return !held && reached(s, offsets, func(g groupStatus) *int64 { return g.Applied })
	}, more...)
}

// reached tells whether a position of every group is at its offset or beyond.
func reached(s status, offsets []int64, position func(groupStatus) *int64) bool {
	for _, g := range s.Groups {
		if at := position(g); at == nil || *at < offsets[g.ID-1] {
			return false
		}
	}
	return len(s.Groups) == len(offsets)
}

// stopped is why a group has stopped, empty if none has.
func (s status) stopped() string {
	for _, g := range s.Groups {
		if g.State == "stopped" && g.Reason != "not-running" {
			return g.Reason + ": " + g.What
		}
	}
	return ""
}

// has tells whether a group waits for the reason.
func (s status) has(reason string) bool {
	return slices.ContainsFunc(s.Groups, func(g groupStatus) bool { return g.Reason == reason })
}

func tail(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}
