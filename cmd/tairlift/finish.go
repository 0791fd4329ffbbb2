package main

import (
	"github.com/urfave/cli/v2"

	"tairlift/internal/job"
)

func finishVerb() *cli.Command {
	flags := []cli.Flag{
		dirFlag(), stateFlag(), targetFlag(),
		&cli.BoolFlag{Name: "force", DisableDefaultText: true, Category: catHow, Usage: "go on in spite of what the checks find; it is told and kept"},
		&cli.BoolFlag{Name: "reopen", DisableDefaultText: true, Category: catHow, Usage: "take a finish back: the marks are put on the target again"},
		sourceSecretFlag(), targetSecretFlag(), jsonFlag(),
	}
	return verb(&cli.Command{
		Name:      "finish",
		Usage:     "end the migration: check that nothing is missing, then remove what is ours from the target.",
		UsageText: "tairlift finish --dir DIR [--target HOST:PORT] [--state STATE] [--force] [flags]",
		Flags:     append(flags, logFlags()...),
		Description: examples(
			"tairlift finish --dir /data/job",
			"tairlift finish --dir /data/job --reopen",
		),
	}, func(c *cli.Context) error {
		o := job.FinishOptions{Target: c.String("target"), Force: c.Bool("force"), Reopen: c.Bool("reopen"), JSON: c.Bool("json"), Out: c.App.Writer}
		var err error
		if o.Dir, err = dir(c); err != nil {
			return err
		}
		if o.State, err = state(c); err != nil {
			return err
		}
		if o.SourceSecret, err = secret(c, "source-password-file", sourceEnv); err != nil {
			return err
		}
		if o.TargetSecret, err = secret(c, "target-password-file", targetEnv); err != nil {
			return err
		}
		if o.Console, err = console(c); err != nil {
			return err
		}
		return job.RunFinish(c.Context, o)
	})
}
