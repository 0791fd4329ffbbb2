package main

import (
	"github.com/urfave/cli/v2"

	"tairlift/internal/job"
)

func syncVerb() *cli.Command {
	flags := []cli.Flag{
		dirFlag(), groupFlag(), targetFlag(), onlyFlag(),
		&cli.StringFlag{Name: "until", Category: catHow, Usage: "end at a `GOAL`: full (the full phase) or caught-up (what the sources had when that was over)"},
		waitFlag(),
	}
	flags = append(flags, selectionFlags()...)
	flags = append(flags, captureFlags("")...)
	flags = append(flags, applyFlags()...)
	flags = append(flags, sourceSecretFlag(), targetSecretFlag())
	return verb(&cli.Command{
		Name:      "sync",
		Usage:     "capture all groups and apply them to the target, in one process, until stopped.",
		UsageText: "tairlift sync --dir DIR [--group ID=HOST:PORT ...] [--target HOST:PORT] [flags]",
		Flags:     append(flags, logFlags()...),
		Description: examples(
			"tairlift sync --dir /data/job --group 1=10.0.0.1:6379 --group 2=10.0.0.2:6379 --target 10.0.1.1:6379",
			"tairlift sync --dir /data/job --until caught-up",
			"tairlift sync --dir /data/part --group 1=10.0.0.1:6379 --target 10.0.1.1:6379 --db 0,1 --db-map 1:3 --exclude-prefix tmp:",
		),
	}, func(c *cli.Context) error {
		o, err := runOptions(c)
		if err != nil {
			return err
		}
		return job.RunSync(c.Context, o)
	})
}
