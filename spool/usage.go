package spool

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// Usage is how many bytes the files of the spool folder dir have: its segments,
// and the key files of those that were pruned; 0 when there is no such folder. A
// file that goes while it is counted does not count.
func Usage(dir string) (segments, keys int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				if filepath.Ext(d.Name()) == keysExt {
					keys += info.Size()
				} else {
					segments += info.Size()
				}
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return segments, keys, err
}
