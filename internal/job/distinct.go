package job

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"tairlift/internal/resp"
)

// introduceFor is how long a server may take to say who it is.
const introduceFor = time.Second

// distinct refuses two groups, or a group and the target, that are one server by
// its run id: every command would be applied twice, or fed back into the source
// without end. A server that does not say who it is passes.
func (r *run) distinct(ctx context.Context) error {
	type server struct {
		name, addr string
		secret     Secret
	}
	var servers []server
	for _, g := range r.groups {
		servers = append(servers, server{fmt.Sprintf("group %s (%s)", g.ID, g.Addr), g.Addr, r.o.SourceSecret})
	}
	if r.withApply {
		servers = append(servers, server{fmt.Sprintf("the target (%s)", r.target), r.target, r.o.TargetSecret})
	}
	ids := make([]string, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() { ids[i] = runID(ctx, s.addr, s.secret) })
	}
	wg.Wait()
	seen := map[string]string{}
	for i, id := range ids {
		if id == "" {
			continue
		}
		if other, ok := seen[id]; ok {
			return &Error{
				Code: Refused,
				What: fmt.Sprintf("%s and %s are the same server (run id %s)", other, servers[i].name, id),
				Hint: "nothing was written: check the addresses",
			}
		}
		seen[id] = servers[i].name
	}
	return nil
}

// runID is the run id of a server, empty when it does not tell.
func runID(ctx context.Context, addr string, secret Secret) string {
	ctx, cancel := context.WithTimeout(ctx, introduceFor)
	defer cancel()
	c, err := resp.Dial(ctx, addr, secret)
	if err != nil {
		return ""
	}
	defer c.Close()
	r, err := c.Do(ctx, "INFO", "server")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(r.Str)) {
		if id, ok := strings.CutPrefix(line, "run_id:"); ok {
			return strings.TrimSpace(id)
		}
	}
	return ""
}
