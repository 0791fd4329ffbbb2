package main

import (
	"github.com/urfave/cli/v2"

	"tairlift/internal/job"
)

// rdbVerb reads any RDB file. It needs no job, and so is not among the verbs
// that the help shows.
func rdbVerb() *cli.Command {
	return verb(&cli.Command{
		Name:      "rdb",
		Hidden:    true,
		Usage:     "show the keys and values of an RDB file.",
		UsageText: "tairlift rdb --file PATH [flags]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "file", Category: catWhat, Usage: "the RDB file, `PATH` (required)"},
			&cli.BoolFlag{Name: "values", DisableDefaultText: true, Category: catOutput, Usage: "show values too, element by element"},
			jsonFlag(),
		},
		Description: examples("tairlift rdb --file /data/dump.rdb", "tairlift rdb --file /data/dump.rdb --values --json"),
	}, func(c *cli.Context) error {
		if c.String("file") == "" {
			return usageError("add --file PATH: an RDB file", "--file is required")
		}
		return job.ShowRDB(c.Context, job.RDBOptions{File: c.String("file"), Values: c.Bool("values"), JSON: c.Bool("json"), Out: c.App.Writer})
	})
}
