package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"tairlift/internal/job"
	"tairlift/internal/selection"
)

// The groups of flags in a help text.
const (
	catWhat   = "DIR AND ENDPOINTS" // categories are shown by name
	catWhich  = "SELECTION (the same for a job's whole life on a target; DIR remembers)"
	catHow    = "HOW"
	catSecret = "PASSWORDS (user:password is tried too)"
	catOutput = "OUTPUT"
)

func dirFlag() cli.Flag {
	return &cli.StringFlag{Name: "dir", Category: catWhat, Usage: "the job's `DIR` (required)"}
}

func stateFlag() cli.Flag {
	return &cli.StringFlag{Name: "state", Category: catWhat, Usage: "the folder `STATE` that keeps what apply writes; DIR is only read then", DefaultText: "DIR"}
}

// state reads --state. An empty one, of a shell variable that is not set, would
// write into a DIR that is to stay as it is.
func state(c *cli.Context) (string, error) {
	s := c.String("state")
	if s == "" && c.IsSet("state") {
		return "", usageError("give the folder that keeps what apply writes, or leave --state out", "--state is empty")
	}
	return s, nil
}

func groupFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "group", Category: catWhat, Usage: "a Codis-Group and its server, `ID=HOST:PORT`; once per group; DIR remembers"}
}

func targetFlag() cli.Flag {
	return &cli.StringFlag{Name: "target", Category: catWhat, Usage: "where to write to, `HOST:PORT`; DIR remembers"}
}

func onlyFlag() cli.Flag {
	return &cli.StringFlag{Name: "only", Category: catWhat, Usage: "pick `GROUPS` of the job, such as 1,4-9"}
}

func waitFlag() cli.Flag {
	return &cli.DurationFlag{Name: "wait", Category: catHow, Usage: "give up an endpoint that is away for `DURATION`", DefaultText: "never"}
}

func sourceSecretFlag() cli.Flag {
	return &cli.StringFlag{Name: "source-password-file", Category: catSecret, Usage: "`FILE` with the sources' password; else TAIRLIFT_SOURCE_PASSWORD"}
}

func targetSecretFlag() cli.Flag {
	return &cli.StringFlag{Name: "target-password-file", Category: catSecret, Usage: "`FILE` with the target's password; else TAIRLIFT_TARGET_PASSWORD"}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", DisableDefaultText: true, Category: catOutput, Usage: "write the result as JSON, one object per line"}
}

func logFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "log-format", Category: catOutput, Value: "text", DefaultText: "text", Usage: "`FORMAT` of the log on stderr: text or json"},
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, DisableDefaultText: true, Category: catOutput, Usage: "log more"},
		&cli.DurationFlag{Name: "progress-interval", Category: catOutput, Hidden: true},
	}
}

// captureFlags are capture's; also is another name for captureMaxBandwidth, where
// the verb is free to give it one.
func captureFlags(also string) []cli.Flag {
	rate := rateFlag(captureMaxBandwidth, job.ParseBandwidth, "read full syncs at `SIZE` per second at most, all groups together; the source keeps its stream meanwhile, see full-sync-slow. 0 is no limit")
	if also != "" {
		rate.Aliases = []string{also}
	}
	return []cli.Flag{
		rate,
		&cli.GenericFlag{Name: "segment-size", Category: catHow, Value: &size{256 << 20}, DefaultText: "256 MiB", Usage: "seal a spool segment at `SIZE`"},
		&cli.DurationFlag{Name: "segment-age", Category: catHow, Value: time.Hour, DefaultText: "1h", Usage: "seal a spool segment at the age of `DURATION`"},
		&cli.GenericFlag{Name: "max-spool", Category: catHow, Value: &size{}, DefaultText: "the disk", Usage: "let the spool have `SIZE` at most; at that capture waits (spool-quota)"},
		keepFlag("all"), keepMarginFlag(),
		&cli.IntFlag{Name: "max-full-syncs-per-host", Category: catHow, Value: 1, DefaultText: "1", Usage: "let `N` groups of one host load their full sync at a time"},
		&cli.IntFlag{Name: "max-full-syncs", Category: catHow, Value: 4, DefaultText: "4", Usage: "let `N` groups in all load their full sync at a time"},
		&cli.BoolFlag{Name: newEpoch, DisableDefaultText: true, Category: catHow, Usage: "begin with a new full sync of these groups, once, though their streams could go on"},
		&cli.StringFlag{Name: "read-from", Category: catHow, Value: "master", DefaultText: "master", Usage: "`ROLE` to read from: master; a replica is read from when its address is given as the group's"},
	}
}

func keepFlag(value string) cli.Flag {
	return &cli.StringFlag{Name: "keep", Category: catHow, Value: value, DefaultText: value, Usage: "`WHAT` of the spool stays: all; epoch: each group's newest whole epoch; applied: what some target has not applied"}
}

func keepMarginFlag() cli.Flag {
	return &cli.DurationFlag{Name: "keep-margin", Category: catHow, Value: job.KeepMargin, DefaultText: "10m", Usage: "count as applied what was so `DURATION` ago: a failover of the target may take a mark back"}
}

// keep reads --keep and --keep-margin.
func keep(c *cli.Context) (job.Keep, time.Duration, error) {
	k, err := one(c, "keep", string(job.KeepAll), string(job.KeepEpoch), string(job.KeepApplied))
	margin := c.Duration("keep-margin")
	if err == nil && margin < 0 {
		err = usageError("give a duration such as 10m", fmt.Sprintf("--keep-margin %s is below 0", margin))
	}
	return job.Keep(k), margin, err
}

func applyFlags() []cli.Flag {
	return []cli.Flag{
		rateFlag(maxOps, job.ParseOps, "write `N` commands per second at most, all groups together; 0 is no limit"),
		rateFlag(maxBandwidth, job.ParseBandwidth, "write `SIZE` per second at most, all groups together, such as 20MiB; 0 is no limit"),
		&cli.DurationFlag{Name: backoffLatency, Category: catHow, Value: job.BackoffLatency, DefaultText: job.BackoffLatency.String(), Usage: "slow down when the target's answers take `DURATION` and three times what they did, until they no longer do; 0 never does"},
		&cli.StringFlag{Name: "target-mode", Category: catHow, Value: "auto", DefaultText: "auto", Usage: "`MODE` of the target: auto or standalone"},
		&cli.StringFlag{Name: "on-existing", Category: catHow, Value: "refuse", DefaultText: "refuse", Usage: "`POLICY` for a target that holds keys which are not this job's: refuse or replace"},
		&cli.StringFlag{Name: "on-reject", Category: catHow, Value: "stop", DefaultText: "stop", Usage: "`POLICY` for a command that the target refuses for good: stop or continue"},
		&cli.StringFlag{Name: "on-flush", Category: catHow, Value: "stop", DefaultText: "stop", Usage: "`POLICY` for a source that was flushed, or swapped databases: stop; scoped: delete, or move, the keys that its group has put there, and no others; ignore: do nothing, and taint the job"},
		&cli.StringFlag{Name: "on-unknown", Category: catHow, Value: "pass", DefaultText: "pass", Usage: "`POLICY` for a command that tairlift does not know: pass (as it is, counted by name) or stop"},
		&cli.GenericFlag{Name: maxDeletes, Category: catHow, Value: &percent{1}, DefaultText: "1%", Usage: "delete `N%` of a group's keys at most behind a new full sync; above that the group stops (confirm-deletes). 100% is off"},
		&cli.BoolFlag{Name: reseed, DisableDefaultText: true, Category: catHow, Usage: "where the target has lost its mark, or it does not belong to the spool: load the newest full sync again and make the target equal"},
	}
}

func selectionFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "db", Category: catWhich, Usage: "only these `DATABASES` of the sources, such as 0,1", DefaultText: "all"},
		&cli.StringFlag{Name: "db-map", Category: catWhich, Usage: "give databases another number on the target, by `PAIRS` source:target, such as 0:0,1:3"},
		&cli.GenericFlag{Name: "include-prefix", Category: catWhich, Value: &texts{}, DefaultText: "all", Usage: "only keys whose names begin with `TEXT`, or that another flag includes; may be repeated"},
		&cli.GenericFlag{Name: "include-regex", Category: catWhich, Value: &texts{}, Usage: "only keys whose names match `REGEX` (RE2, anywhere in the name), or that another flag includes; may be repeated"},
		&cli.GenericFlag{Name: "exclude-prefix", Category: catWhich, Value: &texts{}, DefaultText: "none", Usage: "no keys whose names begin with `TEXT`, whatever includes them; may be repeated"},
		&cli.GenericFlag{Name: "exclude-regex", Category: catWhich, Value: &texts{}, DefaultText: "none", Usage: "no keys whose names match `REGEX`, whatever includes them; may be repeated"},
	}
}

// selected reads them.
func selected(c *cli.Context) (s selection.Spec, err error) {
	var bad *selection.Error
	if c.IsSet("db") {
		s.DBs, err = selection.ParseDBs(c.String("db"))
	}
	if c.IsSet("db-map") && err == nil {
		s.DBMap, err = selection.ParseDBMap(c.String("db-map"))
	}
	if errors.As(err, &bad) {
		return s, usageError(bad.Hint, bad.What)
	}
	for name, to := range map[string]*[]selection.Text{
		"include-prefix": &s.IncludePrefix, "include-regex": &s.IncludeRegex, "exclude-prefix": &s.ExcludePrefix, "exclude-regex": &s.ExcludeRegex,
	} {
		if t, ok := c.Generic(name).(*texts); ok && len(*t) > 0 {
			*to = *t
		}
	}
	return s, nil
}

// texts is a flag that may be repeated; its values may have commas.
type texts []selection.Text

func (t *texts) Set(v string) error {
	*t = append(*t, selection.Text(v))
	return nil
}

func (t *texts) String() string { return "" }

// size is a number of bytes given with a unit.
type size struct{ n int64 }

func (s *size) Set(v string) error {
	n, err := humanize.ParseBytes(v)
	if err != nil || n == 0 || n > 1<<40 {
		return fmt.Errorf("%q is not a size such as 64MiB", v)
	}
	s.n = int64(n)
	return nil
}

func (s *size) String() string { return humanize.IBytes(uint64(s.n)) }

// rate is a limit per second.
type rate struct {
	n     int64
	parse func(string) (int64, error)
}

func (r *rate) Set(v string) (err error) {
	r.n, err = r.parse(v)
	return err
}

// String is exact: it is what an alias is set by.
func (r *rate) String() string { return strconv.FormatInt(r.n, 10) }

func rateFlag(name string, parse func(string) (int64, error), usage string) *cli.GenericFlag {
	return &cli.GenericFlag{Name: name, Category: catHow, Value: &rate{parse: parse}, DefaultText: "no limit", Usage: usage}
}

// rateOf reads a rate; 0 where the verb has none.
func rateOf(c *cli.Context, name string) int64 {
	if r, ok := c.Generic(name).(*rate); ok {
		return r.n
	}
	return 0
}

// percent is a number given as 1% or 0.5%.
type percent struct{ n float64 }

func (p *percent) Set(v string) error {
	n, err := strconv.ParseFloat(strings.TrimSuffix(v, "%"), 64)
	if err != nil || !(n >= 0 && n <= 100) {
		return fmt.Errorf("%q is not a percentage such as 1%% or 100%%", v)
	}
	p.n = n
	return nil
}

func (p *percent) String() string { return strconv.FormatFloat(p.n, 'f', -1, 64) + "%" }

// one reads a flag that has one of few values.
func one(c *cli.Context, name string, known ...string) (string, error) {
	v := c.String(name)
	for _, k := range known {
		if v == k {
			return v, nil
		}
	}
	return "", usageError("choose "+strings.Join(known, " or "), fmt.Sprintf("--%s %q is not known", name, v))
}

// notYet refuses values that the design knows and this version does not.
func notYet(c *cli.Context, name, hint string, values ...string) error {
	for _, v := range values {
		if c.String(name) == v {
			return usageError(hint, fmt.Sprintf("--%s %s is not there yet", name, v))
		}
	}
	return nil
}

func dir(c *cli.Context) (string, error) {
	d := c.String("dir")
	if d == "" {
		return "", usageError("add --dir DIR: the folder that keeps the job", "--dir is required")
	}
	return d, nil
}

// positive refuses numbers and durations that would mean nothing.
func positive(c *cli.Context, names ...string) error {
	for _, name := range names {
		if !c.IsSet(name) {
			continue
		}
		switch v := c.Value(name).(type) {
		case int:
			if v < 1 {
				return usageError("give a number from 1 up", fmt.Sprintf("--%s %d is below 1", name, v))
			}
		case time.Duration:
			if v <= 0 {
				return usageError("give a duration such as 30s or 10m", fmt.Sprintf("--%s %s is not above 0", name, v))
			}
		}
	}
	return nil
}

const (
	sourceEnv = "TAIRLIFT_SOURCE_PASSWORD"
	targetEnv = "TAIRLIFT_TARGET_PASSWORD"
)

// secret reads a password from the file that a flag names, or else from the
// environment: never from the command line, which any user of the machine sees.
func secret(c *cli.Context, flag, env string) (job.Secret, error) {
	path := c.String(flag)
	if path == "" {
		return job.Secret(os.Getenv(env)), nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", usageError("give a file that this user may read and that holds nothing but the password", fmt.Sprintf("--%s: %v", flag, err))
	}
	return job.Secret(strings.TrimRight(string(raw), "\r\n")), nil
}

func console(c *cli.Context) (*job.Console, error) {
	format, err := one(c, "log-format", "text", "json")
	if err != nil {
		return nil, err
	}
	return job.NewConsole(c.App.ErrWriter, job.ConsoleOptions{
		JSON: format == "json", Verbose: c.Bool("verbose"), Interval: c.Duration("progress-interval"),
	}), nil
}

// runOptions reads the flags of sync, capture and apply; those that a verb
// does not have read as their zero.
func runOptions(c *cli.Context) (o job.Options, err error) {
	fail := func(errs ...error) bool {
		for _, e := range errs {
			if e != nil && err == nil {
				err = e
			}
		}
		return err != nil
	}
	var e1, e2, e3, e4, e5, e6 error
	o.Dir, e1 = dir(c)
	o.Groups, e2 = job.ParseGroups(c.StringSlice("group"))
	o.Only, e3 = job.ParseOnly(c.String("only"))
	o.SourceSecret, e4 = secret(c, "source-password-file", sourceEnv)
	o.TargetSecret, e5 = secret(c, "target-password-file", targetEnv)
	o.State, e6 = state(c)
	if fail(e1, e2, e3, e4, e5, e6, positive(c, "wait", "segment-age", "max-full-syncs-per-host", "max-full-syncs", "progress-interval")) {
		return o, err
	}
	if o.Target = c.String("target"); o.Target != "" && fail(job.ParseTarget(o.Target)) {
		return o, err
	}
	o.NewEpoch = c.Bool(newEpoch)
	o.Until, o.Wait = job.Until(c.String("until")), c.Duration("wait")
	o.SegmentAge, o.MaxFullSyncsPerHost, o.MaxFullSyncs = c.Duration("segment-age"), c.Int("max-full-syncs-per-host"), c.Int("max-full-syncs")
	if s, ok := c.Generic("segment-size").(*size); ok {
		o.SegmentBytes = s.n
	}
	if s, ok := c.Generic("max-spool").(*size); ok {
		o.MaxSpool = s.n
	}
	o.MaxOps, o.MaxBandwidth, o.CaptureMaxBandwidth = rateOf(c, maxOps), rateOf(c, maxBandwidth), rateOf(c, captureMaxBandwidth)
	if o.BackoffLatency = c.Duration(backoffLatency); o.BackoffLatency < 0 {
		fail(usageError("give a duration such as 100ms, or 0 for never", fmt.Sprintf("--%s %s is below 0", backoffLatency, o.BackoffLatency)))
	}
	if has(c, "keep") {
		var bad error
		o.Keep, o.KeepMargin, bad = keep(c)
		fail(bad)
	}
	if has(c, "read-from") {
		_, known := one(c, "read-from", "master")
		fail(notYet(c, "read-from", "give the replica's own address as the group's: --group 1=REPLICA:PORT", "replica"), known)
	}
	if has(c, "db") {
		var bad error
		o.Selection, bad = selected(c)
		fail(bad)
	}
	if has(c, "target-mode") {
		_, known := one(c, "target-mode", "auto", "standalone")
		fail(notYet(c, "target-mode", "this version writes to a standalone target", "proxy", "cluster"), known)
		flush, known := one(c, "on-flush", string(job.OnFlushStop), string(job.OnFlushScoped), string(job.OnFlushIgnore))
		o.OnFlush = job.OnFlush(flush)
		fail(known)
		existing, known := one(c, "on-existing", "refuse", "replace")
		reject, known2 := one(c, "on-reject", "stop", "continue")
		unknown, known3 := one(c, "on-unknown", "pass", "stop")
		fail(known, known2, known3)
		if p, ok := c.Generic(maxDeletes).(*percent); ok {
			o.MaxDeletes = p.n
		}
		o.DeletesAgreed, o.Reseed = c.IsSet(maxDeletes), c.Bool(reseed)
		o.ReplaceExisting, o.ContinueOnReject, o.StopOnUnknown = existing == "replace", reject == "continue", unknown == "stop"
	}
	if err != nil {
		return o, err
	}
	o.Resume = commandLine(slices.DeleteFunc(slices.Clone(os.Args), once))
	o.Console, err = console(c)
	return o, err
}

// has tells whether the verb has a flag.
func has(c *cli.Context, name string) bool {
	for _, f := range c.Command.Flags {
		for _, n := range f.Names() {
			if n == name {
				return true
			}
		}
	}
	return false
}

const (
	newEpoch   = "new-epoch"
	reseed     = "reseed"
	maxDeletes = "max-deletes"

	maxOps              = "max-ops"
	maxBandwidth        = "max-bandwidth"
	captureMaxBandwidth = "capture-max-bandwidth"
	backoffLatency      = "backoff-latency"
)

// once tells whether an argument is to be left out when the command is given
// again.
func once(arg string) bool {
	name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
	return strings.HasPrefix(arg, "-") && (name == newEpoch || name == reseed)
}

// commandLine is what a person types to run this again.
func commandLine(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = a
		if a == "" || strings.ContainsAny(a, " \t\n'\"\\$`&|;<>()*?[]#~!{}") {
			quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}
