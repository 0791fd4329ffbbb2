package main

import (
	"github.com/urfave/cli/v2"

	"tairlift/internal/job"
)

func applyVerb() *cli.Command {
	flags := []cli.Flag{
		dirFlag(), stateFlag(), targetFlag(), onlyFlag(),
		&cli.StringFlag{Name: "until", Category: catHow, Usage: "end at a `GOAL`: end (of what is in the spool; what is missing there is not waited for)"},
		waitFlag(),
	}
	flags = append(flags, selectionFlags()...)
	flags = append(flags, applyFlags()...)
	flags = append(flags, sourceSecretFlag(), targetSecretFlag())
	return verb(&cli.Command{
		Name:      "apply",
		Usage:     "write what is in the spool in DIR to the target, each command exactly once.",
		UsageText: "tairlift apply --dir DIR [--target HOST:PORT] [--state STATE] [flags]",
		Flags:     append(flags, logFlags()...),
		Description: examples(
			"tairlift apply --dir /data/job --target 10.0.1.1:6379",
			"tairlift apply --dir /mnt/copied-job --target 10.0.1.1:6379 --until end",
			"tairlift apply --dir /mnt/read-only-job --state /var/lib/tairlift/job --target 10.0.1.1:6379",
		),
	}, func(c *cli.Context) error {
		o, err := runOptions(c)
		if err != nil {
			return err
		}
		return job.RunApply(c.Context, o)
	})
}
