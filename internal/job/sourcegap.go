package job

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"tairlift/internal/command"
	"tairlift/internal/psync"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/verify"
)

const (
	// gapFor bounds what a source is asked in all.
	gapFor = 5 * time.Second
	// gapMost is how many bytes of its stream are looked at.
	gapMost = 1 << 20
)

// sourceGap is what a source has beyond a position.
type sourceGap struct {
	bytes   int64
	first   string // the first command that is data, where that was looked for
	history bool   // the source has another history than the position's
	now     repl.Position
}

// beyond asks a source what it has behind a position. Of a stream that went on a
// little it reads the commands: a source with replicas of its own writes PINGs
// all the time, which are nothing that could be lost. For that it is attached to,
// as capture would be, and only where it is sure to have those bytes.
func beyond(ctx context.Context, addr string, secret Secret, from repl.Position) (gap sourceGap, err error) {
	ctx, cancel := context.WithTimeout(ctx, gapFor)
	defer cancel()
	c, err := resp.Dial(ctx, addr, secret)
	if err != nil {
		return gap, err
	}
	defer c.Close()
	s, err := psync.Sample(ctx, c)
	if err != nil {
		return gap, err
	}
	gap.now = repl.Position{ReplID: s.ReplID, Offset: s.Offset}
	if s.ReplID != from.ReplID || s.Offset < from.Offset {
		gap.history = true
		return gap, nil
	}
	gap.bytes = int64(s.Offset - from.Offset)
	if gap.bytes == 0 || gap.bytes > gapMost {
		return gap, nil
	}
	held, err := holds(ctx, c, from.Offset)
	if err != nil || !held {
		return gap, err
	}
	data, err := firstData(ctx, c, from, s.Offset)
	switch {
	case err != nil:
		return gap, err
	case data == "":
		gap.bytes = 0
	}
	gap.first = data
	return gap, nil
}

// holds tells whether the source's backlog has what follows an offset.
func holds(ctx context.Context, c *resp.Conn, from repl.Offset) (bool, error) {
	r, err := c.Do(ctx, "INFO", "replication")
	if err != nil {
		return false, fmt.Errorf("ask for the backlog: %w", err)
	}
	active, first := false, int64(-1)
	for line := range strings.Lines(string(r.Str)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch k {
		case "repl_backlog_active":
			active = v == "1"
		case "repl_backlog_first_byte_offset":
			if first, err = strconv.ParseInt(v, 10, 64); err != nil {
				return false, nil // not told, so not known
			}
		}
	}
	return active && first >= 0 && first <= int64(from)+1, nil
}

// firstData reads the stream between two offsets, and names the first command
// that changes data; empty when there is none. c becomes a replica's link.
func firstData(ctx context.Context, c *resp.Conn, from repl.Position, end repl.Offset) (string, error) {
	link, err := psync.Attach(ctx, c, from, psync.Options{Timeout: gapFor})
	if err != nil {
		return "", err
	}
	defer link.Close()
	release, err := c.CloseOn(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = release() }()
	if link.Start.Full { // it has dropped those bytes meanwhile
		return "", errors.New("the source no longer has what it wrote last")
	}
	p := resp.NewParser(from.Offset)
	buf := make([]byte, 64<<10)
	for {
		cmd, ok, err := p.Next()
		if err != nil {
			return "", err
		}
		if ok {
			if !isIdle(cmd.Args) {
				return strings.ToUpper(string(cmd.Args[0][:min(len(cmd.Args[0]), 40)])), nil
			}
			if cmd.End >= end {
				return "", nil
			}
			continue
		}
		n, err := link.Read(buf)
		if err != nil {
			return "", err
		}
		p.Feed(buf[:n])
	}
}

// isIdle tells whether a command of a stream changes no data.
func isIdle(args [][]byte) bool {
	spec := command.Lookup(args[0])
	switch spec.Class {
	case command.Ignore, command.Select, command.Multi, command.Exec, command.Discard, command.Script:
		return true
	case command.Write:
	default:
		return false
	}
	keys := spec.AppendKeys(nil, args)
	for _, k := range keys {
		if !verify.Ours(k) {
			return false
		}
	}
	return len(keys) > 0
}
