package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tairlift/internal/rdb"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// accepts is what a probe found out about a target: what decides how a value is
// written there, before it is sent. A nil one is of a target that takes
// everything.
type accepts struct {
	versions []int // of RDB payloads that RESTORE takes, ascending; none: no RESTORE
	unlink   bool
	fieldTTL bool  // HPEXPIREAT
	modules  bool  // some are loaded; without any, RESTORE of a module's value ends a server before 6.2
	maxBulk  int64 // bytes of one argument

	mu      sync.Mutex
	rename  bool
	refused map[byte]bool // types that RESTORE turned out not to take
}

// probeVersions are the RDB versions that servers have had: up to 12 of Redis
// 7.4 and 8, and 80 of Valkey 9, which refuses those between its own and 11.
var probeVersions = []int{6, 7, 8, 9, 10, 11, 12, 13, 80}

const (
	// sharedVersions is up to which a server that takes a version takes those
	// before it.
	sharedVersions = 11
	// defaultMaxBulk is a server's own bound of one argument.
	defaultMaxBulk = 512 << 20
	probeTime      = time.Minute // for which a probe lives if it is not removed
)

// restorable is the version that a payload of type typ is to bear for RESTORE
// to take it: its own, or one in which that type was encoded in the same way. ok
// is false when it does not take it.
func (a *accepts) restorable(typ byte, payload []byte) (stamp int, ok bool) {
	has := versionOf(payload)
	switch {
	case a == nil:
		return has, true
	case rdb.KindOf(typ) == rdb.KindModule: // of its value the target alone can judge
		return has, a.modules
	}
	a.mu.Lock()
	refused := a.refused[typ]
	a.mu.Unlock()
	if refused {
		return has, false
	}
	if slices.ContainsFunc(a.versions, func(v int) bool { return v == has || has < v && v <= sharedVersions }) {
		return has, true
	}
	least := rdb.MinVersion(typ)
	for _, v := range slices.Backward(a.versions) {
		if v < has && least > 0 && v >= least {
			return v, true
		}
	}
	return has, false
}

// refuse remembers that RESTORE did not take a type, whatever the probe said,
// and tells whether that is news.
func (a *accepts) refuse(typ byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refused == nil {
		a.refused = map[byte]bool{}
	}
	news := !a.refused[typ]
	a.refused[typ] = true
	return news
}

// renames tells whether the account may RENAME keys.
func (a *accepts) renames() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rename
}

func (a *accepts) noRename() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rename = false
}

func (a *accepts) String() string {
	restore := "no RESTORE"
	if len(a.versions) > 0 {
		restore = "RESTORE up to RDB version " + strconv.Itoa(a.versions[len(a.versions)-1])
	}
	if !a.rename {
		restore += ", no RENAME"
	}
	return restore
}

// accepts is what the target takes, found out once for each of its runs, by the first
// group that asks.
func (j *Job) accepts(ctx context.Context, g repl.GroupID, t target) (*accepts, error) {
	j.probing.Lock()
	defer j.probing.Unlock()
	if a := j.probed; a != nil && j.probedRun == t.runID {
		return a, nil
	}
	conn, err := j.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	a, err := probeAccepts(ctx, conn, t, probeKey(j.o.Job, g))
	if err != nil {
		return nil, fmt.Errorf("find out what the target takes: %w", err)
	}
	j.o.Log.Info("the target was probed", "version", t.version, "takes", a.String())
	j.probed, j.probedRun = a, t.runID
	return a, nil
}

// probeKey is the key on which commands are tried: of a group, because another one of
// the job may be applied by another process.
func probeKey(job spool.JobID, g repl.GroupID) string { return groupKey("probe", job, g) }

// probeAccepts tries, on a key of ours that it removes again, what the version
// of a server does not tell: a proxy, an account's rights or a renamed command
// may stand in between. What passes by itself is an error.
func probeAccepts(ctx context.Context, c doer, t target, key string) (*accepts, error) {
	a := &accepts{maxBulk: defaultMaxBulk}
	try := func(args ...string) (bool, error) {
		_, err := c.Do(ctx, args...)
		var se resp.ServerError
		if !errors.As(err, &se) {
			return err == nil, err
		}
		if kind, _ := classify(se); kind == classWait {
			return false, err
		}
		return false, nil
	}
	ttl := strconv.FormatInt(probeTime.Milliseconds(), 10)
	for _, v := range probeVersions {
		ok, err := try("RESTORE", key, ttl, string(rdb.AppendDump(nil, rdb.TypeString, []byte{1, 'p'}, v)), "REPLACE")
		if err != nil {
			return nil, err
		}
		if ok {
			a.versions = append(a.versions, v)
		}
	}
	if _, err := try("PSETEX", key, ttl, "p"); err != nil {
		return nil, err
	}
	var err error
	if a.rename, err = try("RENAME", key, key+":renamed"); err != nil {
		return nil, err
	}
	if a.unlink, err = try("UNLINK", key, key+":renamed"); err != nil {
		return nil, err
	}
	if !a.unlink {
		if _, err := try("DEL", key, key+":renamed"); err != nil {
			return nil, err
		}
	}
	// What may be refused only leaves what is usual.
	told := false
	ask := func(args ...string) (resp.Reply, error) {
		r, err := c.Do(ctx, args...)
		var se resp.ServerError
		if told = err == nil; errors.As(err, &se) {
			return resp.Reply{}, nil
		}
		return r, err
	}
	r, err := ask("COMMAND", "INFO", "HPEXPIREAT")
	if err != nil {
		return nil, err
	}
	a.fieldTTL = len(r.Elems) == 1 && len(r.Elems[0].Elems) > 0
	if r, err = ask("MODULE", "LIST"); err != nil {
		return nil, err
	}
	// RESTORE of a module's value ends a server before 6.2 that lacks the module.
	a.modules = len(r.Elems) > 0 || !told && (t.major > 6 || t.major == 6 && t.minor >= 2)
	if r, err = ask("CONFIG", "GET", "proto-max-bulk-len"); err != nil {
		return nil, err
	}
	if len(r.Elems) == 2 {
		if n, err := strconv.ParseInt(string(r.Elems[1].Str), 10, 64); err == nil && n > 0 {
			a.maxBulk = n
		}
	}
	return a, nil
}

// remove is the command that removes a key without blocking for long.
func (a *accepts) remove() string {
	if a != nil && a.unlink {
		return "UNLINK"
	}
	return "DEL"
}

// tempKey is the name under which a group writes a value that takes more than a
// few commands, in the value's database. A group writes one at a time.
func tempKey(job spool.JobID, g repl.GroupID) string {
	return groupKey("tmp", job, g)
}

// refusesPayload tells the refusals of RESTORE that concern the payload, and not
// the key or the account.
func refusesPayload(e resp.ServerError) bool {
	return strings.Contains(string(e), "Bad data format") || strings.Contains(string(e), "DUMP payload version or checksum")
}
