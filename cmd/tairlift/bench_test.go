package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"tairlift/internal/job"
	"tairlift/internal/redistest"
)

// bench is what a script has at hand besides testscript's own commands:
//
//	source NAME [arg...]       start a source; $NAME is its address, $NAME_HOST,
//	                           $NAME_PORT and $NAME_DIR are what they say
//	target NAME [arg...]       start a target
//	[!] redis NAME[/DB] cmd    run a command, its reply goes to stdout
//	fill NAME[/DB] PREFIX N    write keys of every kind, some with a TTL
//	server NAME kill|restart   end a server by SIGKILL, or start it again
//	pause NAME / resume NAME   stop and continue a server by signals
//	proxy NAME SERVER          start a proxy before a server; $NAME is its address
//	answers NAME [TEXT]        let it answer every command by this error; none: pass
//	sees NAME[/DB] WANT cmd    wait until a command's reply is this
//	exits CODE tairlift arg..  run it and check its exit code
//	start NAME arg...          run tairlift in the background
//	signal NAME INT|TERM|KILL  send it a signal
//	ends NAME CODE             wait for its end, and check its exit code
//	log NAME TEXT              wait until its stderr holds the text
//	await DIR FIELD=VALUE...   wait until `status --json` says so; != is not so
//	json FIELD VALUE           check a field of the last line of stdout
//	flip FILE OFFSET           change a byte of a file; below 0 from its end
//	poke FILE OFFSET HEX       replace bytes of a file
//
// A FIELD is a path such as caught_up or groups.0.state.
type bench struct {
	t *testing.T // outlives the script: servers end with it

	servers map[string]*redistest.Server
	proxies map[string]*redistest.Proxy
	running map[string]*background
}

type background struct {
	cmd            *exec.Cmd
	stdout, stderr *safeBuffer
	ended          chan error
}

// safeBuffer is written by a process while a script looks at it.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (b *bench) setup(env *testscript.Env) error {
	b.servers, b.proxies, b.running = map[string]*redistest.Server{}, map[string]*redistest.Proxy{}, map[string]*background{}
	// A script must not depend on the environment it is started in.
	env.Setenv("TAIRLIFT_SOURCE_PASSWORD", "")
	env.Setenv("TAIRLIFT_TARGET_PASSWORD", "")
	return nil
}

// condition knows "streams": the sources have them, being of Redis 5 or later.
func (b *bench) condition(name string) (bool, error) {
	if name != "streams" {
		return false, fmt.Errorf("there is no condition %q", name)
	}
	for _, s := range b.servers {
		if _, err := s.DoErr("XLEN", "none"); err != nil {
			return false, nil
		}
	}
	return true, nil
}

type command = func(ts *testscript.TestScript, neg bool, args []string)

func (b *bench) commands() map[string]command {
	return map[string]command{
		"source": b.source, "target": b.target, "redis": b.redis, "fill": b.fill, "server": b.server,
		"pause": b.pause, "resume": b.pause2, "exits": b.exits, "start": b.start, "signal": b.signal, "ends": b.ends,
		"log": b.log, "await": b.await, "proxy": b.proxy, "answers": b.answers, "sees": b.sees, "json": b.json, "flip": b.flip, "poke": b.poke,
	}
}

func need(ts *testscript.TestScript, args []string, n int, use string) {
	if len(args) < n {
		ts.Fatalf("usage: %s", use)
	}
}

// source starts a server that answers a full sync at once, where Redis 7
// waits for more replicas.
func (b *bench) source(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 1, "source NAME [arg...]")
	b.add(ts, args[0], redistest.Source(b.t, options(append([]string{"--repl-diskless-sync-delay", "0"}, args[1:]...))...))
}

func (b *bench) target(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 1, "target NAME [arg...]")
	b.add(ts, args[0], redistest.Target(b.t, options(args[1:])...))
}

func options(args []string) []redistest.Option {
	if i := slices.Index(args, "--requirepass"); i >= 0 && i+1 < len(args) {
		return []redistest.Option{redistest.Password(args[i+1]), redistest.Arg(slices.Delete(slices.Clone(args), i, i+2)...)}
	}
	return []redistest.Option{redistest.Arg(args...)}
}

func (b *bench) add(ts *testscript.TestScript, name string, s *redistest.Server) {
	b.servers[name] = s
	ts.Setenv(name, s.Addr)
	host, port, _ := strings.Cut(s.Addr, ":")
	ts.Setenv(name+"_HOST", host)
	ts.Setenv(name+"_PORT", port)
	ts.Setenv(name+"_DIR", s.Dir)
}

func (b *bench) named(ts *testscript.TestScript, name string) (*redistest.Server, int) {
	name, num, _ := strings.Cut(name, "/")
	db := 0
	if num != "" {
		var err error
		db, err = strconv.Atoi(num)
		ts.Check(err)
	}
	s := b.servers[name]
	if s == nil {
		ts.Fatalf("no server %s", name)
	}
	return s, db
}

func (b *bench) proxy(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 2, "proxy NAME SERVER")
	s, _ := b.named(ts, args[1])
	p := redistest.NewProxy(b.t, s.Addr, nil)
	b.proxies[args[0]] = p
	ts.Setenv(args[0], p.Addr)
}

func (b *bench) answers(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 1, "answers NAME [TEXT]")
	p := b.proxies[args[0]]
	if p == nil {
		ts.Fatalf("no proxy %s", args[0])
	}
	if len(args) == 1 {
		p.SetHook(nil)
		return
	}
	text := args[1]
	p.SetHook(func(_, _ int, _ [][]byte) redistest.Action { return redistest.ReplyError(text) })
}

func (b *bench) sees(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 3, "sees NAME[/DB] WANT command...")
	s, db := b.named(ts, args[0])
	b.until(ts, strings.Join(args, " "), func() bool {
		r, err := s.DoErrIn(db, args[2:]...)
		return err == nil && (string(r.Str) == args[1] || r.Type == ':' && strconv.FormatInt(r.Int, 10) == args[1])
	})
}

func (b *bench) redis(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, args, 2, "redis NAME[/DB] command...")
	s, db := b.named(ts, args[0])
	r, err := s.DoErrIn(db, args[1:]...)
	if neg {
		if err == nil {
			ts.Fatalf("%s succeeded", strings.Join(args, " "))
		}
		fmt.Fprintln(ts.Stderr(), err)
		return
	}
	ts.Check(err)
	switch {
	case r.Null:
		fmt.Fprintln(ts.Stdout(), "(nil)")
	case r.Type == ':':
		fmt.Fprintln(ts.Stdout(), r.Int)
	case r.Type == '*':
		for _, e := range r.Elems {
			fmt.Fprintf(ts.Stdout(), "%s\n", e.Str)
		}
	default:
		fmt.Fprintf(ts.Stdout(), "%s\n", r.Str)
	}
}

func (b *bench) fill(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 3, "fill NAME[/DB] PREFIX N")
	s, db := b.named(ts, args[0])
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	for i := range n {
		key := fmt.Sprintf("%s:%d", args[1], i)
		for _, cmd := range [][]string{
			{"SET", key, "value " + strconv.Itoa(i)},
			{"SETEX", key + ":ttl", "3600", "gone in an hour"},
			{"RPUSH", key + ":list", "a", "b", strconv.Itoa(i)},
			{"HSET", key + ":hash", "field", strconv.Itoa(i)},
			{"SADD", key + ":set", "x", "y", strconv.Itoa(i)},
			{"ZADD", key + ":zset", "1.5", "m", strconv.Itoa(i), "n"},
		} {
			_, err := s.DoErrIn(db, cmd...)
			ts.Check(err)
		}
	}
}

func (b *bench) server(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 2, "server NAME kill|restart")
	s, _ := b.named(ts, args[0])
	switch args[1] {
	case "kill":
		s.Kill()
	case "restart":
		s.Restart(b.t)
	default:
		ts.Fatalf("server %s: %s?", args[0], args[1])
	}
}

func (b *bench) pause(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 1, "pause NAME")
	s, _ := b.named(ts, args[0])
	s.Signal(syscall.SIGSTOP)
}

func (b *bench) pause2(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 1, "resume NAME")
	s, _ := b.named(ts, args[0])
	s.Signal(syscall.SIGCONT)
}

func (b *bench) exits(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 2, "exits CODE program arg...")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	cmd := b.process(ts, args[1:])
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	got, err := codeOf(cmd.Run())
	ts.Check(err)
	if got != want {
		ts.Fatalf("%s: exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

func (b *bench) process(ts *testscript.TestScript, args []string) *exec.Cmd {
	// The script's PATH, in which tairlift is this test binary.
	path := ""
	for dir := range strings.SplitSeq(ts.Getenv("PATH"), string(os.PathListSeparator)) {
		if p := filepath.Join(dir, args[0]); path == "" {
			if _, err := os.Stat(p); err == nil {
				path = p
			}
		}
	}
	if path == "" {
		ts.Fatalf("no %s in PATH", args[0])
	}
	cmd := exec.Command(path, args[1:]...)
	cmd.Args[0] = args[0]
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = os.Environ()
	for _, name := range []string{"TAIRLIFT_SOURCE_PASSWORD", "TAIRLIFT_TARGET_PASSWORD"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	return cmd
}

func codeOf(err error) (int, error) {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func (b *bench) start(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 2, "start NAME tairlift arg...")
	p := &background{cmd: b.process(ts, args[1:]), stdout: &safeBuffer{}, stderr: &safeBuffer{}, ended: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	ts.Check(p.cmd.Start())
	b.running[args[0]] = p
	go func() { p.ended <- p.cmd.Wait() }()
	ts.Defer(func() {
		p.cmd.Process.Kill() // nothing happens when it has ended
		if b.t.Failed() {
			b.t.Logf("stderr of %s:\n%s", args[0], p.stderr)
		}
	})
}

func (b *bench) background(ts *testscript.TestScript, name string) *background {
	p := b.running[name]
	if p == nil {
		ts.Fatalf("%s was not started", name)
	}
	return p
}

func (b *bench) signal(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 2, "signal NAME INT|TERM|KILL")
	sig := map[string]os.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}[args[1]]
	if sig == nil {
		ts.Fatalf("no signal %s", args[1])
	}
	ts.Check(b.background(ts, args[0]).cmd.Process.Signal(sig))
}

func (b *bench) ends(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 2, "ends NAME CODE")
	p := b.background(ts, args[0])
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	got, err := codeOf(<-p.ended)
	ts.Check(err)
	delete(b.running, args[0])
	fmt.Fprint(ts.Stdout(), p.stdout.String())
	fmt.Fprint(ts.Stderr(), p.stderr.String())
	if got != want {
		ts.Fatalf("%s ended with exit code %d, want %d", args[0], got, want)
	}
}

// until polls as redistest does, but fails the script.
func (b *bench) until(ts *testscript.TestScript, what string, cond func() bool) {
	ok := b.t.Run("await", func(t *testing.T) { redistest.Eventually(t, what, cond) })
	if !ok {
		ts.Fatalf("gave up waiting for %s", what)
	}
}

func (b *bench) log(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 2, "log NAME TEXT")
	p := b.background(ts, args[0])
	b.until(ts, fmt.Sprintf("%q in the log of %s", args[1], args[0]), func() bool { return strings.Contains(p.stderr.String(), args[1]) })
}

func (b *bench) await(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 2, "await DIR FIELD=VALUE...")
	dir := ts.MkAbs(args[0])
	last := ""
	ok := b.t.Run("await", func(t *testing.T) {
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("last status: %s", last)
			}
		})
		redistest.Eventually(t, strings.Join(args, " "), func() bool {
			var out bytes.Buffer
			if err := job.RunStatus(t.Context(), job.StatusOptions{Dir: dir, JSON: true, Out: &out}); err != nil {
				last = err.Error()
				return false
			}
			last = out.String()
			for _, cond := range args[1:] {
				field, want, _ := strings.Cut(cond, "=")
				field, not := strings.CutSuffix(field, "!")
				if got, err := lookUp(out.Bytes(), field); err != nil || (got == want) == not {
					return false
				}
			}
			return true
		})
	})
	if !ok {
		ts.Fatalf("gave up waiting for %s", strings.Join(args, " "))
	}
}

func (b *bench) json(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 2, "json FIELD VALUE")
	lines := strings.Split(strings.TrimSpace(ts.ReadFile("stdout")), "\n")
	got, err := lookUp([]byte(lines[len(lines)-1]), args[0])
	ts.Check(err)
	if got != args[1] {
		ts.Fatalf("%s is %s, want %s", args[0], got, args[1])
	}
}

// lookUp finds a path such as groups.0.state; lists and objects are JSON.
func lookUp(raw []byte, path string) (string, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return "", err
	}
	for part := range strings.SplitSeq(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			next, ok := at[part]
			if !ok {
				return "", fmt.Errorf("%s: no %q", path, part)
			}
			v = next
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(at) {
				return "", fmt.Errorf("%s: no element %q of %d", path, part, len(at))
			}
			v = at[i]
		default:
			return "", fmt.Errorf("%s: %q has no parts", path, part)
		}
	}
	switch at := v.(type) {
	case nil:
		return "null", nil
	case string:
		return at, nil
	case map[string]any, []any:
		text, err := json.Marshal(at)
		return string(text), err
	}
	return fmt.Sprint(v), nil
}

func (b *bench) flip(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 2, "flip FILE OFFSET")
	b.edit(ts, args[0], args[1], func(p []byte) { p[0] ^= 0x10 })
}

func (b *bench) poke(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 3, "poke FILE OFFSET BYTE...")
	b.edit(ts, args[0], args[1], func(p []byte) {
		for i, text := range args[2:] {
			n, err := strconv.ParseUint(text, 0, 8)
			ts.Check(err)
			p[i] = byte(n)
		}
	})
}

func (b *bench) edit(ts *testscript.TestScript, file, offset string, change func(p []byte)) {
	at, err := strconv.Atoi(offset)
	ts.Check(err)
	path := ts.MkAbs(file)
	raw, err := os.ReadFile(path)
	ts.Check(err)
	if at < 0 {
		at += len(raw)
	}
	change(raw[at:])
	ts.Check(os.WriteFile(path, raw, 0o644))
}
