package spool

// Bytes that were never written
//
// A copy that gives a file its size first and fills its blocks in any order
// leaves zero bytes where a frame will stand. They are not damage: what was
// written there is still to come. A frame that is not valid counts as such when
// it touches a run of holeRun zeros.
//
// A segment has few of those. A payload of 64 bytes or more is compressed when
// that makes it smaller, and behind one of zeros stands the next frame, whose
// kind is not 0. But compression takes a payload in parts and stores one that
// does not shrink as it is: zeros of the source's own between bytes that look
// random are still there, up to some kilobytes of them. Nor do the holes of a
// copier tell themselves apart: their blocks may have any size, and begin and
// end anywhere in the frame. So damage to such a frame is called a hole, which
// delays the verdict and does not change it: who waits for a hole looks whether
// the file changes, and for how long it has not (apply: a minute), and who is
// asked for a verdict calls both a problem.
const holeRun = 128

// unwritten tells whether the bytes from..to of the file are in part space
// that nothing was written to: all of them are zero, or they touch a run of
// holeRun zeros, or a shorter one that reaches the file's end, or the file ends
// before them.
func (s *segFile) unwritten(from, to int64) bool {
	base := max(0, from-holeRun)
	buf := make([]byte, to+holeRun-base)
	n, _ := s.f.ReadAt(buf, base) // whatever came is looked at
	if base+int64(n) < to {
		return true
	}
	atEnd := n < len(buf)
	first, last := int(from-base), int(to-base) // of the bytes in question
	for i := 0; i < n; {
		if buf[i] != 0 {
			i++
			continue
		}
		begin := i
		for i < n && buf[i] == 0 {
			i++
		}
		touches := begin < last && i > first
		whole := begin <= first && i >= last
		if touches && (whole || i-begin >= holeRun || atEnd && i == n && i-begin >= trailerSize/2) {
			return true
		}
	}
	return false
}

// bad is what to call a frame at pos whose bytes from..to are not what they
// should be: still to come, or damaged.
func (s *segFile) bad(pos, from, to int64, cause error) error {
	if s.unwritten(from, to) {
		return &MissingError{Path: s.path, Have: from, Want: s.limit, Hole: true}
	}
	return &CorruptError{Path: s.path, Offset: pos, Err: cause}
}
