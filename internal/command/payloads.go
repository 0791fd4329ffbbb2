package command

// payloadsFunc calls fn with the payloads in a command's arguments, and their keys,
// until it returns false, and tells whether none did.
type payloadsFunc func(args [][]byte, fn func(key, payload []byte) bool) bool

// Payloads calls fn with each value, as DUMP gives it, that the command brings, until
// fn returns false. It tells whether none did.
func (s *Spec) Payloads(args [][]byte, fn func(key, payload []byte) bool) bool {
	return s.payloads == nil || s.payloads(args, fn)
}

// HasPayload tells whether the command brings a value as DUMP gives it.
func (s *Spec) HasPayload(args [][]byte) bool {
	return s.payloads != nil && !s.payloads(args, func(_, _ []byte) bool { return false })
}

// restored is of RESTORE key ttl payload.
func restored(args [][]byte, fn func(key, payload []byte) bool) bool {
	return len(args) < 4 || fn(args[1], args[3])
}

// slotsRestored is of SLOTSRESTORE key ttl payload [key ttl payload ...].
func slotsRestored(args [][]byte, fn func(key, payload []byte) bool) bool {
	for i := 3; i < len(args); i += 3 {
		if !fn(args[i-2], args[i]) {
			return false
		}
	}
	return true
}

// slotsRestoredAsync is of SLOTSRESTORE-ASYNC object key ttl payload.
func slotsRestoredAsync(args [][]byte, fn func(key, payload []byte) bool) bool {
	return len(args) < 5 || !is(args[1], "object") || fn(args[2], args[4])
}
