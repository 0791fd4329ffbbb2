package rdb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
)

func TestModulesOfARealServerArePassedOver(t *testing.T) {
	data := readFixture(t, "../../testdata/rdb/7.4.1/modules.rdb")
	for _, hold := range []int64{0, -1} {
		functions := 0
		d := NewDecoder(bytes.NewReader(data), Options{Hold: hold, OnFunction: func([]byte) { functions++ }})
		var got []string
		for {
			e, err := d.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = d.Elements(func(Element) error { return nil })
			if (KindOf(e.Type) == KindModule) != errors.Is(err, ErrModule) {
				t.Errorf("key %q of type %s: got %v", e.Key, TypeName(e.Type), err)
			}
			got = append(got, fmt.Sprintf("%d %s %v %d", e.DB, e.Key, KindOf(e.Type), e.End.Offset-e.Body))
		}
		slices.Sort(got)
		want := []string{"0 list list 16", "0 m:one module 54", "0 m:two module 20", "0 plain string 6", "2 set set 11"}
		if !slices.Equal(got, want) || functions != 1 || !d.Checked() || d.Version() != 12 {
			t.Errorf("hold %d: got %q, %d functions, checked %v, version %d, want %q, 1, true, 12", hold, got, functions, d.Checked(), d.Version(), want)
		}
	}
}

func TestFieldTTLsOfARealServer(t *testing.T) {
	for name, typ := range map[string]byte{"field-ttl": TypeHashFieldTTLPacked, "field-ttl-table": TypeHashFieldTTL} {
		data := readFixture(t, "../../testdata/rdb/7.4.1/"+name+".rdb")
		values, err := walkAll(narrow(NewDecoder(bytes.NewReader(data), Options{Hold: -1})))
		if err != nil || len(values) != 6 {
			t.Fatalf("%s: got %d values, %v, want 6", name, len(values), err)
		}
		sameValues(t, name, held(t, data), values)
		i := slices.IndexFunc(values, func(v valueText) bool { return v.typ == typ })
		t.Logf("%s: %q", name, values[i].elements)
	}
}
