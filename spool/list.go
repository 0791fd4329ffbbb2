package spool

import (
	"errors"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// GroupInfo is what the spool holds of one group.
type GroupInfo struct {
	Group  repl.GroupID `json:"group"`
	Job    JobID        `json:"job"`
	Epochs []EpochInfo  `json:"epochs"`
}

// List tells what the spool folder dir holds: headers and footers are read,
// and the frame headers of unsealed tails, but no data. It returns ErrNoSpool
// when there is nothing.
func List(dir string) ([]GroupInfo, error) { return list(fsx.OS, dir) }

func list(fsys fsx.FS, dir string) ([]GroupInfo, error) {
	ids, err := listGroups(fsys, dir)
	if err != nil {
		return nil, err
	}
	infos := []GroupInfo{}
	for _, id := range ids {
		g, err := openGroup(fsys, dir, JobID{}, id)
		if errors.Is(err, ErrNoSpool) {
			continue // a folder only, so far
		}
		if err != nil {
			return infos, err
		}
		epochs, err := g.Epochs()
		if err != nil {
			return infos, err
		}
		infos = append(infos, GroupInfo{Group: id, Job: g.Job(), Epochs: epochs})
	}
	return infos, nil
}
