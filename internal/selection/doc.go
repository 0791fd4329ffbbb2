// Package selection says which keys of the sources are wanted on a target, and
// in which database there.
//
// A [Spec] is what a person has given, and what is written down; [New] makes a
// [Selection] of it, which is asked about each key. A nil *Selection is that of
// a Spec without any part: every key, where it was.
//
// A key is selected when its database is (Spec.DBs; none: all are), when its name
// has one of the prefixes or matches one of the expressions to include (none:
// all do), and has none of those to exclude. Databases keep their number
// unless Spec.DBMap says otherwise; no two go to one, for then two keys would be
// one. So each database of the target is that of one of the sources' at most:
//
//	s, err := selection.New(selection.Spec{DBs: []int{0, 1}, DBMap: map[int]int{1: 3}})
//	s.Has(1, key) // true
//	s.To(1)       // 3
//	s.From(3)     // 1
//	s.From(1)     // None: nothing is to be there
//
// Has, To and From do not allocate.
//
// Caveats. Expressions are those of Go's regexp, found anywhere in the name; a
// byte of it that is not UTF-8 counts as U+FFFD. Prefixes are compared byte by
// byte.
package selection
