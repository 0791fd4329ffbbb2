package native

import (
	"fmt"

	"tairlift/internal/rdb"
)

// UnsupportedError is a value that no command of the target makes.
type UnsupportedError struct {
	Key  string
	Kind rdb.Kind
	Why  string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("key %q (%v) cannot be written by commands: %s", e.Key, e.Kind, e.Why)
}
