package main

import (
	"github.com/urfave/cli/v2"

	"tairlift/internal/job"
)

func statusVerb() *cli.Command {
	return verb(&cli.Command{
		Name:      "status",
		Usage:     "show where each group is, while the job runs, after it, and on a copy of DIR.",
		UsageText: "tairlift status --dir DIR [flags]",
		Flags: []cli.Flag{
			dirFlag(), stateFlag(), targetFlag(), onlyFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "watch", DisableDefaultText: true, Category: catOutput, Usage: "show it again each second, until stopped"},
		},
		Description: examples(
			"tairlift status --dir /data/job --watch",
			"tairlift status --dir /data/job --json",
		),
	}, func(c *cli.Context) error {
		o := job.StatusOptions{Target: c.String("target"), JSON: c.Bool("json"), Watch: c.Bool("watch"), Out: c.App.Writer}
		var err error
		if o.Dir, err = dir(c); err != nil {
			return err
		}
		if o.State, err = state(c); err != nil {
			return err
		}
		if o.Only, err = job.ParseOnly(c.String("only")); err != nil {
			return err
		}
		return job.RunStatus(c.Context, o)
	})
}
