package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	cmds "tairlift/internal/command"
	"tairlift/internal/rdb"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// restores are the commands that put an RDB's keys into a target of Redis 6.2 or
// later: SET for plain strings, RESTORE REPLACE for the rest.
func restores(file []byte) (load, error) {
	return restoresOf(rdb.NewDecoder(bytes.NewReader(file), rdb.Options{NoStringPayload: true}))
}

func restoresOf(d *rdb.Decoder) (l load, err error) {
	for {
		e, err := d.Next()
		if err == io.EOF {
			return l, nil
		}
		if err != nil {
			return l, err
		}
		if e.DB != 0 {
			return l, fmt.Errorf("a key in database %d, expected database 0 alone", e.DB)
		}
		var args [][]byte
		switch {
		case e.IsString && e.ExpireMS == 0:
			args = [][]byte{[]byte("SET"), e.Key, e.String}
		case e.IsString:
			args = [][]byte{[]byte("SET"), e.Key, e.String, []byte("PXAT"), fmt.Append(nil, e.ExpireMS)}
		case e.ExpireMS == 0:
			args = [][]byte{[]byte("RESTORE"), e.Key, []byte("0"), e.Payload, []byte("REPLACE")}
		default:
			args = [][]byte{[]byte("RESTORE"), e.Key, fmt.Append(nil, e.ExpireMS), e.Payload, []byte("REPLACE"), []byte("ABSTTL")}
		}
		l.bytes = resp.AppendCommand(l.bytes, args...)
		l.replies++
	}
}

// commands are what apply sends for a stream, without MULTI and marks.
func commands(g *spool.Group, from repl.Position, epoch repl.Epoch) (l load, raw int64, err error) {
	in, err := g.OpenStream(epoch, from.Offset)
	if err != nil {
		return l, 0, err
	}
	defer in.Close()
	p := resp.NewParser(from.Offset)
	caps := cmds.Caps{AbsTTL: true, Major: 7}
	for {
		f, err := in.Next()
		if errors.Is(err, spool.ErrEnd) {
			return l, raw, nil
		}
		if err != nil {
			return l, raw, err
		}
		raw += int64(len(f.Data))
		p.Feed(f.Data)
		for {
			c, ok, err := p.Next()
			if err != nil {
				return l, raw, err
			}
			if !ok {
				break
			}
			spec := cmds.Lookup(c.Args[0])
			switch spec.Class {
			case cmds.Select:
				if string(c.Args[1]) != "0" {
					return l, raw, fmt.Errorf("a SELECT of database %s, expected database 0 alone", c.Args[1])
				}
				continue
			case cmds.Multi, cmds.Exec, cmds.Ignore:
				continue
			}
			out, n, _, err := spec.AppendRewrite(l.bytes, c.Raw, c.Args, f.Received.UnixMilli(), caps)
			if err != nil {
				return l, raw, err
			}
			l.bytes = out
			l.replies += n
		}
	}
}

// readRDB is the RDB of a group's first epoch.
func readRDB(g *spool.Group) ([]byte, error) {
	in, err := g.OpenRDB(1)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(in)
}

// stored is the size of all segments below dir.
func stored(dir string) (sum int64, err error) {
	err = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && strings.HasSuffix(path, ".seg") {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}

// transactions are the same commands in MULTI and EXEC, so many in each.
func transactions(l load, each int) (load, error) {
	out := load{bytes: make([]byte, 0, len(l.bytes)+len(l.bytes)/64)}
	p := resp.NewParser(0)
	p.Feed(l.bytes)
	for n := 0; n < l.replies; n++ {
		c, ok, err := p.Next()
		if err != nil || !ok {
			return out, fmt.Errorf("command %d of %d of a load: %w", n, l.replies, err)
		}
		if n%each == 0 {
			out.bytes = resp.AppendCommandStrings(out.bytes, "MULTI")
			out.replies++
		}
		out.bytes = append(out.bytes, c.Raw...)
		out.replies++ // QUEUED
		if n%each == each-1 || n == l.replies-1 {
			out.bytes = resp.AppendCommandStrings(out.bytes, "EXEC")
			out.replies++ // with all of theirs in it
		}
	}
	return out, nil
}
