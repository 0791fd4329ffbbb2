package job

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"tairlift/internal/repl"
)

// fakeRun plays the groups of a run.
type fakeRun struct {
	settled []position // group, offset
	at      []standing
	source  []position // what each source answers; epoch 0: it does not

	mu    sync.Mutex // guards asked: groups are asked at the same time
	asked []int
	done  []int
}

func (f *fakeRun) goal(until Until) *goal {
	return &goal{
		until: until, n: len(f.at),
		look: func(i int) standing { return f.at[i] },
		ask: func(_ context.Context, i int) (repl.Epoch, repl.Offset, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.asked = append(f.asked, i)
			if f.source[i].epoch == 0 {
				return 0, 0, errors.New("away")
			}
			return f.source[i].epoch, f.source[i].offset, nil
		},
		settle: func(i int, at position) { f.settled = append(f.settled, position{repl.Epoch(i), at.offset}) },
		mark: func(i int) {
			if !slices.Contains(f.done, i) {
				f.done = append(f.done, i)
			}
		},
	}
}

func TestUntil(t *testing.T) {
	type step struct {
		at     []standing
		source []position
		want   bool
	}
	tests := []struct {
		claim string
		until Until
		steps []step
		done  []int // groups that reached the goal
		asks  int
	}{
		{"full waits for every group", UntilFull, []step{
			{[]standing{{full: true}, {}}, nil, false},
			{[]standing{{full: true}, {full: true}}, nil, true},
		}, []int{0, 1}, 0},
		{"a stopped group is not waited for", UntilFull, []step{
			{[]standing{{full: true}, {stopped: true}}, nil, true},
		}, []int{0}, 0},
		{"sources are asked when the full phase of all is over", UntilCaughtUp, []step{
			{[]standing{{full: true, epoch: 1, reached: 90}, {}}, []position{{1, 90}, {1, 50}}, false},
			{[]standing{{full: true, epoch: 1, reached: 90}, {full: true, epoch: 1, reached: 20}}, []position{{1, 90}, {1, 50}}, false},
			{[]standing{{full: true, epoch: 1, reached: 90}, {full: true, epoch: 1, reached: 50}}, []position{{1, 190}, {1, 150}}, true},
		}, []int{0, 1}, 2},
		{"a source that does not answer is asked again", UntilCaughtUp, []step{
			{[]standing{{full: true, epoch: 1, reached: 90}}, []position{{}}, false},
			{[]standing{{full: true, epoch: 1, reached: 90}}, []position{{1, 90}}, true},
		}, []int{0}, 2},
		{"a new epoch asks again", UntilCaughtUp, []step{
			{[]standing{{full: true, epoch: 1, reached: 10}}, []position{{1, 90}}, false},
			{[]standing{{full: false, epoch: 2}}, []position{{2, 500}}, false},
			{[]standing{{full: true, epoch: 2, reached: 100}}, []position{{2, 500}}, false},
			{[]standing{{full: true, epoch: 2, reached: 500}}, []position{{2, 900}}, true},
		}, []int{0}, 2},
		{"held deadlines are set exact when the position is reached", UntilCaughtUp, []step{
			{[]standing{{full: true, epoch: 1, reached: 10, held: true}}, []position{{1, 90}}, false},
			{[]standing{{full: true, epoch: 1, reached: 90, held: true}}, nil, false},
			{[]standing{{full: true, epoch: 1, reached: 95}}, nil, true},
		}, []int{0}, 1},
		{"an offset of another epoch does not count", UntilCaughtUp, []step{
			{[]standing{{full: true, epoch: 1, reached: 1000}}, []position{{2, 500}}, false},
			{[]standing{{full: true, epoch: 1, reached: 1000}}, []position{{2, 500}}, false},
		}, nil, 1},
		{"others reach the goal beside a stopped group", UntilCaughtUp, []step{
			{[]standing{{full: true, epoch: 1, reached: 1}, {stopped: true}}, []position{{1, 5}, {}}, false},
			{[]standing{{full: true, epoch: 1, reached: 5}, {stopped: true}}, nil, true},
		}, []int{0}, 1},
		{"doubtful keys that the source may heal are waited for", UntilCaughtUp, []step{
			{[]standing{{full: true, epoch: 1, reached: 90, healing: true, passes: 7}}, []position{{1, 90}}, false},
			{[]standing{{full: true, epoch: 1, reached: 95, healing: true, passes: 8}}, nil, false},
			{[]standing{{full: true, epoch: 1, reached: 95, passes: 8}}, nil, true},
		}, []int{0}, 1},
		{"those that come later are not", UntilCaughtUp, []step{
			{[]standing{{full: true, epoch: 1, reached: 80, healing: true, passes: 5}}, []position{{1, 90}}, false},
			{[]standing{{full: true, epoch: 1, reached: 90, healing: true, passes: 7}}, nil, false},
			{[]standing{{full: true, epoch: 1, reached: 99, healing: true, passes: 8}}, nil, false},
			{[]standing{{full: true, epoch: 1, reached: 99, healing: true, passes: 9}}, nil, true},
		}, []int{0}, 1},
		{"all stopped is an end", UntilCaughtUp, []step{
			{[]standing{{stopped: true}, {stopped: true}}, []position{{}, {}}, true},
		}, nil, 0},
		{"without a goal it ends when nothing can go on", UntilStopped, []step{
			{[]standing{{full: true}, {drained: true}}, nil, false},
			{[]standing{{drained: true}, {drained: true}}, nil, true},
		}, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			f := &fakeRun{at: make([]standing, len(tt.steps[0].at))}
			g := f.goal(tt.until)
			for i, s := range tt.steps {
				f.at = s.at
				if s.source != nil {
					f.source = s.source
				}
				if got := g.step(t.Context()); got != s.want {
					t.Errorf("step %d: got %v, want %v", i+1, got, s.want)
				}
			}
			slices.Sort(f.done)
			if !slices.Equal(f.done, tt.done) {
				t.Errorf("reached by %v, want %v", f.done, tt.done)
			}
			for i, s := range tt.steps {
				held := s.at[0].held && s.at[0].reached >= 90
				if told := slices.Contains(f.settled, position{0, 90}); held && !told {
					t.Errorf("step %d: apply was not told to set deadlines exact", i+1)
				}
			}
			if len(f.asked) != tt.asks {
				t.Errorf("sources were asked %d times, want %d", len(f.asked), tt.asks)
			}
		})
	}
}
