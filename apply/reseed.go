package apply

import (
	"context"
	"errors"
	"math"

	"tairlift/checkpoint"
	"tairlift/internal/repl"
	"tairlift/spool"
)

// Reseeding loads the newest RDB again where the mark on the target is lost, or
// does not belong to what the spool holds. Since nobody knows then how much was
// applied, everything that the spool ever named counts as delivered: the sweep
// behind the RDB removes what it lacks, and the stream begins at its start.
//
// The wish is recorded first, then the mark is written anew, then what was
// rejected and doubtful is forgotten and the wish with it: a crash in between
// repeats it.

// reseedable are the reasons for which --reseed is the way out.
var reseedable = map[string]bool{
	"mark-missing": true, "mark-unreadable": true, "mark-ahead": true, "mark-behind": true, "mark-unknown-epoch": true,
	"mark-refused": true, "target-database": true, "reject": true, "stream-corrupt": true, "rdb-unreadable": true,
}

// mayReseed tells whether what stopped the group is answered by a reseed. A
// process that has applied anything does not, nor one that has seen the mark that
// is missing now: somebody else may have ended the job.
func (g *group) mayReseed(err error) bool {
	var stop *StopError
	if !g.job.o.Reseed || g.reseeding || g.wasWell || !errors.As(err, &stop) {
		return false
	}
	_, seen := g.job.hadMark(g.id)
	return reseedable[stop.Reason] && !(seen && stop.Reason == "mark-missing")
}

// askReseed records the wish.
func (g *group) askReseed() error {
	rec, _, err := g.store.Group(g.id)
	if err != nil {
		return err
	}
	rec.Reseed = true
	if err := g.store.PutGroup(g.id, rec); err != nil {
		return err
	}
	g.reseeding = true
	return nil
}

// reseed writes the mark anew, on a lane that was opened with anew.
func (g *group) reseed(ctx context.Context) error {
	known, err := g.spool.Known()
	if err != nil {
		return g.spoolErr(err)
	}
	was := g.lane.Mark()
	if err := g.dropAside(ctx); err != nil {
		return err
	}
	m := Mark{Commands: was.Commands}
	for _, e := range known {
		m.Past = append(m.Past, Delivered{Epoch: e, Until: spool.WalkAll})
	}
	conn := control{g.lane.conn, g.lane.timeout}
	if _, err := conn.Do(ctx, "SADD", jobsKey, g.job.o.Job.String()); err != nil {
		return err
	}
	if err := g.lane.Write(m); err != nil {
		return err
	}
	g.log.Warn("the newest RDB is loaded again (--reseed)", "mark", was.String())
	if err := g.store.Supersede(g.id, math.MaxUint32); err != nil {
		return err
	}
	g.reseeding, g.forgotten, g.read, g.readFrom = false, false, 0, 0
	g.skipped.Count = 0
	g.showSkipped()
	g.status.update(func(st *Status) { st.Forgotten, st.Phase, st.Applied, st.Marked = false, checkpoint.PhaseNone, 0, 0 })
	if err := g.load(); err != nil {
		return err
	}
	return g.record(g.lane.Mark())
}

// supersede forgets what was rejected and doubtful in epochs before e, all of
// which its RDB and the sweep behind it have replaced.
func (g *group) supersede(e repl.Epoch) error {
	if g.superseded >= e {
		return nil
	}
	if err := g.store.Supersede(g.id, e); err != nil {
		return err
	}
	g.superseded = e
	if err := g.load(); err != nil {
		return err
	}
	rec, _, err := g.store.Group(g.id)
	g.forgotten, g.skipped = rec.Forgotten, rec.Flushes
	g.status.update(func(st *Status) { st.Forgotten = rec.Forgotten })
	g.showSkipped()
	return err
}
