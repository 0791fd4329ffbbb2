package rdb

// Options of a Decoder. The zero value works.
type Options struct {
	// MaxBytes bounds the encoded size of one value that is held, of one key, of
	// one element of a value, and of a string once decompressed. 0 = 1 GiB. A
	// larger one is ErrTooLarge, or for a value what Hold says.
	MaxBytes int64
	// Hold is up to which size (in bytes, encoded; for a plain string
	// decompressed too) a value is held whole in its Entry. A larger one comes as
	// Entry.Unread. 0 = MaxBytes, and a larger one is an error; negative = no
	// value is held: Decoder.Elements gives all of them.
	Hold int64
	// NoStringPayload leaves Entry.Payload nil for plain strings, which spares
	// their second checksum where only Entry.String is used.
	NoStringPayload bool
	// OldestVersion makes payloads carry the oldest RDB version that has their
	// type (MinVersion), not the file's: an older server then takes those whose
	// types it knows.
	OldestVersion bool
	// Want picks the entries whose values are held, by database and key, which is
	// valid during the call; the others come as Entry.Unread. nil is all.
	Want func(db int, key []byte) bool
	// OnAux is told each AUX field: "redis-ver", "repl-stream-db", "lua" (the
	// body of a script) and others. Both slices are valid during the call.
	OnAux func(key, value []byte)
	// OnFunction is told each function library as a payload that FUNCTION
	// RESTORE takes, valid during the call.
	OnFunction func(payload []byte)
}

// defaultMaxBytes is twice what a Redis string can be.
const defaultMaxBytes = 1 << 30

// Boundary is a place between two entries from which Resume can go on. The
// zero Boundary is the file's beginning.
type Boundary struct {
	Offset  int64 // bytes before it
	DB      int   // selected database there
	Version int   // RDB version of the header; 0 = the header is still to come
}

// Entry is one key and its value. It and all its slices are valid until the
// next call of Next.
type Entry struct {
	DB       int
	Key      []byte
	ExpireMS int64  // deadline, ms since 1970; 0 = none
	Type     byte   // one of the Type constants
	Payload  []byte // as DUMP would give it: type, body as it was in the file, version, CRC64 (see Options.OldestVersion)
	IsString bool   // Type is TypeString: String holds the value
	String   []byte // a plain string's text, integers and LZF decoded; else nil
	Idle     int64  // seconds since the last access (LRU policies), or -1
	Freq     int    // LFU counter, 0 to 255, or -1
	// Unread: the value is larger than Options.Hold. Payload and String are nil,
	// and End is set once Elements or Skip has passed the value.
	Unread bool
	Offset int64 // of the type byte in the file
	Body   int64 // of the encoded value in the file, which ends at End.Offset
	End    Boundary
}
