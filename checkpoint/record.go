package checkpoint

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
)

// bbolt checks its meta pages and nothing else, so each record brings a
// checksum: a line of its own behind the JSON, over bucket, key and JSON. A
// script needs none, because its key is its SHA1.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const sumSize = 1 + 2*crc32.Size // a line end and the digits

func sumOf(bucket, key, text []byte) []byte {
	sum := crc32.Update(0, castagnoli, bucket)
	sum = crc32.Update(sum, castagnoli, []byte{0})
	sum = crc32.Update(sum, castagnoli, key)
	sum = crc32.Update(sum, castagnoli, []byte{0})
	sum = crc32.Update(sum, castagnoli, text)
	return fmt.Appendf(nil, "\n%08x", sum)
}

// encode is the record of v.
func encode(bucket, key []byte, v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append(text, sumOf(bucket, key, text)...), nil
}

// decode reads what encode wrote. A record of version 1 has no checksum; the
// line end of one that has can be taken for nothing else, because JSON as it is
// written here has none.
func decode(bucket, key, raw []byte, v any) error {
	text, err := textOf(bucket, key, raw)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

func textOf(bucket, key, raw []byte) ([]byte, error) {
	text, sum := raw, []byte(nil)
	if at := len(raw) - sumSize; at >= 0 && raw[at] == '\n' {
		text, sum = raw[:at], raw[at:]
	}
	if sum != nil && !bytes.Equal(sum, sumOf(bucket, key, text)) {
		return nil, fmt.Errorf("record %x of %s has checksum %s, expected %s", key, bucket, sum[1:], sumOf(bucket, key, text)[1:])
	}
	return text, nil
}

// checkRecord is decode of a record of any bucket.
func checkRecord(bucket, key, raw []byte) error {
	switch {
	case bytes.Equal(bucket, bucketMeta) && bytes.Equal(key, keyVersion):
		return nil
	case bytes.Equal(bucket, bucketScripts):
		if sum := sha1.Sum(raw); hex.EncodeToString(sum[:]) != string(key) {
			return fmt.Errorf("script %q has SHA1 %x", key, sum)
		}
		return nil
	}
	text, err := textOf(bucket, key, raw)
	if err == nil && !json.Valid(text) {
		err = fmt.Errorf("record %x of %s is not JSON", key, bucket)
	}
	return err
}
