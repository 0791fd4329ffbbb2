package redistest

import (
	"os"
	"strconv"
	"testing"
)

// EnvInt is the number that an environment variable holds, otherwise if it is not set.
func EnvInt(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text, ok := os.LookupEnv(name)
	if !ok {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
