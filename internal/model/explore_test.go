package model

import (
	"fmt"
	"hash/maphash"
	"strings"
)

// found is what an exploration saw.
type found struct {
	states int
	ends   int // states in which nothing but a fault can happen
	broken error
	trace  []string // the shortest way to broken, one line a move
}

func (f found) String() string { return strings.Join(f.trace, "\n") }

// node is a state as it was reached first.
type node struct {
	from int32
	by   move
}

// id stands for a state: two hashes of 64 bits, so that no two of a few
// million states share one.
type id [2]uint64

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func idOf(s state) id {
	return id{maphash.Comparable(seeds[0], s), maphash.Comparable(seeds[1], s)}
}

// explore visits every state that moves can reach, nearest first, and ends at
// the first that check, or end where no more can happen, does not allow.
func (w *world) explore() found {
	type visit struct {
		s  state
		at int32
	}
	first := w.first()
	nodes := []node{{from: -1}}
	seen := map[id]struct{}{idOf(first): {}}
	var f found
	level, next := []visit{{first, 0}}, []visit(nil)
	for ; len(level) > 0; level, next = next, level[:0] {
		for _, v := range level {
			f.states++
			err := w.check(&v.s)
			going := false
			if err == nil {
				for _, m := range w.moves(&v.s) {
					going = going || !m.optional()
					s := v.s
					w.do(&s, m)
					k := idOf(s)
					if _, ok := seen[k]; ok {
						continue
					}
					seen[k] = struct{}{}
					nodes = append(nodes, node{v.at, m})
					next = append(next, visit{s, int32(len(nodes) - 1)})
				}
				if !going {
					f.ends++
					err = w.end(&v.s)
				}
			}
			if err != nil {
				f.broken, f.trace = err, w.tell(nodes, v.at)
				return f
			}
		}
	}
	return f
}

// tell makes the way to a node from the first state readable.
func (w *world) tell(nodes []node, at int32) []string {
	var moves []move
	for ; nodes[at].from >= 0; at = nodes[at].from {
		moves = append(moves, nodes[at].by)
	}
	s := w.first()
	var lines []string
	for i := len(moves) - 1; i >= 0; i-- {
		before := s
		w.do(&s, moves[i])
		lines = append(lines, fmt.Sprintf("%3d  %s", len(lines)+1, w.describe(&before, moves[i])))
		for g := range w.sources {
			if s.data.marks[g] != before.data.marks[g] {
				lines = append(lines, fmt.Sprintf("        mark of group %d: %s", g+1, s.data.marks[g]))
			}
		}
		if s.data.keys != before.data.keys {
			lines = append(lines, fmt.Sprintf("        keys: %s", s.data.keys))
		}
	}
	return lines
}
