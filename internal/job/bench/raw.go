package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"tairlift/internal/resp"
)

// load is a run of commands as bytes, for one socket.
type load struct {
	bytes   []byte
	replies int // one of each command
}

// piece is what one write hands to the socket.
const piece = 256 << 10

// blast writes each load down a socket of its own, as fast as it goes, and reads
// the replies meanwhile. None may be an error. The time runs from the first write
// to the last reply.
func blast(ctx context.Context, addr string, loads ...load) (time.Duration, error) {
	conns := make([]net.Conn, len(loads))
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	for i := range loads {
		var d net.Dialer
		var err error
		if conns[i], err = d.DialContext(ctx, "tcp", addr); err != nil {
			return 0, err
		}
	}
	stop := context.AfterFunc(ctx, func() {
		for _, c := range conns {
			c.Close()
		}
	})
	defer stop()
	begun := time.Now()
	err := parallel(2*len(loads), func(i int) error {
		l, c := loads[i/2], conns[i/2]
		if i%2 == 0 {
			return send(c, l.bytes)
		}
		return receive(c, l.replies)
	})
	took := time.Since(begun)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return took, err
}

func send(c net.Conn, p []byte) error {
	for len(p) > 0 {
		n, err := c.Write(p[:min(len(p), piece)])
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func receive(c net.Conn, replies int) error {
	r := resp.NewReader(bufio.NewReaderSize(c, piece))
	for i := range replies {
		_, err := r.SkipReply()
		var se resp.ServerError
		if errors.As(err, &se) {
			return fmt.Errorf("reply %d of %d is an error: %w", i+1, replies, err)
		}
		if err != nil {
			return fmt.Errorf("read reply %d of %d: %w", i+1, replies, err)
		}
	}
	return nil
}
