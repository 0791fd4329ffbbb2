package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"tairlift/internal/job/launch"
	"tairlift/internal/psync"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// groups is the number of sources of a dataset, and of sockets of raw work.
const groups = 2

// dataset is what two sources hold, and the spool captured from them.
type dataset struct {
	sources []*launch.Server
	dir     string // the job's folder
	early   string // of a stream: the folder as it was before it
	from    []repl.Position
	to      []repl.Offset
	loads   []load // as apply sends them
	replies int    // in loads
	keys    int64  // on the sources
	rdbs    [][]byte
	raw     int64 // bytes that the sources sent
	stored  int64 // bytes of the segments
}

// groupFlags name the sources to the binary.
func groupFlags(sources []*launch.Server) (flags []string) {
	for i, s := range sources {
		flags = append(flags, "--group", fmt.Sprintf("%d=%s", i+1, s.Addr))
	}
	return flags
}

// start gives a dataset its sources and fills them.
func (b *bench) start(fill func(group int) load) (*dataset, error) {
	d := &dataset{dir: b.folder("job")}
	for range groups {
		s, err := b.server("SOURCE_SERVER")
		if err != nil {
			return nil, err
		}
		d.sources = append(d.sources, s)
	}
	return d, b.feed(d.sources, fill)
}

// feed writes to all servers at once.
func (b *bench) feed(to []*launch.Server, what func(group int) load) error {
	return parallel(len(to), func(i int) error {
		_, err := blast(b.ctx, to[i].Addr, what(i+1))
		return err
	})
}

// finish reads what capture brought and checks it.
func (b *bench) finish(d *dataset) error {
	if _, err := b.tairlift("spool", "check", "--dir", d.dir); err != nil {
		return err
	}
	var err error
	if d.stored, err = stored(d.dir); err != nil {
		return err
	}
	for _, s := range d.sources {
		n, err := s.Keys(b.ctx, 0)
		if err != nil {
			return err
		}
		d.keys += n
	}
	for g := range groups {
		in, err := spool.OpenGroup(filepath.Join(d.dir, "spool"), spool.JobID{}, repl.GroupID(g+1))
		if err != nil {
			return err
		}
		epochs, err := in.Epochs()
		if err != nil {
			return err
		}
		if len(epochs) != 1 {
			return fmt.Errorf("group %d has %d epochs, expected 1", g+1, len(epochs))
		}
		file, err := readRDB(in)
		if err != nil {
			return err
		}
		from := repl.Position{ReplID: epochs[0].ReplID, Offset: epochs[0].Start}
		all, err := restores(file)
		if err != nil {
			return err
		}
		tail, size, err := commands(in, from, 1)
		if err != nil {
			return err
		}
		all.bytes, all.replies = append(all.bytes, tail.bytes...), all.replies+tail.replies
		d.loads = append(d.loads, all)
		d.replies += all.replies
		d.rdbs = append(d.rdbs, file)
		d.raw += int64(len(file)) + size
		d.from = append(d.from, from)
		d.to = append(d.to, from.Offset+repl.Offset(size))
	}
	return nil
}

// rdbData has an RDB of many keys in each group, and no stream.
func (b *bench) rdbData() (*dataset, error) {
	if b.rdb != nil {
		return b.rdb, nil
	}
	n := b.scaled(500_000)
	d, err := b.start(func(group int) load { return keys(group, n) })
	if err != nil {
		return nil, err
	}
	if _, err := b.tairlift(append([]string{"capture", "--dir", d.dir, "--until", "full"}, groupFlags(d.sources)...)...); err != nil {
		return nil, err
	}
	if err := b.finish(d); err != nil {
		return nil, err
	}
	if want := int64(groups * n); d.keys != want {
		return nil, fmt.Errorf("the sources hold %d keys, expected %d", d.keys, want)
	}
	b.rdb = d
	return d, nil
}

// streamData has a tiny RDB and a stream of many commands in each group. The
// stream is written while nobody is attached and waits in the backlog, so that
// any number of captures can begin before it.
func (b *bench) streamData() (*dataset, error) {
	if b.stream != nil {
		return b.stream, nil
	}
	d, err := b.start(func(group int) load { return keys(group, 100) })
	if err != nil {
		return nil, err
	}
	if _, err := b.tairlift(append([]string{"capture", "--dir", d.dir, "--until", "full"}, groupFlags(d.sources)...)...); err != nil {
		return nil, err
	}
	d.early = b.folder("early")
	if err := os.CopyFS(d.early, os.DirFS(d.dir)); err != nil {
		return nil, err
	}
	n := b.scaled(1_020_000) // a few find nothing to change and never get into the stream
	if err := b.feed(d.sources, func(group int) load { return writes(group, n) }); err != nil {
		return nil, err
	}
	if _, err := b.tairlift("capture", "--dir", d.dir, "--until", "caught-up"); err != nil {
		return nil, err
	}
	if err := b.finish(d); err != nil {
		return nil, err
	}
	b.stream = d
	return d, nil
}

// attach is a replication link to a source.
func attach(ctx context.Context, s *launch.Server, from repl.Position) (*psync.Link, error) {
	conn, err := resp.Dial(ctx, s.Addr, "")
	if err != nil {
		return nil, err
	}
	return psync.Attach(ctx, conn, from, psync.Options{})
}
