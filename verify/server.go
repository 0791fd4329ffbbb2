package verify

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"tairlift/internal/client"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

// server is one side, or a part of it.
type server struct {
	name    string // for messages: "source group 1 (HOST:PORT)"
	group   repl.GroupID
	addr    string
	secret  resp.Secret
	idle    time.Duration
	control *redis.Client

	// From open:
	runID   string
	noTouch bool // knows CLIENT NO-TOUCH
	replica bool
	evicts  string        // its maxmemory-policy, when that is an LRU or LFU one
	ahead   time.Duration // its clock against ours
}

func newServer(name string, g repl.GroupID, addr string, secret resp.Secret, idle time.Duration) *server {
	return &server{
		name: fmt.Sprintf("%s (%s)", name, addr), group: g, addr: addr, secret: secret, idle: idle,
		control: client.New(addr, secret, client.Options{PoolSize: 1, Timeout: idle}),
	}
}

func (s *server) close() { s.control.Close() }

// open asks the server who it is.
func (s *server) open(ctx context.Context) error {
	info, err := s.info(ctx)
	if err != nil {
		return err
	}
	s.runID = info["run_id"]
	s.replica = info["role"] == "slave"
	var major, minor int
	_, _ = fmt.Sscanf(info["redis_version"], "%d.%d", &major, &minor)
	s.noTouch = major > 7 || major == 7 && minor >= 2
	if p := info["maxmemory_policy"]; strings.Contains(p, "lru") || strings.Contains(p, "lfu") {
		s.evicts = p
	}
	begun := time.Now()
	at, err := s.control.Time(ctx).Result()
	if err != nil {
		return explain(ctx, "ask the time of", s.name, err)
	}
	took := time.Since(begun)
	s.ahead = at.Sub(begun.Add(took / 2))
	return nil
}

func (s *server) info(ctx context.Context) (map[string]string, error) {
	text, err := s.control.Info(ctx).Result()
	if err != nil {
		return nil, explain(ctx, "ask INFO of", s.name, err)
	}
	m := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok {
			m[k] = v
		}
	}
	return m, nil
}

// dbSize is a line of INFO keyspace.
type dbSize struct{ keys, expires int64 }

// keyspace is the number of keys per db, of dbs that have any.
func (s *server) keyspace(ctx context.Context) (map[int]dbSize, error) {
	info, err := s.info(ctx)
	if err != nil {
		return nil, err
	}
	return s.keyspaceOf(info)
}

func (s *server) keyspaceOf(info map[string]string) (map[int]dbSize, error) {
	out := map[int]dbSize{}
	for k, v := range info {
		num, ok := strings.CutPrefix(k, "db")
		if !ok {
			continue
		}
		db, err := strconv.Atoi(num)
		if err != nil {
			continue
		}
		var size dbSize
		for field := range strings.SplitSeq(v, ",") {
			name, value, _ := strings.Cut(field, "=")
			switch name {
			case "keys":
				size.keys, err = strconv.ParseInt(value, 10, 64)
			case "expires":
				size.expires, err = strconv.ParseInt(value, 10, 64)
			}
			if err != nil {
				return nil, &Error{
					What: fmt.Sprintf("ask INFO of %s: %s:%s is not a keyspace line", s.name, k, v),
					Hint: "is this a Redis server, or a proxy with an INFO of its own?",
				}
			}
		}
		out[db] = size
	}
	return out, nil
}

// snapshot is one INFO: the sizes of all dbs, and a mark that is the same in
// two of them only if no key came or went in between. Empty is not known.
func (s *server) snapshot(ctx context.Context) (sizes map[int]dbSize, mark string, err error) {
	info, err := s.info(ctx)
	if err != nil {
		return nil, "", err
	}
	if sizes, err = s.keyspaceOf(info); err != nil {
		return nil, "", err
	}
	for _, field := range []string{"run_id", "rdb_changes_since_last_save", "rdb_last_save_time", "expired_keys", "evicted_keys"} {
		if info[field] == "" {
			return sizes, "", nil
		}
		mark += info[field] + " "
	}
	return sizes, mark, nil
}

// writes is a mark that moves with every write to the server's data: changes
// since the last save, and when that was. Empty is not known.
func (s *server) writes(ctx context.Context) (string, error) {
	info, err := s.info(ctx)
	if err != nil {
		return "", err
	}
	changes := info["rdb_changes_since_last_save"]
	if changes == "" {
		return "", nil
	}
	return changes + " since " + info["rdb_last_save_time"], nil
}
