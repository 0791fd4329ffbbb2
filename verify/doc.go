// Package verify compares the keys of Codis-Groups (the sources) with those of
// one target, and says with a denominator what it found.
//
// Options name both sides and a Level; Run does the work and returns a Report,
// which is text for people, a JSON object for scripts and an exit code. Levels,
// from cheap to exact:
//
//	counts  keys per db on both sides, from INFO keyspace
//	keys    every key: there on both sides, same type, TTL set or not
//	sample  some keys, chosen by a hash of the key, in full
//	full    every key: value and deadline; and no key too many on the target
//
// The life of a full run. Each group has a worker with a connection to its
// source and one to the target. It scans its source, asks both sides for DUMP
// and PTTL of some 128 keys at a time with two such chunks in flight, and
// compares. Payloads that are the same bytes are equal; others (a hash that is a
// ziplist here and a listpack there) are decoded and compared by a digest of what they say, in no
// order for sets, hashes and sorted sets. Each key leaves 8 bytes of fingerprint
// in memory. A key that differs is not a difference yet: it waits in a queue,
// of bounded size, for the rounds. There it is read again every Interval until
// it is equal (it was in flight), or gone, or has stayed as it was on both sides
// (a difference), or the rounds are over and it is still changing (hot). While
// a side is being written, "stayed as it was" takes three reads, else one. Last,
// the target's keys are looked up in the fingerprints; those that are not there,
// and that no group answers EXISTS for, are extra. A db of a target that nothing
// has changed meanwhile, and that holds as many keys as were found in it, has none
// and is not scanned.
//
// Verdicts: different as soon as one difference has settled; else inconclusive
// (exit 3) if anything could not be judged, or nothing was there to compare;
// else identical, or for a sample no-difference-in-sample, with the bound that
// the sample's size allows.
//
// Options.Selection leaves keys out on both sides, and says where databases are on
// the target; numbers of databases in a Report are those of the sources.
//
// # Caveats
//
// Keys of this tool ("tairlift:...") and DTS heartbeat keys are not compared
// and not counted, in any db.
//
// A side's answer about a chunk is held up to 4 MiB, shared among the groups. What does not
// fit, one value of 1 GiB or many of 100 KiB, is digested as it arrives, element by
// element, and told apart by that: so memory does not depend on a value's size, but
// for one element (a member, a field with its value), which is held whole. Chunks
// become as small as the values seen lately are large.
//
// Reading counts as use on servers before 7.2: with an LRU or LFU eviction
// policy a full run makes all keys look recently used. A DUMP takes its server
// one command's time, some 5 to 30 ms per MiB of a big hash, in which nobody else is
// served, and memory for the payload until it is sent. Nothing is asked about a
// key's size before.
//
// The digest guards against accidents, not against forgery. Keys that appear on
// a source while it is scanned may be missed by SCAN. What lags behind for
// longer than the rounds take looks like a difference: verify a job that has caught up.
package verify
