package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"tairlift/internal/job"
)

func ctlVerb() *cli.Command {
	c := ctlSub(&cli.Command{
		Name:               "ctl",
		Usage:              "show or change the limits of what runs in DIR.",
		UsageText:          "tairlift ctl show|set --dir DIR [flags]",
		CustomHelpTemplate: groupHelp,
		Description: examples(
			"tairlift ctl show --dir /data/job",
			"tairlift ctl set --dir /data/job max-ops=20000 max-bandwidth=20MiB",
		),
	}, func(c *cli.Context) error {
		if c.Args().Present() {
			return noVerb(c)
		}
		return runCtl(c, nil)
	})
	c.Subcommands = []*cli.Command{
		ctlSub(&cli.Command{
			Name:        "show",
			Usage:       "show the limits of each process that runs, and how fast it is now.",
			UsageText:   "tairlift ctl show --dir DIR [flags]",
			Description: examples("tairlift ctl show --dir /data/job", "tairlift ctl show --dir /data/job --json"),
		}, func(c *cli.Context) error {
			if c.Args().Present() {
				return usageError("nothing may follow that is not a flag", "unexpected argument \""+c.Args().First()+"\"")
			}
			return runCtl(c, nil)
		}),
		ctlSub(&cli.Command{
			Name:      "set",
			Usage:     "change limits (max-ops, max-bandwidth, backoff-latency, capture-max-bandwidth) at once; 0 is none.",
			UsageText: "tairlift ctl set --dir DIR [flags] NAME=VALUE ...",
			Description: examples(
				"tairlift ctl set --dir /data/job max-ops=20000 max-bandwidth=20MiB", "tairlift ctl set --dir /data/job capture-max-bandwidth=0",
				"tairlift ctl set --dir /data/job backoff-latency=50ms",
			),
		}, func(c *cli.Context) error { return runCtl(c, c.Args().Slice()) }),
	}
	return c
}

// ctlSub completes a command with the flags of ctl, which may stand before show and
// set, too.
func ctlSub(c *cli.Command, action cli.ActionFunc) *cli.Command {
	c.Flags = []cli.Flag{dirFlag(), stateFlag(), targetFlag(), jsonFlag()}
	if c.CustomHelpTemplate == "" {
		c.CustomHelpTemplate = verbHelp
	}
	c.HideHelpCommand = true
	c.OnUsageError = onUsageError
	c.Action = action
	return c
}

// runCtl asks, after setting what the words say.
func runCtl(c *cli.Context, words []string) error {
	if err := takeOver(c, "dir", "state", "target", "json"); err != nil {
		return err
	}
	o := job.CtlOptions{Target: c.String("target"), JSON: c.Bool("json"), Out: c.App.Writer}
	var err error
	if c.Command.Name == "set" {
		if o.Set, err = job.ParseSet(words); err != nil {
			return err
		}
	}
	if o.Dir, err = dir(c); err != nil {
		return err
	}
	if o.State, err = state(c); err != nil {
		return err
	}
	return job.RunCtl(c.Context, o)
}

// takeOver gives a verb the flags that stand before it, behind the verb that it
// belongs to.
func takeOver(c *cli.Context, names ...string) error {
	for _, up := range c.Lineage()[1:] {
		for _, name := range names {
			if c.IsSet(name) || !up.IsSet(name) {
				continue
			}
			if err := c.Set(name, fmt.Sprint(up.Value(name))); err != nil {
				return err
			}
		}
	}
	return nil
}
