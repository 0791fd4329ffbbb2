package resp

import (
	"fmt"

	"tairlift/internal/repl"
)

// Limits of what is read. They follow redis/src/networking.c
// (processMultibulkBuffer, PROTO_INLINE_MAX_SIZE) and proto-max-bulk-len; the
// slack is for a value of full size that travels as a DUMP payload. Redis 7
// takes more than the 1,048,576 arguments that older servers stop at.
const (
	MaxArgs   = 1 << 24
	MaxBulk   = 512<<20 + 1<<20
	MaxInline = 64 << 10
)

// Sizes above which a parser's memory is given back once it is no longer used.
const (
	keepBuffer = 4 << 20
	keepArgs   = 64 << 10
	minBuffer  = 64 << 10
)

// Command is one command of a stream. Its bytes are the parser's: valid until
// the next Next or Feed.
type Command struct {
	Args [][]byte    // never empty
	Raw  []byte      // the command's exact bytes, header included
	End  repl.Offset // offset of its last byte
}

// Parser is a push parser for a replication stream: bytes go in by Feed in any
// portions, commands come out of Next with their end offsets. In the steady
// state it allocates nothing. It follows a replica's own rules (networking.c,
// processInputBuffer): arrays of bulks, inline commands, empty lines and empty
// arrays, which only move the offset. Stricter than a replica, it checks every
// line end, and takes an inline command only if it is plain printable text
// without quotes: what is not a command must stop here and never be sent on.
type Parser struct {
	buf   []byte
	start int         // buf[start:] is not consumed
	off   repl.Offset // offset of the byte before buf[start]
	pos   int         // next byte to look at
	left  int         // arguments of the open array still to come
	bulk  int         // length of the argument under way, -1 before its header
	spans []int       // start and end of the open array's arguments, from start
	args  [][]byte
	err   *ParseError
}

// NewParser is a parser for the bytes behind offset at.
func NewParser(at repl.Offset) *Parser { return &Parser{off: at, bulk: -1} }

// Offset is the end of what has been consumed: of the last command returned and
// of the empty lines that Next has skipped behind it.
func (p *Parser) Offset() repl.Offset { return p.off }

// Buffered is the number of bytes fed and not consumed: the part of a command
// whose end has not come, once Next has returned ok=false.
func (p *Parser) Buffered() int { return len(p.buf) - p.start }

// Feed appends a copy of b. The last Command's bytes are gone afterwards.
func (p *Parser) Feed(b []byte) {
	live := len(p.buf) - p.start
	need := live + len(b)
	idle := cap(p.buf) > keepBuffer && need < cap(p.buf)/4
	if len(p.buf)+len(b) > cap(p.buf) || live == 0 || idle {
		p.pos -= p.start
		old := p.buf[p.start:]
		// Moving down is worth it only when at least as much is won as moved:
		// else a caller who drains slowly would pay for its backlog each time.
		if need <= cap(p.buf) && p.start >= live && !idle {
			p.buf = p.buf[:0]
		} else {
			p.buf = make([]byte, 0, max(minBuffer, need+need/2))
		}
		p.buf = append(p.buf, old...)
		p.start = 0
	}
	p.buf = append(p.buf, b...)
}

// Next returns the next whole command. ok is false when more bytes are needed.
// An error is a *ParseError and stays.
func (p *Parser) Next() (cmd Command, ok bool, err error) {
	if p.err != nil {
		return Command{}, false, p.err
	}
	if p.left == 0 {
		inline, ready, err := p.begin()
		if err != nil || !ready {
			return Command{}, false, err
		}
		if inline {
			return p.finish(), true, nil
		}
	}
	buf, pos := p.buf, p.pos
	for p.left > 0 {
		if p.bulk < 0 {
			if pos >= len(buf) {
				break
			}
			if buf[pos] != '$' {
				return p.fail(pos, "expected '$', got %q", buf[pos])
			}
			n, size, bad := header(buf[pos+1:], MaxBulk)
			if bad >= 0 {
				return p.fail(pos+1+bad, "argument length %q", clip(buf[pos+1:]))
			}
			if size == 0 {
				break
			}
			if n < 0 {
				return p.fail(pos+1, "argument length -1")
			}
			p.bulk = n
			pos += 1 + size
		}
		end := pos + p.bulk
		if end+2 > len(buf) {
			if end < len(buf) && buf[end] != '\r' {
				return p.fail(end, "expected the line end behind an argument, got %q", buf[end])
			}
			break
		}
		if buf[end] != '\r' {
			return p.fail(end, "expected the line end behind an argument, got %q", buf[end])
		}
		if buf[end+1] != '\n' {
			return p.fail(end+1, "expected the line end behind an argument, got %q", buf[end+1])
		}
		p.spans = append(p.spans, pos-p.start, end-p.start)
		pos = end + 2
		p.bulk = -1
		p.left--
	}
	p.pos = pos
	if p.left > 0 {
		return Command{}, false, nil
	}
	return p.finish(), true, nil
}

// begin skips what is between commands and begins the next one: an array's
// header, or a whole inline command.
func (p *Parser) begin() (inline, ready bool, err error) {
	for p.pos < len(p.buf) {
		if p.pos > p.start { // inside an inline command that had no end yet
			break
		}
		switch c := p.buf[p.pos]; c {
		case '\n':
			p.skip(1)
		case '\r':
			if p.pos+1 == len(p.buf) {
				return false, false, nil
			}
			if c := p.buf[p.pos+1]; c != '\n' {
				_, _, err := p.fail(p.pos+1, "expected the line end, got %q", c)
				return false, false, err
			}
			p.skip(2)
		case '*':
			n, size, bad := header(p.buf[p.pos+1:], MaxArgs)
			if bad >= 0 {
				_, _, err := p.fail(p.pos+1+bad, "number of arguments %q", clip(p.buf[p.pos+1:]))
				return false, false, err
			}
			if size == 0 {
				return false, false, nil
			}
			if n <= 0 {
				p.skip(1 + size)
				continue
			}
			p.pos += 1 + size
			p.left = n
			if cap(p.spans) > 2*keepArgs && n < keepArgs {
				p.spans, p.args = nil, nil
			}
			p.spans = p.spans[:0]
			return false, true, nil
		default:
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
				_, _, err := p.fail(p.pos, "expected a command, got %q", clip(p.buf[p.pos:]))
				return false, false, err
			}
			p.spans = p.spans[:0]
			p.pos++
		}
	}
	for ; p.pos < len(p.buf); p.pos++ {
		switch c := p.buf[p.pos]; {
		case c == '\n':
			p.splitInline(p.buf[p.start:p.pos])
			p.pos++
			return true, true, nil
		case p.buf[p.pos-1] == '\r', c != '\r' && c != '\t' && (c < ' ' || c > '~'), c == '"', c == '\'', c == '\\':
			_, _, err := p.fail(p.pos, "inline command with %q", c)
			return false, false, err
		case p.pos-p.start >= MaxInline:
			_, _, err := p.fail(p.pos, "inline command longer than %d bytes", MaxInline)
			return false, false, err
		}
	}
	return false, false, nil
}

func (p *Parser) skip(n int) {
	p.pos += n
	p.start = p.pos
	p.off += repl.Offset(n)
}

func (p *Parser) splitInline(line []byte) {
	for i := 0; i < len(line); i++ {
		if isSpace(line[i]) {
			continue
		}
		from := i
		for i < len(line) && !isSpace(line[i]) {
			i++
		}
		p.spans = append(p.spans, from, i)
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }

// finish makes a Command of the spans up to pos and consumes its bytes.
func (p *Parser) finish() Command {
	raw := p.buf[p.start:p.pos:p.pos]
	args := p.args[:0]
	for i := 0; i+1 < len(p.spans); i += 2 {
		from, to := p.spans[i], p.spans[i+1]
		args = append(args, raw[from:to:to])
	}
	p.args = args
	p.off += repl.Offset(len(raw))
	p.start = p.pos
	return Command{Args: args, Raw: raw, End: p.off}
}

func (p *Parser) fail(at int, format string, a ...any) (Command, bool, error) {
	p.err = &ParseError{
		Offset: p.off + repl.Offset(at-p.start),
		Err:    fmt.Errorf("%w: "+format, append([]any{ErrProtocol}, a...)...),
	}
	return Command{}, false, p.err
}

// header reads a decimal length and its line end. size is the number of bytes
// read, 0 when more are needed. bad is the index of the first byte that cannot
// be (or the digit that takes the number over limit), else -1. Like Redis'
// string2ll it knows no sign but '-' (here "-1" alone) and no leading zero.
func header(b []byte, limit int) (n, size, bad int) {
	i := 0
	if len(b) > 0 && b[0] == '-' {
		if len(b) == 1 {
			return 0, 0, -1
		}
		if b[1] != '1' {
			return 0, 0, 1
		}
		n, i = -1, 2
	}
	for ; i < len(b); i++ {
		c := b[i]
		if c == '\r' {
			if i == 0 {
				return 0, 0, i
			}
			if i+1 == len(b) {
				return 0, 0, -1
			}
			if b[i+1] != '\n' {
				return 0, 0, i + 1
			}
			return n, i + 2, -1
		}
		if c < '0' || c > '9' || n < 0 || i == 1 && b[0] == '0' {
			return 0, 0, i
		}
		if n = n*10 + int(c-'0'); n > limit {
			return 0, 0, i
		}
	}
	return 0, 0, -1
}

// clip is the first bytes of b, for an error's text.
func clip(b []byte) []byte { return b[:min(len(b), 20)] }
