package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"tairlift/internal/command"
	"tairlift/internal/resp"
	"tairlift/internal/selection"
)

// target is what INFO told about the server that is written to.
type target struct {
	version      string
	major, minor int
	runID        string
	role         string
	cluster      bool
	asked        time.Time     // when
	evicted      int64         // keys, since it started; -1 is not known
	policy       string        // maxmemory-policy
	keyspace     map[int]int64 // database -> keys
	takes        *accepts      // nil: not probed
	expires      map[int]int64 // database -> those of them with a deadline
}

func (t target) caps() command.Caps {
	return command.Caps{AbsTTL: t.major >= 5, Major: t.major, Minor: t.minor}
}

// setPXAT tells whether SET takes an absolute deadline (Redis 6.2).
func (t target) setPXAT() bool { return t.major > 6 || t.major == 6 && t.minor >= 2 }

func probe(ctx context.Context, c doer) (target, error) {
	t := target{keyspace: map[int]int64{}, expires: map[int]int64{}, asked: time.Now(), evicted: -1}
	r, err := c.Do(ctx, "INFO")
	if err != nil {
		return target{}, fmt.Errorf("ask the target for INFO: %w", err)
	}
	for line := range strings.Lines(string(r.Str)) {
		k, v, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		switch k {
		case "redis_version":
			t.version = v
			major, rest, _ := strings.Cut(v, ".")
			minor, _, _ := strings.Cut(rest, ".")
			t.major, _ = strconv.Atoi(major)
			t.minor, _ = strconv.Atoi(minor)
		case "run_id":
			t.runID = v
		case "role":
			t.role = v
		case "evicted_keys":
			if n, err := strconv.ParseInt(v, 10, 64); err == nil {
				t.evicted = n
			}
		case "maxmemory_policy":
			t.policy = v
		case "redis_mode":
			t.cluster = v == "cluster"
		default:
			if num, ok := strings.CutPrefix(k, "db"); ok {
				db, err := strconv.Atoi(num)
				keys, rest, _ := strings.Cut(strings.TrimPrefix(v, "keys="), ",")
				n, err2 := strconv.ParseInt(keys, 10, 64)
				if err == nil && err2 == nil {
					t.keyspace[db] = n
					expires, _, _ := strings.Cut(strings.TrimPrefix(rest, "expires="), ",")
					if t.expires[db], err = strconv.ParseInt(expires, 10, 64); err != nil {
						t.expires[db] = n // who knows
					}
				}
			}
		}
	}
	if t.runID == "" {
		t.runID = "-"
	}
	if t.major == 0 {
		return target{}, fmt.Errorf("%w: ask the target for INFO: no redis_version in the %d bytes of the answer", resp.ErrProtocol, len(r.Str))
	}
	return t, nil
}

// foreignKeys looks for keys that are neither ours nor heartbeats, where the job
// may write, and returns up to limit of them as "db0:name". It reads until it has
// found them or has seen every key, so a target full of foreign keys answers at
// once.
func foreignKeys(ctx context.Context, c doer, t target, s *selection.Selection, limit int) (found []string, total int64, err error) {
	defer func() {
		if _, e := c.Do(ctx, "SELECT", "0"); err == nil {
			err = e
		}
	}()
	for _, db := range slices.Sorted(maps.Keys(t.keyspace)) {
		if s.From(db) == selection.None {
			continue
		}
		own := int64(0)
		err := scanKeys(ctx, c, db, func(key []byte) error {
			switch {
			case isOurs(key), !s.Key(key):
				own++
			case len(found) >= limit:
				return errEnough
			default:
				found = append(found, fmt.Sprintf("db%d:%q", db, key))
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return nil, 0, err
		}
		total += max(t.keyspace[db]-own, 0)
	}
	return found, total, nil
}

var errEnough = errors.New("enough was seen")

// scanCount is how many keys a step of a scan looks at, about.
const scanCount = 1000

// scanKeys calls fn for every key of a database, some of them twice, until that
// returns an error. Database 0 is selected behind it.
func scanKeys(ctx context.Context, c doer, db int, fn func(key []byte) error, pattern ...string) error {
	for cursor := "0"; ; {
		keys, next, err := scanStep(ctx, c, db, cursor, pattern...)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := fn(k.Str); err != nil {
				return err
			}
		}
		if cursor = next; cursor == "0" {
			_, err := c.Do(ctx, "SELECT", "0")
			return err
		}
	}
}

// scanStep is one step of a scan of a database, which is selected with the first one,
// from the cursor "0". next is "0" behind the last.
func scanStep(ctx context.Context, c doer, db int, cursor string, pattern ...string) (keys []resp.Reply, next string, err error) {
	if cursor == "0" {
		if _, err := c.Do(ctx, "SELECT", strconv.Itoa(db)); err != nil {
			return nil, "", fmt.Errorf("select database %d of the target: %w", db, err)
		}
	}
	r, err := c.Do(ctx, append([]string{"SCAN", cursor, "COUNT", strconv.Itoa(scanCount)}, pattern...)...)
	if err != nil {
		return nil, "", fmt.Errorf("scan database %d of the target: %w", db, err)
	}
	if len(r.Elems) != 2 {
		return nil, "", fmt.Errorf("%w: scan database %d of the target: answer has %d parts, expected 2", resp.ErrProtocol, db, len(r.Elems))
	}
	return r.Elems[1].Elems, string(r.Elems[0].Str), nil
}

// clientsNamed reads CLIENT LIST and returns the ids of the connections with
// this name.
func clientsNamed(list, name string) (ids []string) {
	for line := range strings.Lines(list) {
		id, named := "", false
		for field := range strings.FieldsSeq(line) {
			k, v, _ := strings.Cut(field, "=")
			switch k {
			case "id":
				id = v
			case "name":
				named = v == name
			}
		}
		if named && id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}
