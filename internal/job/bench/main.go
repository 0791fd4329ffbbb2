package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	failed      = 1
	usage       = 2
	interrupted = 130
)

// section is a part of the run that --only can name.
type section struct {
	name string
	run  func(*bench) error
}

// sections, in the order in which they run.
var sections = []section{
	{"rdb", (*bench).applyRDB},
	{"stream", (*bench).applyStream},
	{"resume", (*bench).resume},
	{"capture", (*bench).capture},
	{"decode", (*bench).decode},
	{"frames", (*bench).frames},
	{"commit", (*bench).commit},
	{"memory", (*bench).memory},
}

func main() {
	b := &bench{}
	var only, out string
	flag.StringVar(&b.bin, "bin", filepath.Join("bin", "tairlift"), "the binary to measure")
	flag.StringVar(&out, "out", filepath.Join("docs", "benchmarks.md"), "the report; - is stdout alone")
	flag.IntVar(&b.runs, "runs", 5, "repetitions of each pair, an odd number")
	flag.Float64Var(&b.scale, "scale", 1, "of the data: 0.1 is a quick try")
	flag.StringVar(&only, "only", "", "sections, by commas: "+names())
	flag.StringVar(&b.work, "work", "", "folder for spools and servers; a temporary one otherwise")
	flag.Parse()
	picked := sections
	if only != "" {
		picked = nil
		for _, name := range strings.Split(only, ",") {
			i := slices.IndexFunc(sections, func(s section) bool { return s.name == name })
			if i < 0 {
				fmt.Fprintf(os.Stderr, "there is no section %q\nhint: the sections are %s\n", name, names())
				os.Exit(usage)
			}
			picked = append(picked, sections[i])
		}
	}
	if b.runs < 1 || b.runs%2 == 0 || b.scale <= 0 || b.scale > 10 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "hint: --runs is an odd number, --scale is above 0 and at most 10, and there are no other arguments")
		os.Exit(usage)
	}
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	b.ctx = ctx
	err := b.run(picked)
	b.took = time.Since(b.begun)
	b.close()
	if err == nil {
		err = b.report(os.Stdout, out, len(picked) == len(sections))
	}
	ended := ctx.Err() != nil
	stop()
	switch {
	case ended:
		fmt.Fprintln(os.Stderr, "interrupted; the servers are stopped and nothing is written")
		os.Exit(interrupted)
	case err != nil:
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(failed)
	}
}

func names() string {
	var out []string
	for _, s := range sections {
		out = append(out, s.name)
	}
	return strings.Join(out, ",")
}

// run measures; rows and tables are in b afterwards.
func (b *bench) run(picked []section) error {
	if err := b.prepare(); err != nil {
		return err
	}
	for _, s := range picked {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		begun := time.Now()
		b.say("== %s", s.name)
		if err := s.run(b); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		b.say("   (%.0f s)", time.Since(begun).Seconds())
	}
	return nil
}
