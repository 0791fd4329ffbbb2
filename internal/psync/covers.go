package psync

import (
	"context"
	"errors"
	"fmt"

	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

// Covers tells whether the source would go on from a position, by what INFO
// says of its backlog. To find that out by PSYNC can cost the source a fork. A
// source that does not say covers: PSYNC decides. c may be attached next; after
// an error it is closed.
func Covers(ctx context.Context, c *resp.Conn, from repl.Position) (bool, error) {
	info := map[string]string{}
	for _, section := range []string{"server", "replication"} {
		rep, err := c.Do(ctx, "INFO", section)
		if errors.As(err, new(resp.ServerError)) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("ask for the backlog: %w", err)
		}
		for k, v := range fields(rep.String()) {
			info[k] = v
		}
	}
	replid, known := info["master_replid"]
	if !known {
		replid = info["run_id"] // before 4.0
	}
	next := from.Offset + 1
	number := func(name string) repl.Offset {
		n, err := repl.ParseOffset(info[name])
		if err != nil {
			return -1
		}
		return n
	}
	first, length := number("repl_backlog_first_byte_offset"), number("repl_backlog_histlen")
	switch {
	case replid == "" || first < 0 || length < 0:
		return true, nil
	case replid != string(from.ReplID) && (info["master_replid2"] != string(from.ReplID) || next > number("second_repl_offset")):
		return false, nil
	}
	return info["repl_backlog_active"] == "1" && next >= first && next <= first+length, nil
}
