package apply

import (
	"strings"
	"testing"

	"tairlift/internal/resp"
)

func TestWhatABatchCountsOn(t *testing.T) {
	for line, want := range map[string]string{
		"INCR a": "a", "APPEND a x ; APPEND a y": "a", "HPERSIST a FIELDS 1 f": "a", "XTRIM a MAXLEN 5": "a",
		"SET a 1 ; INCR a": "", "SETNX a 1": "", "MSET a 1 b 2": "", "GETSET a 1": "", "DEL a b": "", "RESTORE a 0 p REPLACE": "",
		"PEXPIREAT a 1": "", "PERSIST a": "",
		"SUNIONSTORE d a b": "a b", "BITOP AND d a": "a", "ZUNIONSTORE d 1 a": "a", "RENAME a d": "a", "COPY a d REPLACE": "a",
		"SORT a STORE d": "a", "GEORADIUS a 1 1 1 m STORE d": "a", "PFMERGE d a": "d a", "EVAL x 2 a b": "a b", "NOSUCH a": "a",
	} {
		var b Batch
		b.begin(nil)
		b.use(0, 1)
		for command := range strings.SplitSeq(line, " ; ") {
			b.buf = resp.AppendCommandStrings(b.buf, strings.Fields(command)...)
			b.added(1, 1)
		}
		var got []string
		err := b.stateful(func(_ int, a counted) { got = append(got, string(a.key)) })
		if text := strings.Join(got, " "); err != nil || text != want {
			t.Errorf("%s: got %q, %v, want %q", line, text, err, want)
		}
	}
}
