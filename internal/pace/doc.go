// Package pace holds work back: to so many operations and bytes per second, and to
// what the other side can take.
//
// A [Pacer] is one budget; who spends it together has a [Share] each. A [Backoff]
// slows down when answers take much longer than they used to.
//
// The life of a piece of work:
//
//	if err := share.Wait(ctx, commands, bytes); err != nil { return err }
//	... send it, wait for the answer ...
//	share.Took(elapsed, commands, bytes)
//
// Wait lets a piece through as soon as what went before is paid for, and charges it
// afterwards. So a piece of any size goes, however small the limit, and what follows
// waits in proportion; and what was charged stays so when the piece has to be sent
// again, for its bytes were on the way. Up to a tenth of a second's worth is saved
// while nothing is sent; [Share.Most] says how large a piece is that keeps the pace
// even.
//
// Shares that wait are served by how much they had: each gets as much as the others,
// whatever the size of its pieces or the number of its goroutines.
//
// Caveats. Limits hold on average: a piece larger than a tenth of a second's worth
// goes at once. Work that is never charged (marks, control connections) is not seen.
package pace
