package fsx

import "syscall"

// Space tells how many bytes of the file system under dir this process may
// still write, and how many it has in all.
func Space(dir string) (free, total int64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	size := uint64(st.Bsize) // its type differs from machine to machine
	return int64(st.Bavail * size), int64(st.Blocks * size), nil
}
