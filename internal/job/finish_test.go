package job

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tairlift/apply"
	"tairlift/checkpoint"
	"tairlift/internal/repl"
	"tairlift/spool"
)

func TestWhatSpeaksAgainstAFinish(t *testing.T) {
	const replid = repl.ReplID("abababababababababababababababababababab")
	mark := func(e repl.Epoch, p checkpoint.Phase, at repl.Offset) apply.GroupMark {
		return apply.GroupMark{Group: 1, Text: apply.Mark{Owner: "x.1", Epoch: e, Phase: p, ReplID: replid, Offset: at}.String()}
	}
	whole := spool.Durable{Epoch: 1, ReplID: replid, RDBDone: true, Offset: 500}
	rec := checkpoint.ApplyRecord{Epoch: 1, Phase: checkpoint.PhaseStream, Offset: 500, Claimed: true}
	for _, tt := range []struct {
		claim string
		spoil func(f *finish, end *spool.Durable)
		want  []string // the reason, and a part of what is said
	}{
		{"nothing", func(*finish, *spool.Durable) {}, nil},
		{
			"bytes that are not applied", func(_ *finish, end *spool.Durable) { end.Offset = 520 },
			[]string{"not-applied: group 1: 20 bytes of the spool are not applied: it ends at offset 520, and the target is at 500"},
		},
		{
			"an epoch that is not applied", func(_ *finish, end *spool.Durable) { end.Epoch, end.Offset = 2, 10 },
			[]string{"not-applied: group 1: epoch 2 of the spool is not applied; the target is in epoch 1"},
		},
		{"half an RDB", func(f *finish, _ *spool.Durable) {
			f.records[1] = checkpoint.ApplyRecord{Epoch: 1, Phase: checkpoint.PhaseRDB, RDBOffset: 5, Claimed: true}
			f.traces.Marks = []apply.GroupMark{mark(1, checkpoint.PhaseRDB, 100)}
		}, []string{"not-applied: group 1: the RDB of epoch 1 is not applied to its end"}},
		{
			"nothing applied", func(f *finish, _ *spool.Durable) { delete(f.records, 1); f.traces.Marks = nil },
			[]string{"not-applied: group 1: nothing of it is on the target"},
		},
		{
			"a mark that is gone", func(f *finish, _ *spool.Durable) { f.traces.Marks = nil },
			[]string{"mark-missing: group 1: target t:1 has no mark of it"},
		},
		{"a mark that a finish has removed", func(f *finish, _ *spool.Durable) {
			f.traces.Marks, f.begun = nil, &tombstone{Groups: []finishedGroup{{ID: 1}}}
		}, nil},
		{"a mark ahead of apply.db", func(f *finish, _ *spool.Durable) {
			f.traces.Marks = []apply.GroupMark{mark(1, checkpoint.PhaseStream, 510)}
		}, []string{"mark-differs: group 1: its mark on the target is at offset 510 of epoch 1, and by what is known here it was at offset 500 of epoch 1"}},
		{"a mark in another epoch", func(f *finish, _ *spool.Durable) {
			f.traces.Marks = []apply.GroupMark{mark(2, checkpoint.PhaseRDB, 500)}
		}, []string{"mark-differs: group 1: its mark on the target is in the phase rdb of epoch 2"}},
		{"held deadlines", func(f *finish, _ *spool.Durable) {
			m, err := apply.ParseMark(f.traces.Marks[0].Text)
			if err != nil {
				t.Fatal(err)
			}
			m.TTL = apply.DeadlinesMixed
			f.traces.Marks[0].Text = m.String()
		}, []string{"ttl-held: group 1: deadlines of its keys are held back on target t:1"}},
		{"half a SWAPDB", func(f *finish, _ *spool.Durable) {
			m, err := apply.ParseMark(f.traces.Marks[0].Text)
			if err != nil {
				t.Fatal(err)
			}
			m.Swap = apply.Swap{Step: 2, A: 0, B: 1}
			f.traces.Marks[0].Text = m.String()
		}, []string{"swap-under-way: group 1: a SWAPDB of its source is half carried out on target t:1"}},
		{
			"a mark that is none", func(f *finish, _ *spool.Durable) { f.traces.Marks = []apply.GroupMark{{Group: 1, Text: "hello"}} },
			[]string{"mark-unreadable: group 1: its mark on the target cannot be read"},
		},
		{"a mark of a group that nobody knows here", func(f *finish, _ *spool.Durable) {
			f.traces.Marks = append(f.traces.Marks, apply.GroupMark{Group: 7, Text: f.traces.Marks[0].Text})
		}, []string{"mark-unknown: group 7: target t:1 has a mark of it, and DIR does not know this group"}},
		{"a group that has stopped", func(f *finish, _ *spool.Durable) {
			f.status.Groups = []GroupStatus{{ID: 1, State: StateStop, Reason: "reject", What: "group 1: the target refused INCR"}}
		}, []string{"stopped: group 1: stopped (reject): the target refused INCR"}},
		{"one that was interrupted", func(f *finish, _ *spool.Durable) {
			f.status.Groups = []GroupStatus{{ID: 1, State: StateStop, Reason: "interrupted"}}
		}, nil},
		{
			"taints", func(f *finish, _ *spool.Durable) {
				f.status.Taints = []string{"2 doubtful keys in group 1", "1 reject in group 1"}
			},
			[]string{"taint: taint: 2 doubtful keys in group 1", "taint: taint: 1 reject in group 1"},
		},
		{
			"a capture that runs elsewhere", func(f *finish, _ *spool.Durable) { f.status.Capture = &Side{Running: true, Verb: "capture"} },
			[]string{"capture-running: `tairlift capture` captures into DIR now"},
		},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			f := &finish{
				f: &folder{dir: "DIR"}, groups: []Group{{ID: 1}}, target: "t:1",
				records: map[repl.GroupID]checkpoint.ApplyRecord{1: rec},
				traces:  apply.Traces{Marks: []apply.GroupMark{mark(1, checkpoint.PhaseStream, 500)}},
			}
			end := whole
			tt.spoil(f, &end)
			f.checkRunning()
			f.checkGroup(1, end)
			f.checkStrangers()
			f.checkStatus()
			var got []string
			for i, o := range f.found {
				text := o.Reason + ": " + o.What
				if i < len(tt.want) && strings.HasPrefix(text, tt.want[i]) {
					text = tt.want[i]
				}
				got = append(got, text)
				if o.Hint == "" && o.Reason != "stopped" {
					t.Errorf("%s has no hint", o.Reason)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStatusOfAJobAtItsEnd(t *testing.T) {
	running := process(t, UntilStopped)
	tomb := &tombstone{State: tombFinishing, Began: now.Add(-time.Hour)}
	v := &view{
		job: jobA, groups: []Group{{ID: 1}}, target: "t:1", now: now, tomb: tomb,
		// For another target, capture goes on.
		capture: &CaptureFile{Process: running, Groups: []CaptureGroup{streaming(150, 150)}},
		apply:   &ApplyFile{Process: ended(process(t, UntilStopped), howInterrupted, Interrupted), Target: "t:1", Groups: []ApplyGroup{applied("streaming", 100)}},
	}
	s := v.status()
	if g := s.Groups[0]; g.State != StateStop || g.Reason != "finishing" || g.Hint == "" || s.CaughtUp || s.Finish.State != "finishing" {
		t.Errorf("finishing: got %+v of %+v", g, s.Finish)
	}
	tomb.State, tomb.At = tombFinished, ptr(now)
	tomb.Forced = []Obstruction{{Reason: "source-ahead"}}
	v.apply.Groups[0].Doubtful = 3
	s = v.status()
	if g := s.Groups[0]; g.State != Finished || g.Reason != "" || s.CaughtUp || len(s.Taints) != 1 || len(s.Finish.Forced) != 1 {
		t.Errorf("finished by force, behind the source: got %+v, caught up %v, taints %v", g, s.CaughtUp, s.Taints)
	}
}
