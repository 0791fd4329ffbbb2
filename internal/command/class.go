package command

// Class says what kind of thing a command is to whoever replays a stream.
type Class uint8

// The classes.
const (
	Unknown     Class = iota // not in the table; args[1] is taken for its key
	Write                    // changes the keys it names
	Ignore                   // changes no key: PING, PUBLISH, REPLCONF, TOUCH
	Select                   // SELECT: the db of what follows
	Multi                    // MULTI
	Exec                     // EXEC
	Discard                  // DISCARD
	Script                   // SCRIPT LOAD, FLUSH: the source's script cache
	Eval                     // EVAL, EVAL_RO: a script by its text
	EvalSHA                  // EVALSHA, EVALSHA_RO: a script by its SHA1
	Function                 // FUNCTION LOAD, DELETE, FLUSH, RESTORE: the source's libraries
	Flush                    // FLUSHALL, FLUSHDB, SWAPDB: every key of a db at once
	Slots                    // codis-server's SLOTS commands
	Unsupported              // known, and refused by name: MIGRATE, TTLs of hash fields
)

var classNames = [...]string{
	Unknown: "unknown", Write: "write", Ignore: "ignore", Select: "select",
	Multi: "multi", Exec: "exec", Discard: "discard", Script: "script",
	Eval: "eval", EvalSHA: "evalsha", Function: "function", Flush: "flush",
	Slots: "slots", Unsupported: "unsupported",
}

// String is the class in lower case.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return "class?"
}
