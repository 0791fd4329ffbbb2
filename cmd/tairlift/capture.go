package main

import (
	"github.com/urfave/cli/v2"

	"tairlift/internal/job"
)

func captureVerb() *cli.Command {
	flags := []cli.Flag{
		dirFlag(), groupFlag(), onlyFlag(),
		&cli.StringFlag{Name: "until", Category: catHow, Usage: "end at a `GOAL`: full (the full phase) or caught-up (what the sources had when that was over)"},
		waitFlag(),
	}
	flags = append(flags, captureFlags("max-bandwidth")...)
	flags = append(flags, sourceSecretFlag())
	return verb(&cli.Command{
		Name:      "capture",
		Usage:     "bring all groups' data and their stream of writes into the spool in DIR.",
		UsageText: "tairlift capture --dir DIR [--group ID=HOST:PORT ...] [flags]",
		Flags:     append(flags, logFlags()...),
		Description: examples(
			"tairlift capture --dir /data/job --group 1=10.0.0.1:6379 --group 2=10.0.0.2:6379",
			"tairlift capture --dir /data/job --until caught-up",
		),
	}, func(c *cli.Context) error {
		o, err := runOptions(c)
		if err != nil {
			return err
		}
		return job.RunCapture(c.Context, o)
	})
}
