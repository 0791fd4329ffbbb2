package slot_test

import (
	"fmt"
	"strconv"
	"testing"

	"tairlift/internal/redistest"
	"tairlift/internal/resp"
	"tairlift/internal/slot"
)

// Recorded from codis-server 3.2.11, whose proxy agrees.
var codisVectors = map[string]slot.ID{
	"": 0, "{}abc": 0, "a{b": 76, "a{b}c": 1017, "{b}": 1017, "}a{b}c": 1017, "a{b}{c}": 1017, "a{b}c}": 1017,
	"{{a}}": 780, "{b\x00}": 986, "{tag}0": 899, "x1": 315, "x2": 129,
}

func TestCodisVectors(t *testing.T) {
	for key, want := range codisVectors {
		if got := slot.Codis([]byte(key)); got != want {
			t.Errorf("%q: got %d, want %d", key, got, want)
		}
	}
}

func TestCodisTag(t *testing.T) {
	for _, tt := range []struct {
		key, tag string
		ok       bool
	}{
		{"plain", "plain", false}, {"a{b", "a{b", false}, {"}a{b}c", "b", true}, {"{}abc", "", true}, {"{{a}}", "{a", true}, {"a{b}{c}", "b", true},
	} {
		if got, ok := slot.CodisTag([]byte(tt.key)); string(got) != tt.tag || ok != tt.ok {
			t.Errorf("%q: got %q, %v, want %q, %v", tt.key, got, ok, tt.tag, tt.ok)
		}
	}
}

func keys() []string {
	var all []string
	for key := range codisVectors {
		all = append(all, key)
	}
	all = append(all, "123456789", "foo{}{bar}", "foo{{bar}}zap", "foo{bar}{zap}", "{user1000}.following", "\x00\xff\r\n")
	for i := range 500 {
		all = append(all, "key:"+strconv.Itoa(i*7919), fmt.Sprintf("{t%d}:%d", i, i))
	}
	return all
}

func TestClusterAgreesWithAServer(t *testing.T) {
	if got := slot.Cluster([]byte("123456789")); got != 0x31c3 {
		t.Errorf("123456789: got %d, want %d", got, 0x31c3)
	}
	s := redistest.Target(t, redistest.Arg("--cluster-enabled", "yes"))
	for _, key := range keys() {
		want := s.Do(t, "CLUSTER", "KEYSLOT", key).Int
		if got := slot.Cluster([]byte(key)); int64(got) != want {
			t.Errorf("%q: got %d, the server says %d", key, got, want)
		}
	}
}

func TestCodisAgreesWithAServer(t *testing.T) {
	s := redistest.Source(t)
	if !s.IsCodis() {
		// Asserted by the recorded vectors; SOURCE_SERVER may name a codis-server.
		if _, err := s.DoErr("SLOTSHASHKEY", "x"); !resp.HasCode(err, "ERR") {
			t.Errorf("SLOTSHASHKEY: got %v, want ERR from a plain Redis", err)
		}
		return
	}
	for _, key := range keys() {
		want := s.Do(t, "SLOTSHASHKEY", key).Elems[0].Int
		if got := slot.Codis([]byte(key)); int64(got) != want {
			t.Errorf("%q: got %d, the server says %d", key, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, id := range []slot.ID{0, 1, 1023} {
		if got, err := slot.Parse(id.String(), slot.CodisSlots); got != id || err != nil {
			t.Errorf("%d: got %d, %v", id, got, err)
		}
	}
	for _, s := range []string{"", "-1", "1024", "x", "70000"} {
		if got, err := slot.Parse(s, slot.CodisSlots); err == nil {
			t.Errorf("%q: got %d, want an error", s, got)
		}
	}
	if got, err := slot.Parse("16383", slot.ClusterSlots); got != 16383 || err != nil {
		t.Errorf("16383: got %d, %v", got, err)
	}
}

func TestHashingAllocatesNothing(t *testing.T) {
	key := []byte("prefix{tag}suffix")
	if got := testing.AllocsPerRun(100, func() {
		slot.Codis(key)
		slot.Cluster(key)
	}); got != 0 {
		t.Errorf("got %v allocations, want 0", got)
	}
}
