package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"tairlift/internal/job/workload"
	"tairlift/internal/resp"
)

// kindOf tells it by the key's name, "s:<group>:<kind>:<slot>".
func kindOf(key string) kind {
	parts := strings.SplitN(key, ":", 4)
	return kind(parts[2][0])
}

// foreign is a key that the target held before the job. What no source has ever
// sent over it must stay as it is.
type foreign struct {
	db    int
	key   string
	apart bool // no source ever has a key of that name
	dump  string
}

// anotherJob has a mark on the target too, which is not ours to touch.
const anotherJob = "00112233445566778899aabbccddeeff"

const planted = 40 // foreign keys of each sort in each database

// plant gives the target keys of its own: the mark of another job, keys that the
// sources do not know, also where they have no database, and some by the names of
// the writers' keys.
func (s *soak) plant(ctx context.Context) error {
	if _, err := s.target.Ask(ctx, 0, "SADD", "tairlift:jobs", anotherJob); err != nil {
		return err
	}
	mark := "tairlift:mark:" + anotherJob + ":0001"
	if _, err := s.target.Ask(ctx, 0, "SET", mark, "not to be read"); err != nil {
		return err
	}
	rep, err := s.target.Ask(ctx, 0, "DUMP", mark)
	if err != nil {
		return err
	}
	s.foreign = append(s.foreign, foreign{key: mark, apart: true, dump: string(rep.Str)})
	for _, db := range append([]int{3}, databases...) {
		c, err := workload.Open(ctx, s.target.Addr, "", db)
		if err != nil {
			return err
		}
		defer c.Close()
		for i := range planted {
			keys := []string{"foreign:" + strconv.Itoa(i)}
			if db != 3 {
				g := 1 + i%groups
				keys = append(keys, fmt.Sprintf("k:%d:%d", g, i), fmt.Sprintf("s:%d:%c:%d", g, kinds[i%len(kinds)], i))
			}
			for n, key := range keys {
				commands := [][]string{{"SET", key, "was here before"}, {"RPUSH", key, "was", "here"}, {"HSET", key, "was", "here"}, {"ZADD", key, "1", "was"}}
				if _, err := c.Do(ctx, commands[(i+n)%len(commands)]...); err != nil {
					return err
				}
				if i%3 == 0 {
					if _, err := c.Do(ctx, "PEXPIREAT", key, strconv.Itoa(century)); err != nil {
						return err
					}
				}
				rep, err := c.Do(ctx, "DUMP", key)
				if err != nil {
					return err
				}
				s.foreign = append(s.foreign, foreign{db: db, key: key, apart: n == 0, dump: string(rep.Str)})
			}
		}
	}
	return nil
}

// uproot removes the foreign keys that are left, for verify counts them.
func (s *soak) uproot(ctx context.Context) error {
	for _, f := range s.foreign {
		if s.known(f.db, f.key) {
			continue
		}
		if _, err := s.target.Ask(ctx, f.db, "DEL", f.key); err != nil {
			return err
		}
	}
	return nil
}

// known tells whether a source holds the key.
func (s *soak) known(db int, key string) bool {
	if group, slot, ok := filling(key); ok {
		return group <= groups && slot < s.keys && slices.Contains(databases, db)
	}
	for _, w := range s.writers {
		if w.db == db && w.ledger.keys[key] != nil {
			return true
		}
	}
	return db == 0 && strings.HasPrefix(key, "barrier:")
}

// filling tells whether the key is one of workload.Fill's.
func filling(key string) (group, slot int, ok bool) {
	n, err := fmt.Sscanf(key, "k:%d:%d", &group, &slot)
	return group, slot, n == 2 && err == nil
}

const mostDiffs = 12 // that are told

// diffs gathers what differs.
type diffs struct {
	n     int
	lines []string
}

func (d *diffs) add(format string, args ...any) {
	if d.n++; d.n <= mostDiffs {
		d.lines = append(d.lines, fmt.Sprintf(format, args...))
	}
}

func (d *diffs) err(checked int) error {
	if d.n == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d keys are not as they were written:\n  %s", d.n, checked, strings.Join(d.lines, "\n  "))
}

// compare compares the target with the ledgers, key by key, and then the
// database as a whole: no key may be missing, and none be there that nobody wrote.
func (s *soak) compare(ctx context.Context) error {
	var d diffs
	checked := 0
	for _, w := range s.writers {
		// The source too: a ledger that is wrong would prove nothing.
		for _, srv := range []*server{s.sources[w.group-1], s.target} {
			if err := w.compare(ctx, srv.Addr, srv.role, &d); err != nil {
				return err
			}
		}
		checked += len(w.ledger.keys)
	}
	for _, db := range append([]int{3}, databases...) {
		n, err := s.census(ctx, db, &d)
		if err != nil {
			return err
		}
		checked += n
	}
	return d.err(checked)
}

// compare compares a server with the ledger.
func (w *writer) compare(ctx context.Context, addr, role string, d *diffs) error {
	c, err := workload.Open(ctx, addr, "", w.db)
	if err != nil {
		return err
	}
	defer c.Close()
	held, err := readAll(c, slices.Sorted(maps.Keys(w.ledger.keys)))
	if err != nil {
		return err
	}
	for key, v := range w.ledger.keys {
		if diff := held[key].is(kindOf(key), v); diff != "" {
			d.add("group %d, DB%d, at the %s, %s: %s", w.group, w.db, role, key, diff)
		}
	}
	return nil
}

// census looks at every name in a database of the target.
func (s *soak) census(ctx context.Context, db int, d *diffs) (seen int, err error) {
	c, err := workload.Open(ctx, s.target.Addr, "", db)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	there, err := scan(ctx, c)
	if err != nil {
		return 0, err
	}
	own := map[string]foreign{}
	for _, f := range s.foreign {
		if f.db != db {
			continue
		}
		own[f.key] = f
		if f.apart && !there[f.key] {
			d.add("DB%d, %s, which was there before the job, has gone", db, f.key)
		}
	}
	for key := range there {
		switch f, before := own[key]; {
		case s.known(db, key), db == 0 && !before && strings.HasPrefix(key, "tairlift:"):
		case !before:
			d.add("DB%d, %s, is on the target and not at its source", db, key)
		default:
			rep, err := c.Do(ctx, "DUMP", key)
			if err != nil {
				return 0, err
			}
			if string(rep.Str) != f.dump {
				d.add("DB%d, %s, which was there before the job and is not at its source, was changed", db, key)
			}
		}
	}
	if !slices.Contains(databases, db) {
		return len(there), nil
	}
	for g := 1; g <= groups; g++ {
		for i := range s.keys {
			if key := fmt.Sprintf("k:%d:%d", g, i); !there[key] {
				d.add("DB%d, %s, is not on the target", db, key)
			}
		}
		if key := barrier(g); db == 0 && !there[key] {
			d.add("DB%d, %s, is not on the target", db, key)
		}
	}
	return len(there), nil
}

// scan is every name in the database that the connection has selected.
func scan(ctx context.Context, c *resp.Conn) (map[string]bool, error) {
	names, cursor := map[string]bool{}, "0"
	for {
		rep, err := c.Do(ctx, "SCAN", cursor, "COUNT", "1000")
		if err != nil {
			return nil, err
		}
		for _, key := range rep.Elems[1].Strings() {
			names[key] = true
		}
		if cursor = rep.Elems[0].String(); cursor == "0" {
			return names, nil
		}
	}
}
