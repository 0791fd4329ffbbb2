package client

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"tairlift/internal/resp"
)

// Options say what differs between clients. The zero value works.
type Options struct {
	DB       int           // SELECTed on each new connection; 0 sends no SELECT
	PoolSize int           // connections at most; 0 is 4
	Timeout  time.Duration // of one write and of one read; 0 is 10 s, negative is none but the context's
	Name     string        // CLIENT SETNAME on each new connection; empty is none
}

const (
	defaultPool    = 4
	defaultTimeout = 10 * time.Second
	dialTimeout    = 5 * time.Second
)

// New makes a client of the server at addr, a HOST:PORT. It connects when it is
// first used. The caller closes it.
func New(addr string, secret resp.Secret, o Options) *redis.Client {
	silence()
	if o.PoolSize <= 0 {
		o.PoolSize = defaultPool
	}
	switch {
	case o.Timeout == 0:
		o.Timeout = defaultTimeout
	case o.Timeout < 0:
		o.Timeout = -1
	}
	return redis.NewClient(&redis.Options{
		Addr: addr,
		Dialer: func(ctx context.Context, _, addr string) (net.Conn, error) {
			c, err := resp.Dial(ctx, addr, secret)
			if err != nil {
				return failed{addr, wrapped{err}}, nil
			}
			return c.NetConn(), nil
		},
		DB:                       o.DB,
		ClientName:               o.Name,
		Protocol:                 2,
		MaxRetries:               -1,
		DialTimeout:              dialTimeout,
		DialerRetries:            1,
		ReadTimeout:              o.Timeout,
		WriteTimeout:             o.Timeout,
		ContextTimeoutEnabled:    true,
		PoolSize:                 o.PoolSize,
		ConnMaxIdleTime:          -1,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// failed is the connection that could not be made. Its first use, go-redis's
// HELLO, returns why. Told of the error itself, the pool would count it, after
// PoolSize of them answer with the last one without trying, and keep a goroutine
// that dials once a second and outlives Close by up to that second.
type failed struct {
	addr string
	err  error
}

func (f failed) Read([]byte) (int, error)         { return 0, f.err }
func (f failed) Write([]byte) (int, error)        { return 0, f.err }
func (f failed) Close() error                     { return nil }
func (f failed) LocalAddr() net.Addr              { return f }
func (f failed) RemoteAddr() net.Addr             { return f }
func (f failed) Network() string                  { return "tcp" }
func (f failed) String() string                   { return f.addr }
func (f failed) SetDeadline(time.Time) error      { return nil }
func (f failed) SetReadDeadline(time.Time) error  { return nil }
func (f failed) SetWriteDeadline(time.Time) error { return nil }

// wrapped is one layer around an error: go-redis peels one off whatever its
// HELLO returned.
type wrapped struct{ error }

func (w wrapped) Unwrap() error { return w.error }

// silence takes go-redis's logger away, once: it is a global of that package.
var silence = sync.OnceFunc(func() { redis.SetLogger(quiet{}) })

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}
