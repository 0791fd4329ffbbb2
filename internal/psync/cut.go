package psync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"

	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

// Cut is the values of some keys as a master has them at one offset.
type Cut struct {
	At     repl.Position
	Values []Value // in the order of the keys that were asked for
}

// Value is one key at a cut.
type Value struct {
	Payload    []byte // as DUMP gives it; nil where there is none
	DeadlineMS int64  // ms since 1970 by the source's clock; 0 is none
	Absent     bool   // the source has no such key
	Large      bool   // it is larger than one value may be, and was not fetched, or not kept
	Left       bool   // there was no room for it beside the others
}

// CutLimits bound what ReadCut keeps, and what it asks a server to serialize.
type CutLimits struct {
	ValueBytes int64 // of one payload, and of all payloads together
	Elements   int64 // of one list, set, hash, sorted set or stream
}

var (
	// ErrTorn says that the source wrote to its stream while it was asked: ask
	// again, for fewer keys at a time if that lasts.
	ErrTorn = errors.New("the source's offset moved while it was asked")
	// ErrNoCut says that this server's offset tells nothing of its values: it is
	// a replica, or has no backlog, without which an old server does not count.
	ErrNoCut = errors.New("the server has no offset to cut at")
)

// ReadCut asks a master for keys of one database, as they are at one offset of
// its stream, on a connection that is not a Link. It selects the database.
// Nothing else may be unanswered on the connection.
//
// The question is DUMP, PTTL and TIME of each key in one packet, between two
// INFOs. A server executes what has arrived of one client without a break, and a
// packet that was parted on the way shows by its two offsets: where these agree
// nothing was written to the stream in between, and the values are those at
// that offset, which lies between two commands of the stream and never within a
// transaction. A key that expires because it is asked for is written to the
// stream too. MULTI and EXEC would do no better, and before 7.0 they would be
// written to the source's stream; see Sample.
//
// The fewer and shorter the keys, the more likely the packet arrives in one
// piece: below some 1400 bytes it is one segment on any network.
//
// An error reply is a resp.ServerError; it, ErrTorn and ErrNoCut leave the
// connection usable. After any other error it is closed.
func ReadCut(ctx context.Context, c *resp.Conn, db int, keys [][]byte, limits CutLimits) (Cut, error) {
	release, err := c.CloseOn(ctx)
	if err != nil {
		return Cut{}, err
	}
	cut, err := readCut(c, db, keys, limits)
	if ended := release(); ended != nil {
		return Cut{}, ended
	}
	if err != nil {
		if !errors.As(err, new(resp.ServerError)) && !errors.Is(err, ErrTorn) && !errors.Is(err, ErrNoCut) {
			c.Close()
		}
		return Cut{}, fmt.Errorf("ask for %d keys at one offset: %w", len(keys), err)
	}
	return cut, nil
}

func readCut(c *resp.Conn, db int, keys [][]byte, limits CutLimits) (Cut, error) {
	cut := Cut{Values: make([]Value, len(keys))}
	if err := markLarge(c, db, keys, limits, cut.Values); err != nil {
		return cut, err
	}
	question := resp.AppendCommandStrings(nil, "INFO", "server")
	question = resp.AppendCommandStrings(question, "INFO", "replication")
	for i, k := range keys {
		if !cut.Values[i].Large {
			question = appendCommand(question, "DUMP", k)
			question = appendCommand(question, "PTTL", k)
			question = resp.AppendCommandStrings(question, "TIME")
		}
	}
	question = resp.AppendCommandStrings(question, "INFO", "replication")
	if err := send(c, question); err != nil {
		return cut, err
	}
	var refused error // all replies are read, so that the connection stays usable
	reply := func() (resp.Reply, error) {
		r, err := c.ReadReply()
		if errors.As(err, new(resp.ServerError)) {
			refused, err = cmp.Or(refused, err), nil
		}
		return r, err
	}
	server, err := reply()
	if err != nil {
		return cut, err
	}
	before, err := reply()
	if err != nil {
		return cut, err
	}
	room := limits.ValueBytes
	for i := range keys {
		v := &cut.Values[i]
		if v.Large {
			continue
		}
		payload, null, size, err := c.ReadBulkWithin(nil, room)
		if errors.As(err, new(resp.ServerError)) {
			refused, err = cmp.Or(refused, err), nil
		}
		if err != nil {
			return cut, err
		}
		ttl, err := reply()
		if err != nil {
			return cut, err
		}
		now, err := reply()
		if err != nil {
			return cut, err
		}
		if refused != nil {
			continue
		}
		v.Payload, v.Absent, v.Large = payload, null, size > limits.ValueBytes
		v.Left = !null && payload == nil && !v.Large
		room -= int64(len(payload))
		if ttl.Int >= 0 && !null {
			us, err := micros(now)
			if err != nil {
				return cut, err
			}
			// Both count whole milliseconds, some µs apart.
			v.DeadlineMS = us/1000 + ttl.Int
		}
	}
	after, err := reply()
	if err != nil {
		return cut, err
	}
	if refused != nil {
		return cut, refused
	}
	cut.At, err = cutAt(fields(server.String()), fields(before.String()), fields(after.String()))
	return cut, err
}

// markLarge marks the keys that the server should not be asked to serialize.
func markLarge(c *resp.Conn, db int, keys [][]byte, limits CutLimits, values []Value) error {
	question := resp.AppendCommandStrings(nil, "SELECT", strconv.Itoa(db))
	for _, k := range keys {
		question = appendCommand(question, "TYPE", k)
	}
	types, err := ask(c, question, 1+len(keys))
	if err != nil {
		return err
	}
	lengths := map[string]string{
		"string": "STRLEN", "list": "LLEN", "set": "SCARD", "zset": "ZCARD", "hash": "HLEN", "stream": "XLEN",
	}
	question = question[:0]
	var asked []int
	for i, k := range keys {
		if word, ok := lengths[types[1+i].String()]; ok {
			question = appendCommand(question, word, k)
			asked = append(asked, i)
		}
	}
	sizes, err := ask(c, question, len(asked))
	if resp.HasCode(err, "WRONGTYPE") {
		return ErrTorn // replaced in the meantime
	}
	if err != nil {
		return err
	}
	for n, i := range asked {
		most := limits.Elements
		if types[1+i].String() == "string" {
			most = limits.ValueBytes
		}
		values[i].Large = sizes[n].Int > most
	}
	return nil
}

// ask sends commands and reads their n replies; the first error reply is the
// error.
func ask(c *resp.Conn, question []byte, n int) ([]resp.Reply, error) {
	if n == 0 {
		return nil, nil
	}
	if err := send(c, question); err != nil {
		return nil, err
	}
	replies := make([]resp.Reply, n)
	var refused error
	for i := range replies {
		var err error
		if replies[i], err = c.ReadReply(); err != nil {
			if !errors.As(err, new(resp.ServerError)) {
				return nil, err
			}
			refused = cmp.Or(refused, err)
		}
	}
	return replies, refused
}

func send(c *resp.Conn, b []byte) error {
	if _, err := c.Write(b); err != nil {
		return err
	}
	return c.Flush()
}

func appendCommand(dst []byte, word string, key []byte) []byte {
	dst = resp.AppendArrayHeader(dst, 2)
	dst = resp.AppendBulkString(dst, word)
	return resp.AppendBulk(dst, key)
}

// cutAt is where the two INFOs agree to be.
func cutAt(server, before, after map[string]string) (repl.Position, error) {
	for _, name := range []string{"role", "master_replid", "repl_backlog_active", "master_repl_offset"} {
		if before[name] != after[name] {
			return repl.Position{}, ErrTorn
		}
	}
	if role := before["role"]; role != "master" {
		return repl.Position{}, fmt.Errorf("%w: its role is %q", ErrNoCut, role)
	}
	if before["repl_backlog_active"] != "1" {
		return repl.Position{}, fmt.Errorf("%w: nobody has been attached to it for long", ErrNoCut)
	}
	id, ok := before["master_replid"]
	if !ok {
		id = server["run_id"]
	}
	at := repl.Position{}
	var err error
	if at.ReplID, err = repl.ParseReplID(id); err != nil {
		return at, fmt.Errorf("%w: INFO's replication id: %w", resp.ErrProtocol, err)
	}
	if at.Offset, err = repl.ParseOffset(before["master_repl_offset"]); err != nil {
		return at, fmt.Errorf("%w: INFO's master_repl_offset: %w", resp.ErrProtocol, err)
	}
	return at, nil
}
