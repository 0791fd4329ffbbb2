// Package cmdtest gives tests commands for every row of the command table, and a way
// to compare what servers hold. Only tests import it.
//
// Templates are lines for each row, in which words such as {list} stand for names and
// values; a [Filler] puts random ones there, from a seed. Keys of one type have names
// of their own, and there are few of them, so that commands meet each other's values:
//
//	f := cmdtest.NewFiller(seed, "k:")
//	for _, args := range f.Fill("RPUSH {list} {value} ; LPOP {list}") { ... }
//
// A line of several commands has semicolons between them, as words of their own.
//
// A [Keyspace] is every key of a server, values and deadlines, in a form that does not
// depend on how a version prints or orders them.
package cmdtest
