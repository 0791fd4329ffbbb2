package apply

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"unicode/utf8"
)

// nameFile keeps names of keys on disk, each with a number, for the time of a
// sweep.
type nameFile struct {
	f   *os.File
	buf *bufio.Writer
}

func newNameFile(path string) (*nameFile, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &nameFile{f: f, buf: bufio.NewWriter(f)}, nil
}

func (n *nameFile) add(i, db int, key []byte) error {
	var head [3 * binary.MaxVarintLen64]byte
	b := binary.AppendUvarint(head[:0], uint64(i))
	b = binary.AppendUvarint(b, uint64(db))
	b = binary.AppendUvarint(b, uint64(len(key)))
	_, err := n.buf.Write(b)
	if err == nil {
		_, err = n.buf.Write(key)
	}
	return err
}

// each calls fn for every name in the order of add; key is valid during the
// call.
func (n *nameFile) each(fn func(i, db int, key []byte) error) error {
	if err := n.buf.Flush(); err != nil {
		return err
	}
	info, err := n.f.Stat()
	if err != nil {
		return err
	}
	r := bufio.NewReader(io.NewSectionReader(n.f, 0, info.Size()))
	var key []byte
	for {
		i, err := binary.ReadUvarint(r)
		if err == io.EOF {
			return nil
		}
		db, derr := binary.ReadUvarint(r)
		size, serr := binary.ReadUvarint(r)
		if err = errors.Join(err, derr, serr); err != nil {
			return err
		}
		if uint64(cap(key)) < size {
			key = make([]byte, size)
		}
		if _, err := io.ReadFull(r, key[:size]); err != nil {
			return err
		}
		if err := fn(int(i), int(db), key[:size]); err != nil {
			return err
		}
	}
}

// Close leaves the file to who removes its folder.
func (n *nameFile) Close() error { return n.f.Close() }

// list is a file for people and scripts: one JSON object per key.
type list struct {
	f   *os.File
	buf *bufio.Writer
	enc *json.Encoder
}

type listed struct {
	DB     int     `json:"db"`
	Key    *string `json:"key,omitempty"`
	Base64 string  `json:"key_base64,omitempty"` // of a name that is not UTF-8
	HeldBy string  `json:"held_by,omitempty"`    // the group for which it stays
}

func newList(path string) (*list, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	buf := bufio.NewWriter(f)
	return &list{f: f, buf: buf, enc: json.NewEncoder(buf)}, nil
}

func (l *list) add(db int, key []byte, heldBy string) error {
	out := listed{DB: db, HeldBy: heldBy}
	if utf8.Valid(key) {
		name := string(key)
		out.Key = &name
	} else {
		out.Base64 = base64.StdEncoding.EncodeToString(key)
	}
	return l.enc.Encode(out)
}

func (l *list) Close() error { return errors.Join(l.buf.Flush(), l.f.Close()) }
