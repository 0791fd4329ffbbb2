package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"tairlift/internal/job/launch"
)

// spawn starts the binary and prints the command line.
func (d *demo) spawn(args ...string) (*launch.Process, error) {
	d.command(args)
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	cmd := exec.Command(d.bin, args...)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := launch.Run(cmd)
	if err == nil {
		d.child = p
	}
	return p, err
}

// alive is an error if the process has ended by itself.
func alive(p *launch.Process) error {
	select {
	case <-p.Exited:
		return fmt.Errorf("tairlift has ended by itself, with exit code %d", p.Cmd.ProcessState.ExitCode())
	default:
		return nil
	}
}

// show runs the binary in the foreground: its stdout is the demo's.
func (d *demo) show(args ...string) error {
	d.command(args)
	cmd := exec.CommandContext(d.ctx, d.bin, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	var stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &indent{w: os.Stdout}, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("tairlift %s: %w\n%s", args[0], err, stderr.String())
	}
	return nil
}

// status is what `tairlift status --json` tells, as far as it is shown here.
type status struct {
	Taints []string `json:"taints"`
	Groups []struct {
		ID         int      `json:"id"`
		State      string   `json:"state"`
		Reason     string   `json:"reason"`
		LagBytes   *int64   `json:"lag_bytes"`
		LagSeconds *float64 `json:"lag_seconds"`
		Commands   *int64   `json:"commands_applied"`
		RDB        struct {
			Done  int64  `json:"bytes_done"`
			Total *int64 `json:"bytes_total"`
			Keys  *int64 `json:"keys"`
		} `json:"rdb"`
	} `json:"groups"`
}

// is tells whether every group is in one of the states.
func (s status) is(states ...string) bool {
	for _, g := range s.Groups {
		found := false
		for _, state := range states {
			found = found || g.State == state
		}
		if !found {
			return false
		}
	}
	return len(s.Groups) > 0
}

// errNoStatus says that nothing is published yet.
var errNoStatus = errors.New("no status yet")

const exitNoSpool = 10

func (d *demo) status(ctx context.Context) (s status, err error) {
	out, err := exec.CommandContext(ctx, d.bin, "status", "--dir", d.dir, "--json").Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitNoSpool {
		return s, errNoStatus
	}
	if err != nil {
		return s, fmt.Errorf("tairlift status: %w", err)
	}
	return s, json.Unmarshal(out, &s)
}
