//go:build !linux

package fsx

import "math"

// Space tells how many bytes of the file system under dir this process may
// still write, and how many it has in all. Here that is not known, and never
// in the way.
func Space(string) (free, total int64, err error) { return math.MaxInt64, math.MaxInt64, nil }
