package job

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
)

func TestGate(t *testing.T) {
	type ask struct{ name, host string }
	tests := []struct {
		claim          string
		perHost, total int
		asks           []ask
		want           []string // who is let in, in order, when each leaves in turn
		first          int      // how many are let in at once
	}{
		{"one of a host at a time", 1, 4, []ask{{"a", "h"}, {"b", "h"}, {"c", "h"}}, []string{"a", "b", "c"}, 1},
		{"hosts do not hold each other up", 1, 4, []ask{{"a", "h"}, {"b", "h"}, {"c", "i"}}, []string{"a", "c", "b"}, 2},
		{"in all no more than total", 1, 2, []ask{{"a", "h"}, {"b", "i"}, {"c", "j"}}, []string{"a", "b", "c"}, 2},
		{"several of a host when asked for", 2, 4, []ask{{"a", "h"}, {"b", "h"}, {"c", "h"}}, []string{"a", "b", "c"}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate(tt.perHost, tt.total)
				var in []string
				leave := map[string]func(){}
				for _, a := range tt.asks {
					go func() {
						release, err := g.Acquire(t.Context(), a.host)
						if err != nil {
							t.Error(err)
						}
						in = append(in, a.name)
						leave[a.name] = release
					}()
					synctest.Wait()
				}
				if len(in) != tt.first {
					t.Errorf("got %v in at once, want %d", in, tt.first)
				}
				for i := range tt.asks {
					release := leave[in[i]]
					release()
					release() // twice is once
					synctest.Wait()
				}
				if !slices.Equal(in, tt.want) {
					t.Errorf("got %v, want %v", in, tt.want)
				}
			})
		})
	}
}

func TestGateForgetsWhoGaveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 1)
		release, err := g.Acquire(t.Context(), "h")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := g.Acquire(ctx, "h")
			gone <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-gone; err != context.Canceled {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		release()
		release, err = g.Acquire(t.Context(), "h")
		if err != nil {
			t.Fatal(err)
		}
		release()
	})
}
