package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	exact       = 0
	notExact    = 1
	usage       = 2
	interrupted = 130
)

func main() {
	o := options{out: os.Stdout}
	var seed, without string
	var minutes float64
	var keep bool
	flag.StringVar(&o.bin, "bin", filepath.Join("bin", "tairlift"), "the binary to test")
	flag.Float64Var(&minutes, "minutes", 10, "how long faults are made; what follows takes as long as it takes")
	flag.StringVar(&seed, "seed", "", "what decides on faults and writes; a random one otherwise")
	flag.IntVar(&o.keys, "keys", 10_000, "in each database of each source, beside those of the writers")
	flag.StringVar(&without, "without", "", "faults to leave out, by commas: "+names())
	flag.StringVar(&o.work, "work", "", "folder of everything; a temporary one otherwise")
	flag.BoolVar(&keep, "keep", false, "keep the folder also when all is well")
	flag.Parse()
	err := o.parse(seed, without, minutes)
	if flag.NArg() > 0 {
		err = fmt.Errorf("the argument %q is not known", flag.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "soak: %v\nhint: --seed is a number, --minutes is above 0, there are some keys, --without names faults, and there are no other arguments\n", err)
		os.Exit(usage)
	}
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(soakOnce(ctx, o, keep))
}

// parse reads what flags do not read.
func (o *options) parse(seed, without string, minutes float64) (err error) {
	o.seed = rand.Uint64() >> 32 // short enough to be typed
	if seed != "" {
		if _, err := fmt.Sscan(seed, &o.seed); err != nil {
			return fmt.Errorf("the seed %q: %w", seed, err)
		}
	}
	if o.keys < planted {
		return fmt.Errorf("%d keys; at least %d are needed", o.keys, planted)
	}
	if o.lasts = time.Duration(minutes * float64(time.Minute)); o.lasts <= 0 {
		return fmt.Errorf("%g minutes", minutes)
	}
	for _, name := range strings.FieldsFunc(without, func(r rune) bool { return r == ',' }) {
		if !strings.Contains(","+names()+",", ","+name+",") {
			return fmt.Errorf("there is no fault %q", name)
		}
		o.without = append(o.without, fault(name))
	}
	if len(o.without) >= len(faults) {
		return fmt.Errorf("no fault is left")
	}
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return err
	}
	_, err = os.Stat(o.bin)
	return err
}

func names() string {
	var out []string
	for _, f := range faults {
		out = append(out, string(f.fault))
	}
	return strings.Join(slices.Compact(out), ",")
}

// soakOnce is one soak and what is said of it; the result is the exit code.
func soakOnce(ctx context.Context, o options, keep bool) int {
	temporary := o.work == ""
	if temporary {
		var err error
		if o.work, err = os.MkdirTemp("", "tairlift-soak-"); err != nil {
			fmt.Fprintln(o.out, err)
			return notExact
		}
	} else if err := os.MkdirAll(o.work, 0o755); err != nil {
		fmt.Fprintln(o.out, err)
		return notExact
	}
	again := fmt.Sprintf("SEED=%d", o.seed)
	fmt.Fprintf(o.out, "%s repeats this soak; its folder is %s\n", again, o.work)
	s := newSoak(o)
	err := s.run(ctx)
	s.close()
	fmt.Fprintln(o.out)
	s.report(o.out)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintf(o.out, "\ninterrupted (%s); the servers are stopped, %s is kept\n", again, o.work)
		return interrupted
	case err != nil:
		fmt.Fprintf(o.out, "\nNOT EXACT (%s): %v\n\n%s\nkept: %s\n", again, err, s.said(), o.work)
		return notExact
	}
	fmt.Fprintf(o.out, "\nEXACT (%s): to the unit of every counter, list, field, score, text and deadline. %.0f s in all.\n", again, time.Since(s.begun).Seconds())
	if temporary && !keep {
		if err := os.RemoveAll(o.work); err != nil {
			fmt.Fprintln(o.out, err)
		}
	}
	return exact
}
