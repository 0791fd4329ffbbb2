package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"tairlift/apply"
	"tairlift/capture"
	"tairlift/checkpoint"
	"tairlift/internal/repl"
	"tairlift/internal/selection"
	"tairlift/spool"
)

// publishEvery is the pace of the status files.
const publishEvery = time.Second

// captureFile is what the sessions are doing now.
func captureFile(p Process, sessions []*session) *CaptureFile {
	f := &CaptureFile{Process: p, Groups: []CaptureGroup{}}
	for _, s := range sessions {
		st := s.Status()
		g := CaptureGroup{
			ID: st.Group, Addr: st.Addr, State: string(st.State), Reason: st.Reason, What: st.Detail, Since: moment(st.Since),
			Done: s.done.Load(), Epoch: st.Epoch, EpochReason: st.EpochReason, ReplID: st.ReplID,
			SkewMS: st.ClockSkew.Milliseconds(), Ever: st.EverConnected, Reconnects: st.Reconnects, Pace: st.Pace, Durable: st.Durable,
		}
		if st.SourceOffset >= 0 && !st.SourceSampledAt.IsZero() {
			g.Source, g.SampledAt = ptr(st.SourceOffset), ptr(st.SourceSampledAt)
		}
		if st.RDBTotal >= 0 {
			g.RDBTotal = ptr(st.RDBTotal)
		}
		g.Hint = captureHints[st.Reason]
		if e := s.stopped.Load(); e != nil {
			g.State, g.What, g.Hint = string(capture.Stopped), e.What, e.Hint
		}
		f.Groups = append(f.Groups, g)
	}
	return f
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// captureHints say what to do while capture waits.
var captureHints = map[string]string{
	capture.ReasonUnreachable: "is the source up, and its address right? capture goes on by itself when it is back; after a failover give --group the new master's address",
	capture.ReasonAuth:        sourceSecretHint,
	capture.ReasonLoading:     "the source is loading its data; capture goes on by itself",
	capture.ReasonMasterDown:  "this replica has lost its master: capture goes on when the link is back; or give --group the master's address",
	capture.ReasonRefused:     "give --group the address of the group's own server, not of a proxy, with a user that may run PSYNC and REPLCONF",
	capture.ReasonQueue:       "its turn comes when others are through (--max-full-syncs-per-host, --max-full-syncs)",
	capture.ReasonCut:         "a new full sync begins by itself; if each one is cut, the source's log says why: its BGSAVE fails, or its client-output-buffer-limit or repl-timeout for replicas is too small",
	capture.ReasonDamaged:     "a new full sync begins by itself; if this stays, the network or the source's memory damages data: check both",
	capture.ReasonPile:        "read it faster (--capture-max-bandwidth; `tairlift ctl set` changes it at once), or raise the source's client-output-buffer-limit for replicas",
	capture.ReasonProtocol:    "give --group the address of the group's own server, not of a proxy; capture goes on by itself when the source answers as one",
	capture.ReasonQuota:       "capture goes on by itself when there is room: `tairlift spool prune --keep applied` removes what is applied, --keep applied does so all the time, or raise --max-spool, which must hold the largest RDB",
	capture.ReasonDiskFull:    "free some space, or `tairlift spool prune --keep applied`; capture goes on by itself",
}

// applyFile is what apply is doing now.
func applyFile(p Process, target string, s selection.Spec, j *apply.Job, doubts *doubtLists, done func(repl.GroupID) bool) *ApplyFile {
	f := &ApplyFile{Process: p, Target: target, Selection: s, Evictions: j.Evictions(), Groups: []ApplyGroup{}}
	for _, st := range j.Status() {
		list := doubts.of(st)
		g := ApplyGroup{
			ID: st.Group, State: string(st.State), Reason: st.Reason, What: st.What, Hint: st.Hint, Since: moment(st.Since),
			Done: done(st.Group), Epoch: st.Epoch, Phase: string(st.Phase), AppliedMS: st.AppliedMS,
			RDBDone: st.RDBDone, Keys: st.Keys, Commands: st.Commands, Ignored: st.Ignored, Filtered: st.Filtered, Unknown: st.Unknown, Unknowns: st.UnknownNames,
			Expired: st.Expired, Rejects: st.Rejects, Doubtful: st.Doubtful, DoubtWhy: list.why,
			Held: st.Held, Healed: st.Healed, Pace: st.Pace, Recopy: st.Recopy, Rejected: list.rejected, Doubts: list.doubts,
			Native: st.Native, WidthMS: st.DateWidth.Milliseconds(), Forgotten: st.Forgotten, TTL: st.TTL.String(),
			Flushes: st.Flushes, Flushed: st.Flushed, FlushesIgnored: st.FlushesIgnored,
			Swaps: st.Swaps, Swapped: st.Swapped,
		}
		if p := st.TTLPass; p != (apply.TTLPass{}) {
			g.TTLPass = &TTLPass{Seen: p.Seen, Total: p.Total, Set: p.Set}
		}
		if st.Phase == checkpoint.PhaseStream {
			g.Applied, g.Marked = ptr(st.Applied), ptr(st.Marked)
		}
		if w := st.Writing; w != nil {
			g.Writing = &Writing{DB: w.DB, Key: w.Key, Kind: w.Kind, Bytes: w.Bytes}
		}
		if st.TargetAhead != nil {
			g.SkewMS = ptr(st.TargetAhead.Milliseconds())
		}
		if !st.MarkSeen.IsZero() {
			g.MarkSeen = ptr(st.MarkSeen)
		}
		if st.RDBTotal > 0 {
			g.RDBTotal = ptr(st.RDBTotal)
		}
		f.Groups = append(f.Groups, g)
	}
	return f
}

// publisher writes the status files of a run, and shows its progress.
type publisher struct {
	r   *run
	log *slog.Logger
	bad bool // the last write failed
	why map[repl.GroupID]string
	// apart are the clocks that the log has told of.
	apart map[string]bool
}

// loop publishes until ctx ends.
func (p *publisher) loop(ctx context.Context) {
	files := time.NewTicker(publishEvery)
	defer files.Stop()
	show := time.NewTicker(min(p.r.console.interval, publishEvery))
	defer show.Stop()
	p.publish()
	for {
		select {
		case <-ctx.Done():
			return
		case <-files.C:
			p.publish()
		case <-p.r.claimed:
			p.publish()
		case <-show.C:
			p.r.show()
		}
	}
}

// publish writes the files. A failure is no reason to stop a job: its own
// databases are elsewhere.
func (p *publisher) publish() {
	if p.r.room != nil {
		p.r.room.refresh()
	}
	v := p.r.view()
	f := p.r.f
	var err error
	if v.capture != nil && p.r.sessions != nil {
		err = putStatus(f.captureStatus(), v.capture)
	}
	if v.apply != nil {
		p.r.trails.follow(v.apply)
	}
	if v.apply != nil && (p.r.apply() != nil || p.r.known) {
		if e := putStatus(f.applyStatus(p.r.target), v.apply); err == nil {
			err = e
		}
	}
	if err != nil && !p.bad {
		p.log.Warn("status cannot be written; the job goes on", "error", err)
	}
	p.bad = err != nil
	p.hints(v)
}

// putStatus replaces a status file. On a disk without a free byte no other file
// can be made: then it is written over in place, within the space that it has. A
// reader may meet half of it; without it, status would call the process gone.
func putStatus(path string, v any) error {
	err := writeStatus(path, v)
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	f, oerr := os.OpenFile(path, os.O_WRONLY, 0)
	if oerr != nil {
		return err
	}
	defer f.Close()
	raw, jerr := json.Marshal(v)
	info, serr := f.Stat()
	if jerr != nil || serr != nil {
		return errors.Join(err, jerr, serr)
	}
	const page = 4096
	if int64(len(raw)) > (info.Size()+page-1)/page*page {
		return err
	}
	if pad := info.Size() - int64(len(raw)); pad > 0 {
		raw = append(raw, bytes.Repeat([]byte{'\n'}, int(pad))...)
	}
	_, err = f.WriteAt(raw, 0)
	return err
}

// hints says what to do when a group begins to wait for something that may
// need a person.
func (p *publisher) hints(v *view) {
	s := v.status()
	for i := range s.Groups {
		g := &s.Groups[i]
		if g.Reason != p.why[g.ID] && g.Hint != "" && g.Reason != capture.ReasonQueue && s.Running {
			p.log.Warn("group waits", "group", g.ID.String(), "reason", g.Reason, "what", g.What, "hint", g.Hint)
		}
		p.why[g.ID] = g.Reason
		for _, text := range g.Skew.large() {
			whose, _, _ := strings.Cut(text, " clock")
			if id := g.ID.String() + whose; !p.apart[id] {
				p.apart[id] = true
				p.log.Warn("clocks are apart", "group", g.ID.String(), "what", text, "hint", skewHint)
			}
		}
	}
}

func newProcess(job spool.JobID, verb string, until Until) Process {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	now := time.Now()
	return Process{Version: statusVersion, Job: job, Verb: verb, Until: string(until), PID: os.Getpid(), Host: host, Started: now, Updated: now}
}
