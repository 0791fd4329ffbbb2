package verify

import (
	"bytes"
	"encoding/binary"
	"testing"
	"testing/iotest"
	"time"

	"tairlift/internal/rdb"
)

// stringDump is the DUMP payload of a string, stored plainly.
func stringDump(s string) []byte {
	body := []byte{0x80}
	body = binary.BigEndian.AppendUint32(body, uint32(len(s)))
	return rdb.AppendDump(nil, rdb.TypeString, append(body, s...), 9)
}

func newJudge() *judge {
	return &judge{probe: dumpProbe, digests: newDigester(1), tolerance: time.Second, drift: &driftStats{}}
}

func one(payload []byte, ttl int64) *reading {
	return &reading{arena: payload, ends: []int{len(payload)}, gone: []bool{payload == nil}, ttl: []int64{ttl}, held: []bool{false}}
}

// arrived is one that was too large to be held.
func arrived(payload []byte, ttl int64) *reading {
	r := one(nil, ttl)
	r.gone[0] = payload == nil
	r.far = []far{newDigester(1).arriving(iotest.OneByteReader(bytes.NewReader(payload)), int64(len(payload)))}
	return r
}

func TestWhatCannotBeDecodedIsNeverEqual(t *testing.T) {
	unknown := func(body string, version int) []byte { return rdb.AppendDump(nil, 26, []byte(body), version) }
	module := func(body string) []byte { return rdb.AppendDump(nil, rdb.TypeModule2, []byte(body), 9) }
	broken := append([]byte{}, stringDump("abc")...)
	broken[len(broken)-1] ^= 1
	trailing := rdb.AppendDump(nil, rdb.TypeString, []byte("\x01a!"), 9)
	tests := []struct {
		name     string
		src, dst []byte
		want     Class
	}{
		{"unknown type, the same bytes", unknown("abc", 12), unknown("abc", 12), equal},
		{"unknown type, the same bytes of two versions", unknown("abc", 12), unknown("abc", 13), equal},
		{"unknown type, other bytes", unknown("abc", 12), unknown("abd", 12), Unverifiable},
		{"known and unknown type", stringDump("abc"), unknown("abc", 12), Unverifiable},
		{"modules, other bytes", module("x"), module("y"), Unverifiable},
		{"module for string", stringDump("abc"), module("abc"), Type},
		{"checksum wrong on one side", rdb.AppendDump(nil, rdb.TypeString, []byte("\x03abd"), 9), broken, Unverifiable},
		{"bytes behind the value", stringDump("a"), trailing, Unverifiable},
		{"payload too short", []byte("short"), []byte("short"), Unverifiable},
		{"empty payloads", []byte{}, []byte{}, Unverifiable},
		{"the same text stored in two ways", stringDump("abc"), rdb.AppendDump(nil, rdb.TypeString, []byte("\x03abc"), 7), equal},
		{"a number as text and as a number", stringDump("-7"), rdb.AppendDump(nil, rdb.TypeString, []byte{0xc0, 0xf9}, 7), equal},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for how, src := range map[string]*reading{"held": one(tt.src, -1), "arrived": arrived(tt.src, -1)} {
				for how2, dst := range map[string]*reading{"held": one(tt.dst, -1), "arrived": arrived(tt.dst, -1)} {
					f := newJudge().key(src, dst, 0, moment{asked: time.Now()})
					if f.class != tt.want || (f.class == Unverifiable) != (f.err != nil) && tt.want != Type {
						t.Errorf("%s and %s: got %q, %v, want %q", how, how2, f.class, f.err, tt.want)
					}
				}
			}
		})
	}
}

func TestDeadlinesAreComparedWithinATolerance(t *testing.T) {
	at := moment{asked: time.Now(), slack: 50 * time.Millisecond}
	tests := []struct {
		name     string
		src, dst int64
		skew     int64
		want     Class
	}{
		{"none on both sides", -1, -1, 0, equal},
		{"the same", 5000, 5000, 0, equal},
		{"late by apply's margin, tolerance and slack", 5000, 6850, 0, equal},
		{"late by more", 5000, 6851, 0, TTLDrift},
		{"early by tolerance and slack", 6050, 5000, 0, equal},
		{"off by more, early", 6051, 5000, 0, TTLDrift},
		{"the same moment of clocks that are 10 s apart", 5000, 15_800, 10_000, equal},
		{"the same duration on clocks that are 10 s apart", 5000, 5000, 10_000, equal},
		{"neither, on clocks that are 10 s apart", 5000, 10_000, 10_000, TTLDrift},
		{"lost", 5000, -1, 0, TTLMissing},
		{"too many", -1, 0, 0, TTLExtra},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := newJudge()
			j.skew = tt.skew
			f := j.key(one(stringDump("v"), tt.src), one(stringDump("v"), tt.dst), 0, at)
			if f.class != tt.want {
				t.Errorf("got %q, want %q", f.class, tt.want)
			}
		})
	}
}

func TestStateIsTheSameOnlyIfNothingHappened(t *testing.T) {
	a := state{digest: digest{kind: 1, lo: 5}, deadline: 1000}
	tests := []struct {
		name string
		b    state
		want bool
	}{
		{"nothing", a, true},
		{"deadline within the tolerance", state{digest: a.digest, deadline: 1100}, true},
		{"deadline moved", state{digest: a.digest, deadline: 1101}, false},
		{"deadline taken away", state{digest: a.digest}, false},
		{"value changed", state{digest: digest{kind: 1, lo: 6}, deadline: 1000}, false},
		{"gone", state{gone: true}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := a.same(tt.b, 100*time.Millisecond); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if got := tt.b.same(a, 100*time.Millisecond); got != tt.want {
				t.Errorf("the other way round: got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestDriftPercentilesAreBounds(t *testing.T) {
	var d driftStats
	if d.summary() != nil {
		t.Error("no deadlines: got a summary, want none")
	}
	for range 98 {
		d.add(3)
	}
	d.add(40)
	d.add(700)
	got := *d.summary()
	if want := (Drift{Keys: 100, P50MS: 3, P99MS: 63, MaxMS: 700}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
