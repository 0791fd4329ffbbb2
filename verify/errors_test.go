package verify

import (
	"context"
	"errors"
	"strings"
	"testing"

	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

func TestWrongEndpointsAreExplained(t *testing.T) {
	src, dst := redistest.Source(t, redistest.Password("sesame")), redistest.Target(t)
	load(t, src, 0, c("SET k v")...)
	load(t, dst, 0, c("SET k v")...)
	var (
		dial *resp.DialError
		auth *resp.AuthError
	)
	tests := []struct {
		name   string
		change func(*Options)
		as     any
		what   string
		hint   string
	}{
		{"address where nobody listens", func(o *Options) { o.Target.Addr = "127.0.0.1:1" }, &dial, "target (127.0.0.1:1)", "reachable"},
		{"wrong password", func(o *Options) { o.Sources[0].Secret = "wrong" }, &auth, "source group 1", "password"},
		{"no password", func(o *Options) { o.Sources[0].Secret = "" }, nil, "source group 1", "password"},
		{"the target as a source", func(o *Options) { o.Sources[0] = Source{Group: 1, Addr: o.Target.Addr} }, nil, "the same server", "addresses"},
		{"a source twice", func(o *Options) { o.Sources = append(o.Sources, o.Sources[0]) }, nil, "the same server", "addresses"},
		{"no source", func(o *Options) { o.Sources = nil }, nil, "nothing to compare", "group"},
		{"unknown level", func(o *Options) { o.Level = "deep" }, nil, `level "deep"`, "--level"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options(dst, src)
			tt.change(&o)
			rep, err := Run(context.Background(), o)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got error %v, want an *Error", err)
			}
			if !strings.Contains(e.Error(), tt.what) || !strings.Contains(e.Hint, tt.hint) {
				t.Errorf("got %q, hint %q, want %q and %q in them", e.Error(), e.Hint, tt.what, tt.hint)
			}
			if tt.as != nil && !errors.As(err, tt.as) {
				t.Errorf("got %v, want a %T in it", err, tt.as)
			}
			if strings.Contains(e.Error()+e.Hint, "sesame") {
				t.Errorf("the secret is in %q", e.Error())
			}
			expect(t, &rep, Inconclusive, nil)
		})
	}
	rep := verify(t, options(dst, src))
	expect(t, &rep, Identical, nil)
}

func TestLostConnectionLeavesTheRunInconclusive(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t)
	load(t, src, 0, mixed(2000)...)
	load(t, dst, 0, mixed(2000)...)
	load(t, dst, 0, c("DEL k:000000")...) // found or not before the end: never counted as settled
	for name, s := range map[string]*redistest.Server{"source": src, "target": dst} {
		t.Run(name, func(t *testing.T) {
			cut := func(_, n int, args [][]byte) redistest.Action {
				if n > 1000 {
					return redistest.Close()
				}
				return redistest.Pass()
			}
			proxy := redistest.NewProxy(t, s.Addr, cut)
			o := options(dst, src)
			if s == src {
				o.Sources[0].Addr = proxy.Addr
			} else {
				o.Target.Addr = proxy.Addr
			}
			rep, err := Run(context.Background(), o)
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(e.What, name) || !strings.Contains(e.Hint, "start verify again") {
				t.Errorf("got error %v, want an *Error that names the %s and says to start again", err, name)
			}
			if rep.Verdict != Inconclusive || rep.Compared == 0 || rep.Compared >= 2000 {
				t.Errorf("got %s with %d keys compared, want inconclusive with some of 2000", rep.Verdict, rep.Compared)
			}
			if !strings.HasPrefix(rep.Line(), "INCONCLUSIVE: ") {
				t.Errorf("line: got %q, want INCONCLUSIVE", rep.Line())
			}
		})
	}
}

func TestInterruptedRunIsInconclusive(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t)
	load(t, src, 0, mixed(2000)...)
	load(t, dst, 0, mixed(2000)...)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o := options(dst, src)
	var last, total int64
	o.Progress = func(done, all int64) {
		if done < last {
			t.Errorf("progress went back from %d to %d", last, done)
		}
		last, total = done, all
		if done > 500 {
			cancel()
		}
	}
	rep, err := Run(ctx, o)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
	expect(t, &rep, Inconclusive, nil)
	if !strings.Contains(rep.Reason, "interrupted") || total != 4000 {
		t.Errorf("got reason %q, total %d, want interrupted and 4000", rep.Reason, total)
	}
}

func TestServerWithoutDUMPIsExplained(t *testing.T) {
	src, dst := redistest.Source(t), redistest.Target(t)
	load(t, src, 0, c("SET k v")...)
	load(t, dst, 0, c("SET k v")...)
	proxy := redistest.NewProxy(t, dst.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if strings.EqualFold(string(args[0]), "DUMP") {
			return redistest.ReplyError("ERR handle request, command 'DUMP' is not allowed")
		}
		return redistest.Pass()
	})
	o := options(dst, src)
	o.Target.Addr = proxy.Addr
	rep, err := Run(context.Background(), o)
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Error(), "is not allowed") || !strings.Contains(e.Hint, "proxy") {
		t.Errorf("got %v, want the server's words and a hint at proxies", err)
	}
	expect(t, &rep, Inconclusive, nil)
}
