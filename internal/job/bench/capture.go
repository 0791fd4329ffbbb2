package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"tairlift/internal/repl"
	"tairlift/spool"
)

// capture measures the RDB and the stream against readers that throw away what
// the sources send, and the size of the spool.
func (b *bench) capture() error {
	rdb, err := b.rdbData()
	if err != nil {
		return err
	}
	stream, err := b.streamData()
	if err != nil {
		return err
	}
	if err := b.captureRDB(rdb); err != nil {
		return err
	}
	if err := b.captureStream(stream); err != nil {
		return err
	}
	t := b.table("Size of the spool", "data", "raw bytes", "in the spool", "times smaller", "goal", "")
	for _, s := range []struct {
		name string
		d    *dataset
	}{{"RDB of mixed keys", rdb}, {"stream of mixed commands", stream}} {
		times := float64(s.d.raw) / float64(s.d.stored)
		verdict := "met"
		if times < 3 {
			verdict = "**not met**"
		}
		t.add(s.name, strconv.FormatInt(s.d.raw, 10), strconv.FormatInt(s.d.stored, 10), fmt.Sprintf("%.2f", times), ">= 3", verdict)
	}
	t.note("A quarter of the keys are tokens and numbers, which do not compress; texts arrive LZF-compressed in an RDB.")
	return nil
}

const mega = 1e6

func (b *bench) captureRDB(d *dataset) error {
	size := 0
	for _, f := range d.rdbs {
		size += len(f)
	}
	r := &row{
		what: fmt.Sprintf("capture, RDB: %.0f MB of 2 groups, one after the other", float64(size)/mega), goal: 0.8, text: ">= 0.8",
		against: "receiving the same bytes by PSYNC and throwing them away", unit: "MB/s", scale: mega,
	}
	for range b.runs {
		dir := b.folder("capture")
		settle()
		ours, err := b.tairlift(append([]string{"capture", "--dir", dir, "--until", "full"}, groupFlags(d.sources)...)...)
		if err != nil {
			return err
		}
		if err := b.intact(dir, d); err != nil {
			return err
		}
		settle()
		begun := time.Now()
		for g := range d.sources {
			if err := b.throwRDB(d, g); err != nil {
				return err
			}
		}
		r.add(float64(size), ours, time.Since(begun))
	}
	b.rdbRate = median(r.theirs)
	r.note("Whole process, with the fork and the encoding at the source on both sides. A job loads from one source of a host at a time.")
	b.rows = append(b.rows, r)
	return nil
}

// intact checks a captured RDB and throws the spool away.
func (b *bench) intact(dir string, d *dataset) error {
	return b.captured(dir, d, func(g int, in *spool.Group) error {
		file, err := in.OpenRDB(1)
		if err != nil {
			return err
		}
		defer file.Close()
		return near(file.Size(), int64(len(d.rdbs[g])))
	})
}

// captured checks a spool, has look at each group of it, and throws it away.
func (b *bench) captured(dir string, d *dataset, look func(g int, in *spool.Group) error) error {
	defer b.remove(dir)
	if _, err := b.tairlift("spool", "check", "--dir", dir); err != nil {
		return err
	}
	for g := range d.sources {
		in, err := spool.OpenGroup(filepath.Join(dir, "spool"), spool.JobID{}, repl.GroupID(g+1))
		if err != nil {
			return err
		}
		if err := look(g, in); err != nil {
			return err
		}
	}
	return nil
}

// near allows for the few bytes of an RDB's head that differ each time.
func near(got, want int64) error {
	if d := got - want; d < -100 || d > 100 {
		return fmt.Errorf("an RDB of %d bytes, expected about %d", got, want)
	}
	return nil
}

func (b *bench) throwRDB(d *dataset, g int) error {
	link, err := attach(b.ctx, d.sources[g], repl.Position{})
	if err != nil {
		return err
	}
	defer link.Close()
	in, err := link.OpenRDB()
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{in}, make([]byte, piece))
	if err != nil {
		return err
	}
	return near(n, int64(len(d.rdbs[g])))
}

func (b *bench) captureStream(d *dataset) error {
	size := int64(0)
	for g := range d.sources {
		size += int64(d.to[g] - d.from[g].Offset)
	}
	r := &row{
		what: fmt.Sprintf("capture, stream: %.0f MB of 2 groups, out of their backlogs", float64(size)/mega), text: "see the note",
		against: "receiving the same bytes by PSYNC and throwing them away", unit: "MB/s", scale: mega,
	}
	for range b.runs {
		dir := b.folder("capture")
		if err := os.CopyFS(dir, os.DirFS(d.early)); err != nil {
			return err
		}
		settle()
		ours, err := b.tairlift("capture", "--dir", dir, "--until", "caught-up")
		if err != nil {
			return err
		}
		if err := b.reached(dir, d); err != nil {
			return err
		}
		settle()
		begun := time.Now()
		if err := parallel(groups, func(g int) error { return b.throwStream(d, g) }); err != nil {
			return err
		}
		r.add(float64(size), ours, time.Since(begun))
	}
	r.note("This is a link that was down for long: the source copies the backlog from memory, faster than anything can be compressed and fsynced. " +
		"While commands are executed the source itself is the bound.")
	b.rows = append(b.rows, r)
	return nil
}

// reached checks that a spool goes to the end of the streams.
func (b *bench) reached(dir string, d *dataset) error {
	return b.captured(dir, d, func(g int, in *spool.Group) error {
		_, size, err := commands(in, d.from[g], 1)
		if err != nil {
			return err
		}
		if end := d.from[g].Offset + repl.Offset(size); end < d.to[g] {
			return fmt.Errorf("group %d was captured to offset %s, expected %s", g+1, end, d.to[g])
		}
		return nil
	})
}

func (b *bench) throwStream(d *dataset, g int) error {
	link, err := attach(b.ctx, d.sources[g], d.from[g])
	if err != nil {
		return err
	}
	defer link.Close()
	if link.Start.Full {
		return fmt.Errorf("source %d wants a full sync: its backlog is too small", g+1)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(link, int64(d.to[g]-d.from[g].Offset)), make([]byte, piece))
	if err == nil && n != int64(d.to[g]-d.from[g].Offset) {
		err = fmt.Errorf("read %d bytes of the stream, expected %d", n, d.to[g]-d.from[g].Offset)
	}
	return err
}
