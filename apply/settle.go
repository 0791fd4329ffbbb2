package apply

import (
	"io/fs"
	"os"
	"time"
)

// settleTime is how long a damaged file must have stayed the same, damage and
// all, before it is taken for one: a file that something is still being copied
// into may be read in any state.
const settleTime = 5 * time.Second

// holeTime is settleTime for zeros where bytes belong: a copier that gives its
// file the final size first may pause for longer in the middle of it. Damage may
// look the same, beside zeros of the source's own, so it does not last for ever.
const holeTime = time.Minute

// settle watches the file in which damage was met last. It is used by one
// goroutine at a time.
type settle struct {
	path  string
	found string // the damage: place, and checksums found
	info  fs.FileInfo
	since time.Time // it was so at every look
}

// changing tells whether the file may still be in the making: it is another
// one than at the last look, by name, inode, size, time of writing or by what
// is wrong in it, or it has become what it is less than so long ago. A copy
// that keeps the times of writing changes the others.
func (s *settle) changing(path, found string, now time.Time, long time.Duration) bool {
	info, err := os.Stat(path)
	if err != nil {
		*s = settle{}
		return true // it is gone, so it was not the last word
	}
	same := s.info != nil && s.path == path && s.found == found && os.SameFile(s.info, info) &&
		s.info.Size() == info.Size() && s.info.ModTime().Equal(info.ModTime())
	if !same {
		*s = settle{path: path, found: found, info: info, since: now}
	}
	return now.Sub(s.since) < long
}
