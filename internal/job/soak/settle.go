package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tairlift/internal/job"
)

// status is what `tairlift status` tells.
func (s *soak) status(ctx context.Context) (st job.Status, err error) {
	var out bytes.Buffer
	if err := job.RunStatus(ctx, job.StatusOptions{Dir: s.dir(), JSON: true, Out: &out}); err != nil {
		return st, err
	}
	return st, json.Unmarshal(out.Bytes(), &st)
}

// position is where a source's stream ends.
type position struct {
	replid  string // before Redis 4 the run id, which is the same
	offset  int64
	backlog bool // without one, which begins with a replica, the offset stands still
}

// field is one of INFO.
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func (srv *server) position(ctx context.Context) (p position, err error) {
	rep, err := srv.ask(ctx, "INFO", "replication")
	if err != nil {
		return p, err
	}
	text := rep.String()
	if p.offset, err = strconv.ParseInt(field(text, "master_repl_offset"), 10, 64); err != nil {
		return p, err
	}
	p.backlog = field(text, "repl_backlog_active") == "1"
	if p.replid = field(text, "master_replid"); p.replid == "" {
		rep, err = srv.ask(ctx, "INFO", "server")
		p.replid = field(rep.String(), "run_id")
	}
	return p, err
}

// level waits until everything that the sources hold is on the target. What is
// written for it makes sure that no older status can say so. Where a source's
// stream ends is asked anew each time: one that was just started has another
// replid as soon as a replica comes.
func (s *soak) level(ctx context.Context) error {
	for g, src := range s.sources {
		if _, err := src.ask(ctx, "INCR", barrier(g+1)); err != nil {
			return err
		}
	}
	var st job.Status
	ends := make([]position, groups)
	err := s.until(ctx, "all that the sources hold to be applied", func() (bool, error) {
		now, err := s.status(ctx)
		if err != nil {
			return false, err
		}
		st = now
		if err := stopped(st); err != nil {
			return false, err
		}
		for i, g := range st.Groups {
			if ends[i], err = s.sources[i].position(ctx); err != nil {
				return false, err
			}
			// There is no lag between different epochs.
			if g.LagBytes == nil || g.ReplID != ends[i].replid || g.Applied == nil || int64(*g.Applied) < ends[i].offset {
				return false, nil
			}
			if g.TTL == nil || *g.TTL != "exact" {
				return false, nil
			}
			s.epochs[i+1] = int(*g.Epoch)
		}
		return len(st.Groups) == groups, nil
	})
	if err != nil && !errors.Is(err, errStopped) {
		text, _ := json.Marshal(st.Groups)
		err = fmt.Errorf("%w; the sources are at %+v, status %s", err, ends, text)
	}
	return err
}

// equal compares, and where something differs, again for as long as keys are
// doubtful: those are copied again without anybody's doing.
func (s *soak) equal(ctx context.Context) error {
	var diff error
	err := s.until(ctx, "doubtful keys to be copied again", func() (bool, error) {
		if diff = s.compare(ctx); diff == nil {
			return true, nil
		}
		st, err := s.status(ctx)
		if err != nil {
			return false, err
		}
		if !slices.ContainsFunc(st.Groups, func(g job.GroupStatus) bool { return g.Doubtful != nil && *g.Doubtful > 0 }) {
			return true, nil
		}
		return false, nil
	})
	return errors.Join(err, diff)
}

// barrier is the key of a group that level writes.
func barrier(group int) string { return fmt.Sprintf("barrier:%d", group) }

// verify has tairlift compare every key, which must find all of them equal, and
// none that is not the writers'.
func (s *soak) verify(ctx context.Context) error {
	want := groups // barriers
	for _, w := range s.writers {
		want += s.keys + len(w.ledger.keys)
	}
	out, err := s.tool.output(ctx, "verify")
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var report struct {
		Verdict    string `json:"verdict"`
		SourceKeys int    `json:"source_keys"`
		TargetKeys int    `json:"target_keys"`
		Compared   int    `json:"compared"`
		Equal      int    `json:"equal"`
	}
	if bad := json.Unmarshal([]byte(lines[len(lines)-1]), &report); bad != nil || err != nil {
		return fmt.Errorf("verify --level full: %w: %s", errors.Join(err, bad), lines[len(lines)-1])
	}
	if report.Verdict != "identical" || report.SourceKeys != want || report.TargetKeys != want || report.Compared != want || report.Equal != want {
		return fmt.Errorf("verify --level full: got %s, want identical, of %d keys", lines[len(lines)-1], want)
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	if len(st.Taints) > 0 || !st.CaughtUp {
		return fmt.Errorf("status after verify: caught_up %v, taints %q; want true and none", st.CaughtUp, st.Taints)
	}
	s.tellAll("verify --level full: identical, %d of %d keys", report.Equal, want)
	return nil
}
