package psync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

// narrow is a width of a sample that is not worth another try.
const (
	narrow      = 2 * time.Millisecond
	sampleTries = 3
)

// ClockSample says what a source's clock showed at an offset.
type ClockSample struct {
	// SourceMicros is the source's clock, µs since 1970, and WidthMicros for
	// how long it ran on until the answer was complete: bytes up to Offset
	// were written before SourceMicros+WidthMicros, later ones after
	// SourceMicros. The width is some µs.
	SourceMicros, WidthMicros int64

	Offset      repl.Offset // what the source had written of the stream that it serves
	LocalMicros int64       // our clock, half way between question and answer
	Role        string      // "master" or "slave"
	LinkUp      bool        // a master, or a replica whose master is there
	ReplID      repl.ReplID // of the stream that it serves
	RunID       string      // changes when the server restarts
	Version     string      // redis_version
}

// Sample asks for one, by TIME INFO TIME in one packet on a connection that is
// not a Link. Nothing else may be unanswered on it.
//
// A server executes what has arrived of one client without a break, so that the
// three are one cut as MULTI and EXEC would make it, and the two TIMEs prove it.
// MULTI itself is no good: before 7.0 a transaction with TIME or INFO in it
// counts as one that writes, so that each sample would put MULTI and EXEC into
// the source's stream, with the sampled offset between the two.
//
// The offset is master_repl_offset in every role and version. In a replica of
// Redis >= 4 that is its master's space, which it serves onward, under its
// master's replid. A replica before 4.0 writes a stream of its own: there
// master_repl_offset is what it serves, under its run id, and
// slave_repl_offset, the master's space, is of no use to those attached to it.
//
// An error reply is a resp.ServerError and leaves the connection usable; after
// any other error it is closed.
func Sample(ctx context.Context, c *resp.Conn) (ClockSample, error) {
	release, err := c.CloseOn(ctx)
	if err != nil {
		return ClockSample{}, err
	}
	best, err := sample(c)
	for try := 1; err == nil && try < sampleTries && best.WidthMicros > narrow.Microseconds(); try++ {
		var s ClockSample
		if s, err = sample(c); err == nil && s.WidthMicros < best.WidthMicros {
			best = s
		}
	}
	if ended := release(); ended != nil {
		return ClockSample{}, ended
	}
	if err != nil {
		if !errors.As(err, new(resp.ServerError)) {
			c.Close()
		}
		return ClockSample{}, fmt.Errorf("ask for time and offset: %w", err)
	}
	return best, nil
}

// sampleQuestion is all of the packet. INFO takes one section at a time before
// 7.0, and without one it is slow.
var sampleQuestion = slices.Concat(
	resp.AppendCommandStrings(nil, "INFO", "server"),
	resp.AppendCommandStrings(nil, "TIME"),
	resp.AppendCommandStrings(nil, "INFO", "replication"),
	resp.AppendCommandStrings(nil, "TIME"),
)

func sample(c *resp.Conn) (s ClockSample, err error) {
	asked := time.Now()
	if _, err := c.Write(sampleQuestion); err != nil {
		return s, err
	}
	if err := c.Flush(); err != nil {
		return s, err
	}
	var reps [4]resp.Reply
	var refused error
	for i := range reps {
		if reps[i], err = c.ReadReply(); err != nil {
			if !errors.As(err, new(resp.ServerError)) {
				return s, err
			}
			refused = cmp.Or(refused, err)
		}
	}
	if refused != nil {
		return s, refused
	}
	answered := time.Now()
	s.LocalMicros = asked.Add(answered.Sub(asked) / 2).UnixMicro()
	if s.SourceMicros, err = micros(reps[1]); err != nil {
		return s, err
	}
	end, err := micros(reps[3])
	if err != nil {
		return s, err
	}
	s.WidthMicros = end - s.SourceMicros
	return s, s.read(fields(reps[0].String()), fields(reps[2].String()))
}

// micros reads the reply of TIME.
func micros(rep resp.Reply) (int64, error) {
	if len(rep.Elems) != 2 {
		return 0, fmt.Errorf("%w: TIME was answered by %.80q", resp.ErrProtocol, rep)
	}
	sec, err1 := strconv.ParseInt(rep.Elems[0].String(), 10, 64)
	usec, err2 := strconv.ParseInt(rep.Elems[1].String(), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, fmt.Errorf("%w: TIME: %w", resp.ErrProtocol, err)
	}
	return sec*1e6 + usec, nil
}

// read takes the rest of a sample out of INFO's sections.
func (s *ClockSample) read(server, replication map[string]string) error {
	off, err := repl.ParseOffset(replication["master_repl_offset"])
	if err != nil {
		return fmt.Errorf("%w: INFO's master_repl_offset: %w", resp.ErrProtocol, err)
	}
	s.Offset = off
	s.Role = replication["role"]
	s.LinkUp = s.Role == "master" || replication["master_link_status"] == "up"
	s.RunID = server["run_id"]
	s.Version = server["redis_version"]
	id, ok := replication["master_replid"]
	if !ok {
		id = s.RunID
	}
	if s.ReplID, err = repl.ParseReplID(id); err != nil {
		return fmt.Errorf("%w: INFO's replication id: %w", resp.ErrProtocol, err)
	}
	return nil
}

// fields are the lines "name:value" of an INFO.
func fields(text string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok {
			m[k] = v
		}
	}
	return m
}
