package ctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// ErrNobody says that nobody listens at a path.
var ErrNobody = errors.New("nobody listens there")

// Call asks who listens at path. Errors: ErrNobody (wrapped); *Error when the
// request was not done, else of the connection or of ctx.
func Call(ctx context.Context, path string, req Request) (Response, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return Response{}, fmt.Errorf("%w: %s", ErrNobody, path)
	}
	short, release, err := shorten(path)
	if err != nil {
		return Response{}, err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", short)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return Response{}, fmt.Errorf("%w: %s", ErrNobody, path)
	}
	if err != nil {
		return Response{}, named(err, path)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	req.Version = version
	var resp Response
	err = writeLine(conn, req)
	if err == nil {
		err = readLine(conn, &resp)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return Response{}, fmt.Errorf("ask at %s: %w", path, ctx.Err())
	case err != nil:
		return Response{}, named(err, path)
	case resp.Error != nil:
		return Response{}, resp.Error
	case resp.Version != version:
		return Response{}, fmt.Errorf("ask at %s: the answer has version %d, this tairlift knows version %d", path, resp.Version, version)
	}
	return resp, nil
}

// named names the path that the caller knows: that of the link says nothing.
func named(err error, path string) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Errorf("ask at %s: %w", path, err)
}
