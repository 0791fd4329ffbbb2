package main

import (
	"os"
	"syscall"
)

const keepSize = 1 // FALLOC_FL_KEEP_SIZE

func allocate(mode uint32) func(*os.File, int64) error {
	return func(f *os.File, n int64) error { return syscall.Fallocate(int(f.Fd()), mode, 0, n) }
}

func dataSync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }

var commitWays = []commitWay{
	{name: "plain append, fsync", sync: (*os.File).Sync},
	{name: "plain append, fdatasync", sync: dataSync},
	{name: "fallocate that keeps the size, fsync", prepare: allocate(keepSize), sync: (*os.File).Sync},
	{name: "fallocate that extends, fsync", prepare: allocate(0), sync: (*os.File).Sync},
	{name: "fallocate that extends, fdatasync", prepare: allocate(0), sync: dataSync},
}
