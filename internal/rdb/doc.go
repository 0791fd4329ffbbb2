// Package rdb reads Redis's RDB format without decoding more of it than is
// asked for: files entry by entry as DUMP payloads, and values element by
// element, without ever holding a big one whole.
//
// Decoder reads a file (a full sync, or a dump.rdb). Entry is one key with its
// value as RESTORE takes it: the encoded bytes are copied as they are in the
// file, only their end is looked for. Boundary is a place between two entries
// from which reading can be resumed. Elements decodes a value of any type and
// encoding, so that two values can be compared whatever servers packed them.
// FormatError says where something was not understood. Kind is what a value is
// to a client (list), a type is how a file has it (list quicklist2).
//
// The life of a Decoder:
//
//	d := rdb.NewDecoder(r, rdb.Options{})
//	for {
//		e, err := d.Next()
//		if err == io.EOF { // end mark and checksum were good
//			break
//		}
//		if err != nil {
//			return err // *FormatError, or the reader's own
//		}
//		if e.IsString {
//			set(e.DB, e.Key, e.String, e.ExpireMS)
//		} else {
//			restore(e.DB, e.Key, e.Payload, e.ExpireMS)
//		}
//		done = e.End // acknowledged up to here: Resume(r, done, o) goes on
//	}
//
// Values too big to hold, or all of them with Hold -1, come as unread entries
// and are read, or skipped, from the file as it arrives:
//
//	d := rdb.NewDecoder(r, rdb.Options{Hold: 16 << 20})
//	e, err := d.Next()
//	if e.Unread {
//		kind, n, err := d.Elements(func(e rdb.Element) error {
//			return add(e.A, e.B) // of any number, one at a time
//		})
//		done = e.End // known now
//	}
//
// A payload got elsewhere, from DUMP, is taken apart by ParseDump:
//
//	typ, body, _, err := rdb.ParseDump(payload)
//	kind, n, err := rdb.Elements(typ, body, func(e rdb.Element) error {
//		sum.add(e.A, e.B) // valid during the call only
//		return nil
//	})
//
// or by a DumpReader as it arrives, if it is too big to hold:
//
//	d, err := rdb.NewDumpReader(r, size)
//	kind, n, err := d.Elements(fn)
//
// The formats are those of rdb.c, cluster.c (DUMP), ziplist.c, listpack.c,
// intset.c, zipmap.c, t_stream.c and t_hash.c of Redis: RDB versions 1 to 12, and of any
// later one (Valkey 9 has 80) what has the types and opcodes of these.
//
// Caveats:
//   - What is not known stops reading, with type and offset: module values,
//     functions and a hash with field TTLs of release candidates. The value of a module is passed over, part by part, and is
//     given as its payload only.
//   - The checksum of a file is known at its end. Entries handed out before may
//     come from damaged bytes; a reader that has checksums of its own (a spool)
//     rules that out. After Resume the file's checksum is not verified.
//   - An Entry lives until Next: it lies in the Decoder's window, and only
//     bytes that arrived make that grow. A value is held up to Options.Hold, a
//     key and one element (a member, a field with its value, a stream's entry,
//     a packed node up to 256 KiB) up to Options.MaxBytes; what windows and
//     buffers take beside that is a few MiB, whatever the value.
//   - An unread entry's End is not known before its value has been passed, and
//     a Resume before that reads the whole entry again.
//   - Elements does not look for members that occur twice.
package rdb
