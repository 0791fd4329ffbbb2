package native

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/rdb"
	"tairlift/internal/redistest"
)

func TestEveryFixtureWrittenByCommandsIsTheSameValue(t *testing.T) {
	all := fixtures(t)
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	s := redistest.Target(t)
	p := newPipe(t, s)
	for _, o := range []Options{
		{Target: targetOf(t, s)},
		{Target: targetOf(t, s), ChunkBytes: 1},
		{ChunkBytes: 300, MaxElements: 3},
	} {
		t.Run(fmt.Sprintf("chunks of %d bytes", o.ChunkBytes), func(t *testing.T) {
			p.do("FLUSHALL")
			w := NewWriter(o, p.send)
			written := 0
			for _, name := range names {
				e := all[name]
				if k := rdb.KindOf(e.Type); k == rdb.KindStream || k == rdb.KindModule {
					continue
				}
				err := write(w, name, e.Payload)
				if err == nil {
					err = p.settle()
				}
				if err != nil {
					t.Errorf("%s of type %s: %v", name, rdb.TypeName(e.Type), err)
					continue
				}
				written++
				if diff := cmp.Diff(canon(t, e.Payload), canon(t, p.do("DUMP", name).Str)); diff != "" {
					t.Errorf("%s of type %s (-want +got):\n%.2000s", name, rdb.TypeName(e.Type), diff)
				}
			}
			if written < 500 {
				t.Errorf("got %d values written, want at least 500", written)
			}
		})
	}
}
