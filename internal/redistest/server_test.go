package redistest

import (
	"context"
	"errors"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"tairlift/internal/resp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServer(t *testing.T) {
	for name, start := range map[string]func(testing.TB, ...Option) *Server{"source": Source, "target": Target} {
		t.Run(name, func(t *testing.T) {
			s := start(t, Arg("--maxclients", "100"))
			s.Do(t, "SET", "k", "v")
			s.DoIn(t, 3, "SET", "k", "in 3")
			if got := s.Do(t, "GET", "k").String(); got != "v" {
				t.Errorf("got %q, want v", got)
			}
			if got := s.DoIn(t, 3, "GET", "k").String(); got != "in 3" {
				t.Errorf("database 3: got %q, want %q", got, "in 3")
			}
			if _, err := s.DoErr("nonsense"); !resp.HasCode(err, "ERR") {
				t.Errorf("nonsense: got %v, want ERR", err)
			}
			if major, minor := s.Version(); major < 2 || major == 2 && minor < 8 {
				t.Errorf("got version %d.%d", major, minor)
			}
			t.Logf("codis: %v", s.IsCodis())
			if got := s.Do(t, "CONFIG", "GET", "maxclients").Strings()[1]; got != "100" {
				t.Errorf("got maxclients %s, want 100", got)
			}
			s.Do(t, "DEBUG", "SLEEP", "0")
		})
	}
}

func TestServerComesBackAtItsAddress(t *testing.T) {
	s := Source(t)
	addr, pid := s.Addr, s.PID
	s.Do(t, "SET", "saved", "1")
	s.Do(t, "SAVE")
	s.Do(t, "SET", "lost", "1")
	s.Kill()
	s.Kill()
	if _, err := s.DoErr("PING"); err == nil {
		t.Error("a killed server answers")
	}
	s.Restart(t)
	if s.Addr != addr || s.PID == pid {
		t.Errorf("got %s, process %d, want %s and another than %d", s.Addr, s.PID, addr, pid)
	}
	if got := s.Do(t, "KEYS", "*").String(); got != "[saved]" {
		t.Errorf("got keys %s, want [saved]", got)
	}
	s.Stop()
	<-s.Exited()
}

func TestServerThatHangs(t *testing.T) {
	s := Target(t)
	s.Signal(syscall.SIGSTOP)
	ctx, cancel := context.WithCancel(context.Background())
	c, err := resp.Dial(ctx, s.Addr, "")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := c.Do(ctx, "PING")
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	s.Signal(syscall.SIGCONT)
	s.Do(t, "PING")
}

func TestReplicaAndPassword(t *testing.T) {
	master := Source(t, Password("pa:ss"))
	replica := Source(t, Password("pa:ss"))
	replica.ReplicaOf(t, master)
	master.Do(t, "SET", "k", "v")
	replica.Wait(t, "key", func() bool { return replica.Do(t, "GET", "k").String() == "v" })
	if got := replica.Info(t, "replication")["role"]; got != "slave" {
		t.Errorf("got role %q, want slave", got)
	}
}
