package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"tairlift/internal/job/launch"
	"tairlift/internal/job/workload"
)

const (
	databases = 2
	inStream  = 5 * time.Second // how long the stream is shown before and after the kill in it
	exact     = 0
	notExact  = 1
	stopped   = 130
)

// demo is the state of the story.
type demo struct {
	ctx  context.Context
	bin  string
	keys int // in each source
	temp string
	dir  string // the job's
	log  string // what sync logs

	sources []*launch.Server
	target  *launch.Server
	writers []*workload.Writer // that run
	done    []*workload.Writer // that were stopped
	child   *launch.Process    // the sync that runs, or the last one
	begun   time.Time
}

func main() {
	d := &demo{begun: time.Now()}
	keep := flag.Bool("keep", false, "keep the temporary folder with the spool and the logs")
	flag.StringVar(&d.bin, "bin", filepath.Join("bin", "tairlift"), "the binary to show")
	flag.IntVar(&d.keys, "keys", 300_000, "keys in each of the two sources")
	flag.Parse()

	signal.Ignore(syscall.SIGPIPE) // `make demo | head` is no reason to leave servers behind
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	d.ctx = ctx
	err := d.run()
	interrupted := ctx.Err() != nil
	if err != nil && !interrupted {
		fmt.Printf("\nNOT EXACT: %v\n", err)
		d.tail()
	}
	d.close(*keep)
	stop()
	switch {
	case interrupted:
		fmt.Println("\ninterrupted; the servers are stopped")
		os.Exit(stopped)
	case err != nil:
		os.Exit(notExact)
	}
	fmt.Printf("\nEXACT: two kills cost nothing. %.0f s in all.\n", time.Since(d.begun).Seconds())
	os.Exit(exact)
}

// run tells the story.
func (d *demo) run() error {
	for _, step := range []func() error{
		d.servers, d.fill, d.write, d.fullPhase, d.stream, d.finish, d.verify, d.tallies, d.counts,
	} {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// close ends everything that was started, in the order that leaves nobody
// waiting for another.
func (d *demo) close(keep bool) {
	if d.child != nil {
		d.child.End(syscall.SIGKILL)
	}
	for _, w := range d.writers {
		_ = w.Stop()
	}
	for _, s := range append(d.sources, d.target) {
		if s != nil {
			s.Stop()
		}
	}
	switch {
	case d.temp == "":
	case keep:
		fmt.Printf("\nkept: %s\n", d.temp)
	default:
		if err := os.RemoveAll(d.temp); err != nil {
			fmt.Println(err)
		}
	}
}

func (d *demo) servers() (err error) {
	d.chapter("Two sources, one target")
	if _, err := os.Stat(d.bin); err != nil {
		return fmt.Errorf("%w (hint: make build)", err)
	}
	if d.temp, err = os.MkdirTemp("", "tairlift-demo-"); err != nil {
		return err
	}
	d.dir, d.log = filepath.Join(d.temp, "job"), filepath.Join(d.temp, "sync.log")
	for i := range 2 {
		s, err := launch.Start(d.ctx, launch.Options{Variable: "SOURCE_SERVER", Dir: filepath.Join(d.temp, fmt.Sprintf("source-%d", i+1))})
		if err != nil {
			return err
		}
		d.sources = append(d.sources, s)
		d.say("source of group %d: %s, version %s, pid %d", i+1, s.Addr, s.Version, s.Pid())
	}
	if d.target, err = launch.Start(d.ctx, launch.Options{Variable: "TARGET_SERVER", Dir: filepath.Join(d.temp, "target")}); err != nil {
		return err
	}
	d.say("target:            %s, version %s, pid %d", d.target.Addr, d.target.Version, d.target.Pid())
	return nil
}

func (d *demo) fill() error {
	d.chapter("Data")
	begun := time.Now()
	errs := make(chan error)
	for g, s := range d.sources {
		for db := range databases {
			go func() { errs <- workload.Fill(d.ctx, s.Addr, "", g+1, db, d.keys/databases) }()
		}
	}
	var err error
	for range len(d.sources) * databases {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return err
	}
	d.say("%s keys of every type in DB0 and DB1 of both sources, in %.1f s; one in eight expires in an hour or more",
		comma(int64(len(d.sources)*d.keys)), time.Since(begun).Seconds())
	return nil
}

func (d *demo) write() error {
	for g, s := range d.sources {
		for db := range databases {
			w, err := workload.Start(s.Addr, "", g+1, db)
			if err != nil {
				return err
			}
			d.writers = append(d.writers, w)
		}
	}
	d.say("%d writers run: INCR, RPUSH, LPOP, APPEND, MULTI/EXEC, EVAL, HINCRBY, ZINCRBY, SET EX, DEL; each keeps its tally", len(d.writers))
	return nil
}

// sync starts the one command that the demo is about.
func (d *demo) sync(more ...string) error {
	args := []string{"sync", "--dir", d.dir}
	for g, s := range d.sources {
		args = append(args, "--group", fmt.Sprintf("%d=%s", g+1, s.Addr))
	}
	_, err := d.spawn(append(append(args, "--target", d.target.Addr), more...)...)
	return err
}

// fullPhase kills sync while the RDBs are being applied.
func (d *demo) fullPhase() error {
	d.chapter("Full sync, killed on the way")
	if err := d.sync(); err != nil {
		return err
	}
	all := int64(len(d.sources) * d.keys)
	var on int64
	var seen status
	err := d.until("the full sync on its way to the target", func(s status) (bool, error) {
		var err error
		seen = s
		if on, err = d.onTarget(); err != nil {
			return false, err
		}
		for _, g := range s.Groups {
			if g.State == "applying-rdb" && g.RDB.Keys != nil && *g.RDB.Keys > 0 && on < all {
				return true, nil
			}
		}
		// Status is as of the last second, which may be too late for a fast
		// machine.
		return on > all*6/10, nil
	})
	if err != nil {
		return err
	}
	if on >= all {
		return fmt.Errorf("all keys were on the target before sync could be killed (hint: -keys %d)", 2*d.keys)
	}
	d.progress(seen)
	if on, err = d.kill(d.onTarget); err != nil {
		return err
	}
	d.say("%s of %s keys were on the target", comma(on), comma(all))
	return d.again("further keys on the target", on, d.onTarget)
}

// stream kills sync while it follows the writers.
func (d *demo) stream() error {
	if err := d.until("the stream", func(s status) (bool, error) { return s.is("catching-up", "in-sync"), nil }); err != nil {
		return err
	}
	d.chapter("Stream, killed once more")
	if err := d.watch(inStream); err != nil {
		return err
	}
	counted, err := d.kill(d.counted)
	if err != nil {
		return err
	}
	if err := d.again("counters moving on the target", counted, d.counted); err != nil {
		return err
	}
	return d.watch(inStream)
}

// finish stops the writers and lets sync reach them.
func (d *demo) finish() error {
	d.chapter("The writers stop")
	commands := int64(0)
	for len(d.writers) > 0 {
		w := d.writers[0]
		d.writers = d.writers[1:]
		if err := w.Stop(); err != nil {
			return err
		}
		commands += w.Commands()
		d.done = append(d.done, w)
	}
	d.say("%s commands were written beside the keys above", comma(commands))
	code := d.child.End(syscall.SIGINT)
	d.say("Ctrl-C: tairlift has sealed its spool and stopped, exit code %d", code)
	if code != stopped {
		return fmt.Errorf("exit code of sync after SIGINT: got %d, want %d", code, stopped)
	}
	if err := d.sync("--until", "caught-up"); err != nil {
		return err
	}
	select {
	case <-d.child.Exited:
	case <-d.ctx.Done():
		return d.ctx.Err()
	}
	if code := d.child.Cmd.ProcessState.ExitCode(); code != exact {
		return fmt.Errorf("exit code of sync --until caught-up: got %d, want %d", code, exact)
	}
	d.say("caught up, exit code 0")
	s, err := d.status(d.ctx)
	if err != nil {
		return err
	}
	for _, t := range s.Taints {
		d.say("to be looked at: %s", t)
	}
	if len(s.Taints) > 0 {
		d.say("(a kill swallowed the replies to a batch that the target had executed; verify tells whether all is well)")
	}
	return nil
}

func (d *demo) verify() error {
	d.chapter("Verify")
	for _, level := range []string{"counts", "full"} {
		if err := d.show("verify", "--dir", d.dir, "--level", level); err != nil {
			return err
		}
	}
	return nil
}

// tallies compares the target with what the writers know.
func (d *demo) tallies() error {
	d.chapter("The writers' tallies against the target")
	t := tabwriter.NewWriter(&indent{w: os.Stdout}, 0, 0, 2, ' ', 0)
	rows := map[string][]string{}
	var order []string
	head, wrong := "written by", 0
	for _, w := range d.done {
		head += fmt.Sprintf("\tgroup %d DB%d", w.Group, w.DB)
		entries, err := w.Check(d.ctx, d.target.Addr, "")
		if err != nil {
			return err
		}
		for _, e := range entries {
			if rows[e.Name] == nil {
				order = append(order, e.Name)
			}
			cell := e.Got + " ="
			if !e.Equal() {
				cell = e.Got + " NOT " + e.Want
				wrong++
			}
			rows[e.Name] = append(rows[e.Name], cell)
		}
	}
	fmt.Fprintln(t, head)
	for _, name := range order {
		fmt.Fprintln(t, name+"\t"+strings.Join(rows[name], "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("%d tallies differ", wrong)
	}
	d.say("= is equal to the writer's own tally, lists and texts element by element")
	return nil
}

// counts compares the number of keys, db by db.
func (d *demo) counts() error {
	d.chapter("Keys")
	t := tabwriter.NewWriter(&indent{w: os.Stdout}, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tsource 1\tsource 2\ttogether\ttarget\t")
	wrong := 0
	for db := range databases {
		fmt.Fprintf(t, "DB%d\t", db)
		sum := int64(0)
		for _, s := range d.sources {
			n, err := s.Keys(d.ctx, db)
			if err != nil {
				return err
			}
			sum += n
			fmt.Fprintf(t, "%s\t", comma(n))
		}
		n, err := d.target.Keys(d.ctx, db)
		if err != nil {
			return err
		}
		own, err := d.target.Ask(d.ctx, db, "KEYS", "tairlift:*")
		if err != nil {
			return err
		}
		if n -= int64(len(own.Elems)); n != sum {
			wrong++
		}
		fmt.Fprintf(t, "%s\t%s\t\n", comma(sum), comma(n))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if wrong > 0 {
		return errors.New("the numbers of keys differ")
	}
	return nil
}
