package apply

import (
	"encoding/binary"
	"strings"
	"testing"

	"tairlift/internal/rdb"
	"tairlift/internal/redistest"
	"tairlift/spool"
)

// fadingRDB is one with a hash h of three fields that have deadlines, and one more
// that has none, if it is to last.
func fadingRDB(lasts bool) []byte {
	fields := []string{"\x01\x01a\x0a", "\x01\x01b\x0a", "\x01\x01c\x0a"} // how long behind the first one, name, length of the value
	if lasts {
		fields = append(fields, "\x00\x01d\x0a")
	}
	b := append([]byte("REDIS0012"), 0xFE, 0, rdb.TypeHashFieldTTL, 1, 'h')
	b = binary.LittleEndian.AppendUint64(b, 4_100_000_000_000)
	b = append(b, byte(len(fields)))
	for _, f := range fields {
		b = append(append(b, f...), "0123456789"...)
	}
	b = append(b, 0xFF)
	return binary.LittleEndian.AppendUint64(b, rdb.CRC64(0, b))
}

// TestALargeHashWhoseFieldsExpireOnTheWay: it is gone from the target while it is
// written. A proxy makes a server of any version do so.
func TestALargeHashWhoseFieldsExpireOnTheWay(t *testing.T) {
	for _, tt := range []struct {
		claim   string
		lasts   bool
		at      string // the command before which it is gone
		rejects int
	}{
		{"before it is whole", false, "HLEN", 0},
		{"before it is put in place", false, "RENAME", 0},
		{"with a field that cannot have expired", true, "HLEN", 1},
		{"with a field that cannot have expired, late", true, "RENAME", 1},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			r := bareRig(t, 1)
			p := r.craftBegin(1, 1, spool.WriterOptions{})
			p.rdb(fadingRDB(tt.lasts))
			p.write("SET last 1")
			p.seal()
			proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
				switch {
				case isWord(args, "COMMAND") && len(args) == 3 && strings.EqualFold(string(args[2]), "HPEXPIREAT"):
					return redistest.Reply("*1\r\n*1\r\n$10\r\nhpexpireat\r\n")
				case isWord(args, "HPEXPIREAT"):
					return redistest.Reply("*1\r\n:1\r\n")
				case isWord(args, tt.at) && strings.HasPrefix(string(args[1]), keyPrefix+"tmp:"):
					r.target.Do(t, "DEL", string(args[1]))
				}
				return redistest.Pass()
			})
			job := r.applyAll(Options{Addr: proxy.Addr, heldBytes: 20, OnReject: RejectContinue})
			r.want("at the end", map[string]string{"0 EXISTS h": "0", "0 GET last": "1"})
			if st := job.Status()[0]; st.Rejects != tt.rejects || st.Expired != int64(1-tt.rejects) {
				t.Errorf("got %d rejects and %d expired, want %d and %d", st.Rejects, st.Expired, tt.rejects, 1-tt.rejects)
			}
		})
	}
}
