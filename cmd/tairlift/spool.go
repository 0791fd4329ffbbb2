package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"tairlift/internal/job"
)

func spoolVerb() *cli.Command {
	return &cli.Command{
		Name:               "spool",
		Usage:              "list, check, dump or prune the segment files in DIR.",
		UsageText:          "tairlift spool ls|check|dump|prune --dir DIR [flags]",
		CustomHelpTemplate: groupHelp,
		HideHelpCommand:    true,
		OnUsageError:       onUsageError,
		Action:             noVerb,
		Description: examples(
			"tairlift spool check --dir /mnt/copied-job",
			"tairlift spool ls --dir /data/job --json",
		),
		Subcommands: []*cli.Command{
			spoolSub("ls", "list groups, epochs and segments.", job.SpoolList, []string{
				"tairlift spool ls --dir /data/job", "tairlift spool ls --dir /data/job --only 2 --json",
			}, jsonFlag()),
			spoolSub("check", "read every byte and say whether the spool is whole.", job.SpoolCheck, []string{
				"tairlift spool check --dir /mnt/copied-job", "tairlift spool check --dir /data/job --only 1 --json",
			}, jsonFlag()),
			spoolSub("dump", "show the frames of segments, or the keys, values and commands in them.", job.SpoolDump, []string{
				"tairlift spool dump --dir /data/job --only 1 --epoch 1 --seq 3", "tairlift spool dump --dir /data/job --only 1 --seq 3 --data",
				"tairlift spool dump --dir /data/job --only 1 --keys", "tairlift spool dump --dir /data/job --only 1 --commands --json",
			},
				&cli.IntFlag{Name: "epoch", Category: catWhat, DefaultText: "all", Usage: "of epoch `N`"},
				&cli.IntFlag{Name: "seq", Category: catWhat, DefaultText: "all", Usage: "of segment `N`"},
				&cli.BoolFlag{Name: "data", DisableDefaultText: true, Category: catOutput, Usage: "show what the frames carry too"},
				&cli.BoolFlag{Name: "keys", DisableDefaultText: true, Category: catOutput, Usage: "show the keys of the RDB in place of frames"},
				&cli.BoolFlag{Name: "values", DisableDefaultText: true, Category: catOutput, Usage: "show keys and values of the RDB in place of frames"},
				&cli.BoolFlag{Name: "commands", DisableDefaultText: true, Category: catOutput, Usage: "show the commands of the stream in place of frames"},
				jsonFlag()),
			spoolPrune(),
		},
	}
}

func spoolPrune() *cli.Command {
	return verb(&cli.Command{
		Name:      "prune",
		Usage:     "remove segments that are no longer needed, also while capture and apply run.",
		UsageText: "tairlift spool prune --dir DIR [--keep applied|epoch|all] [flags]",
		Flags: []cli.Flag{
			dirFlag(), onlyFlag(), keepFlag("applied"), keepMarginFlag(),
			&cli.BoolFlag{Name: "dry-run", DisableDefaultText: true, Category: catHow, Usage: "only tell what would be removed"},
			jsonFlag(),
		},
		Description: examples("tairlift spool prune --dir /data/job --dry-run", "tairlift spool prune --dir /data/job --keep epoch"),
	}, func(c *cli.Context) error {
		o := job.PruneOptions{DryRun: c.Bool("dry-run"), JSON: c.Bool("json"), Out: c.App.Writer}
		var e1, e2, e3 error
		o.Dir, e1 = dir(c)
		o.Only, e2 = job.ParseOnly(c.String("only"))
		o.Keep, o.Margin, e3 = keep(c)
		for _, err := range []error{e1, e2, e3} {
			if err != nil {
				return err
			}
		}
		return job.SpoolPrune(c.Context, o)
	})
}

func spoolSub(name, usage string, run func(context.Context, job.SpoolOptions) error, lines []string, more ...cli.Flag) *cli.Command {
	return verb(&cli.Command{
		Name:        name,
		Usage:       usage,
		UsageText:   fmt.Sprintf("tairlift spool %s --dir DIR [flags]", name),
		Flags:       append([]cli.Flag{dirFlag(), onlyFlag()}, more...),
		Description: examples(lines...),
	}, func(c *cli.Context) error {
		o := job.SpoolOptions{
			JSON: c.Bool("json"), Epoch: c.Int("epoch"), Seq: c.Int("seq"), Data: c.Bool("data"),
			Keys: c.Bool("keys"), Values: c.Bool("values"), Commands: c.Bool("commands"), Out: c.App.Writer,
		}
		var err error
		if o.Dir, err = dir(c); err != nil {
			return err
		}
		if o.Only, err = job.ParseOnly(c.String("only")); err != nil {
			return err
		}
		if err := positive(c, "epoch", "seq"); err != nil {
			return err
		}
		if o.Keys || o.Values || o.Commands {
			for _, name := range []string{"seq", "data"} {
				if c.IsSet(name) {
					return usageError("leave out --"+name+", or --keys, --values and --commands", "--"+name+" picks frames")
				}
			}
		}
		return run(c.Context, o)
	})
}
