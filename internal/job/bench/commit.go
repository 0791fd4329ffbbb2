package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// commitWay is a way to append to a segment and make it durable.
type commitWay struct {
	name string
	// prepare reserves space for n bytes in a new file; nil appends only.
	prepare func(f *os.File, n int64) error
	sync    func(f *os.File) error
}

const (
	commits     = 200      // of each way in one round
	commitTurns = 3        // rounds for each run asked for
	commitSpace = 64 << 20 // reserved beforehand
)

// commit measures one group commit, append and sync, without and with space that
// was reserved beforehand. It answers whether segments should preallocate.
func (b *bench) commit() error {
	t := b.table("Preallocation: one group commit (append and fsync) on the disk of the work folder",
		"bytes", "way", "median", "spread", "against plain")
	n := max(int(commits*min(b.scale, 1)), 20)
	rounds := commitTurns * b.runs // a disk is less steady than a processor
	for _, size := range []int{4 << 10, 64 << 10} {
		took := make([][]float64, len(commitWays))
		for range rounds {
			for i, way := range commitWays {
				d, err := b.commitRound(way, size, n)
				if err != nil {
					return fmt.Errorf("%s: %w", way.name, err)
				}
				took[i] = append(took[i], d.Seconds()/float64(n)*1e6)
			}
		}
		for i, way := range commitWays {
			against := make([]float64, len(took[i]))
			for j := range against {
				against[j] = took[i][j] / took[0][j]
			}
			t.add(fmt.Sprint(size), way.name, fmt.Sprintf("%.0f µs", median(took[i])), spread(took[i])+" µs", fmt.Sprintf("%.2f", median(against)))
		}
	}
	t.note("%d commits of each way in each of %d rounds, the ways taking turns. Segments are appended to without preallocation; it would be worth "+
		"its code where one way of it, with fsync, costs less than 0.80 of plain at both sizes.", n, rounds)
	return nil
}

func (b *bench) commitRound(way commitWay, size, n int) (time.Duration, error) {
	path := filepath.Join(b.work, "commit.seg")
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer b.remove(path)
	defer f.Close()
	if way.prepare != nil {
		if err := way.prepare(f, commitSpace); err != nil {
			return 0, err
		}
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	settle()
	p := noise(size)
	begun := time.Now()
	for range n {
		if _, err := f.Write(p); err != nil {
			return 0, err
		}
		if err := way.sync(f); err != nil {
			return 0, err
		}
	}
	took := time.Since(begun)
	at, err := f.Seek(0, 1)
	if err == nil && at != int64(n*size) {
		err = fmt.Errorf("wrote %d bytes, expected %d", at, n*size)
	}
	return took, err
}
