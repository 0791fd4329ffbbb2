package apply

import (
	"context"
	"errors"
	"fmt"

	"tairlift/checkpoint"
	"tairlift/internal/rdb"
	"tairlift/internal/resp"
)

// loadFunction brings a library of Redis 7 functions to the target.
func (s *snapshot) loadFunction(ctx context.Context, payload []byte) error {
	if s.target.major < 7 {
		return s.noFunction(&StopError{
			Reason: "functions-unsupported",
			What:   fmt.Sprintf("group %s: the source has function libraries, which the target's version %s does not know", s.g.id, s.target.version),
			Hint:   "use a target of version 7.0 or later, or delete the libraries on the source (FUNCTION DELETE) and start over; or go on without them by --on-reject continue",
		})
	}
	conn, err := s.outside(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Do(ctx, "FUNCTION", "RESTORE", string(payload), "REPLACE")
	if refusedForGood(err) { // a payload of another server, perhaps: its text is the same
		code, cerr := rdb.FunctionCode(nil, payload)
		if cerr != nil {
			return s.corrupt(cerr)
		}
		_, err = conn.Do(ctx, "FUNCTION", "LOAD", "REPLACE", string(code))
	}
	if refusedForGood(err) {
		return s.noFunction(&StopError{
			Reason: "functions-refused",
			What:   fmt.Sprintf("group %s: the target refuses a function library of the source: %v", s.g.id, err),
			Hint:   "it may lack what the library needs (an engine, a command, the right to FUNCTION): mend that, or delete the library on the source (FUNCTION DELETE) and start over; or go on without it by --on-reject continue",
			Err:    err,
		})
	}
	if err != nil {
		return fmt.Errorf("load a function library: %w", err)
	}
	return nil
}

// noFunction handles a library that the target does not have: a reject without
// a key, where the job goes on past those.
func (s *snapshot) noFunction(stop *StopError) error {
	if s.g.onReject != RejectContinue {
		return stop
	}
	s.g.log.Warn("a function library is left out", "what", stop.What)
	_, err := s.g.addRejects([]checkpoint.Reject{{
		Group: s.g.id, Epoch: s.epoch, Phase: checkpoint.PhaseRDB, Command: resp.AppendCommandStrings(nil, "FUNCTION", "LOAD"), Error: stop.What, Applied: true,
	}})
	return err
}

// refusedForGood tells whether the target will never do what it was asked.
func refusedForGood(err error) bool {
	var se resp.ServerError
	if !errors.As(err, &se) {
		return false
	}
	kind, _ := classify(se)
	return kind == classPermanent
}
