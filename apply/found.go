package apply

import mathbits "math/bits"

// found are the candidates of a sweep that the target has, by their names, each
// once. A candidate's number is its place among the candidates; behind rank, a
// key's is its place among those that were found, both by fingerprints.
type found struct {
	*nameFile
	in     bits  // candidates
	before []int // that were found, for each word of in
}

func newFound(path string, candidates int) (*found, error) {
	names, err := newNameFile(path)
	if err != nil {
		return nil, err
	}
	return &found{nameFile: names, in: newBits(candidates)}, nil
}

func (f *found) has(i int) bool { return f.in.has(i) }

func (f *found) add(i, db int, key []byte) error {
	f.in.set(i)
	return f.nameFile.add(i, db, key)
}

// rank ends what is found.
func (f *found) rank() {
	f.before = make([]int, len(f.in))
	n := 0
	for w, word := range f.in {
		f.before[w] = n
		n += mathbits.OnesCount64(word)
	}
}

// each calls fn for every key, with its number.
func (f *found) each(fn func(i, db int, key []byte) error) error {
	return f.nameFile.each(func(i, db int, key []byte) error {
		return fn(f.before[i/64]+mathbits.OnesCount64(f.in[i/64]&(1<<(i%64)-1)), db, key)
	})
}
