package spool

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Usage is how many bytes the files of the spool folder dir have, segments and
// key files, and 0 when there is no such folder. A file that goes while it is
// counted does not count.
func Usage(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				sum += info.Size()
			}
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	return sum, err
}
