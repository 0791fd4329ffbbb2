package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"tairlift/internal/job"
)

// appHelp is the help of the program itself.
var appHelp = `{{.Name}} {{.Usage}}

USAGE:
   {{.UsageText}}

VERBS:{{range .VisibleCommands}}
   {{.Name}}{{"\t"}}{{.Usage}}{{end}}

` + "`tairlift VERB --help`" + ` shows the flags of a verb, --version the version. Passwords are read from
TAIRLIFT_SOURCE_PASSWORD and TAIRLIFT_TARGET_PASSWORD, or from files.

EXIT STATUS:
` + indent(job.ExitStatus())

// verbHelp is the help of one verb; its Description holds the examples.
var verbHelp = `{{.HelpName}}: {{.Usage}}

USAGE:
   {{.UsageText}}
{{range .VisibleFlagCategories}}
{{if .Name}}{{.Name}}{{else}}OTHER{{end}}:
{{range .Flags}}   {{.}}
{{end}}{{end}}
EXAMPLES:
{{.Description}}
EXIT STATUS:
` + indent(job.ExitStatus())

// groupHelp is the help of a verb that has verbs.
var groupHelp = `{{.HelpName}}: {{.Usage}}

USAGE:
   {{.UsageText}}

VERBS:{{range .VisibleCommands}}
   {{.Name}}{{"\t"}}{{.Usage}}{{end}}

EXAMPLES:
{{.Description}}
EXIT STATUS:
` + indent(job.ExitStatus())

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("   " + line)
	}
	return b.String()
}

// examples are shown one per line.
func examples(lines ...string) string { return indent(strings.Join(lines, "\n") + "\n") }

// verb completes a command with what all of them share.
func verb(c *cli.Command, action func(*cli.Context) error) *cli.Command {
	c.CustomHelpTemplate = verbHelp
	c.HideHelpCommand = true
	c.OnUsageError = onUsageError
	c.Action = func(ctx *cli.Context) error {
		if ctx.Args().Present() {
			return usageError("every value belongs to a flag, as in --dir DIR; nothing may follow that is not one",
				"unexpected argument \""+ctx.Args().First()+"\"")
		}
		return action(ctx)
	}
	return c
}
