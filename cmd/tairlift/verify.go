package main

import (
	"github.com/urfave/cli/v2"

	"tairlift/internal/job"
)

func verifyVerb() *cli.Command {
	flags := []cli.Flag{
		dirFlag(), stateFlag(), groupFlag(), targetFlag(), onlyFlag(),
		&cli.StringFlag{Name: "level", Category: catHow, Value: "full", DefaultText: "full", Usage: "how much to compare, `LEVEL`: counts, keys, sample or full"},
		&cli.Float64Flag{Name: "sample", Category: catHow, DefaultText: "30000", Usage: "how many keys level sample takes, `N`; up to 1 it is a share of them"},
		sourceSecretFlag(), targetSecretFlag(), jsonFlag(),
	}
	flags = append(flags, selectionFlags()...)
	return verb(&cli.Command{
		Name:      "verify",
		Usage:     "compare the sources with the target and say what differs; it reads only.",
		UsageText: "tairlift verify --dir DIR [--group ID=HOST:PORT ...] [--target HOST:PORT] [flags]",
		Flags:     append(flags, logFlags()...),
		Description: examples(
			"tairlift verify --dir /data/job --level full",
			"tairlift verify --dir /data/job --group 1=10.0.0.1:6379 --target 10.0.1.1:6379 --level counts --json",
		),
	}, func(c *cli.Context) error {
		o := job.VerifyOptions{Target: c.String("target"), Level: c.String("level"), Sample: c.Float64("sample"), JSON: c.Bool("json"), Out: c.App.Writer}
		var err error
		if o.Dir, err = dir(c); err != nil {
			return err
		}
		if o.State, err = state(c); err != nil {
			return err
		}
		if o.Groups, err = job.ParseGroups(c.StringSlice("group")); err != nil {
			return err
		}
		if o.Only, err = job.ParseOnly(c.String("only")); err != nil {
			return err
		}
		if o.Selection, err = selected(c); err != nil {
			return err
		}
		if c.IsSet("sample") && !(o.Sample > 0) {
			return usageError("give a share up to 1, such as 0.01, or a number of keys", "--sample "+c.String("sample")+" is not above 0")
		}
		if o.SourceSecret, err = secret(c, "source-password-file", sourceEnv); err != nil {
			return err
		}
		if o.TargetSecret, err = secret(c, "target-password-file", targetEnv); err != nil {
			return err
		}
		if err := positive(c, "progress-interval"); err != nil {
			return err
		}
		if o.Console, err = console(c); err != nil {
			return err
		}
		return job.RunVerify(c.Context, o)
	})
}
