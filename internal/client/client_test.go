package client

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a proxy's hook that keeps the names of commands.
type recorder struct {
	mu   sync.Mutex
	seen []string
}

func (r *recorder) hook(_, _ int, args [][]byte) redistest.Action {
	r.mu.Lock()
	defer r.mu.Unlock()
	var words []string
	for _, a := range args {
		words = append(words, string(a))
	}
	r.seen = append(r.seen, strings.ToUpper(words[0])+strings.TrimPrefix(strings.Join(words, " "), words[0]))
	return redistest.Pass()
}

func (r *recorder) commands() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen)
}

func TestNewConnectionSaysNothingItNeedNot(t *testing.T) {
	var rec recorder
	s := redistest.Source(t)
	c := New(redistest.NewProxy(t, s.Addr, rec.hook).Addr, "", Options{DB: 3, Name: "tester", PoolSize: 1})
	defer c.Close()
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got := s.DoIn(t, 3, "GET", "k").String(); got != "v" {
		t.Errorf("db 3: got %q, want v", got)
	}
	got := rec.commands()
	got = slices.DeleteFunc(got, func(s string) bool { return strings.HasPrefix(s, "HELLO 2") })
	want := []string{"SELECT 3", "CLIENT SETNAME tester", "SET k v"}
	if len(got) != len(want) {
		t.Fatalf("got commands %q, want HELLO 2 and %q", got, want)
	}
	for i := range want {
		if !strings.EqualFold(got[i], want[i]) {
			t.Errorf("command %d: got %q, want %q", i, got[i], want[i])
		}
	}
}

func TestCommandWhoseReplyIsLostIsNotSentAgain(t *testing.T) {
	s := redistest.Target(t)
	lost := 0
	proxy := redistest.NewProxy(t, s.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if strings.EqualFold(string(args[0]), "INCR") {
			lost++
			return redistest.DropReply()
		}
		return redistest.Pass()
	})
	c := New(proxy.Addr, "", Options{})
	defer c.Close()
	if err := c.Incr(t.Context(), "n").Err(); err == nil {
		t.Error("got no error, want one: the reply was lost")
	}
	if got := s.Do(t, "GET", "n").String(); got != "1" || lost != 1 {
		t.Errorf("n: got %s after %d INCRs, want 1 after 1", got, lost)
	}
}

func TestSecretsInAllFormsAreTaken(t *testing.T) {
	s := redistest.Source(t, redistest.Password("se:same"))
	acl := false
	if major, _ := s.Version(); major >= 6 {
		acl = true
		s.Do(t, "ACL", "SETUSER", "mover", "on", ">lift", "~*", "+@all")
	}
	tests := []struct {
		name   string
		secret resp.Secret
		acl    bool
		want   bool
	}{
		{"whole, with a colon in it", "se:same", false, true},
		{"user and password", "mover:lift", true, true},
		{"wrong", "se", false, false},
		{"wrong user", "someone:se", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.acl && !acl {
				t.Skip("the server has no users")
			}
			c := New(s.Addr, tt.secret, Options{})
			defer c.Close()
			err := c.Ping(t.Context()).Err()
			if tt.want && err != nil {
				t.Errorf("got %v, want success", err)
			}
			var ae *resp.AuthError
			if !tt.want && !errors.As(err, &ae) {
				t.Errorf("got %v, want an *resp.AuthError", err)
			}
		})
	}
}

func TestServerThatIsNotThereIsADialError(t *testing.T) {
	c := New("127.0.0.1:1", "", Options{PoolSize: 1})
	defer c.Close()
	for range 3 { // each is a try of its own
		var de *resp.DialError
		if err := c.Ping(t.Context()).Err(); !errors.As(err, &de) {
			t.Errorf("got %v, want a *resp.DialError", err)
		}
	}
}

func TestContextDeadlineEndsAHangingCommand(t *testing.T) {
	s := redistest.Target(t)
	proxy := redistest.NewProxy(t, s.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if strings.EqualFold(string(args[0]), "GET") {
			return redistest.Hang()
		}
		return redistest.Pass()
	})
	c := New(proxy.Addr, "", Options{Timeout: -1})
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Get(ctx, "k").Err(); err == nil || errors.Is(err, redis.Nil) {
		t.Errorf("got %v, want an error: the server hangs", err)
	}
	// The client goes on with another connection.
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Errorf("next command: got %v, want success", err)
	}
}
