package native

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tairlift/internal/rdb"
	"tairlift/internal/resp"
)

// record collects what a Writer sends, and what is wrong with its chunks.
type record struct {
	o        Options
	commands [][]string
	elements int64
	chunks   int
	wrong    error
}

func (r *record) send(c Chunk) error {
	r.chunks++
	r.elements += c.Elements
	p := resp.NewParser(0)
	p.Feed(c.Bytes)
	n := 0
	var size int
	for last := int64(0); ; n++ {
		cmd, ok, err := p.Next()
		if err != nil {
			r.fault("%v in %.200q", err, c.Bytes)
			return nil
		}
		if !ok {
			if last != int64(len(c.Bytes)) {
				r.fault("a command is cut at %d of %d bytes: %.200q", last, len(c.Bytes), c.Bytes)
			}
			break
		}
		size = int(int64(cmd.End) - last)
		last = int64(cmd.End)
		var args []string
		for _, a := range cmd.Args {
			args = append(args, string(a))
		}
		many := elementsIn(args)
		if text := args[0] == "SET" || args[0] == "APPEND"; many > r.o.MaxElements && !text {
			r.fault("%d elements in %.100q, at most %d", many, args, r.o.MaxElements)
		} else if size > r.o.ChunkBytes && many > 1 {
			r.fault("%d elements in a command of %d bytes, at most %d: %.100q", many, size, r.o.ChunkBytes, args)
		}
		r.commands = append(r.commands, args)
	}
	if n != c.Commands {
		r.fault("got %d commands, announced %d", n, c.Commands)
	}
	if n > 1 && len(c.Bytes) > r.o.ChunkBytes {
		r.fault("%d commands in a chunk of %d bytes, at most %d", n, len(c.Bytes), r.o.ChunkBytes)
	}
	return nil
}

func (r *record) fault(format string, args ...any) {
	r.wrong = cmp.Or(r.wrong, fmt.Errorf(format, args...))
}

// elementsIn counts what a command could have done without.
func elementsIn(args []string) int {
	switch args[0] {
	case "SET", "APPEND":
		return len(args[2])
	case "RPUSH", "SADD", "XDEL":
		return len(args) - 2
	case "ZADD", "HSET", "HMSET":
		return len(args)/2 - 1
	case "XCLAIM":
		return len(args) - 11
	}
	return 1
}

// recorder is a Writer into a record, of options that a record can hold it to.
func recorder(o Options) (*Writer, *record) {
	if o.ChunkBytes == 0 {
		o.ChunkBytes = defaultChunk
	}
	if o.MaxElements == 0 {
		o.MaxElements = math.MaxInt
	}
	r := &record{o: o}
	return NewWriter(o, r.send), r
}

// replay is what the commands leave at a key that was not there, as text does;
// of a stream without what its groups have.
func replay(commands [][]string, kind rdb.Kind) ([]string, error) {
	var list []string
	hash := map[string]rdb.Element{}
	for _, args := range commands {
		if len(args) < 3 {
			return nil, fmt.Errorf("command %q", args)
		}
		switch rest := args[2:]; args[0] {
		case "SET":
			if len(list) > 0 {
				return nil, fmt.Errorf("a second SET")
			}
			list = rest
		case "APPEND":
			list = []string{list[0] + rest[0]}
		case "RPUSH", "SADD":
			list = append(list, rest...)
		case "ZADD":
			for ; len(rest) > 0; rest = rest[2:] {
				score, err := strconv.ParseFloat(rest[0], 64)
				if err != nil {
					return nil, err
				}
				list = append(list, text(kind, rdb.Element{A: []byte(rest[1]), Score: score}))
			}
		case "HSET", "HMSET":
			for ; len(rest) > 0; rest = rest[2:] {
				hash[rest[0]] = rdb.Element{A: []byte(rest[0]), B: []byte(rest[1])}
			}
		case "HPEXPIREAT":
			e, ok := hash[rest[3]]
			if !ok {
				return nil, fmt.Errorf("a deadline before its field: %q", args)
			}
			e.DeadlineMS, _ = strconv.ParseInt(rest[0], 10, 64)
			hash[rest[3]] = e
		case "XADD":
			list = append(list, fmt.Sprintf("%s %q", rest[0], rest[1:]))
		}
	}
	switch kind {
	case rdb.KindString, rdb.KindList, rdb.KindSet:
		for i, s := range list {
			list[i] = strconv.Quote(s)
		}
	case rdb.KindHash:
		for _, e := range hash {
			list = append(list, text(kind, e))
		}
	}
	if kind != rdb.KindList && kind != rdb.KindStream {
		slices.Sort(list)
		list = slices.Compact(list)
	}
	return list, nil
}

// wanted is what replay is to give for a body.
func wanted(typ byte, body []byte) (list []string, err error) {
	kind := rdb.KindOf(typ)
	hash := map[string]string{}
	_, _, err = rdb.Elements(typ, body, func(e rdb.Element) error {
		switch {
		case kind == rdb.KindHash:
			hash[string(e.A)] = text(kind, e)
		case kind != rdb.KindStream:
			list = append(list, text(kind, e))
		case e.Stream.Part == rdb.StreamEntry:
			list = append(list, fmt.Sprintf("%v %q", e.Stream.ID, e.Stream.Fields))
		}
		return nil
	})
	for _, line := range hash {
		list = append(list, line)
	}
	if kind != rdb.KindList && kind != rdb.KindStream {
		slices.Sort(list)
		list = slices.Compact(list)
	}
	return list, err
}

// lines are commands with a value cut to what fits in a table.
func lines(commands [][]string) string {
	var b bytes.Buffer
	for _, c := range commands {
		fmt.Fprintln(&b, strings.Join(c, " "))
	}
	return b.String()
}

func elements(t testing.TB, w *Writer, kind rdb.Kind, all ...rdb.Element) error {
	t.Helper()
	if err := w.Begin([]byte("k"), kind); err != nil {
		return err
	}
	for _, e := range all {
		if err := w.Add(e); err != nil {
			return err
		}
	}
	return w.Finish()
}
