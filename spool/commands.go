package spool

import (
	"io"

	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

// CommandReader reads a stream command by command, whatever frames and
// segments they cross. It is used by one goroutine.
type CommandReader struct {
	in    *StreamReader
	pars  *resp.Parser
	until repl.Offset
}

// OpenCommands opens the stream of epoch e behind the offset after, where a
// command must begin, for those that begin before until; -1 is all, since a
// stream may begin at 0. Its errors are those of OpenStream.
func (g *Group) OpenCommands(e repl.Epoch, after, until repl.Offset) (*CommandReader, error) {
	in, err := g.OpenStream(e, after)
	if err != nil {
		return nil, err
	}
	return &CommandReader{in: in, pars: resp.NewParser(after), until: until}, nil
}

// Next returns the next command, which is valid until the next call, and
// io.EOF once all that begin before until have been returned. Its other errors are those
// of StreamReader.Next, after which it may be called again as that may, and a
// *resp.ParseError, which stays.
func (r *CommandReader) Next() (resp.Command, error) {
	for {
		if r.until >= 0 && r.pars.Offset() >= r.until {
			return resp.Command{}, io.EOF
		}
		c, ok, err := r.pars.Next()
		if err != nil || ok {
			return c, err
		}
		f, err := r.in.Next()
		if err != nil {
			return resp.Command{}, err
		}
		if f.Data != nil { // else clock samples
			r.pars.Feed(f.Data)
		}
	}
}

// Offset is the end of the last command returned, and of empty lines behind
// it.
func (r *CommandReader) Offset() repl.Offset { return r.pars.Offset() }

// Rest is the number of bytes behind Offset that were read: the part of a
// command whose end has not come, once Next has returned an error.
func (r *CommandReader) Rest() int { return r.pars.Buffered() }

// Close ends the reader.
func (r *CommandReader) Close() error { return r.in.Close() }
