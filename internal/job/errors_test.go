package job

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"tairlift/apply"
	"tairlift/capture"
	"tairlift/checkpoint"
	"tairlift/internal/resp"
	"tairlift/spool"
)

func TestExplain(t *testing.T) {
	corrupt := &spool.CorruptError{Path: "x.seg", Offset: 7, Err: errors.New("crc")}
	tests := []struct {
		claim string
		err   error
		code  Code
		what  string
	}{
		{"a source never reached", &capture.StopError{Group: 2, What: "source a:1 was never reached", Hint: "h", NeverReached: true}, NeverReached, "group 2: source a:1 was never reached"},
		{"a group that stopped", &capture.StopError{Group: 2, What: "no space left", Hint: "h", Err: syscall.ENOSPC}, Stopped, "group 2: no space left"},
		{"a spool that capture found corrupt", &capture.StopError{Group: 2, What: "bad", Hint: "h", Err: corrupt}, Corrupt, "group 2: bad"},
		{"a spool of another job", &capture.StopError{Group: 2, What: "bad", Hint: "h", Err: &spool.IdentityError{Field: "job"}}, Refused, "group 2: bad"},
		{"an apply that stopped", &apply.StopError{Reason: "flush-in-stream", What: "FLUSHALL", Hint: "h"}, Stopped, "FLUSHALL"},
		{"a missing segment", &apply.StopError{What: "group 1: missing x.seg", Hint: "h", Err: &spool.MissingError{Path: "x.seg"}}, Corrupt, "group 1: missing x.seg"},
		{"a newer spool", &apply.StopError{What: "v9", Hint: "h", Err: &spool.VersionError{Found: 9, Supported: 1}}, Corrupt, "v9"},
		{"a group without a spool", &apply.StopError{What: "no spool", Hint: "h", Err: spool.ErrNoSpool}, NoSpool, "no spool"},
		{"a target with foreign keys", &apply.RefusedError{What: "not empty", Hint: "h"}, Refused, "not empty"},
		{"a target never reached", fmt.Errorf("%w: %w", apply.ErrNeverReached, &resp.DialError{Addr: "t:1", Err: errors.New("connection refused")}), NeverReached, "target t:1 was never reached: connection refused"},
		{"a target that refuses the password", fmt.Errorf("%w: %w", apply.ErrNeverReached, &resp.AuthError{Addr: "t:1", Reply: "WRONGPASS"}), NeverReached, "target t:1 refused the password: WRONGPASS"},
		{"a target that another has taken", fmt.Errorf("group 1: %w", apply.ErrTaken), InUse, "another apply of this job has taken over the target"},
		{"a store that another has", fmt.Errorf("open x: %w", checkpoint.ErrInUse), InUse, "open x: checkpoint: in use by another process"},
		{"a failed fsync", &capture.StopError{Group: 2, Reason: capture.ReasonSpool, What: "fsync x.seg: input/output error", Hint: "h", Err: syscall.EIO}, Stopped, "group 2: fsync x.seg: input/output error"},
		{"a disk that stays full", &capture.StopError{Group: 2, Reason: capture.ReasonDiskFull, What: "more is needed", Hint: "h", Err: &capture.NoRoom{Reason: capture.ReasonDiskFull}}, Stopped, "group 2: more is needed"},
		{"a target that hangs for longer than --wait", &apply.StopError{Reason: "target-silent", What: "group 1: waited 1s (--wait): the target does not answer", Hint: "h"}, Stopped, "group 1: waited 1s (--wait): the target does not answer"},
		{"a mark that is refused for good", &apply.StopError{Reason: "mark-refused", What: "group 1: the target executed a batch and refused its mark", Hint: "h"}, Stopped, "group 1: the target executed a batch and refused its mark"},
		{"a bug of ours", &apply.StopError{Reason: "internal-error", What: "group 1: apply met a bug of its own", Hint: "h", Err: errors.New("index out of range")}, Stopped, "group 1: apply met a bug of its own"},
		{"a full disk", &fs.PathError{Op: "write", Path: "job.json", Err: syscall.ENOSPC}, Failed, "write job.json: no space left on device"},
		{"a folder that may not be written", &fs.PathError{Op: "mkdir", Path: "x", Err: syscall.EACCES}, Failed, "mkdir x: permission denied"},
		{"anything else", errors.New("odd"), Failed, "odd"},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) { checkError(t, explain(tt.err), tt.code, tt.what) })
	}
	if got := explain(context.Canceled).Code; got != Interrupted {
		t.Errorf("got code %d for a cancelled context, want %d", got, Interrupted)
	}
	if explain(nil) != nil {
		t.Error("no error is explained")
	}
}

func TestManyErrorsAreOneEnd(t *testing.T) {
	err := errors.Join(
		&apply.StopError{Reason: "flush-in-stream", What: "group 1: FLUSHALL", Hint: "one"},
		&apply.StopError{What: "group 2: corrupt", Hint: "two", Err: &spool.CorruptError{}},
	)
	e := join(applyErrors(err))
	e.Resume = "tairlift sync --dir x"
	if e.Code != Corrupt {
		t.Errorf("got code %d, want the one that weighs more, %d", e.Code, Corrupt)
	}
	var b bytes.Buffer
	e.Print(&b)
	const want = "tairlift: group 2: corrupt\nhint: two\ntairlift: group 1: FLUSHALL\nhint: one\nresume: tairlift sync --dir x\n"
	if b.String() != want {
		t.Errorf("got:\n%swant:\n%s", b.String(), want)
	}
	if join([]*Error{nil, nil}) != nil || join(applyErrors(nil)) != nil {
		t.Error("no errors are an end")
	}
}

func TestEveryErrorIsOneLine(t *testing.T) {
	var b bytes.Buffer
	(&Error{What: "a\nb\tc", Hint: "d\r\n e"}).Print(&b)
	if want := "tairlift: a b c\nhint: d e\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}
