// Package command is the table of what can stand in a replication stream: every
// command that a Redis 2.8 to 7.4 or a codis-server 3.2 propagates, which keys it
// names, and how it is sent on so that the target ends where the source did.
//
// The types. Spec is one row: name, Class, rules, and what else there is to know of a
// command (facts.go): the Effect on each of its keys, the Need that it has of them, and
// flags. Nothing outside goes by a command's name. ArgError tells which argument of
// which command made no sense. Caps says what the target understands, Info what
// a rewrite did.
//
// The life of a command. The stream parser splits it into arguments; then
//
//	spec := command.Lookup(args[0])
//	keys = spec.AppendKeys(keys[:0], args)
//	out, n, info, err := spec.AppendRewrite(out, raw, args, at, caps)
//
// where at is the moment, by the source's clock, at which the source executed it.
// Before version 7 a source propagates EXPIRE, SETEX, SET EX and RESTORE with the
// relative time the client gave; a spool may be applied a day later. So "SETEX k 100
// v" executed at 1700000000000 becomes
//
//	SET k v
//	PEXPIREAT k 1700000100000
//
// While the target's deadlines are held back (Caps.Hold, package held), the last
// number is the held one, whatever command it stands in; a deadline that could be
// taken for a held one is an ArgError of ErrTooLate.
//
// Conditions (SET NX, EXPIRE GT, ...) are dropped where a command is rewritten: a
// command stands in the stream because the source found the condition true.
//
// What follows which source: arguments and key positions are those of COMMAND and
// COMMAND GETKEYS of Redis 7.0 (a test asks a real server), numbers are read as
// string2ll and, for 3.2, strtoll read them, and codis-server's SLOTS commands are
// as in its slots.c and slots_async.c.
//
// None of Lookup, AppendKeys and AppendRewrite allocates for a command that is
// passed on as it came, given room in dst.
//
// Caveats.
//
//   - A Class says what a command is; whether it may be sent is the caller's
//     decision. AppendRewrite refuses only what must never be sent (class
//     Unsupported, SLOTSDEL and SLOTSMGRT*), and, by a TargetError, what the target
//     is too old for. docs/commands.md shows every row.
//   - Function libraries belong to a server, not to a group. FUNCTION LOAD and
//     RESTORE are given REPLACE, so that several groups may bring the same library;
//     DELETE and FLUSH would reach what other groups loaded.
//   - A script that sets a relative TTL hides it: see Spec.HiddenTTL.
//   - What stands in for a command on an older target is a script (EVAL) where no
//     command will do.
package command
