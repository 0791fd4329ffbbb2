package apply

import (
	"context"
	"time"
)

// seldom is a connection for questions that may come long after each other: one
// that has said nothing for so long that it may be closed by now is replaced.
type seldom struct {
	job  *Job
	conn *control
	used time.Time
}

func (s *seldom) get(ctx context.Context) (control, error) {
	if time.Since(s.used) > s.job.o.beat {
		s.close()
	}
	if s.conn == nil {
		conn, err := s.job.dial(ctx)
		if err != nil {
			return control{}, err
		}
		s.conn = &conn
	}
	s.used = time.Now()
	return *s.conn, nil
}

func (s *seldom) close() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}
